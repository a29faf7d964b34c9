"""A next release of Tenantry: this one, with migrations of its own, and what it does by them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

import tenantry
from tenantry.storage import migrating, schema

# By which the next release is known.
NOTE = "the next release"
# Later than any that there will be.
EXPAND, CONTRACT, EXPAND_AGAIN = "v9000_notes.py", "v9001_no_index.py", "v9002_more.py"
LATER: dict[str, str] = {
    EXPAND: """
revision = "9000"
down_revision = "{before}"
kind = "expand"


def upgrade() -> None:
    op.add_column("gateways", sa.Column("note", sa.String(length=40), nullable=True))
    op.create_table("notes", sa.Column("note_id", sa.String(length=40), primary_key=True))
""",
    CONTRACT: """
revision = "9001"
down_revision = "9000"
kind = "contract"
compatible_from = "9000"


def upgrade() -> None:
    op.drop_index("ix_ceilings_gateway_id", "ceilings")
""",
    EXPAND_AGAIN: """
revision = "9002"
down_revision = "9001"
kind = "expand"


def upgrade() -> None:
    op.add_column("gateways", sa.Column("more", sa.String(length=40), nullable=True))
""",
}
_HEAD = '"""A step of a later release."""\n\nimport sqlalchemy as sa\nfrom alembic import op\n'


def write_migrations(folder: Path, names: tuple[str, ...]) -> None:
    """Put these beside the migrations that are in the folder."""
    before = max(path.name[1:5] for path in folder.glob("versions/v0*.py"))
    for name in names:
        (folder / "versions" / name).write_text(_HEAD + LATER[name].replace("{before}", before))


@contextmanager
def becoming(tmp_path: Path) -> Generator[Callable[..., None]]:
    """What makes a later release of this process; with no names it is what it was."""
    with pytest.MonkeyPatch.context() as monkeypatch:

        def begin(*names: str) -> None:
            monkeypatch.undo()
            if names:
                become(monkeypatch, tmp_path, *names)
            forget()

        yield begin
    forget()


def become(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *names: str) -> None:
    """From here on this process has these migrations too, as if it were of a later release."""
    folder = tmp_path / "-".join(("migrations", *names))
    shutil.copytree(schema.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__", "v9*"), dirs_exist_ok=True)
    write_migrations(folder, names)
    monkeypatch.setattr(schema, "MIGRATIONS", folder)
    monkeypatch.setattr(migrating, "MIGRATIONS", folder)
    forget()


def forget() -> None:
    """What was known of migrations is read again."""
    schema.known_revisions.cache_clear()
    schema.known_migrations.cache_clear()


# What the next release does otherwise, in its files: it writes and reads the column that it adds.
_CHANGES: dict[str, tuple[str, str]] = {
    "__init__.py": ('__version__ = "', '__version__ = "9.'),
    "storage/cell_tables.py": (
        '    Column("forgotten_at_us", BigInteger),',
        '    Column("note", String(40)),\n    Column("forgotten_at_us", BigInteger),',
    ),
    "storage/leases.py": ("insert(gateways).values(", f'insert(gateways).values(note="{NOTE}", '),
    "gateway/serving.py": ('"gateway listening on %s:%d"', f'"{NOTE}: gateway listening on %s:%d"'),
}


def make_next(folder: Path) -> Path:
    """The package as the next release has it, below `folder`; what stands in PYTHONPATH for its processes."""
    package = folder / "tenantry"
    shutil.copytree(Path(tenantry.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, (before, after) in _CHANGES.items():
        text = (package / name).read_text()
        assert before in text, name
        (package / name).write_text(text.replace(before, after, 1))
    write_migrations(package / "storage" / "migrations", (EXPAND, CONTRACT))
    return folder
