"""Spans of days that events are looked for in."""

from __future__ import annotations

import calendar
import re
from datetime import date, timedelta
from typing import Final

from registry.rules.tree import Window

MAX_WITHIN: Final = {"within_days": 36_525, "within_months": 1_200, "within_years": 100}
_PERIOD: Final = re.compile(r"(\d{4})(?:-(?:Q([1-4])|(0[1-9]|1[0-2])))?", re.ASCII)


def months_before(day: date, months: int) -> date:
    """Return the same day so many months earlier, or the last day of that month where it is shorter."""
    number = day.year * 12 + day.month - 1 - months
    if number < 12:
        return date.min
    year, month = divmod(number, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def within(as_of: date, name: str, number: int) -> Window:
    """Return the days of `within_days`, `within_months` or `within_years` up to a day."""
    if name == "within_days":
        return Window(as_of - timedelta(days=min(number, as_of.toordinal() - 1)), as_of)
    return Window(months_before(as_of, number * (12 if name == "within_years" else 1)), as_of)


def period(text: str, as_of: date) -> Window:
    """Return the days of `2024`, `2024-Q3` or `2024-05`, never beyond a day; raises `ValueError`."""
    found = _PERIOD.fullmatch(text)
    if found is None or found[1] == "0000":
        raise ValueError("not a period")
    year, quarter, month = int(found[1]), found[2], found[3]
    first, last = 1, 12
    if quarter:
        first, last = int(quarter) * 3 - 2, int(quarter) * 3
    elif month:
        first = last = int(month)
    end = date(year, last, calendar.monthrange(year, last)[1])
    return Window(date(year, first, 1), min(end, as_of))
