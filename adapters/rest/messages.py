"""POST /v1/messages: one message, a batch, or a stream of lines."""

from __future__ import annotations

from functools import partial
from typing import Final

import orjson
from aiohttp import web

from adapters.http.body import read_body
from adapters.http.language import best_language
from adapters.http.operations import Answer, Body, Call, Operation
from adapters.http.ready import Ready, takes_ready
from adapters.http.security.partners import Scope
from adapters.http.services import Services
from adapters.rest.incoming import read_batch, read_one
from adapters.rest.models import EVENT_SCHEMA, EXAMPLE, AcceptedReply, BatchReply, ItemReply
from adapters.rest.replies import reply_of, result_of
from adapters.rest.stream import LINES, answer_stream
from canonical_model.cloudevents import BATCH, STRUCTURED
from canonical_model.message import Message

PATH: Final = "/v1/messages"
_BATCH_SCHEMA = {"type": "array", "items": {"$ref": "#/components/schemas/Event"}, "maxItems": 1000}
_PROBLEMS = (
    "cloudevent-invalid",
    "request-body-broken",
    "request-too-slow",
    "message-id-reused",
    "body-too-large",
    "media-type-unsupported",
    "content-encoding-unsupported",
    "message-type-unknown",
    "message-data-invalid",
    "no-route",
    "hub-unavailable",
)


def operations(services: Services) -> list[Operation]:
    """Return the write side of the messages API."""
    return [
        Operation(
            name="sendMessages",
            method="POST",
            path=PATH,
            tag="messages",
            scope=Scope.MESSAGES_WRITE,
            summary="Send a message, a batch of up to 1000 messages, or a stream of them",
            description=(
                "202 means that the message is stored durably. Every message carries your own id; a repeat of the "
                "same id with the same body gets the first answer, with another body 409. A batch and a stream are "
                "answered with 202 as a whole and one result for each message, in order. In a stream each line is one "
                "event and each line of the answer one result; read while you send."
            ),
            handler=partial(_send, services),
            # A stream is read line by line, so the pipeline leaves every body of this operation to the handler.
            body=Body.STREAM,
            short=True,
            requests={
                "application/json": EVENT_SCHEMA,
                STRUCTURED: EVENT_SCHEMA,
                BATCH: _BATCH_SCHEMA,
                LINES: {"type": "string", "description": "One event in structured mode on each line."},
            },
            answers={
                202: Answer(
                    "Accepted: one message, or one result for each message of a batch or stream.",
                    {
                        "application/json": {
                            "anyOf": [
                                {"$ref": "#/components/schemas/AcceptedReply"},
                                {"$ref": "#/components/schemas/BatchReply"},
                            ]
                        },
                        LINES: {"type": "string", "description": "One ItemReply on each line."},
                    },
                    headers={"Location": "Where the message can be read; for a single message."},
                )
            },
            problems=_PROBLEMS,
            produces=("application/json", LINES),
            example=EXAMPLE,
        )
    ]


MODELS = (AcceptedReply, BatchReply, ItemReply)


async def _send(services: Services, request: web.Request, call: Call) -> web.StreamResponse:
    media, settings = request.content_type, services.settings
    if media == LINES:
        return await answer_stream(services, request, call)
    body = await read_body(request, settings.body_limit, settings.request_timeout)
    if media == BATCH:
        return await _send_batch(services, request, call, body)
    message, raw = read_one(request.headers, body, call.partner.name)
    accepted = await services.intake.accept(
        message, partner=call.partner.name, raw=raw, request_id=call.request_id
    )
    reply = reply_of(accepted)
    headers = {"Content-Type": "application/json", "Location": f"{PATH}/{reply['id']}"}
    text = orjson.dumps(reply, option=orjson.OPT_UTC_Z)
    if takes_ready(request):
        return Ready("202 Accepted", headers, text)
    return web.Response(body=text, status=202, headers=headers)


async def _send_batch(services: Services, request: web.Request, call: Call, body: bytes) -> web.Response:
    read = await read_batch(body, call.partner.name)
    call.count_messages(len(read))
    good: list[tuple[Message, bytes]] = [item for item in read if isinstance(item, tuple)]
    answers = iter(
        await services.intake.accept_many(good, partner=call.partner.name, request_id=call.request_id)
        if good
        else ()
    )
    language = best_language(request.headers.get("Accept-Language", ""))
    results = [
        result_of(number, next(answers) if isinstance(item, tuple) else item, call.request_id, language)
        for number, item in enumerate(read)
    ]
    refused = sum("problem" in result for result in results)
    return web.Response(
        body=orjson.dumps(
            {"accepted": len(results) - refused, "refused": refused, "results": results},
            option=orjson.OPT_UTC_Z,
        ),
        status=202,
        content_type="application/json",
    )
