"""The page of the admin API tells the roles as the table of `domain/roles.py` has them."""

from pathlib import Path

from tenantry.cli.remote.carried import CARRIED, HERE_ALONE
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


def test_the_commands_that_work_through_it_are_those_of_the_program() -> None:
    told = PAGE.read_text().partition("<!-- carried -->\n")[2].partition("\n<!-- carried end -->")[0]
    assert told.splitlines() == [_line(name, below) for name, below in by_group().items()]


def test_the_commands_that_do_not_are_those_of_the_program_each_with_its_reason() -> None:
    told = PAGE.read_text().partition("<!-- here alone -->\n")[2].partition("\n<!-- here alone end -->")[0]
    assert told.splitlines() == [f"* `{name}` {why}" for name, why in sorted(HERE_ALONE.items())]


def test_the_table_of_roles_is_what_the_program_has() -> None:
    told = PAGE.read_text().partition("<!-- roles -->\n")[2].partition("\n<!-- roles end -->")[0]
    assert told.splitlines() == rows()


def _line(name: str, below: list[str]) -> str:
    return f"* `{name}`: {', '.join(below)}" if below else f"* `{name}`"


def by_group() -> dict[str, list[str]]:
    """Groups and their commands that carry over; a command of its own has none below it."""
    groups: dict[str, list[str]] = {}
    for path in sorted(CARRIED):
        group, _, name = path.partition(" ")
        groups.setdefault(group, []).extend([name] if name else [])
    return groups
