"""A route's permission is asked for before anything is done."""

import pytest
from starlette.exceptions import HTTPException

from tenantry.domain.roles import Permission, Principal, Role
from tenantry.web.routing import require

CONFINED = Principal("ops", "api:ops", Role.OPERATOR, frozenset({"acme"}))


def test_anothers_tenant_and_one_that_is_not_there_are_told_alike() -> None:
    for slug in ("globex", "nobody"):
        with pytest.raises(HTTPException) as refused:
            require(CONFINED, Permission.TENANTS_READ, slug)
        assert (refused.value.status_code, refused.value.detail) == (404, f"there is no tenant {slug!r}")
    require(CONFINED, Permission.TENANTS_READ, "acme")


def test_a_list_is_open_to_the_confined_and_what_is_the_sites_is_not() -> None:
    require(CONFINED, Permission.TENANTS_READ, None)
    with pytest.raises(
        HTTPException, match=r"ops is operator of some tenants and may not: credentials\.read"
    ) as refused:
        require(CONFINED, Permission.CREDENTIALS_READ, None)
    assert refused.value.status_code == 403
    with pytest.raises(HTTPException, match=r"of some tenants and may not: tenants\.change"):
        require(CONFINED, Permission.TENANTS_CHANGE, None, of_site=True)


def test_a_role_without_the_permission_is_refused_by_name() -> None:
    viewer = Principal("eye", "api:eye", Role.VIEWER)
    with pytest.raises(HTTPException, match=r"eye is viewer and may not: keys\.change"):
        require(viewer, Permission.KEYS_CHANGE, "acme")
