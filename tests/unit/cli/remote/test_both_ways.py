"""What a command prints through `--server` is what it prints on the store itself, to the byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.remote.control import listening
from tests.unit.cli.remote.ways import changed_alike, leveled, make, read_alike, refused_alike, run
from tests.unit.web.api_site import Served

# Each without and with --json, where it has that.
READ = [
    "tenants list",
    "tenants show acme",
    "tenants export",
    "tenants schema",
    "tenants fair-use acme",
    "keys list",
    "keys list acme",
    "slots list",
    "slots list acme",
    "usage acme",
    "usage acme --month 2026-10",
    "usage acme --week 2026-W40",
    "usage acme --week 2026-W40 --format html",
    "usage --all --week 2026-W40",
    "budget show acme",
    "credentials list",
    "tiers list",
    "tiers show standard",
    "upstreams list",
    "upstreams show anthropic",
]
WITHOUT_JSON = ("tenants export", "tenants schema", "tenants fair-use")
# What cannot be, in words that both ways have.
REFUSED = [
    "tenants show nobody",
    "tenants set acme --tier nothing",
    "tenants set acme --host 'not a host'",
    "tenants disable nobody --yes",
    "tenants delete nobody --yes",
    "keys issue nobody",
    "keys issue acme --sessions 999",
    "keys issue acme --slot nothing",
    "slots add acme UPPER",
    "slots add acme writer",
    "slots set acme nothing --sessions 2",
    "budget raise acme --by 5 --until 2099-12-31 --period day",
    "budget set acme --mode sideways",
    "credentials bind acme nothing",
    "credentials move nothing --upstream anthropic",
    "credentials check nothing",
    "tiers show nothing",
    "tiers set standard",
    "upstreams show nothing",
    "usage nobody",
    "usage acme --month 2026-13",
    "usage acme --week 2026-W99",
]
# In this order: the next may need the one before. {key}: the id of a key of acme.
WRITTEN = [
    "tenants set acme --rpm 30 --contact it@acme.example --model claude-haiku-*",
    "tenants set acme --inherit rpm --contact none --models none",
    "tenants disable acme --yes",
    "tenants enable acme",
    "keys issue acme --label ci --sessions 2 --expires-days 9",
    "keys issue acme --label ci --json",
    "keys rotate {key} --grace 1h",
    "keys revoke {key} --yes",
    "slots add acme night --sessions 1",
    "slots add acme day --no-key",
    "slots set acme night --sessions 2 --rpm 9",
    "slots set acme night --inherit rpm",
    "slots remove acme night --yes",
    "budget set acme --week 12.50 --mode soft",
    "budget set acme --key {key} --day 3",
    "budget raise acme --by 20 --until 2099-11-30",
    "budget set acme --week none",
    "credentials add more --env SECRET --shared",
    "credentials rotate more --env ANOTHER",
    "credentials move more --upstream anthropic",
    "credentials bind acme more --fallback",
    "credentials unbind-fallback acme",
    "tiers set standard --sessions 9",
    "tiers set night --rpm 20 --models claude-haiku-*",
    "tenants guide acme",
    "tenants delete acme --yes",
]
# What stands in the store after these is compared: before something is taken away again.
COMPARED_AFTER = ("keys revoke {key} --yes", "tenants guide acme")
DECLARED = """[tiers.standard]
sessions_max = 5
[tenants.acme]
name = "Acme"
tier = "standard"
budget.month_usd = "70"
[tenants.initech]
name = "Initech"
tier = "standard"
credential = "vault:main"
shared_credential = true
keys.first = {}
"""


def test_a_file_of_tenants_is_planned_applied_and_compared_alike(
    api: Served, second: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(second) as server:
        for text in ("[tenants.acme]\nnme = 1\n", "not TOML", DECLARED):
            for command, form in (("plan", []), ("plan", ["--json"]), ("drift", []), ("drift", ["--json"])):
                told = told_both_ways([command, *form], text, api, second, server, tmp_path, monkeypatch)
                assert told[1] == told[0], command
        told = told_both_ways(["apply", "--yes", "--no-probe"], DECLARED, api, second, server, tmp_path, monkeypatch)
        assert told[1] == told[0]
        assert "Applied." in told[0][1]
        told = told_both_ways(["plan"], DECLARED, api, second, server, tmp_path, monkeypatch)
        assert told[1] == told[0]


def told_both_ways(
    words: list[str],
    text: str,
    api: Served,
    second: Served,
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for one, address in ((api, None), (second, server)):
        folder = tmp_path / ("there" if address else "here")
        folder.mkdir(exist_ok=True)
        (folder / "tenants.toml").write_text(text)
        monkeypatch.chdir(folder)
        done = run(words, one, address)
        found.append((done.exit_code, leveled(done.output)))
    return found


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Served]:
    yield from make(tmp_path / "one")


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Served]:
    yield from make(tmp_path / "two")


def test_what_is_read_is_equal_to_the_byte(api: Served) -> None:
    with listening(api) as server:
        read_alike(READ, api, server, without_json=WITHOUT_JSON)


def test_what_is_refused_is_told_alike_and_ends_alike(api: Served) -> None:
    with listening(api) as server:
        refused_alike(REFUSED, api, server)


def test_what_is_changed_is_told_alike_and_is_the_same_change(
    api: Served, second: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(second) as server:
        for command in WRITTEN:
            changed_alike(command, (api, second), server, tmp_path, monkeypatch)
            if command not in COMPARED_AFTER:
                continue
            states = [leveled(run(["tenants", "export"], one).output) for one in (api, second)]
            assert states[1] == states[0], command
    assert [path.name for path in (tmp_path / "here" / "clients").iterdir()] != []
    files = [sorted(path.suffix for path in (tmp_path / one).rglob("*.*")) for one in ("here", "there")]
    assert files[1] == files[0]
