"""The proof itself: makes probes, runs every group against the running gateway, cleans up however it ends."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from tenantry.control.isolation import bleed, borrowed, cases
from tenantry.control.isolation.answers import try_equal
from tenantry.control.isolation.beside import cases_beside
from tenantry.control.isolation.books import compare_books
from tenantry.control.isolation.by_host import cases_by_host
from tenantry.control.isolation.by_slot import cases_by_slot
from tenantry.control.isolation.canaries import CanaryUpstream
from tenantry.control.isolation.cases import Case, Hand, Holder
from tenantry.control.isolation.client import NoAnswer, ask, request
from tenantry.control.isolation.connection import try_connections
from tenantry.control.isolation.findings import Group, Report
from tenantry.control.isolation.interleaved import Interleaved, fail_first, interleave
from tenantry.control.isolation.judge import Judge
from tenantry.control.isolation.probes import KEY_LABEL, Probe, Probes, Turn, remove_leftovers
from tenantry.control.isolation.searching import say_everywhere, search_all
from tenantry.control.isolation.sharing import Sharing, share
from tenantry.control.isolation.stage import Stage
from tenantry.control.isolation.switching import Switching, switch
from tenantry.control.isolation.undisturbed import answers_to, compare_answers, plain_requests
from tenantry.control.isolation.waiting import require_gateway, wait_for_key, wait_for_status
from tenantry.control.site import Site
from tenantry.domain.directory import TenantStatus
from tenantry.wire.routes import sample_targets

INTERLEAVED_REQUESTS: Final = 2000
INTERLEAVED_REQUESTS_QUICK: Final = 300
QUIET_REQUESTS: Final = 500
QUIET_REQUESTS_QUICK: Final = 100
# The groups whose requests are generated and judged one by one.
CASES: Final = (cases.WHO, cases.BESIDE, cases.HOW, cases.IDS)


@contextmanager
def clean_site(site: Site) -> Generator[list[str]]:
    """Nothing of a probe before and after, however it ends; what a dead run had left is yielded.

    Raises:
        ProofRunning: another run is at it.
    """
    turn = Turn(site)
    try:
        yield remove_leftovers(site.directory)
    finally:
        try:
            remove_leftovers(site.directory)
        finally:
            turn.end()


def prove_probes(stage: Stage) -> Report:
    """The whole proof, with probes. The caller holds `clean_site`.

    Raises:
        ProofImpossible: no gateway, or not this site's.
    """
    started = time.monotonic()
    require_gateway(stage.address)
    upstream = CanaryUpstream()
    try:
        _run_groups(stage, upstream)
    finally:
        upstream.close()
    return conclude(stage, started)


def conclude(stage: Stage, started: float) -> Report:
    """The report with its last figures, and a line in the audit log."""
    report = stage.report
    report.seconds = round(time.monotonic() - started, 1)
    verdicts = {group.name: group.verdict for group in report.groups}
    stage.site.directory.audit("isolation.verify", report.run, {"verdict": report.verdict, **verdicts})
    return report


def _run_groups(stage: Stage, upstream: CanaryUpstream) -> None:
    report, quick = stage.report, stage.options.quick
    probes = Probes(stage.site, report.run, upstream)
    own = _add(stage, probes, "own")
    wait_for_key(stage.address, own.holder, stage.pace)
    plain = plain_requests(probes, own.holder)
    alone = answers_to(stage.address, plain)
    for role, limits in (("other", None), ("noisy", bleed.NOISY_LIMITS), ("quiet", bleed.QUIET_LIMITS), ("off", None)):
        _add(stage, probes, role, limits)
    quiet_count = QUIET_REQUESTS_QUICK if quick else QUIET_REQUESTS
    stage.site.directory.set_budgets(probes.slug("quiet"), {"day": bleed.quiet_budget_nanos(quiet_count)})
    report.tenants += [probe.holder.slug for probe in probes.by_role.values()]
    hand = _hand(stage, probes)
    judge = _judge(stage, upstream, probes, hand)
    if stage.wants("undisturbed"):
        with stage.groups("undisturbed") as groups:
            compare_answers(groups["undisturbed"], judge, plain, alone)
    _run_cases(stage, judge, hand, probes)
    _run_pairs(stage, judge, upstream, probes, hand)
    _run_load(stage, judge, upstream, probes, quiet_count)
    _run_changes(stage, upstream, probes)


def generate(hand: Hand, wanted: Collection[str]) -> Iterator[Case]:
    """The cases of these groups."""
    if not {cases.WHO, cases.HOW, cases.IDS}.isdisjoint(wanted):
        yield from (case for case in cases.generate_cases(hand) if case.group in wanted)
    if cases.WHO in wanted:
        yield from cases_by_host(hand)
        yield from cases_by_slot(hand)
    if cases.BESIDE in wanted:
        yield from cases_beside(hand)


def _run_cases(stage: Stage, judge: Judge, hand: Hand, probes: Probes) -> None:
    """One request after the other, each on a connection of its own."""
    wanted = [name for name in CASES if stage.wants(name)]
    if not wanted:
        return
    with stage.groups(*wanted) as groups:
        judge.try_all(groups, list(generate(hand, wanted)), stage.came)
        if cases.IDS in wanted:
            require_objects(groups[cases.IDS], hand)
            _foreign_model(groups[cases.IDS], judge, probes.by_role["own"], probes.by_role["other"])


def _run_pairs(stage: Stage, judge: Judge, upstream: CanaryUpstream, probes: Probes, hand: Hand) -> None:
    """Two requests that are nearly or wholly the same."""
    if stage.wants("connection"):
        with stage.groups("connection") as groups:
            try_connections(groups["connection"], judge, hand)
    if stage.wants("answers"):
        with stage.groups("answers") as groups:
            both = [probes.by_role["own"], probes.by_role["other"]]
            try_equal(groups["answers"], judge, upstream, hand, both)


def _run_load(stage: Stage, judge: Judge, upstream: CanaryUpstream, probes: Probes, quiet_count: int) -> None:
    """Several tenants at once, and what came of it."""
    own, other, noisy, quiet = (probes.by_role[role] for role in ("own", "other", "noisy", "quiet"))
    if stage.wants("credentials"):
        with stage.groups("credentials") as groups:
            count = INTERLEAVED_REQUESTS_QUICK if stage.options.quick else INTERLEAVED_REQUESTS
            on = Interleaved(groups["credentials"], stage.address, upstream, [own, other], judge)
            interleave(on, count, stage.came)
            fail_first(on)
    if stage.wants("bleed"):
        with stage.groups("bleed") as groups:
            bleed.bleed(bleed.Bleed(groups["bleed"], stage.address, stage.pace, noisy, quiet, stage.came), quiet_count)
    if stage.wants("search"):  # said before the books are compared, and looked for at the end
        for probe in (own, other):
            say_everywhere(stage, upstream, probe)
    if stage.wants("books"):
        with stage.groups("books") as groups:
            compare_books(groups["books"], stage.site, stage.address, upstream, probes.by_role, stage.pace)


def _run_changes(stage: Stage, upstream: CanaryUpstream, probes: Probes) -> None:
    """After the books: tenants get another credential, and requests that are cut half-way have rows without answers."""
    own, other = probes.by_role["own"], probes.by_role["other"]
    directory, needles = stage.site.directory, stage.needles
    if stage.wants("sharing"):
        with stage.groups("sharing") as groups:
            share(
                Sharing(groups["sharing"], stage.address, upstream, directory, needles, stage.pace, probes.name),
                own,
                other,
            )
            borrowed.try_borrowed(groups["sharing"], stage.address, upstream, own)
    if stage.wants("switching"):
        with stage.groups("switching") as groups:
            switch(Switching(groups["switching"], stage.address, upstream, directory, needles, stage.pace, other, own))
    if stage.wants("search"):
        search_all(stage)


def _add(stage: Stage, probes: Probes, role: str, limits: Mapping[str, int] | None = None) -> Probe:
    probe = probes.add(role, limits)
    stage.needles.add(f"the credential of the {role} tenant", probe.secret)
    stage.needles.add(f"the gateway key of the {role} tenant", probe.holder.key)
    for slot, key in probe.holder.slots.items():
        stage.needles.add(f"the key of slot {slot} of the {role} tenant", key)
    return probe


def _hand(stage: Stage, probes: Probes) -> Hand:
    """Keys that must not work, and the last change of all: once that is seen, so is everything before it."""
    off = probes.by_role["off"]
    hand = make_hand(stage, probes.by_role["own"].holder, probes.by_role["other"].holder, {"disabled": off.holder.key})
    stage.site.directory.set_tenant_status(off.holder.slug, TenantStatus.DISABLED)
    # Where it is never seen, the cases of a disabled tenant will say so.
    wait_for_status(stage.address, off.holder, 403, stage.pace)
    return hand


def make_hand(stage: Stage, own: Holder, other: Holder, spares: dict[str, str], careful: bool = False) -> Hand:
    """What a prober of `own` has in hand; its revoked and expired keys are made here."""
    directory = stage.site.directory
    revoked = directory.issue_key(own.slug, KEY_LABEL)
    directory.revoke_key(revoked.key_id)
    expired = directory.issue_key(own.slug, KEY_LABEL, datetime.now(UTC) - timedelta(seconds=1))
    nobody = f"nobody-{secrets.token_hex(4)}"
    tails = {name: secrets.token_urlsafe(32) for name in ("oat01", "api03")}
    hand = Hand(
        own,
        other,
        Holder(nobody, f"tnt_{nobody}", ""),
        {**spares, "revoked": revoked.text, "expired": expired.text},
        f"sk-ant-oat01-{tails['oat01']}",
        f"sk-ant-api03-{tails['api03']}",
        stage.site.settings.require_tenant_id,
        careful,
    )
    for name, text in {**hand.spares, "consumer token": hand.oat, "raw Anthropic": hand.raw}.items():
        if name != "disabled":
            stage.needles.add(f"the {name} key of {own.slug}", text)
    return hand


def name_keys(hand: Hand) -> dict[str, str]:
    """The variables that stand for keys in a command line."""
    named = {"OWN_KEY": hand.own.key, "OTHER_KEY": hand.other.key, "OAT_TOKEN": hand.oat, "RAW_KEY": hand.raw}
    named |= {f"SLOT_{name.upper()}_KEY": key for name, key in hand.own.slots.items()}
    named |= {f"OTHER_SLOT_{name.upper()}_KEY": key for name, key in hand.other.slots.items()}
    return named | {f"{name.upper()}_KEY": key for name, key in hand.spares.items()}


def _judge(stage: Stage, upstream: CanaryUpstream, probes: Probes, hand: Hand) -> Judge:
    own = probes.by_role["own"]
    foreign = tuple(probe.mark.encode() for probe in probes.by_role.values() if probe is not own)
    return Judge(stage.address, stage.needles, name_keys(hand), upstream, own.secret, foreign)


def require_objects(group: Group, hand: Hand) -> None:
    """Fails closed: a route that scopes ids is not shown by ids that nobody has.

    Who adds such a route puts an object of the other tenant into `Hand.objects`, where the hand is made.
    """
    scopes = {scope for sample in sample_targets() for scope in sample.route.scopes}
    for scope in sorted(scopes - hand.objects.keys()):
        group.add(f"a {scope} of the other tenant", "to be there to be asked for", "this proof makes none", False)


def _foreign_model(group: Group, judge: Judge, own: Probe, other: Probe) -> None:
    """The recording upstream gives each credential a model of its own: an answer kept for another would show it."""
    seen: list[bytes] = []
    for name in (f"model-{other.mark}", "model-mark-of-nobody"):
        path = f"/t/{own.holder.slug}/v1/models/{name}".encode()
        data = request(b"GET", path, [cases.key_line(own.holder.key), b"connection: close"])
        try:
            answer = ask(judge.address, data, b"GET")[0]
        except NoAnswer as error:
            group.add(f"GET {name}", "404", str(error), False)
            return
        seen.append(answer.comparable(moving=False))
    ok = seen[0] == seen[1] and seen[0].startswith(b"404")
    words = f"{seen[0][:3].decode()} and {seen[1][:3].decode()}, {'equal' if seen[0] == seen[1] else 'different'} bytes"
    group.add("a model that only the other tenant's credential has", "404 in the bytes of an unknown one", words, ok)
