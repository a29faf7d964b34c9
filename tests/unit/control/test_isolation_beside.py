"""Headers beside: each alone, and every two together."""

from itertools import combinations

from tenantry.control.isolation.beside import HEADERS, cases_beside, rows
from tenantry.control.isolation.cases import FORBIDDEN, Hand, Holder
from tenantry.wire.routes import sample_targets

HAND = Hand(
    Holder("acme", "tnt_acme", "sk-proxy-acme-" + "k" * 38),
    Holder("globex", "tnt_globex", "sk-proxy-globex-" + "g" * 38),
    Holder("nobody-1", "tnt_nobody-1", ""),
    {"revoked": "sk-proxy-acme-" + "r" * 38},
    "sk-ant-oat01-x",
    "sk-ant-api03-x",
)


def careful() -> Hand:
    return Hand(HAND.own, HAND.other, HAND.nobody, HAND.spares, HAND.oat, HAND.raw, careful=True)


def test_each_header_is_tried_alone_and_every_two_together() -> None:
    tried = [frozenset(lines) for _, lines in rows()]
    assert all(frozenset([line]) in tried for line in HEADERS)
    for one, two in combinations(HEADERS, 2):
        assert any(one in row and two in row for row in tried)


def test_every_two_but_few_come_together_without_many_of_the_others() -> None:
    halves = [lines for _, lines in rows() if 1 < len(lines) < len(HEADERS)]
    apart = [pair for pair in combinations(HEADERS, 2) if not any(pair[0] in row and pair[1] in row for row in halves)]
    assert len(apart) <= len(HEADERS) // 2


def test_every_route_with_a_key_has_every_refused_caller_beside_each_of_them() -> None:
    titles = {(case.route, case.title) for case in cases_beside(HAND)}
    for sample in sample_targets():
        if not sample.route.open_to_all:
            for caller in ("own key, path of the other tenant", "revoked key", "a made-up key"):
                assert all((sample.name, f"{caller}, beside {name}") in titles for name, _ in rows())


def test_what_is_refused_is_compared_with_what_is_refused_alone() -> None:
    refused = [case for case in cases_beside(HAND) if case.expected is FORBIDDEN]
    assert refused
    assert all(case.twin for case in refused)


def test_real_tenants_are_sent_refusals_only() -> None:
    assert {case.expected.upstream for case in cases_beside(careful())} == {"none"}
