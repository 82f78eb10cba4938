"""The read side of the messages API: traces, search, dead letters, and replaying them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import orjson
from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, RootModel, ValidationError

from adapters.http.app import add_operations
from adapters.http.body import parse_json
from adapters.http.catalog import declare
from adapters.http.operations import Answer, Body, Call, Operation
from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.http.services import Services
from routing.replay import MOST, RATE_LIMIT, Actor, Replayer, Report
from routing.search import LIMIT, MessageFilter, Page
from routing.trace import DeadLetter, MessageSummary, MessageTrace, Trace

__all__ = ["READ_ALL", "extend", "extension", "operations"]

READ_ALL: Final = "messages:read-all"
"""The scope without which a partner sees its own messages only."""
_JSON: Final = "application/json"

for _code, _status, _title in (
    ("message-not-found", 404, "There is no such message"),
    ("delivery-not-found", 404, "There is no such delivery"),
    ("filter-unknown", 400, "A filter does not exist"),
    ("filter-invalid", 400, "A filter has a wrong value"),
    ("filter-empty", 422, "A filter is needed"),
    ("cursor-invalid", 400, "The cursor does not belong to this search"),
    ("rate-invalid", 422, "The rate is out of bounds"),
    ("reason-missing", 422, "A reason is needed"),
    ("reason-invalid", 422, "The reason cannot be kept"),
):
    declare(_code, _status, _title)


class SearchQuery(BaseModel):
    """Filters that may stand in an address: none of them can name a person."""

    model_config = ConfigDict(extra="forbid")

    partner: str | None = Field(None, min_length=1, max_length=100)
    type: str | None = Field(None, min_length=1, max_length=200)
    route: str | None = Field(None, min_length=1, max_length=100)
    target: str | None = Field(None, min_length=1, max_length=100)
    state: str | None = Field(None, min_length=1, max_length=20)
    code: str | None = Field(None, min_length=1, max_length=100)
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    cursor: str | None = Field(None, max_length=100)
    limit: int = Field(50, ge=1, le=LIMIT)

    def filter(self) -> MessageFilter:
        """Return the filters without the paging."""
        return MessageFilter(**self.model_dump(exclude={"cursor", "limit"}))


Filters = dict[str, str]


class SearchBody(BaseModel):
    """A search whose filters may name a person; they travel in the body and are compared by keyed hash."""

    model_config = ConfigDict(extra="forbid")

    filter: Filters = Field(
        default_factory=dict, description="The filters of the query, and subject, correlationid, originid."
    )
    cursor: str | None = Field(None, max_length=100)
    limit: int = Field(50, ge=1, le=LIMIT)


class ReplayBody(BaseModel):
    """Whether to send again even what may have arrived, and why."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = Field(False, description="Only count what would be sent.")
    force: bool = Field(
        False, description="Send even what was delivered or may have arrived; needs a reason."
    )
    reason: str | None = Field(
        None, max_length=300, description="Why; kept in the audit trail, so it names no person."
    )


class ReplaysBody(ReplayBody):
    """Which deliveries to send again and how fast."""

    filter: Filters = Field(description="At least one filter; without a state, dead letters.")
    rate: Annotated[float, Field(gt=0, le=RATE_LIMIT)] | None = Field(
        None, description="Most deliveries a second."
    )
    most: int = Field(MOST, ge=1, le=MOST)


class DismissBody(BaseModel):
    """Why a dead letter is closed without being sent."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=300)


class MessageTraceReply(RootModel[MessageTrace]):
    """Every hop of one message."""


class ReplayReply(RootModel[Report]):
    """What was done, and what was left alone and why."""


class MessagePage(BaseModel):
    """A page of messages, newest first."""

    items: list[MessageSummary]
    next: str | None


class DeadLetterPage(BaseModel):
    """A page of dead letters, newest first."""

    items: list[DeadLetter]
    next: str | None


def extension(trace: Trace, replayer: Replayer) -> Callable[[web.Application, Services], None]:
    """Return what `Services.extra` needs to offer these operations."""

    def extend(app: web.Application, services: Services) -> None:
        add_operations(app, operations(trace, replayer))

    return extend


def extend(app: web.Application, services: Services) -> None:
    """Offer the read side on the hub's own database; nothing where the application runs without a hub."""
    hub = services.hub
    if hub is not None:
        blind = hub.vault.blind
        extension(Trace(hub.pool, blind), Replayer(hub.pool, blind, hub.routes))(app, services)


