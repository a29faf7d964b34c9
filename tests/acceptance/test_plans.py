"""Plans at the gateway: slots as endpoints; what is beyond the included blocked or throttled, and lifted at once."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from tenantry.domain.plans import Terms
from tenantry.storage.columns import now_utc
from tenantry.storage.directory.plans import Agreed
from tenantry.storage.directory.tenants import TenantChange
from tests.stack import Stack, tenantry, wait_for

USD = 1_000_000_000


def put(stack: Stack, slug: str, **terms: Any) -> None:
    """On a plan of its own, from the first of the month: so that all of it is included."""
    directory = stack.site.directory
    first = directory.today().replace(day=1)
    directory.set_plan(slug, Terms(**terms), first)
    directory.assign_plan(slug, Agreed(slug, first))


def answers(stack: Stack, key: str, status: int, path: str = "/v1/messages", **fields: Any) -> dict[str, Any]:
    """Asks until it is answered so, which is when a change has come to the gateway."""
    found = wait_for(lambda: (one := stack.message(key, path=path, **fields))[0] == status and one, 5, f"a {status}")
    return json.loads(found[2])


def let_act(stack: Stack, slug: str) -> None:
    """Whatever was changed before has come to the gateway: a key that was made after it works."""
    key = stack.site.directory.issue_key(slug, "marker").text
    wait_for(lambda: stack.get(key, "/v1/models")[0] == 200, 5, "the key reaching the gateway")


def row_of(stack: Stack, slug: str, number: int = 1) -> dict[str, Any]:
    return wait_for(lambda: len(rows := stack.rows(slug)) >= number and rows, 10, "the row")[-1]


def error_of(answer: Any) -> str:
    return str(json.loads(answer[2])["error"]["message"])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("by", ["dollars", "tokens"])
def test_what_a_plan_includes_is_never_passed_by_64_clients_at_once(stack: Stack, stream: bool, by: str) -> None:
    slug = f"block-{by}-{'stream' if stream else 'whole'}"
    key = stack.tenant(slug, sessions_max=1000, queue_depth_max=1000)
    included = "included_nanos" if by == "dollars" else "included_tokens"
    put(stack, slug, overage="block", **{included: 10**15})
    let_act(stack, slug)
    assert stack.message(key, stream=stream)[0] == 200
    row = row_of(stack, slug)
    counted = ("cost_nanos",) if by == "dollars" else ("input_tokens", "output_tokens", "cache_read_tokens")

    def used() -> int:
        return sum(one[name] or 0 for one in stack.rows(slug) for name in counted)

    most = 60 * sum(row[name] for name in counted)
    put(stack, slug, overage="block", **{included: most})
    let_act(stack, slug)
    served, refused, lock = 0, set[str](), threading.Lock()
    stop = threading.Event()

    def work(_: int) -> None:
        nonlocal served
        while not stop.is_set():
            answer = stack.message(key, stream=stream)
            if answer[0] == 402:
                refused.add(error_of(answer))
                return
            with lock:
                served += answer[0] == 200
            assert answer[0] in (200, 429), answer
            stop.wait(0.03)

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(work, range(64)))
    wait_for(lambda: len(stack.rows(slug)) >= served + 1, 10, "all rows")
    assert used() <= most
    assert served >= 20
    assert all(f"plan {slug} includes" in one for one in refused)


def test_a_bigger_plan_a_raise_or_none_lift_the_block_and_budgets_stay_as_they_are(stack: Stack) -> None:
    key, directory = stack.tenant("lift"), stack.site.directory
    put(stack, "lift", included_nanos=1, overage="block")
    answers(stack, key, 402)
    answer = stack.message(key)
    assert "plan lift includes" in error_of(answer)
    assert (answer[1]["x-should-retry"], answer[1]["anthropic-ratelimit-unified-status"]) == ("false", "rejected")
    directory.raise_budget("lift", "plan", 5 * USD, now_utc() + timedelta(hours=1))
    answers(stack, key, 200)
    directory.set_budgets("lift", {"month": 1})
    assert "Monthly budget of $0.000000001" in answers(stack, key, 402)["error"]["message"]
    directory.set_budgets("lift", {"month": None})
    answers(stack, key, 200)
    put(stack, "lift", included_nanos=2, overage="block", fee_nanos=1)
    directory.set_plan("large", Terms(included_nanos=1000 * USD, overage="block"))
    directory.assign_plan("lift", Agreed("large"))
    answers(stack, key, 200)


def test_what_was_used_before_the_gateway_began_counts(own_stack: Stack) -> None:
    stack = own_stack.start()
    key = stack.tenant("again")
    assert stack.message(key)[0] == 200
    cost = row_of(stack, "again")["cost_nanos"]
    put(stack, "again", included_nanos=cost, overage="block")
    answers(stack, key, 402)
    stack.kill("gateway")
    stack.start("gateway")
    assert "is used up" in answers(stack, key, 402)["error"]["message"]


def test_a_plan_that_throttles_leaves_a_slower_tier_until_it_is_larger(stack: Stack) -> None:
    key, directory = stack.tenant("slowed"), stack.site.directory
    directory.set_tier("slow", {"max_tokens_cap": 7, "max_tokens_policy": "refuse", "requests_per_minute": 1000})
    directory.set_tenant("slowed", TenantChange(limits={"max_tokens_policy": "refuse"}))
    put(stack, "slowed", included_nanos=1, overage="throttle", throttle_tier="slow")
    assert "7" in answers(stack, key, 400)["error"]["message"]
    assert stack.message(key, max_tokens=7)[0] == 200
    put(stack, "slowed", included_nanos=100 * USD, overage="throttle", throttle_tier="slow")
    answers(stack, key, 200)


def test_a_key_of_a_slot_works_at_its_own_endpoint_and_its_usage_is_the_slots(stack: Stack) -> None:
    whole, directory = stack.tenant("slotted"), stack.site.directory
    made = {}
    for name in ("writer", "reader"):
        done = tenantry(stack, "slots", "add", "slotted", name, "--json")
        made[name] = json.loads(done.stdout)
        assert made[name]["endpoint"].endswith(f"/t/slotted.{name}")
    keys = {name: one["key"] for name, one in made.items()}
    stack.tenant("stranger")
    for name, key in keys.items():
        for path in (f"/t/slotted.{name}", "/t/slotted", ""):
            answers(stack, key, 200, f"{path}/v1/messages")
        foreign = stack.message(key, path="/t/stranger/v1/messages")
        for other in ("writer", "reader", "nobody"):
            if other != name:
                found = stack.message(key, path=f"/t/slotted.{other}/v1/messages")
                assert (found[0], found[2]) == (403, foreign[2])
    assert stack.message(whole, path="/t/slotted/v1/messages")[0] == 200
    assert stack.message(whole, path="/t/slotted.writer/v1/messages")[0] == 403
    row_of(stack, "slotted", 7)
    told = json.loads(tenantry(stack, "usage", "slotted", "--json").stdout)["slots"]
    assert {one["slot"]: one["requests"] for one in told} == {"": 1, "writer": 3, "reader": 3}
    directory.remove_slot("slotted", "writer")
    answers(stack, keys["writer"], 403)
    answers(stack, keys["reader"], 200)


def test_a_slot_has_a_lane_of_its_own_within_its_tenants(stack: Stack) -> None:
    stack.tenant("laned", sessions_max=3, queue_depth_max=0)
    directory = stack.site.directory
    directory.add_slot("laned", "narrow", {"sessions_max": 1})
    directory.add_slot("laned", "wide")
    narrow, other, wide = (
        directory.issue_key("laned", name, slot=slot).text
        for name, slot in (("a", "narrow"), ("b", "narrow"), ("c", "wide"))
    )
    for key in (narrow, other, wide):
        answers(stack, key, 200)
    before = len(stack.billed())
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(stack.message, narrow, "chunks=60;chunk-ms=50", stream=True)
        wait_for(lambda: len(stack.billed()) > before, 5, "the stream upstream")
        refused = stack.message(other)
        assert refused[0] == 429
        assert error_of(refused).startswith("Slot narrow is limited to 1 requests in flight")
        assert stack.message(wide)[0] == 200
        assert long.result()[0] == 200
