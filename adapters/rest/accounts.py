"""The account mapper over HTTP: link, change, end and resolve whole lists; no id and no address ever stands in a URL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Final
from uuid import UUID

import orjson
from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from adapters.http.app import add_operations
from adapters.http.body import parse_json
from adapters.http.catalog import declare
from adapters.http.operations import Answer, Body, Call, Operation
from adapters.http.security.partners import Scope
from adapters.http.security.whole import check_whole
from adapters.http.services import Services
from adapters.rest.resources.operations import viewer_of
from adapters.rest.resources.writing import checked
from registry.accounts import LONGEST, MANY, Accounts, Link, Linked, Question, Resolved

JSON: Final = "application/json"
_PATH: Final = "/v1/accounts"
_BODY: Final = ("request-json-invalid", "request-invalid", "body-too-large", "media-type-unsupported", "partner-confined")  # fmt: skip
_Text = Annotated[str, Field(min_length=1, max_length=LONGEST)]

declare("account-list-too-long", 422, "The list of accounts is too long")
declare("account-strategy-invalid", 422, "The strategy of accounts is not well-formed")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LinkEntry(_Entry):
    """An id and the address it is to be paid at."""

    id: _Text = Field(description="The id, such as vid:54321@nid.")
    address: _Text = Field(description="The financial address, such as account:12345@national-bank.")
    valid_from: AwareDatetime | None = Field(None, description="Since when; now, where it is left out.")
    valid_to: AwareDatetime | None = Field(None, description="Until when; until it is ended, if left out.")
    name: Annotated[str, Field(max_length=200)] | None = None
    phone_number: Annotated[str, Field(max_length=60)] | None = None


class LinkList(_Entry):
    """Ids to be linked, or to be given another address."""

    items: Annotated[list[LinkEntry], Field(min_length=1, max_length=MANY)]


class EndEntry(_Entry):
    """An id whose link is to end."""

    id: _Text
    address: _Text | None = Field(None, description="Only if the link is to this address.")


class EndList(_Entry):
    """Ids whose links are to end."""

    items: Annotated[list[EndEntry], Field(min_length=1, max_length=MANY)]


class QuestionEntry(_Entry):
    """An id, an address, or both: then whether they belong together."""

    id: _Text | None = None
    address: _Text | None = None


class QuestionList(_Entry):
    """What is to be resolved, and what for."""

    purpose: Annotated[str, Field(min_length=1, max_length=200)]
    items: Annotated[list[QuestionEntry], Field(min_length=1, max_length=MANY)]


class HistoryQuestion(_Entry):
    """An id whose links are asked for, those that ended too, and what for."""

    id: _Text
    purpose: Annotated[str, Field(min_length=1, max_length=200)]
    after: UUID | None = Field(None, description="Only links behind this one.")
    limit: int = Field(100, ge=1, le=MANY, description="Most links.")


class OutcomeReply(BaseModel):
    """What became of one item: the link, or the code it was refused with."""

    link: UUID | None
    code: str | None


class Outcomes(BaseModel):
    """What became of each item, in the order they came."""

    items: list[OutcomeReply]


class ResolvedReply(BaseModel):
    """What is known of one question."""

    state: str = Field(description="active, inactive, absent, or elsewhere: linked to another address.")
    source: str | None = Field(description="link, or record for an account in a registrant's own record.")
    id: str | None
    address: str | None


class ResolvedList(BaseModel):
    """What is known of each question, in the order they came."""

    items: list[ResolvedReply]


class Listing(BaseModel):
    """Which links are listed."""

    model_config = ConfigDict(extra="forbid")

    ended: bool = Field(False, description="Also links that ended.")
    after: UUID | None = Field(None, description="Only links behind this one.")
    limit: int = Field(100, ge=1, le=1000, description="Most links.")


class Found(BaseModel):
    """Objects of the mapper."""

    items: list[dict[str, Any]]


def operations(accounts: Accounts) -> list[Operation]:
    """Return the operations of the account mapper."""
    return [
        Operation(
            name="listAccountLinks", method="GET", path=_PATH, tag="accounts", scope=Scope.ACCOUNTS_READ,
            summary="Links in the order they were made, without ids and addresses", handler=partial(_list, accounts),
            query=Listing, answers={200: Answer("The links.", {JSON: Found})}, problems=("partner-confined",),
        ),
        Operation(
            name="listAccountStrategies", method="GET", path=f"{_PATH}/strategies", tag="accounts",
            scope=Scope.ACCOUNTS_READ, summary="How ids and financial addresses are written",
            handler=partial(_strategies, accounts), answers={200: Answer("The strategies, in the order they are tried.", {JSON: Found})},
            problems=("partner-confined",),
        ),
        _written("link", "Link ids that have no link", LinkList, partial(_link, accounts.link)),
        _written("update", "Give linked ids another address; the links before stay as history", LinkList, partial(_link, accounts.update)),
        _written("unlink", "End the links of ids", EndList, partial(_unlink, accounts)),
        Operation(
            name="resolveAccounts", method="POST", path=f"{_PATH}/$resolve", tag="accounts", scope=Scope.ACCOUNTS_READ,
            summary="Which addresses ids are paid at; the audit trail has the purpose", handler=partial(_resolve, accounts),
            body=Body.WHOLE, requests={JSON: QuestionList}, problems=(*_BODY, "purpose-missing"),
            answers={200: Answer("What is known.", {JSON: ResolvedList})},
            example={"purpose": "payment of March", "items": [{"id": "vid:54321@nid"}]},
        ),
        Operation(
            name="showAccountHistory", method="POST", path=f"{_PATH}/$history", tag="accounts", scope=Scope.ACCOUNTS_READ,
            summary="Every link an id has had, with its addresses; the audit trail has the purpose",
            handler=partial(_history, accounts), body=Body.WHOLE, requests={JSON: HistoryQuestion},
            problems=(*_BODY, "purpose-missing"), answers={200: Answer("The links, the oldest first.", {JSON: Found})},
            example={"id": "vid:54321@nid", "purpose": "complaint 12"},
        ),
    ]  # fmt: skip


def _written(word: str, summary: str, model: type[BaseModel], handler: Any) -> Operation:
    entry: dict[str, Any] = {"id": "vid:54321@nid"}
    if model is LinkList:
        entry["address"] = "account:12345@national-bank"
    return Operation(
        name=f"{word}Accounts", method="POST", path=f"{_PATH}/${word}", tag="accounts", scope=Scope.ACCOUNTS_WRITE,
        summary=summary, handler=handler, body=Body.WHOLE, requests={JSON: model}, problems=_BODY,
        description="Each item has its own outcome: what is wrong with one refuses that one alone.",
        answers={200: Answer("What became of each item.", {JSON: Outcomes})}, example={"items": [entry]},
    )  # fmt: skip


def _read(model: type[BaseModel], call: Call) -> Any:
    _whole(call)
    body = checked(model, parse_json(call.body))
    call.count_messages(len(body.items))  # type: ignore[attr-defined]
    return body


def _whole(call: Call) -> None:
    """Refuse a partner that sees a part of the people: a link knows neither areas nor programs."""
    check_whole(
        call.partner,
        "use the account mapper. Nothing was done.",
        "Let a partner that sees all of it ask for accounts.",
    )


async def _link(write: Any, request: web.Request, call: Call) -> web.Response:
    entries: list[LinkEntry] = _read(LinkList, call).items
    links = [
        Link(one.id, one.address, one.valid_from, one.valid_to,
            {name: value for name in ("name", "phone_number") if (value := getattr(one, name))})
        for one in entries
    ]  # fmt: skip
    return _outcomes(await write(links, actor=_actor(call), request_id=call.request_id))


async def _unlink(accounts: Accounts, request: web.Request, call: Call) -> web.Response:
    asked = [Question(one.id, one.address) for one in _read(EndList, call).items]
    return _outcomes(await accounts.unlink(asked, actor=_actor(call), request_id=call.request_id))


async def _resolve(accounts: Accounts, request: web.Request, call: Call) -> web.Response:
    body: QuestionList = _read(QuestionList, call)
    asked = [Question(one.id, one.address) for one in body.items]
    found = await accounts.resolve(
        asked, actor=_actor(call), purpose=body.purpose, request_id=call.request_id
    )
    return _json([_told(each, one) for each, one in zip(asked, found, strict=True)])


def _told(asked: Question, one: Resolved) -> dict[str, Any]:
    return {"state": one.state, "source": one.source, "id": one.id or asked.id, "address": one.address}


async def _list(accounts: Accounts, request: web.Request, call: Call) -> web.Response:
    _whole(call)
    asked = call.query
    assert isinstance(asked, Listing)
    return _json(await accounts.listed(after=asked.after, ended=asked.ended, limit=asked.limit))


async def _history(accounts: Accounts, request: web.Request, call: Call) -> web.Response:
    _whole(call)
    asked = checked(HistoryQuestion, parse_json(call.body))
    assert isinstance(asked, HistoryQuestion)
    found = await accounts.listed(
        id=asked.id, after=asked.after, ended=True, limit=asked.limit, actor=_actor(call), purpose=asked.purpose,
        request_id=call.request_id,
    )  # fmt: skip
    return _json(found)


async def _strategies(accounts: Accounts, request: web.Request, call: Call) -> web.Response:
    _whole(call)
    book = await accounts.strategies()
    return _json([each.model_dump(mode="json", exclude_defaults=True) for each in book.all])


def _actor(call: Call) -> str:
    return viewer_of(call).actor


def _outcomes(found: Sequence[Linked]) -> web.Response:
    return _json([{"link": one.link_id, "code": one.code} for one in found])


def _json(items: Sequence[Any]) -> web.Response:
    return web.Response(
        body=orjson.dumps({"items": items}, option=orjson.OPT_UTC_Z, default=str), content_type=JSON
    )


def extension(accounts: Accounts) -> Callable[[web.Application, Services], None]:
    """Return what `Services.extra` needs to offer the account mapper."""
    return lambda app, services: add_operations(app, operations(accounts))