def operations(trace: Trace, replayer: Replayer) -> list[Operation]:
    """Return the read side of the messages API and the deeds on deliveries."""
    paging = ("query-parameter-unknown", "query-parameter-invalid", "filter-invalid", "cursor-invalid")
    deeds = ("request-json-invalid", "request-invalid", "reason-missing", "reason-invalid")
    link = {"Link": 'The next page (rel="next"), when there is one.'}
    replayed = {200: Answer("What was done.", {_JSON: ReplayReply})}
    post = partial(Operation, method="POST", body=Body.WHOLE, body_limit=64 * 1024)
    get = partial(Operation, method="GET")
    return [
        get(
            name="searchMessages",
            path="/v1/messages",
            summary="List messages, newest first",
            tag="messages",
            scope=Scope.MESSAGES_READ,
            handler=partial(_search, trace),
            query=SearchQuery,
            answers={200: Answer("A page.", {_JSON: MessagePage}, link)},
            problems=paging,
        ),
        post(
            name="findMessages",
            path="/v1/messages/search",
            summary="Find messages by subject, correlation id or the partner's own id",
            tag="messages",
            scope=Scope.MESSAGES_READ,
            handler=partial(_find, trace),
            requests={_JSON: SearchBody},
            answers={200: Answer("A page.", {_JSON: MessagePage})},
            problems=(
                "request-json-invalid",
                "request-invalid",
                "filter-unknown",
                "filter-invalid",
                "cursor-invalid",
            ),
        ),
        get(
            name="traceMessage",
            path="/v1/messages/{id}",
            summary="Every hop of one message",
            tag="messages",
            scope=Scope.MESSAGES_READ,
            handler=partial(_trace, trace),
            answers={200: Answer("The trace.", {_JSON: MessageTraceReply})},
            problems=("message-not-found",),
        ),
        post(
            name="replayMessage",
            path="/v1/messages/{id}/replay",
            summary="Send the failed deliveries of a message again",
            tag="messages",
            scope=Scope.MESSAGES_REPLAY,
            handler=partial(_replay_message, replayer),
            requests={_JSON: ReplayBody},
            answers=replayed,
            problems=(*deeds, "message-not-found"),
        ),
        post(
            name="replayMany",
            path="/v1/replays",
            summary="Send many deliveries again, in order of arrival",
            tag="messages",
            scope=Scope.MESSAGES_REPLAY,
            handler=partial(_replay_many, replayer),
            requests={_JSON: ReplaysBody},
            answers=replayed,
            problems=(*deeds, "filter-unknown", "filter-invalid", "filter-empty", "rate-invalid"),
        ),
        get(
            name="listDeadLetters",
            path="/v1/dead-letters",
            summary="List deliveries that need a person",
            tag="dead letters",
            scope=Scope.DEAD_READ,
            handler=partial(_dead, trace),
            query=SearchQuery,
            answers={200: Answer("A page.", {_JSON: DeadLetterPage}, link)},
            problems=paging,
        ),
        post(
            name="resendDeadLetter",
            path="/v1/dead-letters/{delivery_id}/resend",
            summary="Send a dead letter again",
            tag="dead letters",
            scope=Scope.DEAD_WRITE,
            handler=partial(_resend, replayer),
            requests={_JSON: ReplayBody},
            answers=replayed,
            problems=(*deeds, "delivery-not-found"),
        ),
        post(
            name="dismissDeadLetter",
            path="/v1/dead-letters/{delivery_id}/dismiss",
            summary="Close a dead letter without sending it",
            tag="dead letters",
            scope=Scope.DEAD_WRITE,
            handler=partial(_dismiss, replayer),
            requests={_JSON: DismissBody},
            answers=replayed,
            problems=(*deeds, "delivery-not-found"),
        ),
    ]


def _only(call: Call) -> str | None:
    """Return the partner whose messages the caller is confined to."""
    return None if READ_ALL in call.scopes else call.partner.name


