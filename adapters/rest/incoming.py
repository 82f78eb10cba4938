"""From the bytes a partner sent to a checked canonical message."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import orjson

from adapters.http.body import parse_json
from adapters.http.problems import RequestRefused
from canonical_model.cloudevents import (
    MAX_BATCH,
    STRUCTURED,
    IncomingEvent,
    parse_http,
    parse_structured,
    to_message,
)
from canonical_model.errors import Refused
from canonical_model.message import Message, uuid7
from canonical_model.types import check_data
from routing.intake import CHUNK


def message_of(event: IncomingEvent, partner: str) -> Message:
    """Return the checked message of an event; its source is the partner, whatever the event says.

    Raises `Refused` with a pointer into the event.
    """
    if not isinstance(event.data, dict):
        to_message(event)
    try:
        check_data(event.type, event.data)
    except Refused as error:
        if error.code == "message-data-invalid":
            error.pointer = f"/data{error.pointer or ''}"
        raise
    # The parser has checked every attribute and the type is a known one: checking a second time costs more than the rest.
    return Message.trusted(
        id=uuid7(),
        source=partner,
        type=event.type,
        subject=event.subject,
        time=event.time or datetime.now(UTC),
        dataschema=event.dataschema,
        traceparent=event.traceparent,
        correlationid=event.correlationid,
        causationid=event.causationid,
        originid=event.id,
        data=event.data,
    )


def read_one(headers: Mapping[str, str], body: bytes, partner: str) -> tuple[Message, bytes]:
    """Return the message of a single event and the bytes that decide whether a repeat is the same.

    An `application/json` body without `ce-` headers is an event in structured mode.
    """
    # The usual content type alone says it; for any other one the headers are looked through.
    if headers.get("Content-Type") != STRUCTURED and any(name[:3].lower() == "ce-" for name in headers):
        event = parse_http(headers, body)[0]
    else:
        event = parse_structured(body, headers.get("traceparent"))
    return message_of(event, partner), identity(event)


def read_line(line: bytes, partner: str) -> tuple[Message, bytes]:
    """Return the message and the identity of one line of a stream."""
    event = parse_structured(line)
    return message_of(event, partner), identity(event)


async def read_batch(body: bytes, partner: str) -> list[tuple[Message, bytes] | Refused]:
    """Return the message and the identity of every event of a batch, or why it was refused.

    Raises `Refused` when the body as a whole is no batch.
    """
    events = parse_json(body)
    if not isinstance(events, list) or len(events) > MAX_BATCH:
        raise RequestRefused(
            f"A batch is a JSON array of at most {MAX_BATCH} events. Nothing was accepted.",
            code="cloudevent-invalid",
            pointer="",
            remedy="Send several batches, or a stream of lines (application/x-ndjson).",
        )
    read: list[tuple[Message, bytes] | Refused] = []
    for number, event in enumerate(events):
        if number % CHUNK == CHUNK - 1:
            await asyncio.sleep(0)  # a long batch must not hold up every other caller
        read.append(_one_of_batch(event, number, partner))
    return read


def _one_of_batch(event: object, number: int, partner: str) -> tuple[Message, bytes] | Refused:
    # Each event is judged alone, since one bad event must not cost the good ones.
    try:
        return read_line(orjson.dumps(event), partner)
    except Refused as error:
        error.pointer = f"/{number}{error.pointer or ''}"
        return error


def identity(event: IncomingEvent) -> bytes:
    """Return the bytes that are equal for two events that say the same, in whatever mode and spacing they were sent.

    The trace context is left out: a partner's retry belongs to a trace of its own and is still a repeat.
    """
    return orjson.dumps(
        (
            event.id,
            event.source,
            event.type,
            event.subject,
            event.time,
            event.dataschema,
            event.correlationid,
            event.causationid,
            event.data,
        ),
        option=orjson.OPT_SORT_KEYS,
    )
