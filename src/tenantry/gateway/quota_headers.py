"""The tenant's own `anthropic-ratelimit-*` fields, in the form of reference 2.2."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from tenantry.domain.admission import Bucket, Lane

_BUCKETS = (("requests", b"requests"), ("input_tokens", b"input-tokens"), ("output_tokens", b"output-tokens"))


class QuotaHeaders:
    """Writes the fields; keeps the last few times as text, since all answers of a second share them."""

    __slots__ = ("_stamps",)

    def __init__(self) -> None:
        self._stamps: dict[int, bytes] = {}

    def lines(self, lane: Lane, key_lane: Lane | None, now: float) -> bytes:
        """Whole header lines; of tenant and key, the one that has less left. A limit that is not set has no lines."""
        found: list[bytes] = []
        wall = time.time()
        for name, told in _BUCKETS:
            bucket: Bucket | None = getattr(lane, name)
            own: Bucket | None = getattr(key_lane, name) if key_lane is not None else None
            if bucket is not None:
                bucket.refill(now)
            if own is not None:
                own.refill(now)
                if bucket is None or own.level < bucket.level:
                    bucket = own
            if bucket is not None:
                found.append(
                    b"anthropic-ratelimit-%b-limit: %d\r\nanthropic-ratelimit-%b-remaining: %d\r\n"
                    b"anthropic-ratelimit-%b-reset: %b\r\n"
                    % (
                        told,
                        round(bucket.rate * 60),
                        told,
                        bucket.remaining(),
                        told,
                        self._stamp(wall + bucket.seconds_to_full()),
                    )
                )
        return b"".join(found)

    def _stamp(self, at: float) -> bytes:
        second = int(at) + 1  # rounded up: at that time it is full
        stamp = self._stamps.get(second)
        if stamp is None:
            if len(self._stamps) > 256:
                self._stamps.clear()
            stamp = self._stamps[second] = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
        return stamp
