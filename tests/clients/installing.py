"""Installs the current version of each client from its registry, and says which version came."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.clients.catalog import DRIVERS, FOLDER, Client
from tests.clients.running import path_of_programs

# The largest of them (aider, OpenClaw) take two minutes on a line of a home.
INSTALL_SECONDS_MAX = 600
# What clients of today ask for; Debian's own is older.
NODE_MAJOR_MIN = 26
# What was installed longer ago is brought up to date; two runs of an afternoon compare the same versions.
CURRENT_SECONDS_MAX = 12 * 3600.0
_DONE = ".installed"


class CannotInstall(Exception):
    """The client cannot be had here; the message says in a few words why."""


def install(client: Client, *, fresh: bool) -> str:
    """Install `client` where it is not yet or not of today, anew with `fresh`; its version.

    Raises: CannotInstall.
    """
    if client.kind in ("pip", "npm", "go"):
        if fresh:
            shutil.rmtree(client.folder, ignore_errors=True)
        if not _is_current(client.folder / _DONE):
            client.folder.mkdir(parents=True, exist_ok=True)
            {"pip": _pip, "npm": _npm, "go": _go}[client.kind](client)
            (client.folder / _DONE).touch()
        if client.kind == "go":
            _go_build(client)
    return version(client)


def _is_current(mark: Path) -> bool:
    return mark.exists() and time.time() - mark.stat().st_mtime < CURRENT_SECONDS_MAX


def install_node(*, fresh: bool) -> None:
    """A Node of today, from npm's registry, where the machine's own is older.

    Raises: CannotInstall.
    """
    if shutil.which("npm") is None:
        _do(["sh", "-c", "apt-get update -qq && apt-get install -y -qq npm"], FOLDER, {})
    if fresh:
        shutil.rmtree(FOLDER / "node", ignore_errors=True)
    told = subprocess.run(
        ["node", "--version"],
        env=os.environ | {"PATH": path_of_programs()},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.match(r"v(\d+)\.", told.stdout)
    if found is None or int(found[1]) < NODE_MAJOR_MIN:
        _npm_install(FOLDER / "node", ("node",))


_PIP_INSTALL = ("pip", "install", "--quiet", "--upgrade", "--upgrade-strategy", "eager")


def _pip(client: Client) -> None:
    _do([sys.executable, "-m", "venv", "."], client.folder, {})
    _do(["bin/python", "-m", *_PIP_INSTALL, *client.packages], client.folder, {})


def _npm(client: Client) -> None:
    _npm_install(client.folder, client.packages)


def _npm_install(folder: Path, packages: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
    words = ["npm", "install", "--no-fund", "--no-audit", "--loglevel=error", *(f"{one}@latest" for one in packages)]
    _do(words, folder, {"PATH": path_of_programs()})


def go_environment(folder: Path) -> dict[str, str]:
    """Modules and what is built of them stay in `folder`, and can be removed."""
    return {"GOPATH": str(folder / "path"), "GOCACHE": str(folder / "cache"), "GOFLAGS": "-modcacherw -mod=mod"}


def _go(client: Client) -> None:
    if shutil.which("go") is None:
        raise CannotInstall("no Go on this machine")
    environ = go_environment(client.folder)
    if not (client.folder / "go.mod").exists():
        _do(["go", "mod", "init", "conformance"], client.folder, environ)
    _do(["go", "get", *(f"{package}@latest" for package in client.packages)], client.folder, environ)


def _go_build(client: Client) -> None:
    shutil.copy(DRIVERS / client.driver, client.folder / client.driver)
    _do(["go", "build", "-o", "driver", client.driver], client.folder, go_environment(client.folder))


def _do(words: list[str], folder: Path, environ: Mapping[str, str]) -> None:
    log = folder / "install.log"
    try:
        with log.open("ab") as file:
            code = subprocess.run(
                words,
                cwd=folder,
                env={**os.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                timeout=INSTALL_SECONDS_MAX,
                check=False,
            ).returncode
    except FileNotFoundError as error:
        raise CannotInstall(f"no {words[0]} on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise CannotInstall(f"{words[0]} took longer than {INSTALL_SECONDS_MAX} s") from error
    if code != 0:
        raise CannotInstall(f"{words[0]} failed, see {log.relative_to(FOLDER.parent)}")


def version(client: Client) -> str:
    """What stands in the table for its version.

    Raises: CannotInstall.
    """
    kinds = {"pip": _pip_version, "old": _pip_version, "npm": _npm_version, "go": _go_version}
    return kinds.get(client.kind, _system_version)(client)


def _pip_version(client: Client) -> str:
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    python = client.folder / "bin" / "python"
    if not python.exists():
        raise CannotInstall("not there")
    names = [package.partition("<")[0] for package in client.packages]
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotInstall("its version is not told")
    return _told(names, done.stdout.split())


def _told(names: list[str], versions: list[str]) -> str:
    """The first one's version, and in brackets those of what was installed beside it."""
    beside = ", ".join(f"{name} {number}" for name, number in zip(names[1:], versions[1:], strict=True))
    return f"{versions[0]} ({beside})" if beside else versions[0]


def _npm_version(client: Client) -> str:
    abouts = [client.folder / "node_modules" / package / "package.json" for package in client.packages]
    try:
        return _told(list(client.packages), [str(json.loads(about.read_text())["version"]) for about in abouts])
    except (OSError, ValueError, KeyError) as error:
        raise CannotInstall("its version is not told") from error


def _go_version(client: Client) -> str:
    found = re.search(rf"{re.escape(client.packages[0])} v(\S+)", (client.folder / "go.mod").read_text())
    if found is None:
        raise CannotInstall("its version is not told")
    return found[1]


def _system_version(client: Client) -> str:
    try:
        done = subprocess.run([client.packages[0], "--version"], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise CannotInstall("not on this machine") from error
    return done.stdout.split()[1]
