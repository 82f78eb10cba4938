"""CloudEvents 1.0 over HTTP, read and written without any input or output: structured, binary and batch mode."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NoReturn
from urllib.parse import quote, unquote_to_bytes

import orjson
from pydantic import ValidationError

from canonical_model.errors import Refused
from canonical_model.message import SPECVERSION, Message, new_traceparent
from canonical_model.tracing import continued_traceparent, traceparent_or_none

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
MAX_BATCH: Final = 1000
MAX_DEPTH: Final = 64

_LIMITS: Final = {
    "id": 500,
    "source": 256,
    "type": 200,
    "subject": 500,
    "dataschema": 500,
    "correlationid": 200,
    "causationid": 200,
}
_REQUIRED: Final = ("id", "source", "type")
_URI: Final = frozenset({"source", "dataschema"})
_BODY: Final = frozenset({"data", "data_base64"})
_NAME: Final = re.compile(r"[a-z0-9]{1,64}\Z")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NOT_URI: Final = re.compile(r"[\x00-\x20\x7f<>\"{}|\\^`]")
_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})\Z"
)
_BROKEN: Final = object()
_ORDINARY: Final = {**_LIMITS, "specversion": 3, "time": 64, "datacontenttype": 16, "traceparent": 64}
_PLAIN_URI: Final = re.compile(r"[A-Za-z0-9/:._~#?=&%+-]+\Z").match
_JSON_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]+/(json|[a-z0-9!#$&^_.-]+\+json)\Z")
# The binding, section 3.1.3.2: all but printable ASCII, and of that space, quote and percent, is percent-encoded.
_HEADER_SAFE: Final = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')


@dataclass(slots=True)  # not frozen: that would cost as much as reading it
class IncomingEvent:
    """One CloudEvent as a partner sent it; `traceparent` is always valid, a new trace where the partner's was not."""

    id: str = field(repr=False)
    source: str
    type: str
    traceparent: str
    subject: str | None = field(default=None, repr=False)
    time: datetime | None = None
    dataschema: str | None = None
    correlationid: str | None = None
    causationid: str | None = None
    data: Any = field(default=None, repr=False)


def parse_http(headers: Mapping[str, str], body: bytes) -> list[IncomingEvent]:
    """Return the events of one HTTP request, one in structured or binary mode, 0 to 1000 in batch mode.

    Header names are matched without case; the caller bounds the size of the body. Extension attributes the hub does
    not know are ignored once their names are checked. Raises `Refused` (`cloudevent-invalid`) with a JSON Pointer.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    media = _media_type(lower.get("content-type", ""))
    if media == BATCH:
        events = _json(body, "")
        if not isinstance(events, list):
            _refuse("", "a batch is a JSON array")
        if len(events) > MAX_BATCH:
            _refuse("", f"a batch holds at most {MAX_BATCH} events")
        return [_structured(event, f"/{number}", None) for number, event in enumerate(events)]
    if media == STRUCTURED:
        return [_structured(_json(body, ""), "", lower.get("traceparent"))]
    if media.startswith("application/cloudevents"):
        _refuse("/content-type", "only the JSON event format is understood")
    return [_binary(lower, media, body)]


def parse_structured(body: bytes, traceparent: str | None = None) -> IncomingEvent:
    """Return the event of a body in structured mode; `traceparent` is that of the request. Raises as `parse_http` does."""
    return _structured(_json(body, ""), "", traceparent)


def to_message(event: IncomingEvent) -> Message:
    """Return an event as a message with a new id of the hub; the partner's id becomes `originid`.

    Raises `Refused` (`cloudevent-invalid`) when the data is no JSON object or the type is none of the hub's form.
    """
    if not isinstance(event.data, dict):
        _refuse("/data", "the data is a JSON object")
    values: dict[str, Any] = {
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "dataschema": event.dataschema,
        "traceparent": event.traceparent,
        "correlationid": event.correlationid,
        "causationid": event.causationid,
        "originid": event.id,
        "data": event.data,
    }
    if event.time is not None:
        values["time"] = event.time
    try:
        return Message(**values)
    except ValidationError as error:
        place = error.errors(include_input=False, include_url=False)[0]
        refused = _refused(f"/{place['loc'][0]}", f"breaks the rule {place['type']}")
    # Raised here and below outside of `except`: the caught error holds what was sent and must not come along.
    raise refused


def to_http_structured(message: Message) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a message in structured mode."""
    return {"Content-Type": STRUCTURED}, message.to_json()


