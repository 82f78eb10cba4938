"""The message envelope: one canonical fact or request in CloudEvents 1.0 form."""

from __future__ import annotations

import os
import time as _time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, SafeUUID

import orjson
from pydantic import AwareDatetime, Field

from canonical_model.base import CanonicalModel

TYPE_PREFIX: Final = "org.openspp."
SPECVERSION: Final = "1.0"
_TYPE_PATTERN = r"^org\.openspp\.[a-z0-9_]+(\.[a-z0-9_]+)*\.v[0-9]+$"
_TRACEPARENT_PATTERN = r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"


_VARIABLE: Final = ~((0xF << 76) | (0x3 << 62)) & ((1 << 128) - 1)
_FIXED: Final = (0x7 << 76) | (0x2 << 62)
_set_int: Final = UUID.__dict__["int"].__set__
_set_safe: Final = UUID.__dict__["is_safe"].__set__


def uuid7(at_ms: int | None = None) -> UUID:
    """Return a new UUIDv7 (RFC 9562 section 5.7): 48 bits of Unix milliseconds, then random bits.

    Without `at_ms` the first 12 of those say the fraction of the millisecond (section 6.2, method 3), so that what one
    process makes one after the other keeps that order.
    """
    if at_ms is None:
        ms, fraction = divmod(_time.time_ns(), 1_000_000)
        bits = (ms << 16 | (fraction << 12) // 1_000_000) << 64 | int.from_bytes(os.urandom(8), "big")
    else:
        bits = at_ms << 80 | int.from_bytes(os.urandom(10), "big")
    value = UUID.__new__(UUID)
    # What `UUID(int=…)` does, without looking at its five other ways to be made.
    _set_int(value, (bits & _VARIABLE) | _FIXED)
    _set_safe(value, SafeUUID.unknown)
    return value


def uuid7_floor(at: datetime) -> UUID:
    """Return the smallest UUIDv7 of an instant; a bound for range scans and partitions."""
    return UUID(int=(int(at.timestamp() * 1000) << 80) | (0x7 << 76) | (0x2 << 62))


def uuid7_time(value: UUID) -> datetime:
    """Return the instant (UTC, millisecond precision) a UUIDv7 was made."""
    return datetime.fromtimestamp((value.int >> 80) / 1000, tz=UTC)


def new_traceparent() -> str:
    """Return a fresh W3C trace context (`traceparent` header, level 1, sampled)."""
    raw = os.urandom(24).hex()
    return f"00-{raw[:32]}-{raw[32:]}-01"


def child_traceparent(parent: str) -> str:
    """Return a trace context of the same trace with a new span id."""
    return f"{parent[:36]}{os.urandom(8).hex()}{parent[52:]}"


class Message(CanonicalModel):
    """One canonical message; attribute names are those of CloudEvents 1.0.

    `id` is minted by the hub. `originid` is the id the partner gave, by which a repeat is recognised. `subject` is the
    key of ordering (a person, a household, a payment); it may identify a person and is never logged or stored in clear.
    """

    id: UUID = Field(default_factory=uuid7)
    source: str = Field(min_length=1, max_length=256)
    type: str = Field(pattern=_TYPE_PATTERN, max_length=200)
    subject: str | None = Field(default=None, max_length=500)
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    dataschema: str | None = Field(default=None, max_length=500)
    traceparent: str | None = Field(default=None, pattern=_TRACEPARENT_PATTERN)
    correlationid: str | None = Field(default=None, max_length=200)
    causationid: str | None = Field(default=None, max_length=200)
    originid: str | None = Field(default=None, max_length=500)
    data: dict[str, Any] = Field(default_factory=dict)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Name what identifies the message and nothing that could identify a person."""
        for name in ("id", "type", "source", "time", "correlationid", "causationid"):
            value = getattr(self, name)
            if value is not None:
                yield name, value

    @property
    def kind(self) -> str:
        """The message type without prefix and version: `civil_event.registered` of `org.openspp.civil_event.registered.v1`."""
        return self.type[len(TYPE_PREFIX) :].rpartition(".")[0]

    def to_json(self) -> bytes:
        """Return the structured-mode CloudEvents JSON of this message."""
        body: dict[str, Any] = {
            "specversion": SPECVERSION,
            # A subclass, as the database driver gives, must be text for the encoder.
            "id": self.id if type(self.id) is UUID else str(self.id),
            "source": self.source,
            "type": self.type,
            "time": self.time,
            "datacontenttype": "application/json",
        }
        for name in ("subject", "dataschema", "traceparent", "correlationid", "causationid", "originid"):
            value = getattr(self, name)
            if value is not None:
                body[name] = value
        body["data"] = self.data
        return orjson.dumps(body, option=orjson.OPT_UTC_Z)

    @classmethod
    def trusted(
        cls,
        *,
        id: UUID,
        source: str,
        type: str,
        time: datetime,
        data: dict[str, Any],
        subject: str | None = None,
        dataschema: str | None = None,
        traceparent: str | None = None,
        correlationid: str | None = None,
        causationid: str | None = None,
        originid: str | None = None,
    ) -> Message:
        """Return a message of parts that were checked before, without checking them again; for the hot path."""
        message = cls.__new__(cls)
        # What `model_construct` does, without its loop over fields, aliases and defaults.
        object.__setattr__(
            message,
            "__dict__",
            {
                "id": id,
                "source": source,
                "type": type,
                "subject": subject,
                "time": time,
                "dataschema": dataschema,
                "traceparent": traceparent,
                "correlationid": correlationid,
                "causationid": causationid,
                "originid": originid,
                "data": data,
            },
        )
        object.__setattr__(message, "__pydantic_fields_set__", _ALL_FIELDS)
        object.__setattr__(message, "__pydantic_extra__", None)
        object.__setattr__(message, "__pydantic_private__", None)
        return message

    @classmethod
    def from_stored(cls, raw: bytes) -> Message:
        """Rebuild a message the hub itself wrote with `to_json`; skips validation, for the hot path."""
        body = orjson.loads(raw)
        return cls.trusted(
            id=UUID(body["id"]),
            source=body["source"],
            type=body["type"],
            subject=body.get("subject"),
            time=datetime.fromisoformat(body["time"]),
            dataschema=body.get("dataschema"),
            traceparent=body.get("traceparent"),
            correlationid=body.get("correlationid"),
            causationid=body.get("causationid"),
            originid=body.get("originid"),
            data=body["data"],
        )


_ALL_FIELDS: Final = set(Message.model_fields)
