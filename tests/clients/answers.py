"""How often each client asks for one call, by the answer that it gets (docs/decisions/0014-over-budget-answers.md)."""

from __future__ import annotations

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.clients.catalog import CLIENTS, Client
from tests.clients.conformance import CLIENTS_AT_ONCE, Say
from tests.clients.counter import Canned, Counter
from tests.clients.installing import CannotInstall
from tests.clients.running import run

REASON = "Monthly budget of $500.00 for tenant acme reached; resets Dec 1 00:00 UTC; ask ops@agency.example for more."
# A week to the end of the period, and a few seconds.
_FAR = {"retry-after": "604800"}
_NEAR = {"retry-after": "4"}
_NO_RETRY = {"x-should-retry": "false"}
_NOTICE = {
    "anthropic-ratelimit-unified-status": "rejected",
    "anthropic-ratelimit-unified-reset": "1796083200",
    "anthropic-ratelimit-unified-overage-reset": "1796083200",
    "anthropic-ratelimit-unified-overage-utilization": "1",
    "anthropic-ratelimit-unified-overage-surpassed-threshold": "1",
    "anthropic-ratelimit-unified-overage-period": "monthly",
    "anthropic-ratelimit-unified-overage-disabled-reason": "org_spend_cap_reached",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A refusal that could be given."""

    name: str
    status: int
    error_type: str
    headers: dict[str, str]

    def canned(self) -> Canned:
        error = {"type": self.error_type, "message": REASON}
        body = {"type": "error", "error": error, "request_id": "req_0123456789"}
        return Canned(self.status, self.headers, json.dumps(body).encode())


ANSWERS = (
    Answer("429 far", 429, "billing_error", _NO_RETRY | _NOTICE | _FAR),
    Answer("429 near", 429, "billing_error", _NO_RETRY | _NOTICE | _NEAR),
    Answer("429 bare", 429, "billing_error", _NO_RETRY | _NOTICE),
    Answer("402", 402, "billing_error", _NO_RETRY | _NOTICE),
    Answer("402 far", 402, "billing_error", _NO_RETRY | _NOTICE | _FAR),
    Answer("403 permission", 403, "permission_error", _NO_RETRY | _NOTICE),
    Answer("403 billing", 403, "billing_error", _NO_RETRY | _NOTICE),
    Answer("400 billing", 400, "billing_error", _NO_RETRY | _NOTICE),
    Answer("400 invalid", 400, "invalid_request_error", _NO_RETRY | _NOTICE),
    Answer("401", 401, "authentication_error", _NO_RETRY),
)


def measure(versions: dict[str, str | CannotInstall], only: tuple[str, ...], say: Say) -> None:
    """Print a table: requests for one call, and `!` where the client does not show the reason."""
    chosen = [client for client in CLIENTS if isinstance(versions.get(client.name), str)]
    say("| client | " + " | ".join(answer.name for answer in ANSWERS) + " |")
    say("|---|" + "---|" * len(ANSWERS))
    with tempfile.TemporaryDirectory(prefix="answers-") as folder, ThreadPoolExecutor(CLIENTS_AT_ONCE) as pool:
        for line in pool.map(lambda client: _line(client, Path(folder), say), chosen):
            say(line)


def _line(client: Client, folder: Path, say: Say) -> str:
    cells: list[str] = []
    operation = "stream" if "plain" in client.absent else "plain"
    with Counter(0) as counter:
        for answer in ANSWERS:
            counter.canned = answer.canned()
            done = run(client, operation, counter, "", "sk-proxy-acme-0123456789", folder / client.name)
            ended = "" if done.code is not None else " (does not end)"
            cells.append(f"{done.messages}{'' if REASON in done.words else '!'}{ended}")
            say(f"# {client.name} {answer.name}: {cells[-1]} {done.seconds:.1f} s")
    return f"| {client.title} | {' | '.join(cells)} |"