def to_http_batch(messages: Sequence[Message]) -> tuple[dict[str, str], bytes]:
    """Return headers and body of up to 1000 messages in batch mode; raises `ValueError` beyond."""
    if len(messages) > MAX_BATCH:
        raise ValueError(f"a batch holds at most {MAX_BATCH} events")
    return {"Content-Type": BATCH}, b"[" + b",".join(message.to_json() for message in messages) + b"]"


def to_http_binary(message: Message, *, identifying: bool = False) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a message in binary mode.

    `subject` and `originid` may identify a person and headers end in the logs of proxies, so these two optional
    attributes are left out unless `identifying` is set for a partner who needs them.
    """
    values: dict[str, str | None] = {
        "specversion": SPECVERSION,
        "id": str(message.id),
        "source": message.source,
        "type": message.type,
        "time": message.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "dataschema": message.dataschema,
        "traceparent": message.traceparent,
        "correlationid": message.correlationid,
        "causationid": message.causationid,
    }
    if identifying:
        values |= {"subject": message.subject, "originid": message.originid}
    headers = {
        f"ce-{name}": quote(value, safe=_HEADER_SAFE) for name, value in values.items() if value is not None
    }
    headers["Content-Type"] = "application/json"
    return headers, orjson.dumps(message.data, option=orjson.OPT_UTC_Z)


def _ordinary(event: Any, header_traceparent: str | None) -> IncomingEvent | None:
    """Return an event that is surely valid in structured mode, read in one pass; None says nothing yet.

    Nothing passes here that `_structured` refuses or reads otherwise; a test holds both together.
    """
    if type(event) is not dict:
        return None
    for name, value in event.items():
        if name == "data":
            if type(value) is not dict:
                return None
        elif (
            type(value) is not str
            or not 0 < len(value) <= _ORDINARY.get(name, 0)
            or not value.isprintable()
            or (name in _URI and not _PLAIN_URI(value))
        ):
            return None
    get = event.get
    id_, source, type_, data = get("id"), get("source"), get("type"), get("data")
    if id_ is None or source is None or type_ is None or data is None or get("specversion") != SPECVERSION:
        return None
    if get("datacontenttype", "application/json") != "application/json":
        return None
    time = get("time")
    if time is not None:
        if not _RFC3339.match(time):
            return None
        try:
            time = datetime.fromisoformat(time)
        except ValueError:
            return None
    trace = traceparent_or_none(get("traceparent")) or header_traceparent
    return IncomingEvent(
        id_,
        source,
        type_,
        new_traceparent() if trace is None else continued_traceparent(trace),
        get("subject"),
        time,
        get("dataschema"),
        get("correlationid"),
        get("causationid"),
        data,
    )


def _structured(event: Any, at: str, header_traceparent: str | None) -> IncomingEvent:
    ordinary = _ordinary(event, header_traceparent)
    if ordinary is not None:
        return ordinary
    if not isinstance(event, dict):
        _refuse(at, "an event is a JSON object")
    values: dict[str, str] = {}
    for name, value in event.items():
        if name in _BODY or value is None:
            continue
        if not _NAME.match(name):
            _refuse(at, "attribute names are lower-case letters and digits")
        if isinstance(value, str):
            values[name] = value
        elif isinstance(value, dict | list | float):
            _refuse(f"{at}/{name}", "an attribute is text, a boolean or a whole number")
        elif name in _LIMITS or name in ("specversion", "time", "datacontenttype"):
            _refuse(f"{at}/{name}", "the attribute is text")
    if "data" in event and "data_base64" in event:
        _refuse(f"{at}/data_base64", "an event has either data or data_base64")
    media = _media_type(values.get("datacontenttype", "application/json"), f"{at}/datacontenttype")
    if event.get("data") is not None or event.get("data_base64") is not None:
        _must_be_json(media, f"{at}/datacontenttype")
    if event.get("data_base64") is not None:
        data = _json(_unbase64(event["data_base64"], f"{at}/data_base64"), f"{at}/data_base64")
    else:
        data = event.get("data")
    return _event(values, data, at, header_traceparent)


def _binary(lower: Mapping[str, str], media: str, body: bytes) -> IncomingEvent:
    values: dict[str, str] = {}
    for header, value in lower.items():
        if not header.startswith("ce-"):
            continue
        name = header[3:]
        if not _NAME.match(name):
            _refuse("", "attribute names are lower-case letters and digits")
        if name in ("data", "datacontenttype"):
            _refuse(f"/{name}", "this is not sent as a header of its own")
        values[name] = _from_header(value, f"/{name}")
    if not values:
        _refuse("", "the request carries no CloudEvent: neither its content type nor ce- headers")
    data = None
    if body:
        _must_be_json(media, "/datacontenttype")
        data = _json(body, "/data")
    return _event(values, data, "", lower.get("traceparent"))


def _event(values: Mapping[str, str], data: Any, at: str, header_traceparent: str | None) -> IncomingEvent:
    if values.get("specversion") != SPECVERSION:
        _refuse(f"{at}/specversion", f"the version is {SPECVERSION}")
    for name in _REQUIRED:
        if name not in values:
            _refuse(f"{at}/{name}", "the attribute is required")
    for name, limit in _LIMITS.items():
        value = values.get(name)
        if value is None:
            continue
        if not value or len(value) > limit:
            _refuse(f"{at}/{name}", f"the attribute has 1 to {limit} characters")
        if _CONTROL.search(value) or (name in _URI and _NOT_URI.search(value)):
            _refuse(f"{at}/{name}", "the attribute holds characters that are not allowed")
    return IncomingEvent(
        id=values["id"],
        source=values["source"],
        type=values["type"],
        # The extension names the trace of the event itself; the header only that of this one hop.
        traceparent=continued_traceparent(
            traceparent_or_none(values.get("traceparent")) or header_traceparent
        ),
        subject=values.get("subject"),
        time=_time(values["time"], f"{at}/time") if "time" in values else None,
        dataschema=values.get("dataschema"),
        correlationid=values.get("correlationid"),
        causationid=values.get("causationid"),
        data=data,
    )


def _json(raw: bytes, at: str) -> Any:
    value = _loads(raw)
    if value is _BROKEN:
        _refuse(at, "the body is JSON in UTF-8")
    # Fewer brackets than levels cannot be too deep, so that most bodies are never walked.
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        _refuse(at, f"JSON is nested at most {MAX_DEPTH} deep")
    # PostgreSQL holds no NUL in text or JSON.
    if b"\\u0000" in raw and _holds_nul(value):
        _refuse(at, "text holds no NUL")
    return value


def _loads(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _BROKEN


def _is_deeper(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(one for one in item.values() if isinstance(one, dict | list))
            elif isinstance(item, list):
                inner.extend(one for one in item if isinstance(one, dict | list))
        if not inner:
            return False
        level = inner
    return True


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in name or _holds_nul(one) for name, one in value.items())
    return isinstance(value, list) and any(_holds_nul(one) for one in value)


def _time(text: str, at: str) -> datetime:
    upper = text.upper()
    if not _RFC3339.match(upper):
        _refuse(at, "the time is an RFC 3339 timestamp with a zone")
    try:
        return datetime.fromisoformat(upper)
    except ValueError:
        pass
    raise _refused(at, "the time is an instant of the calendar")


def _media_type(content_type: str, at: str = "/content-type") -> str:
    media, _, parameters = content_type.partition(";")
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in (
            "utf-8",
            "utf8",
            "us-ascii",
        ):
            _refuse(at, "the character set is UTF-8")
    return media.strip().lower()


def _must_be_json(media: str, at: str) -> None:
    if not _JSON_TYPE.match(media):
        _refuse(at, "the data is JSON")


def _from_header(value: str, at: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote_to_bytes(value).decode("utf-8")
    except UnicodeError:
        # Not UTF-8, or bytes outside ASCII that a server handed on as surrogates instead of percent-encoded.
        pass
    raise _refused(at, "the header is ASCII, beyond it percent-encoded UTF-8")


def _unbase64(value: Any, at: str) -> bytes:
    if not isinstance(value, str):
        _refuse(at, "the data is text in base64")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise _refused(at, "the data is base64")


def _refuse(pointer: str, rule: str) -> NoReturn:
    raise _refused(pointer, rule)


def _refused(pointer: str, rule: str) -> Refused:
    return Refused(
        f"The CloudEvent is not valid at {pointer or '/'}: {rule}. Nothing was accepted.",
        code="cloudevent-invalid",
        pointer=pointer,
        remedy="Correct the event and send it again.",
    )
