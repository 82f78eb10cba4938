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
        """Take one message from the partner's bucket, as each request does, and return the RateLimit headers.

        Raises `RequestRefused` (`rate-limited`) with the seconds until the next request is taken.
        """
        return self._take(partner, 1, 0)

    def take_more(self, partner: Partner, count: int) -> Mapping[str, str]:
        """Take the messages of a request beyond its first; raises as `take` does, and then takes nothing.

        A request of more messages than the bucket holds is taken when the bucket is full; what it lacks is waited for
        afterwards, by the requests that follow.
        """
        return self._take(partner, max(count, 0), 1)

    def _take(self, partner: Partner, count: int, before: int) -> Mapping[str, str]:
        now = self._clock()
        bucket = self._buckets.get(partner.name)
        if bucket is None:
            own = partner.rate
            bucket = _Bucket(own.per_second if own else self._rate, own.burst if own else self._burst, now)
            self._buckets[partner.name] = bucket
        bucket.left = min(bucket.burst, bucket.left + (now - bucket.seen) * bucket.rate)
        bucket.seen = now
        needed = min(count, bucket.burst - before)
        if needed > 0 and bucket.left < needed:
            # A request that comes again pays for its first message again.
            wait = math.ceil((needed + before - bucket.left) / bucket.rate)
            raise RequestRefused(
                f"The partner {partner.name} sends more than its {bucket.rate:g} messages a second.",
                code="rate-limited",
                remedy="Wait as long as Retry-After says, then send the same request again.",
                retry_after=wait,
                headers={"RateLimit-Policy": bucket.policy, "RateLimit": f'"partner";r=0;t={wait}'},
            )
        bucket.left -= count
        return {
            "RateLimit-Policy": bucket.policy,
            "RateLimit": f'"partner";r={max(0, int(bucket.left))}',
        }
