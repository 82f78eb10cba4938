"""W3C trace context, level 1: which trace a message belongs to."""

from __future__ import annotations

import re
from typing import Final

from canonical_model.message import new_traceparent

# Version 00 has exactly four fields; a later version may add more after another dash (section 3.2.4).
_TRACEPARENT: Final = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z", re.ASCII
)


def traceparent_or_none(value: str | None) -> str | None:
    """Return a valid `traceparent` as version 00; None when it is absent or invalid and the trace must restart.

    Invalid are upper-case digits, version `ff`, trace or parent ids of only zeros, and version 00 with a fifth field.
    """
    if value is None or len(value) > 512:
        return None
    match = _TRACEPARENT.match(value)
    if match is None:
        return None
    version, trace, parent, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not trace.strip("0") or not parent.strip("0"):
        return None
    # Of the flags level 1 knows only "sampled"; unknown ones must be sent as zero.
    return f"00-{trace}-{parent}-{int(flags, 16) & 1:02x}"


def continued_traceparent(value: str | None) -> str:
    """Return the trace to go on with: the given one when it is valid, else a new one."""
    return traceparent_or_none(value) or new_traceparent()
