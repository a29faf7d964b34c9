"""The page of the admin API tells the roles as the table of `domain/roles.py` has them."""

from pathlib import Path

from tenantry.domain.roles import ALLOWED, OF_ONE_TENANT, Permission, Role

PAGE = Path(__file__).parents[3] / "docs" / "admin-api.md"


def rows() -> list[str]:
    found = [
        "| permission | owner | operator | billing | viewer | for some tenants |",
        "|---|---|---|---|---|---|",
    ]
    for permission in Permission:
        marks = ["yes" if permission in ALLOWED[role] else "" for role in Role]
        found.append(f"| `{permission}` | {' | '.join(marks)} | {'yes' if permission in OF_ONE_TENANT else ''} |")
    return found


def test_the_table_of_roles_is_what_the_program_has() -> None:
    told = PAGE.read_text().partition("<!-- roles -->\n")[2].partition("\n<!-- roles end -->")[0]
    assert told.splitlines() == rows()
