"""What a cell of docs/conformance.md says of a run, and when it got worse."""

from __future__ import annotations

import pytest

from tests.clients.catalog import NO_CALL, OWN_COUNT
from tests.clients.cells import NOT_INSTALLED, STOPS, WAITS, WORKS, cell, is_worse
from tests.clients.counter import Seen
from tests.clients.running import Run


def seen(status: int = 200, path: str = "/t/acme/v1/messages", body: bytes = b"{}") -> Seen:
    return Seen("GET" if path.endswith("models") else "POST", path, body, status, 0.0)


def run(*requests: Seen, told: str = "a simulated answer", code: int | None = 0) -> Run:
    return Run(code, told, requests, 1.0)


@pytest.mark.parametrize(
    ("column", "done", "says"),
    [
        ("plain", run(seen()), WORKS),
        ("plain", run(seen(), told="nothing"), "fails: no answer shown"),
        ("plain", run(seen(), code=None), "fails: does not end"),
        ("plain", run(told="Traceback\nValueError: no such model", code=1), "fails: ValueError: no such model"),
        ("stream", run(seen(body=b'{"stream": true}')), WORKS),
        ("stream", run(seen()), "fails: the gateway was not asked"),
        ("tools", run(seen(), seen(body=b'[{"type":"tool_result"}]')), WORKS),
        ("tools", run(seen()), "fails: the gateway was not asked"),
        ("count tokens", run(seen(path="/t/acme/v1/messages/count_tokens")), WORKS),
        ("models", run(seen(path="/t/acme/v1/models")), WORKS),
        ("models", run(seen(404, "/t/acme/v1/models")), "fails: the gateway was not asked"),
        ("at rate limit", run(seen(429), seen()), WAITS),
        ("at rate limit", run(seen(429), seen(429), code=1), "gives up after 2"),
        ("at rate limit", run(seen()), "fails: met no limit"),
        ("over budget", run(seen(402), told="Monthly\n  budget\nof $5.00", code=1), STOPS),
        ("over budget", run(seen(402), seen(402), told="budget of", code=1), "2 requests, says why"),
        ("over budget", run(seen(402), told="error 402", code=1), "1 request, does not say why"),
        ("over budget", run(seen(402), code=None), "1 requests, does not end"),
        ("revoked key", run(seen(403), told="This gateway key is revoked", code=1), STOPS),
    ],
)
def test_a_cell_says_what_came_of_a_run(column: str, done: Run, says: str) -> None:
    assert cell(column, done) == says


def test_cells_get_worse_in_this_order() -> None:
    order = [
        STOPS,
        "2 requests, says why",
        "9 requests, says why",
        "1 request, does not say why",
        "3 requests, does not say why",
        NO_CALL,
        "gives up after 3",
        "fails: no answer shown",
        NOT_INSTALLED,
    ]
    for number, before in enumerate(order):
        assert [is_worse(now, before) for now in order] == [False] * (number + 1) + [True] * (len(order) - number - 1)


@pytest.mark.parametrize(("now", "before"), [(WORKS, NOT_INSTALLED), (WAITS, WORKS), (OWN_COUNT, NO_CALL)])
def test_what_is_as_good_or_better_is_not_worse(now: str, before: str) -> None:
    assert not is_worse(now, before)
