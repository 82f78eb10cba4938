"""When a failed delivery is tried again, and when no more."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PARTS = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")


def seconds(value: object) -> object:
    """Read a duration such as `500ms`, `2s`, `1h30m` or `90d` as seconds; numbers are seconds already."""
    if not isinstance(value, str):
        return value
    text = value.strip().replace(" ", "")
    parts = _PARTS.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("expected a duration such as 500ms, 2s, 1h30m or 90d")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


Duration = Annotated[float, BeforeValidator(seconds), Field(ge=0)]


class RetryPolicy(BaseModel):
    """How often and how long a delivery is tried: exponential back-off with jitter inside two budgets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: Annotated[int, Field(ge=1, le=1000)] = 12
    first: Duration = 2.0
    factor: Annotated[float, Field(ge=1, le=10)] = 2.0
    longest: Duration = 900.0
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2
    within: Duration = 86400.0

    def delay(self, attempt: int, *, age: float, retry_after: float | None = None) -> float | None:
        """Return seconds until the next try after `attempt` tries, or None when the budget is spent.

        `age` is the seconds since the first try: waiting for opening hours or for an earlier message is no failing; a target's Retry-After is honoured as the least wait.
        """
        if attempt >= self.attempts:
            return None
        # Sixty-four doublings are beyond every `longest`; a larger power would not fit a float.
        wait = min(self.first * self.factor ** min(attempt - 1, 64), self.longest)
        wait *= 1 + random.uniform(-self.jitter, self.jitter)  # noqa: S311 - spreading load, not a secret
        if retry_after is not None:
            wait = max(wait, min(retry_after, self.within))
        return None if age + wait > self.within else wait


@dataclass(slots=True)
class RetryBudget:
    """Keeps retries from drowning a target: a share of its sends, with a floor per second."""

    share: float = 0.5
    floor: float = 5.0
    cap: float = 500.0
    _tokens: float = 50.0
    _at: float = 0.0

    def sent(self) -> None:
        """Note one first send."""
        self._tokens = min(self.cap, self._tokens + self.share)

    def take(self) -> bool:
        """Take one retry from the budget; False means: wait longer."""
        now = time.monotonic()
        if self._at:
            self._tokens = min(self.cap, self._tokens + (now - self._at) * self.floor)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
