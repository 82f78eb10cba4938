"""Rate limits: one token bucket for each partner, held in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Partner


class _Bucket:
    __slots__ = ("burst", "left", "policy", "rate", "seen")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate, self.burst, self.left, self.seen = rate, burst, float(burst), now
        self.policy = f'"partner";q={burst};w={max(1, math.ceil(burst / rate))}'


class RateLimits:
    """Token buckets by partner; a partner's own rate goes before the hub's."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, partner: Partner) -> Mapping[str, str]:
        """Take one request from the partner's bucket and return the RateLimit headers.

        Raises `RequestRefused` (`rate-limited`) with the seconds until the next request is taken.
        """
        now = self._clock()
        bucket = self._buckets.get(partner.name)
        if bucket is None:
            own = partner.rate
            bucket = _Bucket(own.per_second if own else self._rate, own.burst if own else self._burst, now)
            self._buckets[partner.name] = bucket
        bucket.left = min(bucket.burst, bucket.left + (now - bucket.seen) * bucket.rate)
        bucket.seen = now
        if bucket.left < 1:
            wait = math.ceil((1 - bucket.left) / bucket.rate)
            raise RequestRefused(
                f"The partner {partner.name} sends more than its {bucket.rate:g} requests a second.",
                code="rate-limited",
                remedy="Wait as long as Retry-After says, then send the same request again.",
                retry_after=wait,
                headers={"RateLimit-Policy": bucket.policy, "RateLimit": f'"partner";r=0;t={wait}'},
            )
        bucket.left -= 1
        return {"RateLimit-Policy": bucket.policy, "RateLimit": f'"partner";r={int(bucket.left)}'}
