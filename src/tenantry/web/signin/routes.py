"""Every route of the sign-in."""

from __future__ import annotations

from starlette.routing import Route

from tenantry.web.signin.account import account_routes
from tenantry.web.signin.entering import entering_routes
from tenantry.web.signin.people import people_routes
from tenantry.web.signin.through import through_routes
from tenantry.web.signin.welcome import welcome_routes


def signin_routes() -> list[Route]:
    return [*entering_routes(), *welcome_routes(), *account_routes(), *people_routes(), *through_routes()]
