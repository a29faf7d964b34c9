"""Whether a gateway is there, and until it has seen a change."""

from __future__ import annotations

import time
from typing import Final

from tenantry.control.isolation.cases import Holder, key_line
from tenantry.control.isolation.client import Address, NoAnswer, ask, request
from tenantry.control.isolation.pace import Pace

# A change reaches every gateway in under a second (DESIGN 3); this only tells a gateway of another site.
CHANGE_SECONDS_MAX: Final = 6.0


class ProofImpossible(Exception):
    """The proof could not be run; the message says why."""


def require_gateway(address: Address) -> None:
    """Raises: ProofImpossible."""
    try:
        answer = ask(address, request(b"GET", b"/healthz", [b"connection: close"]), b"GET")[0]
    except NoAnswer as error:
        raise ProofImpossible(
            f"no gateway answers on {address.url} ({error}); start it with `tenantry serve`"
        ) from None
    if answer.status != 200:
        raise ProofImpossible(f"{address.url} is not a Tenantry gateway: /healthz is answered {answer.status}")


def wait_for_key(address: Address, holder: Holder, pace: Pace) -> None:
    """Until the gateway knows a key that was just issued.

    Raises:
        ProofImpossible: it does not come to that.
    """
    if not wait_for_status(address, holder, None, pace):
        raise ProofImpossible(
            f"the gateway on {address.url} has not seen a new key within {CHANGE_SECONDS_MAX:g} s: "
            "is it a gateway of this site?"
        )


def wait_for_status(address: Address, holder: Holder, status: int | None, pace: Pace) -> bool:
    """Wait until the tenant's list of models is answered with `status`, or, for None, with no refusal of the key."""
    path = f"/t/{holder.slug}/v1/models".encode()
    data = request(b"GET", path, [key_line(holder.key), b"connection: close"])
    deadline = pace.clock() + CHANGE_SECONDS_MAX
    while pace.clock() < deadline:
        try:
            seen = ask(address, data, b"GET")[0].status
        except NoAnswer as error:
            raise ProofImpossible(f"the gateway on {address.url} does not answer: {error}") from None
        if seen == status or (status is None and seen not in (401, 403)):
            return True
        time.sleep(0.05)
    return False
