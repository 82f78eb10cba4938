"""Opening hours of a target: closed at night is a schedule, not an error."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WINDOW = re.compile(r"^([A-Z][a-z]{2})(?:-([A-Z][a-z]{2}))? (\d{2}:\d{2})-(\d{2}:\d{2})$")


def _window(text: str) -> str:
    match = _WINDOW.match(text)
    if match is None or match[1] not in _DAYS or (match[2] or "Mon") not in _DAYS:
        raise ValueError("expected opening hours such as `Mon-Fri 08:00-18:00`")
    end = time.max if match[4] == "24:00" else time.fromisoformat(match[4])
    if time.fromisoformat(match[3]) >= end:
        raise ValueError("the opening hour must be before the closing hour; write a night as two windows")
    return text


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"unknown time zone {name!r}; use a name such as Africa/Nairobi") from error
    return name


class Schedule(BaseModel):
    """The windows in which a target takes messages, in one time zone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    open: Annotated[tuple[Annotated[str, AfterValidator(_window)], ...], Field(min_length=1)]
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"

    def next_open(self, now: datetime) -> datetime | None:
        """Return None while open, otherwise the instant the next window opens (within eight days)."""
        zone = ZoneInfo(self.timezone)
        local = now.astimezone(zone)
        starts: list[datetime] = []
        for text in self.open:
            match = _WINDOW.match(text)
            assert match is not None  # checked when the route was read
            first, last = _DAYS.index(match[1]), _DAYS.index(match[2] or match[1])
            opens = time.fromisoformat(match[3])
            closes = None if match[4] == "24:00" else time.fromisoformat(match[4])
            for ahead in range(8):
                day = local.date() + timedelta(days=ahead)
                inside = first <= day.weekday() <= last if first <= last else not last < day.weekday() < first
                if not inside:
                    continue
                start = datetime.combine(day, opens, tzinfo=zone)
                end = (
                    datetime.combine(day + timedelta(days=1), time.min, tzinfo=zone)
                    if closes is None
                    else datetime.combine(day, closes, tzinfo=zone)
                )
                if start <= local < end:
                    return None
                if start > local:
                    starts.append(start)
        return min(starts) if starts else None