def _actor(call: Call) -> Actor:
    return Actor(call.partner.name, visible=call.scopes, partner=_only(call), request_id=call.request_id)


def _id(request: web.Request, name: str, code: str) -> UUID:
    try:
        return UUID(request.match_info[name])
    except ValueError:
        raise RequestRefused("There is no such id. Nothing was done.", code=code) from None


B = TypeVar("B", bound=BaseModel)


def _body(model: type[B], call: Call) -> B:
    try:
        return model.model_validate(parse_json(call.body))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise RequestRefused(
            f"The body does not fit this operation: {first['type']}. Nothing was done.",
            code="request-invalid",
            # The names of unknown members are the caller's own text and are not repeated.
            pointer=""
            if first["type"] == "extra_forbidden"
            else "/" + "/".join(str(part) for part in first["loc"][:1]),
            remedy="The description of the API (/openapi.json) lists the members.",
        ) from None


def _json(value: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z), content_type=_JSON, headers=headers
    )


def _page(request: web.Request, page: Page, *, linked: bool = True) -> web.Response:
    headers: dict[str, str] = {}
    if page.cursor is not None and linked:
        url = request.rel_url.update_query(cursor=page.cursor)
        headers["Link"] = f'<{url}>; rel="next"'
    return _json({"items": [asdict(item) for item in page.items], "next": page.cursor}, headers)


def _query(call: Call) -> SearchQuery:
    return call.query if isinstance(call.query, SearchQuery) else SearchQuery()


async def _search(trace: Trace, request: web.Request, call: Call) -> web.Response:
    query = _query(call)
    page = await trace.search(
        query.filter(), query.cursor, query.limit, visible=call.scopes, partner=_only(call)
    )
    return _page(request, page)


async def _find(trace: Trace, request: web.Request, call: Call) -> web.Response:
    body = _body(SearchBody, call)
    given = dict(body.filter)
    if "originid" in given:
        given.setdefault("partner", call.partner.name)
    page = await trace.search(
        MessageFilter.read(given), body.cursor, body.limit, visible=call.scopes, partner=_only(call)
    )
    return _page(request, page, linked=False)


async def _trace(trace: Trace, request: web.Request, call: Call) -> web.Response:
    found = await trace.message(_id(request, "id", "message-not-found"), call.scopes, _only(call))
    if found is None:
        raise RequestRefused(
            "There is no message with this id that you may see.",
            code="message-not-found",
            remedy="Use the id the hub gave when it accepted the message.",
        )
    return _json(found.as_dict())


async def _dead(trace: Trace, request: web.Request, call: Call) -> web.Response:
    query = _query(call)
    page = await trace.dead_letters(
        query.filter(), query.cursor, query.limit, visible=call.scopes, partner=_only(call)
    )
    return _page(request, page)


async def _replay_message(replayer: Replayer, request: web.Request, call: Call) -> web.Response:
    id_, body = _id(request, "id", "message-not-found"), _body(ReplayBody, call)
    report = await replayer.replay(
        _actor(call), message_id=id_, dry_run=body.dry_run, force=body.force, reason=body.reason
    )
    return _json(report.as_dict())


async def _replay_many(replayer: Replayer, request: web.Request, call: Call) -> web.Response:
    body = _body(ReplaysBody, call)
    report = await replayer.replay(
        _actor(call),
        filter_=MessageFilter.read(body.filter),
        dry_run=body.dry_run,
        rate=body.rate,
        force=body.force,
        reason=body.reason,
        most=body.most,
    )
    return _json(report.as_dict())


async def _resend(replayer: Replayer, request: web.Request, call: Call) -> web.Response:
    id_, body = _id(request, "delivery_id", "delivery-not-found"), _body(ReplayBody, call)
    report = await replayer.replay(
        _actor(call), delivery_id=id_, dry_run=body.dry_run, force=body.force, reason=body.reason
    )
    return _json(report.as_dict())


async def _dismiss(replayer: Replayer, request: web.Request, call: Call) -> web.Response:
    id_, body = _id(request, "delivery_id", "delivery-not-found"), _body(DismissBody, call)
    return _json((await replayer.dismiss(_actor(call), id_, body.reason)).as_dict())
