"""A command, typed on the store itself and through a control: what it says, and what it ends with."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tenantry.app import Processes
from tenantry.cli.main import build_cli
from tests.unit.web.api_asks import prepare
from tests.unit.web.api_site import OWNER, Served, served

# What is another each time: ids, keys, tokens, links, times, hashes, how long a dump is, who did it; and the folders
# of two stores.
_OWN = re.compile(
    r"sk-proxy-[\w-]+|\b(?:key|att|req|tnt|ptl|crd|prf)_\w+|tadm-[\w-]+|whsec_\w+|(?<=link=)[\w-]+|\b[0-9a-f]{64}\b"
    r"|\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)|(?<=acme-)\d[\dTZ.-]+|tenantry-\d{8}T\d{6}Z|/\S*/(?:one|two)/data"
    r"|\bcli:[^\s\"]+|\bapi:owner\b|(?<=gateway key \.\.\.)\S+"
    r"|\d+(?= bytes, made)"
    r"|(?<=Signing secret \(shown only now\): )\S+"
)


def leveled(text: str) -> str:
    return _OWN.sub("...", text)


def make(folder: Path) -> Iterator[Served]:
    """A site with what commands need: see `prepare`."""
    with served(folder) as found:
        prepare(found)
        found.site.directory.issue_key("acme", "for it", slot="writer")
        yield found


def run(words: Sequence[str], api: Served, server: str | None = None, token: str = OWNER) -> Result:
    """On the store, or through a server: there, nothing says where the store is."""
    data = api.site.settings.data_dir
    environ: dict[str, str | None] = {"SECRET": "sk-ant-api03-" + "x" * 40, "ANOTHER": "sk-ant-api03-" + "y" * 40}
    environ |= {"TENANTRY_GATEWAY_PORT": "9", "WORDS": "a few words of acme", "HOOK": "https://hook.invalid/secret"}
    if server is None:
        environ["TENANTRY_DATA_DIR"] = str(data)
    else:
        environ |= {"TENANTRY_ADMIN_TOKEN": token, "TENANTRY_DATA_DIR": str(data / "nowhere")}
        words = ["--server", server, *words]
    return CliRunner().invoke(build_cli(Processes()), list(words), env=environ)


def told(done: Result) -> tuple[int, str, str]:
    return done.exit_code, leveled(done.stdout), leveled(done.stderr)


def read_alike(commands: Sequence[str], api: Served, server: str, without_json: tuple[str, ...] = ()) -> None:
    """Each without and with --json, where it has that; to the byte."""
    for command in commands:
        forms = [[]] if command.startswith(without_json) else [[], ["--json"]]
        for words in [shlex.split(command) + form for form in forms]:
            here, there = run(words, api), run(words, api, server)
            assert here.exit_code == 0, here.output
            assert (there.exit_code, there.stdout, there.stderr) == (0, here.stdout, here.stderr), words


def refused_alike(commands: Sequence[str], api: Served, server: str) -> None:
    for command in commands:
        words = shlex.split(command)
        here, there = run(words, api), run(words, api, server)
        assert here.exit_code in (1, 2), (command, here.output)
        assert (there.exit_code, there.stdout, there.stderr) == (here.exit_code, here.stdout, here.stderr), command


def changed_alike(
    command: str,
    sites: tuple[Served, Served],
    server: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    ends: int = 0,
) -> str:
    """On the first site itself, and on the second through its control; what it said. `{key}`: a key of acme."""
    said: list[tuple[int, str, str]] = []
    for one, address in ((sites[0], None), (sites[1], server)):
        place = folder / ("there" if address else "here")
        place.mkdir(exist_ok=True)
        monkeypatch.chdir(place)
        done = run(shlex.split(command.format(key=one.ids["acme key"], **one.ids)), one, address)
        assert done.exit_code == ends, (command, address, done.output)
        said.append(told(done))
    assert said[1] == said[0], command
    return said[0][1]
