"""What the compiler does not see of the modules that it compiles (docs/decisions/0008-compiled.md)."""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOOK = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
MODULES: list[str] = HOOK["custom"]["modules"]
# What a compiled class may inherit from besides another one: mypyc takes these away, or knows them.
BASES = {"ABC", "Exception", "ValueError", "Enum", "IntEnum", "StrEnum", "Generic"}


def tree_of(module: str) -> ast.Module:
    return ast.parse((ROOT / "src" / module).read_text())


def classes() -> dict[str, ast.ClassDef]:
    return {
        found.name: found
        for module in MODULES
        for found in ast.walk(tree_of(module))
        if isinstance(found, ast.ClassDef)
    }


def test_each_is_listed_once_and_exists() -> None:
    assert len(set(MODULES)) == len(MODULES)
    assert [module for module in MODULES if not (ROOT / "src" / module).is_file()] == []


def test_no_compiled_class_inherits_from_one_that_is_not() -> None:
    # msgspec fills no class that is compiled; and to a compiled class with a base of Python's weak references can be
    # made, which its end does not clear: they then point at freed memory.
    known = classes()
    strange = {
        name: ast.unparse(base)
        for name, found in known.items()
        for base in found.bases
        if ast.unparse(base).partition("[")[0] not in known.keys() | BASES
    }
    assert strange == {}


@pytest.mark.parametrize("module", MODULES)
def test_no_function_gives_one_name_to_errors_of_two_kinds(module: str) -> None:
    # The name has one type in the compiled form, that of the first: the second is a TypeError where it is caught.
    for function in ast.walk(tree_of(module)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            kinds: dict[str, set[str]] = defaultdict(set)
            for handler in ast.walk(function):
                if isinstance(handler, ast.ExceptHandler) and handler.name and handler.type is not None:
                    kinds[handler.name].add(ast.unparse(handler.type))
            assert {name: found for name, found in kinds.items() if len(found) > 1} == {}, function.name


def test_the_compiler_is_the_one_that_is_locked() -> None:
    hook = ast.parse((ROOT / "hatch_build.py").read_text())
    (asked,) = [
        ast.literal_eval(one.value)
        for one in hook.body
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "COMPILERS"
    ]
    assert set(asked) <= set((ROOT / "requirements" / "build.in").read_text().splitlines())
