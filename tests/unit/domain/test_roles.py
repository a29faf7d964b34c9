"""What an admin may do, by role and tenant."""

import pytest

from tenantry.domain.roles import ALLOWED, OF_ONE_TENANT, Permission, Principal, Role


def test_an_owner_may_do_everything_and_nobody_else_makes_admins() -> None:
    assert ALLOWED[Role.OWNER] == frozenset(Permission)
    assert [role for role in Role if Permission.ADMINS_CHANGE in ALLOWED[role]] == [Role.OWNER]
    assert all(permission.endswith(".read") for permission in ALLOWED[Role.VIEWER])
    # The agency's own costs and margin are not everybody's.
    assert [role for role in Role if Permission.MARGIN_READ in ALLOWED[role]] == [Role.OWNER, Role.BILLING]


@pytest.mark.parametrize("role", list(Role))
def test_who_is_confined_to_some_tenants_may_nothing_of_the_whole_site_nor_of_others(role: Role) -> None:
    confined = Principal("ops", "api:ops", role, frozenset({"acme"}))
    for permission in Permission:
        assert not confined.may(permission)
        assert not confined.may(permission, "globex")
        assert confined.may(permission, "acme") == (permission in ALLOWED[role] & OF_ONE_TENANT)
        assert Principal("all", "api:all", role).may(permission, "globex") == (permission in ALLOWED[role])
