"""Files that somebody names on the command line: whatever is in them, what is wrong is told, and nothing hangs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tenantry.cli.main import build_cli
from tenantry.settings import load_settings
from tests.template import init_from_template

DEEP = 100_000
# More than any of these files may have; it takes no room on the disk.
HUGE_BYTES = 1 << 31

FILES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: path.write_bytes(b""),
    "blanks": lambda path: path.write_bytes(b" \n\t\n"),
    "brackets": lambda path: path.write_bytes(b"[" * DEEP),
    "closed brackets": lambda path: path.write_bytes(b"[" * DEEP + b"]" * DEEP),
    "braces": lambda path: path.write_bytes(b'{"a":' * DEEP),
    "nested in JSON": lambda path: path.write_bytes(b'{"models":' + b"[" * DEEP + b"]" * DEEP + b"}"),
    "nested in TOML": lambda path: path.write_bytes(b"tenants = " + b"[" * DEEP + b"]" * DEEP),
    "nested in YAML": lambda path: path.write_bytes(b"model_list: " + b"[" * DEEP + b"]" * DEEP),
    "nested in an environment": lambda path: path.write_bytes(b"TENANT_KEY_MAP=" + b"[" * DEEP + b"]" * DEEP + b"\n"),
    "a long line": lambda path: path.write_bytes(b"a" * (1 << 16)),
    "a long number": lambda path: path.write_bytes(b'{"models": ' + b"9" * 100_000 + b"}"),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe\x00{\x00}\x00"),
    "a stray byte": lambda path: path.write_bytes(b'name = "\xe9"\n'),
    "a BOM": lambda path: path.write_bytes(b"\xef\xbb\xbf"),
    "a BOM and JSON": lambda path: path.write_bytes(b'\xef\xbb\xbf{"models": {}}'),
    "zeros": lambda path: path.write_bytes(bytes(4096)),
    "a scalar": lambda path: path.write_bytes(b"7"),
    "a list": lambda path: path.write_bytes(b"[1, 2]"),
    "null": lambda path: path.write_bytes(b"null"),
    "no number": lambda path: path.write_bytes(b'{"models": {"claude-x": {"input": NaN, "output": Infinity}}}'),
    "lone surrogates": lambda path: path.write_bytes(b'{"models": {"\\ud800": {"input": "\\udfff"}}}'),
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a loop": lambda path: path.symlink_to(path),
    "not there": lambda path: None,
    "huge": lambda path: (path.touch(), os.truncate(path, HUGE_BYTES)),
}

COMMANDS: dict[str, list[str]] = {
    "plans set": ["plans", "set", "gold", "--fee", "9", "--prices", "{}"],
    "prices import": ["prices", "import", "{}", "--yes"],
    "ledger recompute": ["ledger", "recompute", "--price-version", "x", "--prices", "{}"],
    "plan": ["plan", "{}"],
    "apply": ["apply", "{}", "--yes"],
    "drift": ["drift", "{}"],
    "apply of a plan": ["apply", "{}", "--yes"],
    "import env-file": ["import", "env-file", "{}", "--out", "{}.out"],
    "import env-file's routes": ["import", "env-file", "good.env", "--routes", "{}", "--out", "{}.out"],
    "import litellm": ["import", "litellm", "{}", "--out", "{}.out"],
    "provision from": ["provision", "--from", "{}"],
    "restore": ["restore", "{}", "--yes"],
    "logo": ["invoices", "details", "--logo", "{}"],
}
# What has nothing in it is no fault of these.
EMPTY_IS_FINE = {"plan", "apply", "drift"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    init_from_template(load_settings(None, {"TENANTRY_DATA_DIR": str(folder / "data")}))
    (folder / "good.env").write_text("TENANT_ACME_KEY=sk-ant-api03-of-a-test-long-enough\n")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_a_hostile_file_is_told_by_name_and_hangs_nobody(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.env").write_bytes((site / "good.env").read_bytes())
    wrong: list[str] = []
    for number, (what, make) in enumerate(FILES.items()):
        file = tmp_path / f"hostile-{number}{'.json' if command == 'apply of a plan' else ''}"
        make(file)
        words = [word.format(file) for word in COMMANDS[command]]
        environ = {"TENANTRY_DATA_DIR": str(site / "data"), "COLUMNS": "200"}
        done = CliRunner().invoke(build_cli(None), words, env=environ)  # pyright: ignore[reportArgumentType]
        is_ended = done.exception is None or isinstance(done.exception, SystemExit)
        is_told = file.name in done.output.replace("\n", "")  # the routes say so of each line without a meaning
        is_fine = done.exit_code == 0 and command in EMPTY_IS_FINE
        if not is_ended or not (is_told or is_fine) or "Traceback" in done.output:
            wrong.append(f"{what}: {done.exit_code} {done.exception!r} {done.output[:160]!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("what", FILES)
def test_a_hostile_tenantry_toml_is_told(tmp_path: Path, what: str) -> None:
    file = tmp_path / "hostile.toml"
    FILES[what](file)
    done = CliRunner().invoke(build_cli(None), ["tenants", "list"], env={"TENANTRY_CONFIG": str(file)})  # pyright: ignore[reportArgumentType]
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert done.exit_code != 0
