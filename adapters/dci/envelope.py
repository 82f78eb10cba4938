"""The DCI envelope of a notification, checked field by field before anything is done with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

from adapters.dci.profile import DciProfile
from adapters.http.problems import RequestRefused

MAX_EVENTS: Final = 1000
VERSION: Final = "1.0.0"
MAX_ID: Final = 200
MAX_TRANSACTION: Final = 99
_STATUSES: Final = frozenset({"rcvd", "pdng", "succ", "rjct"})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_DATE_TIME: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_LOOSE_TIME: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?([Zz]|[+-]\d{2}:?\d{2})?)?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class NotifiedEvent:
    """One item of `notify_event`; `reference_id` is its number where a tolerated sender gave none."""

    reference_id: str
    timestamp: datetime
    data: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Notification:
    """A checked notification."""

    message_id: str
    transaction_id: str | None
    events: tuple[NotifiedEvent, ...] = field(repr=False)


def refuse(pointer: str, rule: str, code: str = "dci-envelope-invalid") -> NoReturn:
    """Refuse the envelope at a place; the rule never repeats a value."""
    raise RequestRefused(
        f"{rule[:1].upper()}{rule[1:]}. Nothing was accepted.",
        code=code,
        pointer=pointer,
        remedy="Correct the message and send it again.",
    )


def message_id_of(envelope: Any) -> str | None:
    """Return the message id of an envelope that is not checked yet, where it has a usable one."""
    header = envelope.get("header") if isinstance(envelope, dict) else None
    value = header.get("message_id") if isinstance(header, dict) else None
    return value if isinstance(value, str) and 0 < len(value) <= MAX_ID else None


def read_notification(envelope: Any, profile: DciProfile, now: datetime) -> Notification:
    """Return the notification of an envelope; raises `RequestRefused` with the place of the first fault."""
    if not isinstance(envelope, dict):
        refuse("", "the envelope is a JSON object")
    header = an_object(envelope.get("header"), "/header")
    reader = Reader(profile.tolerant)
    message_id = reader.text(header.get("message_id"), "/header/message_id", MAX_ID)
    if message_id is None:
        refuse("/header/message_id", "the message has an id")
    check_header(header, profile, reader, now)
    status = header.get("status")
    if status not in _STATUSES and not (profile.tolerant and (status is None or isinstance(status, str))):
        refuse("/header/status", "the status is one of rcvd, pdng, succ, rjct")
    if is_encrypted(header, envelope.get("message")):
        refuse("/message", "encrypted messages are not read by this hub", "dci-encryption-unsupported")
    message = an_object(envelope.get("message"), "/message")
    transaction = reader.text(message.get("transaction_id"), "/message/transaction_id", MAX_TRANSACTION)
    if transaction is None and not profile.tolerant:
        refuse("/message/transaction_id", "the transaction has an id")
    items = message.get("notify_event")
    if profile.tolerant and isinstance(items, dict):
        items = [items]
    if not isinstance(items, list) or not items:
        refuse("/message/notify_event", "the events are a list with at least one event")
    if len(items) > MAX_EVENTS:
        refuse(
            "/header/total_count",
            f"rjct.total_count.limit_exceeded: a message holds at most {MAX_EVENTS} events",
            "dci-total-count-invalid",
        )
    announced = reader.number(header.get("total_count"), "/header/total_count")
    if announced is not None and announced != len(items):
        refuse(
            "/header/total_count",
            "rjct.total_count.invalid: total_count is the number of events",
            "dci-total-count-invalid",
        )
    fallback = reader.instant(header.get("message_ts"), "/header/message_ts", now) or now
    events = tuple(_event(item, number, reader, fallback) for number, item in enumerate(items))
    seen: set[str] = set()
    for number, event in enumerate(events):
        if event.reference_id in seen:
            place = f"/message/notify_event/{number}/reference_id"
            refuse(place, "rjct.reference_id.duplicate: each event has a reference id of its own")
        seen.add(event.reference_id)
    return Notification(message_id, transaction, events)


def check_header(
    header: Mapping[str, Any],
    profile: DciProfile,
    reader: Reader,
    now: datetime,
    actions: Sequence[str] = ("notify",),
) -> None:
    """Check what all messages of this family carry; raises `RequestRefused` with the place of the first fault."""
    version = header.get("version", VERSION)
    if version != VERSION and not (profile.tolerant and str(version).startswith("1.")):
        refuse("/header/version", f"this hub speaks version {VERSION}", "dci-version-unsupported")
    if header.get("action") not in actions:
        refuse(
            "/header/action", f"rjct.action.invalid: the action here is {actions[0]}", "dci-action-invalid"
        )
    at = reader.instant(header.get("message_ts"), "/header/message_ts", now)
    if at is None and not profile.tolerant:
        refuse("/header/message_ts", "rjct.message_ts.invalid: the message has a time with a zone")
    early = timedelta(seconds=profile.skew_seconds)
    if at is not None and not (now - timedelta(seconds=profile.max_age_seconds) <= at <= now + early):
        refuse(
            "/header/message_ts",
            "rjct.message_ts.invalid: the time of the message is too far from now",
            "dci-message-time-invalid",
        )
    sender = reader.text(header.get("sender_id"), "/header/sender_id", 500)
    if profile.sender_id is not None and sender is not None and sender != profile.sender_id:
        refuse("/header/sender_id", "the sender is not the partner of the token", "dci-sender-invalid")
    receiver = reader.text(header.get("receiver_id"), "/header/receiver_id", 500)
    if profile.receiver_id is not None and receiver is not None and receiver != profile.receiver_id:
        refuse("/header/receiver_id", "the receiver is not this hub", "dci-receiver-invalid")
    if not profile.tolerant and not isinstance(header.get("meta", {}), dict):
        refuse("/header/meta", "meta is an object")


def is_encrypted(header: Mapping[str, Any], message: Any) -> bool:
    """Say whether the message is encrypted; raises `RequestRefused` for a flag that says neither."""
    flag = header.get("is_msg_encrypted", False)
    if flag not in (True, False) and str(flag).lower() not in {"true", "false", ""}:
        refuse("/header/is_msg_encrypted", "the flag is true or false")
    return str(flag).lower() == "true" or (isinstance(message, dict) and "ciphertext" in message)


def _event(item: Any, number: int, reader: Reader, fallback: datetime) -> NotifiedEvent:
    at = f"/message/notify_event/{number}"
    event = an_object(item, at)
    reference = reader.text(event.get("reference_id"), f"{at}/reference_id", MAX_ID)
    if reference is None and not reader.tolerant:
        refuse(f"{at}/reference_id", "rjct.reference_id.invalid: the event has a reference id")
    timestamp = reader.instant(event.get("timestamp"), f"{at}/timestamp", fallback)
    if timestamp is None and not reader.tolerant:
        refuse(f"{at}/timestamp", "rjct.timestamp.invalid: the event has a time with a zone")
    data = an_object(event.get("data"), f"{at}/data")
    if not isinstance(data.get("reg_records"), dict | list):
        refuse(f"{at}/data/reg_records", "the record is an object or a list with one object")
    if not reader.tolerant:
        _check_kinds(data, at)
    return NotifiedEvent(str(number) if reference is None else reference, timestamp or fallback, data)


def _check_kinds(data: Mapping[str, Any], at: str) -> None:
    if not isinstance(data.get("reg_record_type"), str):
        refuse(f"{at}/data/reg_record_type", "the type of the record is named")
    kind = data.get("reg_type")
    if kind is not None and str(kind).rpartition(":")[2].lower() != "civil":
        refuse(f"{at}/data/reg_type", "this address takes notifications of civil registries")


def an_object(value: Any, pointer: str) -> dict[str, Any]:
    """Return the object at a place; raises `RequestRefused` for anything else."""
    if not isinstance(value, dict):
        refuse(pointer, "there is an object here")
    return value


class Reader:
    """Reads the plain fields of an envelope, strictly or as tolerated; each raises `RequestRefused` with the place of a fault."""

    def __init__(self, tolerant: bool) -> None:
        self.tolerant = tolerant

    def text(self, value: Any, pointer: str, limit: int) -> str | None:
        """Return a text of at most `limit` characters without control characters, None where there is none."""
        if self.tolerant and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is None or (self.tolerant and value == ""):
            return None
        if not isinstance(value, str) or not 0 < len(value) <= limit or _CONTROL.search(value):
            refuse(pointer, f"the field is a text of 1 to {limit} characters")
        return value

    def number(self, value: Any, pointer: str) -> int | None:
        """Return a whole number, None where there is none."""
        if self.tolerant and isinstance(value, str):
            if value == "":
                return None
            value = int(value) if re.fullmatch(r"[0-9]{1,9}", value) else value
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            refuse(pointer, "the field is a whole number")
        return value

    def instant(self, value: Any, pointer: str, near: datetime) -> datetime | None:
        """Return a time with a zone; a tolerated time without one is taken as UTC."""
        if value is None or (self.tolerant and value == ""):
            return None
        form = _LOOSE_TIME if self.tolerant else _DATE_TIME
        if not isinstance(value, str) or not form.fullmatch(value):
            refuse(pointer, "the time is a date and time with a zone (RFC 3339)")
        try:
            read = datetime.fromisoformat(value.upper())
            return read if read.tzinfo is not None else read.replace(tzinfo=near.tzinfo or UTC)
        except ValueError:
            refuse(pointer, "the time is not one of the calendar")
