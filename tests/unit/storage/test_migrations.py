"""Each migration says what it is, and one that says it expands is survived by the version before it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tenantry.storage.database import open_store
from tenantry.storage.migrating import migrate
from tenantry.storage.schema import LAST_UNDECLARED, known_migrations
from tests import postgresql, releases
from tests.expanding import expand
from tests.template import POSTGRESQL

# What a version before it would not survive, and how that is told.
PLANTS: dict[str, tuple[str, str]] = {
    "a column that has to be given": (
        'op.execute("ALTER TABLE gateways ADD COLUMN note INTEGER DEFAULT 0 NOT NULL")\n'
        '    with op.batch_alter_table("gateways") as batch:\n'
        '        batch.alter_column("note", server_default=None)',
        "gateways.note has to be given",
    ),
    "a column that goes": (
        'with op.batch_alter_table("gateways") as batch:\n        batch.drop_column("machine")',
        "gateways.machine is gone",
    ),
    "a column with another name": (
        'op.alter_column("gateways", "machine", new_column_name="host")',
        "gateways.machine is gone",
    ),
    "a table that goes": ('op.drop_table("ceilings")', "ceilings is gone"),
    "what may be missing now": (
        'with op.batch_alter_table("gateways") as batch:\n        batch.alter_column("machine", nullable=True)',
        "gateways.machine may be NULL now",
    ),
    "what is unique now": (
        'op.create_index("ux_gateways_machine", "gateways", ["machine"], unique=True)',
        "gateways takes less than before",
    ),
    "a table that holds on to rows": (
        'op.create_table("notes", sa.Column("name", sa.String(64), sa.ForeignKey("cells.name"), primary_key=True))',
        "keeps earlier versions from deleting a row of cells",
    ),
    "rows that are other ones": ("op.execute(\"UPDATE gateways SET machine = ''\")", "it changes rows of gateways"),
}
HARMLESS = """op.add_column("gateways", sa.Column("note", sa.String(length=40), nullable=True))
    op.add_column("tenants", sa.Column("rank", sa.Integer(), server_default="7", nullable=False))
    op.execute("UPDATE gateways SET note = 'x'")
    op.create_index("ix_gateways_machine", "gateways", ["machine"])
    op.create_table(
        "notes",
        sa.Column("name", sa.String(64), sa.ForeignKey("cells.name", ondelete="CASCADE"), primary_key=True),
    )"""


@pytest.fixture
def engine(tmp_path: Path, database: str) -> Iterator[Engine]:
    """With the last schema from before each migration had to say what it is."""
    name = f"migrations_{os.getpid()}"
    is_server = database == POSTGRESQL
    made = open_store(postgresql.new_database(name) if is_server else f"sqlite:///{tmp_path / 'tenantry.db'}")
    migrate(made, LAST_UNDECLARED)
    yield made
    made.dispose()
    if is_server:
        postgresql.drop_database(name)


@pytest.fixture
def monkeypatch_later(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patched:
        yield patched
    releases.forget()


def test_a_migration_that_says_it_expands_is_survived_by_the_version_before_it(engine: Engine) -> None:
    for one in known_migrations():
        if one.revision > LAST_UNDECLARED and not one.contracts:
            assert expand(engine, one.revision) == [], one.revision
        else:
            migrate(engine, one.revision)


def test_what_only_adds_is_no_fault(engine: Engine, monkeypatch_later: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plant(monkeypatch_later, tmp_path, HARMLESS, engine)
    assert expand(engine, "9000") == []


@pytest.mark.sqlite
@pytest.mark.parametrize("name", PLANTS)
def test_what_an_earlier_version_would_not_survive_is_found(
    engine: Engine, monkeypatch_later: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    planted, told = PLANTS[name]
    plant(monkeypatch_later, tmp_path, planted, engine)
    assert told in " ".join(expand(engine, "9000"))


def plant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, engine: Engine) -> None:
    """A migration 9000 that does this, and says that it expands; all before it are applied."""
    migrate(engine)
    text = f'revision = "9000"\ndown_revision = "{{before}}"\nkind = "expand"\n\n\ndef upgrade() -> None:\n    {body}\n'
    monkeypatch.setitem(releases.LATER, releases.EXPAND, text)
    releases.become(monkeypatch, tmp_path, releases.EXPAND)
