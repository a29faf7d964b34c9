"""The proof itself: makes probes, runs every group against the running gateway, cleans up however it ends."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tenantry import __version__
from tenantry.control.isolation import cases, load, search
from tenantry.control.isolation.books import compare_books
from tenantry.control.isolation.canaries import CanaryUpstream
from tenantry.control.isolation.cases import Hand, Holder
from tenantry.control.isolation.client import Address, Answer, NoAnswer, ask, gateway_address, request
from tenantry.control.isolation.findings import Group, Report
from tenantry.control.isolation.judge import Judge
from tenantry.control.isolation.probes import KEY_LABEL, Probe, Probes, Turn, remove_leftovers
from tenantry.control.isolation.search import Needles
from tenantry.control.isolation.sharing import Sharing, share
from tenantry.control.isolation.switching import switch
from tenantry.control.isolation.waiting import require_gateway, wait_for_key, wait_for_status
from tenantry.control.site import Site
from tenantry.domain.directory import TenantStatus
from tenantry.wire.routes import sample_targets

# A guard only: on two cores the cases take some seconds.
CASES_SECONDS_MAX = 40.0
INTERLEAVED_REQUESTS = 2000
INTERLEAVED_REQUESTS_QUICK = 300
QUIET_REQUESTS = 500
QUIET_REQUESTS_QUICK = 100

PROVES = {
    "undisturbed": "The same requests get the same bytes before other tenants exist and after.",
    cases.WHO: "Every route answers every kind of caller as the table of authentication says.",
    cases.HOW: "No way of writing path, header, key or framing reaches another tenant.",
    cases.IDS: "Ids of another tenant's objects are answered like ids that nobody has, in equal bytes.",
    "credentials": "Under concurrency each request leaves under its own tenant's credential; each answer is its own.",
    "bleed": "A tenant at many times its limits changes nothing for another: latency, limits, counters.",
    "books": "The ledger rows of each tenant are exactly its own requests.",
    "sharing": "One credential of two tenants, and several keys of one, share no connection, limit or budget by it.",
    "switching": "Disabling, revoking, a key's end act within a second; enabling needs no change at the client.",
    "search": "No secret stands in the clear in anything the site writes or tells.",
}
NOT_COVERED = [
    "Whatever runs on this machine as the same user or as root can read the master key; that is outside this proof.",
    "The upstream's own separation of its customers, and the TLS between here and there.",
    "Other processes and hosts in front of the gateway, such as a proxy that caches or rewrites requests.",
    "Other gateway processes of the same site: the one at the address above was asked.",
    "Timing differences between refusals are not measured.",
    "The control plane's own pages and API.",
]


@dataclass(frozen=True, slots=True)
class Options:
    """`tenants`: real ones, not probes. `messages`: they may send a real message each. `logs`: more to search.

    `only` names the groups to run; empty for all.
    """

    tenants: tuple[str, ...] = ()
    quick: bool = False
    messages: bool = False
    logs: tuple[Path, ...] = ()
    only: frozenset[str] = frozenset()


@dataclass(slots=True)
class Stage:
    """What the groups of one run share."""

    site: Site
    options: Options
    report: Report
    address: Address
    progress: Callable[[Group], None]
    since: float
    deadline: float
    needles: Needles = field(default_factory=Needles)

    @contextmanager
    def groups(self, *names: str) -> Generator[dict[str, Group]]:
        """Groups that are filled together, timed and told when they are done."""
        started = time.monotonic()
        opened = {name: Group(name, PROVES[name]) for name in names}
        self.report.groups.extend(opened.values())
        yield opened
        for group in opened.values():
            group.seconds = round(time.monotonic() - started, 2)
            self.progress(group)

    def wants(self, *names: str) -> bool:
        """Whether these groups are to run; those that are not are in the report all the same."""
        only = self.options.only
        if not only or only.intersection(names):
            return True
        for name in names:
            self.skip(name, "it was not asked for")
        return False

    def skip(self, name: str, why: str) -> None:
        group = Group(name, PROVES[name], not_run=why)
        self.report.groups.append(group)
        self.progress(group)


def begin(site: Site, options: Options, progress: Callable[[Group], None]) -> Stage:
    """A stage without any group yet."""
    now = datetime.now(UTC)
    address = gateway_address(site.settings)
    mode = "real tenants, throw-away keys" if options.tenants else "throw-away probe tenants"
    run, started_at = secrets.token_hex(4), now.strftime("%Y-%m-%dT%H:%M:%SZ")
    report = Report(run, started_at, __version__, address.url, list(options.tenants), mode)
    report.not_covered += NOT_COVERED
    deadline = time.monotonic() + CASES_SECONDS_MAX
    return Stage(site, options, report, address, progress, now.timestamp(), deadline)


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
    wait_for_key(stage.address, own.holder)
    plain = _plain_requests(probes, own.holder)
    alone = _answers(stage.address, plain)
    for role, limits in (("other", None), ("noisy", load.NOISY_LIMITS), ("quiet", load.QUIET_LIMITS), ("off", None)):
        _add(stage, probes, role, limits)
    quiet_count = QUIET_REQUESTS_QUICK if quick else QUIET_REQUESTS
    budget = {"day": load.quiet_budget_nanos(quiet_count)}
    stage.site.directory.set_budgets(probes.slug("quiet"), budget)
    report.tenants += [probe.holder.slug for probe in probes.by_role.values()]
    hand = _hand(stage, probes)
    judge = _judge(stage, upstream, probes, hand)
    _run_cases(stage, judge, hand, plain, alone, probes)
    _run_together(stage, judge, upstream, probes, quiet_count)
    if stage.wants("search"):
        search_all(stage)


def _run_cases(
    stage: Stage, judge: Judge, hand: Hand, plain: Plain, alone: list[Answer | None], probes: Probes
) -> None:
    """One request after the other."""
    if stage.wants("undisturbed"):
        with stage.groups("undisturbed") as groups:
            _compare_answers(groups["undisturbed"], judge, plain, alone)
    if stage.wants(cases.WHO, cases.HOW, cases.IDS):
        with stage.groups(cases.WHO, cases.HOW, cases.IDS) as groups:
            judge.try_all(groups, cases.generate_cases(hand))
            require_objects(groups[cases.IDS], hand)
            _foreign_model(groups[cases.IDS], judge, probes.by_role["own"], probes.by_role["other"])


def _run_together(stage: Stage, judge: Judge, upstream: CanaryUpstream, probes: Probes, quiet_count: int) -> None:
    """Several tenants at once, and what came of it."""
    own, other, noisy, quiet = (probes.by_role[role] for role in ("own", "other", "noisy", "quiet"))
    if stage.wants("credentials"):
        with stage.groups("credentials") as groups:
            count = INTERLEAVED_REQUESTS_QUICK if stage.options.quick else INTERLEAVED_REQUESTS
            load.interleave(groups["credentials"], stage.address, upstream, [own, other], judge, count)
    if stage.wants("bleed"):
        with stage.groups("bleed") as groups:
            load.bleed(groups["bleed"], stage.address, noisy, quiet, quiet_count)
    if stage.wants("books"):
        with stage.groups("books") as groups:
            compare_books(groups["books"], stage.site, upstream, probes.by_role)
    # After the books: their tenants get another credential here.
    if stage.wants("sharing"):
        with stage.groups("sharing") as groups:
            on = Sharing(groups["sharing"], stage.address, upstream, stage.site.directory, stage.needles, probes.name)
            share(on, own, other)
    # After the books, too: a request that is cut off half-way by a switch has a row that no answer came to.
    if stage.wants("switching"):
        with stage.groups("switching") as groups:
            switch(groups["switching"], stage.address, stage.site.directory, other, own)


def _add(stage: Stage, probes: Probes, role: str, limits: Mapping[str, int] | None = None) -> Probe:
    probe = probes.add(role, limits)
    stage.needles.add(f"the credential of the {role} tenant", probe.secret)
    stage.needles.add(f"the gateway key of the {role} tenant", probe.holder.key)
    return probe


def _hand(stage: Stage, probes: Probes) -> Hand:
    """Keys that must not work, and the last change of all: once that is seen, so is everything before it."""
    off = probes.by_role["off"]
    hand = make_hand(stage, probes.by_role["own"].holder, probes.by_role["other"].holder, {"disabled": off.holder.key})
    stage.site.directory.set_tenant_status(off.holder.slug, TenantStatus.DISABLED)
    # Where it is never seen, the cases of a disabled tenant will say so.
    wait_for_status(stage.address, off.holder, 403)
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
    return named | {f"{name.upper()}_KEY": key for name, key in hand.spares.items()}


def _judge(stage: Stage, upstream: CanaryUpstream, probes: Probes, hand: Hand) -> Judge:
    own = probes.by_role["own"]
    foreign = tuple(probe.mark.encode() for probe in probes.by_role.values() if probe is not own)
    return Judge(stage.address, stage.needles, stage.deadline, name_keys(hand), upstream, own.secret, foreign)


Plain = list[tuple[str, bytes, bytes]]


def _plain_requests(probes: Probes, own: Holder) -> Plain:
    """Title, method and bytes of requests whose answers must not depend on who else is there."""
    found: Plain = []
    key, close = cases.key_line(own.key), b"connection: close"
    other = probes.slug("other")
    for sample in sample_targets():
        body = cases.body_of(sample.route, "tag=plain")
        for slug, named in (
            (own.slug, own.slug),
            (own.slug, other),
            (own.slug, probes.tenant_id("other")),
            (other, ""),
        ):
            lines = [key, close, *([f"x-tenant-id: {named}".encode()] if named else [])]
            path = f"/t/{slug}".encode() + sample.path
            title = f"{sample.name}: path of {slug}, x-tenant-id {named or 'none'}"
            found.append((title, sample.method, request(sample.method, path, lines, body)))
    return found


def _answers(address: Address, plain: Plain) -> list[Answer | None]:
    answers: list[Answer | None] = []
    for _, method, data in plain:
        try:
            answers.append(ask(address, data, method)[0])
        except NoAnswer:
            answers.append(None)
    return answers


def _compare_answers(group: Group, judge: Judge, plain: Plain, alone: list[Answer | None]) -> None:
    for (title, _, _), before, now in zip(plain, alone, _answers(judge.address, plain), strict=True):
        if before is None or now is None:
            group.add(title, "equal bytes", "no answer", False)
            continue
        equal = before.comparable(moving=False) == now.comparable(moving=False)
        leaks = judge.leaks(now)
        seen = "; ".join(leaks) or (
            f"{now.status}, equal bytes" if equal else f"{before.status}, then {now.status}: differs"
        )
        group.add(title, "equal bytes without and with other tenants", seen, equal and not leaks)


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


def search_all(stage: Stage) -> None:
    """Everything that the site writes, and whatever else was named."""
    settings, needles = stage.site.settings, stage.needles
    with stage.groups("search") as groups:
        group = groups["search"]
        paths = [settings.data_dir, *stage.options.logs]
        too_large = search.search_files(group, needles, paths, stage.since)
        search.search_database(group, stage.site.engine, needles, stage.since)
        search.search_processes(group, needles)
        control = (settings.control_host, settings.control_port)
        missing = search.search_metrics(group, needles, stage.address, control)
    stage.report.not_covered += [f"{path}: too large to search within the time" for path in too_large] + missing
    if not stage.options.logs:
        stage.report.not_covered.append("Logs outside the data directory: name them with --logs to have them searched.")
