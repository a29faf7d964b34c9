"""The lock of what runs holds what runs, and nothing else."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
# Of another system: the lock is for all of them.
ELSEWHERE = {"colorama", "tzdata"}


def locked(name: str) -> set[str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return {canonicalize_name(one) for one in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)}


def needed() -> set[str]:
    """What the package declares, and what that needs, here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting, found = [Requirement(one) for one in project["dependencies"]], set[str]()
    while waiting:
        one = waiting.pop()
        extras = one.extras or {""}
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras):
            name = canonicalize_name(one.name)
            if name not in found:
                found.add(name)
                waiting += [Requirement(below) for below in requires(name) or () if "extra ==" not in below]
    return found


def test_what_is_locked_to_run_is_what_the_package_needs() -> None:
    assert locked("base") - ELSEWHERE == needed() - ELSEWHERE


def test_nothing_that_builds_tests_or_no_longer_moves_is_locked_to_run() -> None:
    unwanted = {"faker", "polyfactory", "hatchling", "editables", "httpx", "httpcore", "mypy", "pytest", "litestar"}
    assert not locked("base") & unwanted
    assert locked("editable") >= {"hatchling", "editables"}
