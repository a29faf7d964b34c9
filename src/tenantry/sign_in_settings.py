"""Settings of the sign-in that are more than a text: which proxies are believed, and which claim gives which role."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, cast

from tenantry.domain.roles import Role
from tenantry.domain.values import value

Network = IPv4Network | IPv6Network


@value
class RoleClaim:
    """Whom the OIDC provider says `value` of in the claim `claim` has `role`, without having been invited."""

    claim: str
    value: str
    role: Role


def read_networks(value: Any) -> tuple[Network, ...]:
    """Addresses and networks: a list, or a text with commas between them. Raises: ValueError."""
    try:
        found = tuple(ip_network(one) for one in _listed(value, '["10.0.0.7"]'))
    except ValueError:
        raise ValueError("must be addresses or networks such as 10.0.0.7 or 10.0.0.0/24, never a name") from None
    if any(one.prefixlen == 0 for one in found):
        raise ValueError("must not be the whole internet: whoever is believed can sign anybody's address")
    return found


def read_role_claims(value: Any) -> tuple[RoleClaim, ...]:
    """`claim:value=role`, the first that fits counts. Raises: ValueError."""
    found: list[RoleClaim] = []
    for one in _listed(value, '["groups:agency-admins=owner"]'):
        told, equals, role = one.rpartition("=")
        claim, colon, wanted = told.partition(":")
        if not (equals and colon and claim and wanted) or role not in {*Role}:
            roles = ", ".join(Role)
            raise ValueError(f"must be as groups:agency-admins=owner, with one of the roles {roles}")
        found.append(RoleClaim(claim, wanted, Role(role)))
    return tuple(found)


def _listed(value: Any, example: str) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError(f"must be a list such as {example}")
    return [str(one).strip() for one in cast("list[object]", parts) if str(one).strip()]
