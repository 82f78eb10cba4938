"""Dates known to the day, the month or only the year."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_PATTERN: Final = r"^[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?)?$"
_DAYS: Final = 40_000
"""Dates remembered; there are no more days in a century, and people share them."""
_MATCH: Final = re.compile(_PATTERN[:-1] + r"\Z").match


class Precision(StrEnum):
    """How exactly a date is known."""

    YEAR = "year"
    MONTH = "month"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class PartialDate:
    """A calendar date of the Gregorian calendar of which the day, or the day and month, may be unknown.

    In JSON it is a string, `YYYY`, `YYYY-MM` or `YYYY-MM-DD`. Two partial dates are equal when they say the same with
    the same precision. They have no `<`, because `1990` is neither before nor after `1990-05`: compare `first` and
    `last`, or use `is_before`, which answers None when it cannot be known.
    """

    year: int
    month: int | None = None
    day: int | None = None

    def __post_init__(self) -> None:
        """Refuse a date that is not in the calendar; raises `ValueError` that does not repeat it."""
        if self.month is None and self.day is not None:
            raise ValueError("a day needs a month")
        try:
            date(self.year, 1 if self.month is None else self.month, 1 if self.day is None else self.day)
        except ValueError:
            raise ValueError("not a date of the calendar") from None

    @classmethod
    def parse(cls, text: str) -> PartialDate:
        """Read `YYYY`, `YYYY-MM` or `YYYY-MM-DD`; raises `ValueError` that does not repeat the text."""
        return _parsed(text)

    @classmethod
    def from_date(cls, day: date) -> PartialDate:
        """Return a date known to the day."""
        return cls(day.year, day.month, day.day)

    @property
    def precision(self) -> Precision:
        """How exactly the date is known."""
        if self.month is None:
            return Precision.YEAR
        return Precision.MONTH if self.day is None else Precision.DAY

    @property
    def first(self) -> date:
        """The earliest day this can be."""
        return date(self.year, self.month or 1, self.day or 1)

    @property
    def last(self) -> date:
        """The latest day this can be."""
        month = self.month or 12
        return date(self.year, month, self.day or calendar.monthrange(self.year, month)[1])

    def is_before(self, other: PartialDate | date) -> bool | None:
        """Say whether this lies before the other day; None when the precision does not tell."""
        first, last = (other.first, other.last) if isinstance(other, PartialDate) else (other, other)
        if self.last < first:
            return True
        return False if self.first >= last else None

    def overlaps(self, other: PartialDate | date) -> bool:
        """Say whether both can be the same day."""
        first, last = (other.first, other.last) if isinstance(other, PartialDate) else (other, other)
        return self.first <= last and first <= self.last

    def age_on(self, day: date) -> tuple[int, int]:
        """Return the least and the greatest age in whole years a person born then can have on a day."""
        return _years(self.last, day), _years(self.first, day)

    def __str__(self) -> str:
        text = f"{self.year:04d}"
        if self.month is not None:
            text += f"-{self.month:02d}"
        if self.day is not None:
            text += f"-{self.day:02d}"
        return text

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Describe the type to pydantic: a string in JSON, a `PartialDate` in Python."""
        from_text = core_schema.no_info_after_validator_function(_parse, core_schema.str_schema(strict=True))
        return core_schema.json_or_python_schema(
            json_schema=from_text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), from_text]),
            serialization=core_schema.to_string_ser_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe the type in JSON Schema."""
        return {"type": "string", "pattern": _PATTERN, "description": "A date: YYYY, YYYY-MM or YYYY-MM-DD."}


@lru_cache(maxsize=_DAYS)
def _parsed(text: str) -> PartialDate:
    if not _MATCH(text):
        raise ValueError("not YYYY, YYYY-MM or YYYY-MM-DD")
    return PartialDate(*(int(part) for part in text.split("-")))


def _parse(text: str) -> PartialDate:
    try:
        return PartialDate.parse(text)
    except ValueError as error:
        raise PydanticCustomError(
            "partial_date", "Input should be a date: {reason}", {"reason": str(error)}
        ) from None


def _years(born: date, day: date) -> int:
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))
