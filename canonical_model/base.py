"""The base of every canonical model and the privacy class each field carries."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Privacy(StrEnum):
    """How far a field may travel; logs, traces, console and exports obey it."""

    PUBLIC = "public"
    PERSONAL = "personal"
    IDENTIFIER = "identifier"
    CONTACT = "contact"
    FINANCIAL = "financial"
    SENSITIVE = "sensitive"


class CanonicalModel(BaseModel):
    """A frozen canonical value that refuses fields it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        str_strip_whitespace=True,
        ser_json_timedelta="iso8601",
        # A validation error may end in a log, so it never repeats the value.
        hide_input_in_errors=True,
    )

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Name the fields that are set, with the values of public ones only, so that a stray repr shows no person."""
        fields = type(self).model_fields
        for name in self.model_fields_set:
            value = getattr(self, name)
            extra = fields[name].json_schema_extra
            privacy = extra.get("privacy") if isinstance(extra, dict) else None
            nested = isinstance(value, CanonicalModel)
            yield name, value if nested or privacy == Privacy.PUBLIC else _Hidden()


class _Hidden:
    """Stands in a repr for a value that is not shown."""

    def __repr__(self) -> str:
        return "…"


def private(privacy: Privacy, /, *args: Any, **kwargs: Any) -> Any:
    """Declare a pydantic field of the given privacy class (`args` and `kwargs` go to `pydantic.Field`)."""
    extra = dict(kwargs.pop("json_schema_extra", None) or {})
    extra["privacy"] = privacy.value
    return Field(*args, json_schema_extra=extra, **kwargs)
