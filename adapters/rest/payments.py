"""Payments over HTTP: where one is, the settlement per cycle and rail, and the export for the ministry of finance."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final, Literal

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from adapters.http.app import add_operations
from adapters.http.catalog import declare
from adapters.http.operations import Answer, Call, Operation
from adapters.http.security.partners import Partner, Scope
from adapters.http.security.whole import check_whole
from adapters.http.services import Services
from routing.ledger_desk import Desk, plain

JSON: Final = "application/json"
CSV: Final = "text/csv"
LINES: Final = "application/x-ndjson"
_PIECE: Final = 64 * 1024

declare("payment-not-found", 404, "There is no such payment")
declare("partner-confined", 403, "The partner sees a part of the registry only")


class About(BaseModel):
    """What the sums and the export are about; without anything, all payments."""

    model_config = ConfigDict(extra="forbid")

    cycle: str | None = Field(None, max_length=200, description="Id of a cycle.")
    target: str | None = Field(None, max_length=63, description="Name of a target, which is a rail.")


class ExportOf(About):
    """An export, in one of two forms."""

    format: Literal["csv", "ndjson"] = Field("csv", description="Its form.")


class Found(BaseModel):
    """Objects of the ledger."""

    items: list[dict[str, Any]]


def operations(desk: Desk) -> list[Operation]:
    """Return the operations of the ledger."""
    return [
        Operation(
            name="showTransfer", method="GET", path="/v1/transfers/{id}", tag="payments", scope=Scope.PAYMENTS_READ,
            summary="Where a payment is, with the time of each of its steps", handler=partial(_show, desk),
            answers={200: Answer("The payment on each target that has it.", {JSON: Found})},
            problems=("payment-not-found", "partner-confined"),
        ),
        Operation(
            name="settlement", method="GET", path="/v1/settlement", tag="payments", scope=Scope.PAYMENTS_READ,
            summary="Sums per cycle, rail and state, fees, and the age of what is sent and not known",
            handler=partial(_settlement, desk), query=About, answers={200: Answer("The sums.", {JSON: Found})},
            problems=("partner-confined",),
        ),
        Operation(
            name="exportSettlement", method="GET", path="/v1/settlement/export", tag="payments", scope=Scope.PAYMENTS_READ,
            summary="Every payment of a cycle or rail, without anything that names its payee",
            handler=partial(_export, desk), query=ExportOf, produces=(CSV, LINES),
            answers={200: Answer("A stream of rows.", {CSV: {"type": "string"}, LINES: {"type": "string"}})},
            problems=("partner-confined",),
        ),
    ]  # fmt: skip


def sees_whole(partner: Partner) -> None:
    """Refuse a partner that sees a part of the people: the ledger knows neither areas nor programs of a payee.

    Raises `RequestRefused` (`partner-confined`).
    """
    check_whole(
        partner,
        "look into the ledger of transfers. Nothing was shown.",
        "Ask for payments of your programs at /v1/payments.",
    )


async def _show(desk: Desk, request: web.Request, call: Call) -> web.Response:
    sees_whole(call.partner)
    return _json({"items": await desk.show(request.match_info["id"])})


async def _settlement(desk: Desk, request: web.Request, call: Call) -> web.Response:
    sees_whole(call.partner)
    asked = call.query
    assert isinstance(asked, About)
    return _json({"items": await desk.settlement(cycle_id=asked.cycle, target=asked.target)})


async def _export(desk: Desk, request: web.Request, call: Call) -> web.StreamResponse:
    sees_whole(call.partner)
    asked = call.query
    assert isinstance(asked, ExportOf)
    await desk.note_export(
        call.partner.name, cycle_id=asked.cycle, target=asked.target, request_id=call.request_id
    )
    rows = desk.exported(cycle_id=asked.cycle, target=asked.target)
    kind = CSV if asked.format == "csv" else LINES
    response = web.StreamResponse(headers={**call.common, **call.headers, "Content-Type": kind})
    response.headers["X-Request-ID"] = call.request_id
    await response.prepare(request)
    piece = bytearray()
    async for line in lines(rows, asked.format):
        piece += line
        if len(piece) >= _PIECE:
            await response.write(bytes(piece))
            piece.clear()
    await response.write(bytes(piece))
    await response.write_eof()
    return response


async def lines(rows: AsyncIterator[dict[str, Any]], form: str) -> AsyncIterator[bytes]:
    """Yield exported rows as lines of CSV (the header first, when there is a row) or NDJSON."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    first = True
    async for row in rows:
        if form == "ndjson":
            yield orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z, default=str)
            continue
        if first:
            writer.writerow(row)
            first = False
        writer.writerow([plain(value) for value in row.values()])
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()


def _json(body: dict[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(body, option=orjson.OPT_UTC_Z, default=str), content_type=JSON)


def extension(desk: Desk) -> Callable[[web.Application, Services], None]:
    """Return what `Services.extra` needs to offer the ledger."""
    return lambda app, services: add_operations(app, operations(desk))
