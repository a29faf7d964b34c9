"""No test claims how fast something is: the machine that it runs on may be busy. `python -m bench` says how fast."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.patience import PATIENCE_SECONDS, patience_seconds

TESTS = Path(__file__).parents[1]
CLOCKS = ("time.monotonic()", "time.perf_counter()", "time.time()")


def claims_of_speed(source: str) -> list[str]:
    """Assertions that a time is below a bound."""
    claims = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    return [ast.unparse(claim) for claim in claims if any(map(_is_upper_bound, ast.walk(claim)))]


def _is_upper_bound(compared: ast.AST) -> bool:
    if not isinstance(compared, ast.Compare):
        return False
    sides = [compared.left, *compared.comparators]
    return any(
        any(clock in ast.unparse(left if isinstance(sign, ast.Lt | ast.LtE) else right) for clock in CLOCKS)
        for left, sign, right in zip(sides, compared.ops, sides[1:], strict=False)
        if isinstance(sign, ast.Lt | ast.LtE | ast.Gt | ast.GtE)
    )


@pytest.mark.parametrize(
    "source",
    [
        "assert time.monotonic() - began < 5",
        "assert 1 < time.perf_counter() - began < 3",
    ],
)
def test_a_claim_of_speed_is_seen(source: str) -> None:
    assert len(claims_of_speed(source)) == 1


@pytest.mark.parametrize("source", ["assert time.monotonic() - began >= 5", "assert 5 < len(rows) < 7"])
def test_what_is_no_claim_of_speed_is_let_pass(source: str) -> None:
    assert claims_of_speed(source) == []


def test_no_test_claims_how_fast_something_is() -> None:
    found = {str(path.relative_to(TESTS)): claims_of_speed(path.read_text("utf-8")) for path in TESTS.rglob("*.py")}
    assert {path: claims for path, claims in found.items() if claims} == {}


@pytest.mark.parametrize(
    ("load", "seconds"), [(0.2, PATIENCE_SECONDS), (4.0, PATIENCE_SECONDS), (12.0, 3 * PATIENCE_SECONDS)]
)
def test_on_a_busy_machine_more_is_waited_for(load: float, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    assert patience_seconds() == seconds
    assert patience_seconds(1.0) == seconds


def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (10_000.0, 0.0, 0.0))
    assert patience_seconds() == 10 * PATIENCE_SECONDS
