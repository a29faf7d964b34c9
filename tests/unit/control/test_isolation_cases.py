"""The cases of the isolation proof come from the route table."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from tenantry.control.isolation.by_host import cases_by_host
from tenantry.control.isolation.by_slot import cases_by_slot
from tenantry.control.isolation.cases import HOW, IDS, WHO, Hand, Holder, generate_cases
from tenantry.control.isolation.engine import require_objects
from tenantry.control.isolation.findings import Group
from tenantry.wire import routes
from tenantry.wire.inspect import BadBody, inspect_message
from tenantry.wire.routes import Kind, PatternRoute, Route

KEY = "sk-proxy-acme-" + "k" * 38
HAND = Hand(
    Holder("acme", "tnt_acme", KEY),
    Holder("globex", "tnt_globex", "sk-proxy-globex-" + "g" * 38),
    Holder("nobody-1", "tnt_nobody-1", ""),
    {"revoked": "sk-proxy-acme-" + "r" * 38, "expired": "sk-proxy-acme-" + "e" * 38},
    "sk-ant-oat01-x",
    "sk-ant-api03-x",
)


def careful() -> Hand:
    return Hand(HAND.own, HAND.other, HAND.nobody, HAND.spares, HAND.oat, HAND.raw, careful=True)


def test_every_route_has_cases_of_every_kind() -> None:
    counted = Counter((case.route, case.group) for case in generate_cases(HAND))
    names = {sample.name for sample in routes.sample_targets()}
    assert {name for name, _ in counted} == names
    assert all(counted[name, WHO] > 50 and counted[name, HOW] > 100 for name in names)


def test_a_new_route_is_covered_as_it_is_born(monkeypatch: pytest.MonkeyPatch) -> None:
    born = Route(Kind.COUNT_TOKENS, 1000)
    monkeypatch.setitem(routes.ROUTES, (b"POST", b"/v1/messages/translate"), born)
    found = [case for case in generate_cases(HAND) if case.route == "POST /v1/messages/translate"]
    titles = {case.title for case in found}
    assert {"no key", "revoked key", "own key, path of the other tenant", "framing: length and chunked"} <= titles
    assert any(b"/t/globex/v1/messages/translate " in case.data for case in found)


def test_a_route_that_scopes_ids_gets_foreign_ids_that_must_look_like_unknown_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    route = Route(Kind.MODELS, 0, scopes=("file",))
    pattern = PatternRoute(b"GET", re.compile(rb"/v1/files/[a-z_0-9]+"), "/v1/files/{file}", route)
    monkeypatch.setattr(routes, "PATTERN_ROUTES", [*routes.PATTERN_ROUTES, pattern])
    hand = Hand(HAND.own, HAND.other, HAND.nobody, {}, HAND.oat, HAND.raw, objects={"file": "file_of_globex"})
    foreign, unknown = [case for case in generate_cases(hand) if case.group == IDS]
    assert b"/t/acme/v1/files/file_of_globex " in foreign.data
    assert b"/t/acme/v1/files/file_none " in unknown.data
    assert foreign.twin == unknown.twin != ""
    assert foreign.expected.statuses == (404,)
    shown, missing = Group(IDS, ""), Group(IDS, "")
    require_objects(shown, hand)
    require_objects(missing, HAND)
    assert shown.checks == []
    assert [check.tried for check in missing.failures] == ["a file of the other tenant"]


def test_tenants_that_exist_and_that_do_not_are_compared_on_every_route() -> None:
    cases = list(generate_cases(HAND))
    for sample in routes.sample_targets():
        twin = ("open " if sample.route.open_to_all else "foreign ") + sample.name
        titles = " ".join(case.title for case in cases if case.twin == twin)
        assert "path of the other tenant" in titles
        assert "path of a tenant that does not exist" in titles


def test_nothing_that_a_gateway_would_forward_as_a_message_is_sent_to_real_tenants() -> None:
    for case in generate_cases(careful()):
        assert case.expected.upstream in ("none", "own?")
        head, _, body = case.data.partition(b"\r\n\r\n")
        if case.route.startswith("POST") and b"content-type" in head:
            with pytest.raises(BadBody):
                inspect_message(body)


def test_keys_are_not_in_the_repr_of_a_case() -> None:
    assert all(KEY[-20:] not in repr(case) for case in generate_cases(HAND))
    assert KEY[-20:] not in repr(HAND)


def test_hosts_are_tried_in_pairs_with_paths_and_keys_on_every_route() -> None:
    own, other = replace(HAND.own, host="h0.probe.invalid"), replace(HAND.other, host="h1.probe.invalid")
    counted = Counter(case.route for case in cases_by_host(replace(HAND, own=own, other=other)))
    assert set(counted) == {sample.name for sample in routes.sample_targets()}
    assert min(counted.values()) > 30
    assert list(cases_by_host(HAND)) == []  # where no tenant has a host, there is nothing to be tried


def test_pairs_of_slots_are_tried_as_pairs_of_tenants() -> None:
    keys = {f"{slug}.{name}": f"sk-proxy-{slug}-{name * 10}" for slug in ("acme", "globex") for name in ("one", "two")}
    slots = {slug: {name: keys[f"{slug}.{name}"] for name in ("one", "two")} for slug in ("acme", "globex")}
    hand = replace(HAND, own=replace(HAND.own, slots=slots["acme"]), other=replace(HAND.other, slots=slots["globex"]))
    found = [case for case in cases_by_slot(hand) if case.route == "POST /v1/messages"]

    def expected(key: str, slug: str) -> set[tuple[int, ...]]:
        path, line = f" /t/{slug}/v1/messages ".encode(), f"x-api-key: {key}\r\n".encode()
        return {
            one.expected.statuses
            for one in found
            if path in one.data and line in one.data and b"x-tenant" not in one.data
        }

    for holder in ("acme.one", "acme.two"):
        for endpoint in ("acme.one", "acme.two", "globex.one", "globex.two", "acme.nothing"):
            assert expected(keys[holder], endpoint) == {(200,) if endpoint == holder else (403,)}
        assert expected(HAND.own.key, holder) == {(403,)}
        assert expected(keys[holder], "acme") == {(200,)}
    assert {one.twin for one in found if one.expected.statuses == (403,)} == {"foreign POST /v1/messages"}
    assert not list(cases_by_slot(HAND))
