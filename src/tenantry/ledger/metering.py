"""What has been booked since this process began, for monitoring: counted as it is booked, so that nobody adds it up.

Whatever clients and upstreams call themselves, the number of names stays bounded: so many tenants are counted by
themselves, by how much they ask, and the rest together; likewise models and upstreams.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import Final

from tenantry.domain.histograms import WAIT_BOUNDS_US, Histogram
from tenantry.domain.plans import PRICED_TOKENS
from tenantry.domain.proof import PROOF_NAME, is_of_proof
from tenantry.ledger.events import EndedAttempt
from tenantry.ledger.lines import Begun, Ended

# No slug and no model id has brackets.
OTHER: Final = "(other)"
# The API has some 30 models, and a site a handful of upstreams (reference 5.6).
MODELS_MAX: Final = 50
UPSTREAMS_MAX: Final = 50
# How an attempt ends for its upstream's sake. Other words of `error` are the client's doing, ours, or the API's own.
_FAULTS: Final = frozenset(
    {
        *("connect_failed", "upstream_dropped", "upstream_invalid_http", "upstream_answer_too_large", "timed_out"),
        *("overloaded_error", "api_error", "timeout_error"),
    }
)
_STATUSES: Final = frozenset({429, 500, 502, 503, 504, 529})


class Booked:
    """Counters by name, from the start of the process. `tenants_max`: how many are counted by themselves.

    Its calls may come from several threads.
    """

    def __init__(self, tenants_max: int) -> None:
        self.lock = threading.Lock()  # to be held while its counters are read together
        self._tenants_max = tenants_max
        self._tenants: set[str] = set()
        self._models: set[str] = set()
        self._upstreams: set[str] = set()
        self._asked: Counter[str] = Counter()  # requests of each tenant, since it was last decided who is counted apart
        self.rows = 0
        self.requests: Counter[tuple[str, str]] = Counter()  # by tenant and outcome
        self.retries: Counter[str] = Counter()  # by tenant
        self.attempts: Counter[tuple[str, str]] = Counter()  # by upstream and outcome
        self.errors: Counter[tuple[str, str]] = Counter()  # by upstream and reason
        self.tokens: Counter[tuple[str, str, str]] = Counter()  # by tenant, model and class
        self.cost_nanos: Counter[tuple[str, str]] = Counter()  # by tenant and model
        self.queue_waits = Histogram(WAIT_BOUNDS_US)
        self.durations = {False: Histogram(WAIT_BOUNDS_US), True: Histogram(WAIT_BOUNDS_US)}  # by whether it streams
        self.first_tokens: dict[str, Histogram] = {}  # of streams, by upstream

    def tenant(self, tenant_id: str) -> str:
        """By what name a tenant is counted: its id, or `OTHER`; those of isolation proofs are one."""
        if is_of_proof(tenant_id):
            return PROOF_NAME
        return self._bounded(self._tenants, tenant_id, self._tenants_max)

    def choose_tenants(self) -> None:
        """Count apart from now on those that have asked for most since this was decided last."""
        with self.lock:
            if len(self._asked) > self._tenants_max:
                self._tenants = {tenant_id for tenant_id, _ in self._asked.most_common(self._tenants_max)}
            self._asked.clear()

    def add(self, attempts: Iterable[EndedAttempt]) -> None:
        """What a transaction has booked."""
        with self.lock:
            for one in attempts:
                self._add(one.begun, one.end)

    def _add(self, begun: Begun, end: Ended) -> None:
        self.rows += 1
        tenant = self.tenant(begun.tenant_id)
        if tenant == PROOF_NAME:  # each proof has an upstream of its own, too
            upstream = PROOF_NAME
        else:
            self._asked[begun.tenant_id] += 1
            upstream = self._bounded(self._upstreams, begun.upstream_id, UPSTREAMS_MAX)
        outcome = str(end.outcome)
        self.attempts[upstream, outcome] += 1
        if begun.attempt_id.endswith("_1"):
            self.requests[tenant, outcome] += 1
        else:
            self.retries[tenant] += 1
        reason = _fault(end)
        if reason is not None:
            self.errors[upstream, reason] += 1
        if end.cost_nanos or end.usage.output_tokens:
            model = self._bounded(self._models, end.model_served or begun.model_requested, MODELS_MAX)
            self.cost_nanos[tenant, model] += end.cost_nanos or 0
            for name in PRICED_TOKENS:
                count = getattr(end.usage, name)
                if count:
                    self.tokens[tenant, model, name] += count
        if begun.queue_wait_us is not None:
            self.queue_waits.add(begun.queue_wait_us)
        self.durations[begun.streaming].add(max(0, end.ended_at_us - begun.begun_at_us))
        if begun.streaming and end.first_byte_at_us is not None and end.status == 200:
            if upstream not in self.first_tokens:
                self.first_tokens[upstream] = Histogram(WAIT_BOUNDS_US)
            self.first_tokens[upstream].add(max(0, end.first_byte_at_us - begun.begun_at_us))

    @staticmethod
    def _bounded(known: set[str], name: str, most: int) -> str:
        if name not in known:
            if len(known) >= most:
                return OTHER
            known.add(name)
        return name


def _fault(end: Ended) -> str | None:
    """What the upstream did wrong, as one of a few words; None where it did nothing wrong."""
    if end.error in _FAULTS and (end.status is None or end.status == 200):
        return end.error
    if end.status is None or (end.status < 500 and end.status != 429):
        return None
    return f"http_{end.status}" if end.status in _STATUSES else "http_5xx"
