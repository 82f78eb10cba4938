"""The base of every canonical model and the privacy class each field carries."""

from __future__ import annotations

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
        frozen=True, extra="forbid", str_strip_whitespace=True, ser_json_timedelta="iso8601"
    )


def private(privacy: Privacy, /, *args: Any, **kwargs: Any) -> Any:
    """Declare a pydantic field of the given privacy class (`args` and `kwargs` go to `pydantic.Field`)."""
    extra = dict(kwargs.pop("json_schema_extra", None) or {})
    extra["privacy"] = privacy.value
    return Field(*args, json_schema_extra=extra, **kwargs)
