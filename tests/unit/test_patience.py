"""No test claims how fast something is: the machine that it runs on may be busy. `python -m bench` says how fast."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.stack import PATIENCE_SECONDS

TESTS = Path(__file__).parents[1]
CLOCKS = ("time.monotonic()", "time.perf_counter()", "time.time()")


def claims_of_speed(source: str) -> list[str]:
    """Assertions that a time is below a bound, and waits that are told to be short."""
    return [ast.unparse(node) for node in ast.walk(ast.parse(source)) if _is_claim(node)]


def _is_claim(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        return any(_is_upper_bound(one) for one in ast.walk(node) if isinstance(one, ast.Compare))
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "wait_for":
        return any(isinstance(one, ast.Constant) and _is_short(one.value) for one in node.args[1:2])
    return False


def _is_upper_bound(compared: ast.Compare) -> bool:
    sides = [compared.left, *compared.comparators]
    return any(
        any(clock in ast.unparse(left if isinstance(sign, ast.Lt | ast.LtE) else right) for clock in CLOCKS)
        for left, sign, right in zip(sides, compared.ops, sides[1:], strict=False)
        if isinstance(sign, ast.Lt | ast.LtE | ast.Gt | ast.GtE)
    )


def _is_short(value: object) -> bool:
    return isinstance(value, int | float) and value < PATIENCE_SECONDS


@pytest.mark.parametrize(
    "source",
    [
        "assert time.monotonic() - began < 5",
        "assert 1 < time.perf_counter() - began < 3",
        "wait_for(lambda: True, 2.0)",
    ],
)
def test_a_claim_of_speed_is_seen(source: str) -> None:
    assert len(claims_of_speed(source)) == 1


@pytest.mark.parametrize("source", ["assert time.monotonic() - began >= 5", "wait_for(lambda: True, what='it')"])
def test_what_is_no_claim_of_speed_is_let_pass(source: str) -> None:
    assert claims_of_speed(source) == []


def test_no_test_claims_how_fast_something_is() -> None:
    found = {str(path.relative_to(TESTS)): claims_of_speed(path.read_text("utf-8")) for path in TESTS.rglob("*.py")}
    assert {path: claims for path, claims in found.items() if claims} == {}
