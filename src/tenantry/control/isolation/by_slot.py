"""What is tried with the slots of a tenant: for key and path, pairs of them are as pairs of tenants are."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.control.isolation.cases import FORBIDDEN, OPEN, WHO, Case, Hand, key_line, make_case, own_expected
from tenantry.wire.routes import Sample, sample_targets


def cases_by_slot(hand: Hand) -> Iterator[Case]:
    """Every route x every pair of slot, path and key; none where the tenants have no slots."""
    if hand.own.slots and hand.other.slots:
        for sample in sample_targets():
            yield from _own(hand, sample)
            yield from _foreign(hand, sample)


def _own(hand: Hand, sample: Sample) -> Iterator[Case]:
    """What has to work: otherwise a gateway that refuses every slot would pass."""
    expected, own = own_expected(hand, sample), hand.own
    twin = "open" if sample.route.open_to_all else ""
    for name, text in own.slots.items():
        key, endpoint = key_line(text), f"{own.slug}.{name}"
        yield make_case(hand, WHO, f"key of slot {name}, its own path", sample, [key], expected, twin, endpoint)
        yield make_case(hand, WHO, f"key of slot {name}, path of its tenant", sample, [key], expected, twin, own.slug)
        named = b"x-tenant-id: " + endpoint.encode()
        yield make_case(hand, WHO, f"key of slot {name} and x-tenant-id", sample, [key, named], expected, twin)


def _foreign(hand: Hand, sample: Sample) -> Iterator[Case]:
    """A slot is named that is not the key's: refused in the bytes of a foreign tenant's path."""
    expected, twin = (OPEN, "open") if sample.route.open_to_all else (FORBIDDEN, "foreign")
    own, other = hand.own, hand.other
    keys = {"the whole tenant": own.key} | {f"slot {name}": text for name, text in own.slots.items()}
    endpoints = {f"slot {name}": f"{own.slug}.{name}" for name in own.slots}
    endpoints |= {f"slot {name} of the other tenant": f"{other.slug}.{name}" for name in other.slots}
    endpoints |= {
        "a slot that does not exist": f"{own.slug}.nothing",
        "a slot of a tenant that does not exist": f"{hand.nobody.slug}.{next(iter(own.slots))}",
        "a slot that begins as one": f"{own.slug}.{next(iter(own.slots))}-2",
    }
    for whose, text in keys.items():
        key = key_line(text)
        for which, endpoint in endpoints.items():
            if which == whose:
                continue
            yield make_case(hand, WHO, f"key of {whose}, path of {which}", sample, [key], expected, twin, endpoint)
            lines = [key, b"x-tenant-id: " + endpoint.encode()]
            title = f"key of {whose}, x-tenant-id of {which}"
            yield make_case(hand, WHO, title, sample, lines, expected, twin)
            yield make_case(hand, WHO, f"{title}, own path", sample, lines, expected, twin, own.slug)
    for name, text in other.slots.items():
        title = f"key of slot {name} of the other tenant, path of the own"
        yield make_case(hand, WHO, title, sample, [key_line(text)], expected, twin, f"{own.slug}.{name}")
