"""The bulk transactions of the sandbox's scheme adapter: taken with 202, looked up, quoted and paid, each step told by callback."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import web

from canonical_model.money import MINOR_UNIT_DIGITS
from connectors.mojaloop.adapter import DONE, PARTY, QUOTE
from connectors.mojaloop.formats import (
    MAX_BODY,
    PARTY_TYPES,
    dumps,
    is_id,
    minor_units,
    new_ulid,
    parse_moment,
)
from connectors.mojaloop.model import Party
from connectors.mojaloop.sandbox_scheme import Fault, Paid, Scheme
from connectors.mojaloop.sandbox_wire import Asked, Turned

_MUST: Final = {"bulkTransactionId", "bulkHomeTransactionID", "options", "from", "individualTransfers"}
_OPTIONS: Final = {"autoAcceptParty", "autoAcceptQuote", "bulkExpiration"}
_OPTIONS_MAY: Final = {"onlyValidateParty", "skipPartyLookup", "synchronous"}
_ITEM: Final = {"homeTransactionId", "to", "amountType", "currency", "amount"}
_ITEM_MAY: Final = {"reference", "note", "quoteExtensions", "transferExtensions", "lastError"}
_PARTY_MAY: Final = {"merchantClassificationCode", "name", "personalInfo", "supportedCurrencies"}
_INFO_MAY: Final = {"partySubIdOrType", "fspId", "extensionList"}


@dataclass
class _Entry:
    home_id: str
    payee: Party
    amount: int
    body: dict[str, Any]
    transfer_id: str = field(default_factory=new_ulid)
    quote_id: str = field(default_factory=new_ulid)
    transaction_id: str = field(default_factory=new_ulid)
    state: str = PARTY
    paid: Paid | None = None
    told: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Bulk:
    home_id: str
    entries: list[_Entry]
    state: str = ""


class BulkDesk:
    """Takes bulk transactions for an adapter; `faults` are misbehaviours of whole callbacks by the state they tell.

    Of a callback: `silent` (never made), `late` (after `late_seconds`), `duplicate`, `early` (before the 202 to the call it
    follows), `tampered` (its ids are another bulk's). Of an entry, by payee in the scheme's own faults: `item-missing`,
    `item-doubled`, `wrong-party` (it tells the transfer of another one), and all of look-up, quote and transfer.
    """

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self.posts: list[bytes] = []
        """The bytes of every `POST /bulkTransactions`, repeats too."""
        self.puts: list[bytes] = []
        """The bytes of every `PUT /bulkTransactions/{id}`."""
        self.callbacks: list[bytes] = []
        """The bytes of every callback."""
        self.answers: list[int] = []
        """What callbacks were answered with; 0 where nobody answered."""
        self.faults: dict[str, set[Fault]] = {}
        self.drops: set[str] = set()
        """Methods (`POST`, `PUT`) whose next call is acted on and gets no answer, once each."""
        self.busy = 0
        """How many calls from now on are not taken (503)."""
        self.late_seconds = 1.0
        self.shuffles = False
        self.accepts_by_itself = False
        self.bearer: str | None = None
        self.address: str | None = None
        self.alter: Callable[[str, dict[str, Any]], None] | None = None
        """Changes the body of a callback, given its state, just before it is made."""
        self.bulks: dict[str, _Bulk] = {}
        self._http: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self, app: web.Application) -> None:
        """Add the addresses of bulk transactions to the adapter's API."""
        app.router.add_post("/bulkTransactions", self._post)
        app.router.add_put("/bulkTransactions/{id}", self._put)

    async def stop(self) -> None:
        """End every callback under way; safe to call twice."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    async def settled(self) -> None:
        """Wait until every callback under way has been made."""
        while self._tasks:
            await asyncio.gather(*list(self._tasks), return_exceptions=True)

    def paid(self, transfer_id: str) -> Paid | None:
        """Return what became of the transfer an adapter's id belongs to."""
        entries = (entry for bulk in self.bulks.values() for entry in bulk.entries)
        return next((entry.paid for entry in entries if entry.transfer_id == transfer_id), None)

    async def deliver(self, bulk_id: str, body: dict[str, Any]) -> int:
        """Make one callback and return the status it was answered with; 0 when nobody answered or no address is set."""
        content = dumps(body)
        self.callbacks.append(content)
        headers = {"Content-Type": "application/json"}
        if self.bearer is not None:
            headers["Authorization"] = f"Bearer {self.bearer}"
        status = 0
        if self.address is not None:
            if self._http is None:
                self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
            try:
                address = f"{self.address}/bulkTransactions/{bulk_id}"
                async with self._http.put(address, data=content, headers=headers) as response:
                    await response.read()
                    status = response.status
            except (aiohttp.ClientError, TimeoutError):
                status = 0
        self.answers.append(status)
        return status

    # --- calls -----------------------------------------------------------------------------------------------

    async def _post(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.posts.append(raw)
        try:
            self._room()
            body = _object(raw)
            bulk = self._read(body)
        except Turned as turned:
            return _refused(turned)
        bulk_id = body["bulkTransactionId"]
        if bulk_id in self.bulks:
            # What a real adapter does with an id it has: nothing, and it says nothing.
            return web.Response(status=202)
        self.bulks[bulk_id] = bulk
        return await self._taken(request, bulk_id, self._look_up(bulk_id, bulk))

    async def _put(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.puts.append(raw)
        bulk_id = request.match_info["id"]
        bulk = self.bulks.get(bulk_id)
        try:
            self._room()
            accept, entries = _accepted(_object(raw))
        except Turned as turned:
            return _refused(turned)
        waits = {"acceptParty": PARTY, "acceptQuote": QUOTE}[accept]
        if bulk is None or bulk.state != waits:
            # Taken in all the same: what cannot be used is only logged.
            return web.Response(status=202)
        yes = {transfer_id for transfer_id, said in entries if said}
        going = [entry for entry in bulk.entries if entry.transfer_id in yes and entry.state == waits]
        bulk.state = f"after {waits}"
        step = self._quote(bulk_id, bulk, going) if waits == PARTY else self._pay(bulk_id, bulk, going)
        return await self._taken(request, bulk_id, step)

    async def _taken(
        self, request: web.Request, bulk_id: str, step: Coroutine[Any, Any, None]
    ) -> web.StreamResponse:
        if request.method in self.drops and request.transport is not None:
            self.drops.discard(request.method)
            self._spawn(step)
            request.transport.close()
            return web.Response(status=500)
        if any(Fault.EARLY in faults for faults in self.faults.values()):
            await step
            return web.Response(status=202)
        response = web.Response(status=202)
        await response.prepare(request)
        await response.write_eof()
        self._spawn(step)
        return response

    def _room(self) -> None:
        if self.busy > 0:
            self.busy -= 1
            raise Turned(503, "2003", "busy")

    def _spawn(self, step: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(step)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- steps -----------------------------------------------------------------------------------------------

    async def _look_up(self, bulk_id: str, bulk: _Bulk) -> None:
        for entry in bulk.entries:
            found = self.scheme.find(entry.payee.type, entry.payee.identifier, entry.payee.sub)
            if isinstance(found, str):
                entry.state, entry.told = "", {"lastError": _last_error(found)}
            else:
                entry.told = {"to": found["party"]}
                entry.payee = Party(
                    entry.payee.type,
                    entry.payee.identifier,
                    entry.payee.sub,
                    self.scheme.fsp_of(entry.payee.identifier),
                )
        if self.accepts_by_itself:
            going = [entry for entry in bulk.entries if entry.state == PARTY]
            self._quotes(going)
            await self._pay(bulk_id, bulk, [entry for entry in going if entry.state == QUOTE])
            return
        await self._tell(bulk_id, bulk, PARTY)

    async def _quote(self, bulk_id: str, bulk: _Bulk, going: list[_Entry]) -> None:
        self._quotes(going)
        await self._tell(bulk_id, bulk, QUOTE if going else DONE)

    def _quotes(self, going: list[_Entry]) -> None:
        for entry in going:
            receive = entry.body["amountType"] == "RECEIVE"
            asked = Asked(
                entry.quote_id,
                entry.transaction_id,
                entry.payee,
                entry.amount,
                entry.body["currency"],
                receive,
                {},
            )
            answer = self.scheme.quote(asked, entry.quote_id.encode())
            if isinstance(answer, str):
                entry.state, entry.told = "", {"lastError": _last_error(answer)}
                continue
            # The adapter's file has no member for the end of one quote: it stands in the sealed terms.
            terms = {name: value for name, value in answer.items() if name != "expiration"}
            entry.state = QUOTE
            entry.told = {"quoteId": entry.quote_id, "quoteResponse": {"quoteId": entry.quote_id, **terms}}

    async def _pay(self, bulk_id: str, bulk: _Bulk, going: list[_Entry]) -> None:
        for entry in going:
            quote = self.scheme.quotes[entry.quote_id]
            asked = Asked(
                entry.transaction_id,
                entry.transaction_id,
                entry.payee,
                quote.amount,
                entry.body["currency"],
                False,
                {},
            )
            entry.paid = self.scheme.transfer(asked, entry.transaction_id.encode())
            told = None if entry.paid is None else self.scheme.told(entry.paid, asked_for=False)
            entry.state = DONE
            fulfil: dict[str, Any] = {"transferId": entry.transaction_id}
            if isinstance(told, str):
                entry.told |= {"lastError": _last_error(told)}
            elif told is not None:
                fulfil |= {k: v for k, v in told.items() if k in {"transferState", "fulfilment"}}
                entry.told |= {"fulfil": fulfil}
        await self._tell(bulk_id, bulk, DONE)

    async def _tell(self, bulk_id: str, bulk: _Bulk, state: str) -> None:
        bulk.state = state
        faults = self.faults.get(state, set())
        listed = [shown for entry in bulk.entries for shown in self._shown(entry, bulk.entries)]
        if self.shuffles:
            random.shuffle(listed)
        body = {
            "bulkHomeTransactionID": bulk.home_id,
            "bulkTransactionId": new_ulid() if Fault.TAMPERED in faults else bulk_id,
            "currentState": state,
            "individualTransferResults": listed,
        }
        if self.alter is not None:
            self.alter(state, body)
        if Fault.SILENT in faults:
            return
        if Fault.LATE in faults:
            await asyncio.sleep(self.late_seconds)
        for _ in range(2 if Fault.DUPLICATE in faults else 1):
            await self.deliver(bulk_id, body)

    def _shown(self, entry: _Entry, entries: list[_Entry]) -> list[dict[str, Any]]:
        has, payee = self.scheme.has, entry.payee.identifier
        if has(payee, Fault.ITEM_MISSING):
            return []
        shown = {
            "homeTransactionId": entry.home_id,
            "transferId": entry.transfer_id,
            "transactionId": entry.transaction_id,
            **{name: entry.body[name] for name in ("amountType", "currency", "amount")},
            **entry.told,
        }
        if has(payee, Fault.WRONG_PARTY):
            shown["transferId"] = next(other.transfer_id for other in entries if other is not entry)
        if not has(payee, Fault.ITEM_DOUBLED):
            return [shown]
        return [
            shown,
            {k: v for k, v in shown.items() if k not in entry.told} | {"lastError": _last_error("5104")},
        ]

    # --- what is refused -------------------------------------------------------------------------------------

    def _read(self, body: dict[str, Any]) -> _Bulk:
        _members(body, _MUST, {"extensions"})
        if not isinstance(body["bulkTransactionId"], str) or not is_id(body["bulkTransactionId"]):
            raise Turned(400, "3101", "the id of the bulk is malformed")
        options = body["options"]
        _members(options, _OPTIONS, _OPTIONS_MAY)
        _members(options["autoAcceptParty"], {"enabled"}, set())
        _members(options["autoAcceptQuote"], {"enabled"}, {"perTransferFeeLimits"})
        try:
            parse_moment(options["bulkExpiration"])
        except ValueError:
            raise Turned(400, "3101", "bulkExpiration is malformed") from None
        _party(body["from"])
        items = body["individualTransfers"]
        if not isinstance(items, list) or not items:
            raise Turned(400, "3102", "there are no transfers")
        return _Bulk(body["bulkHomeTransactionID"], [_entry(item) for item in items])


def _entry(item: Any) -> _Entry:
    _members(item, _ITEM, _ITEM_MAY)
    payee = _party(item["to"])
    if item["amountType"] not in {"SEND", "RECEIVE"} or item["currency"] not in MINOR_UNIT_DIGITS:
        raise Turned(400, "3101", "amountType or currency is unknown")
    try:
        amount = minor_units(item["amount"], item["currency"])
    except ValueError:
        raise Turned(400, "3101", "the amount is malformed") from None
    if "note" in item and not 1 <= len(item["note"]) <= 128:
        raise Turned(400, "3101", "note is empty or too long")
    return _Entry(item["homeTransactionId"], payee, amount, item)


def _party(value: Any) -> Party:
    _members(value, {"partyIdInfo"}, _PARTY_MAY)
    info = value["partyIdInfo"]
    _members(info, {"partyIdType", "partyIdentifier"}, _INFO_MAY)
    if info["partyIdType"] not in PARTY_TYPES or not 1 <= len(info["partyIdentifier"]) <= 128:
        raise Turned(400, "3101", "a party is malformed")
    return Party(
        info["partyIdType"], info["partyIdentifier"], info.get("partySubIdOrType"), info.get("fspId")
    )


def _accepted(body: dict[str, Any]) -> tuple[str, list[tuple[str, bool]]]:
    _members(body, {"individualTransfers"}, set())
    found: list[tuple[str, bool]] = []
    accepts: set[str] = set()
    for entry in body["individualTransfers"] or ():
        accept = "acceptQuote" if "acceptQuote" in entry else "acceptParty"
        _members(entry, {"transferId", accept}, set())
        if not re.fullmatch(r"[0-9A-Za-z-]{26,36}", str(entry["transferId"])) or not isinstance(
            entry[accept], bool
        ):
            raise Turned(400, "3101", "an acceptance is malformed")
        accepts.add(accept)
        found.append((entry["transferId"], entry[accept]))
    if len(accepts) != 1:
        raise Turned(400, "3102", "there are no acceptances, or of both kinds")
    return accepts.pop(), found


def _object(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_BODY:
        raise Turned(400, "3104", "the body is too large")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise Turned(400, "3101", "the body is no JSON") from None
    if not isinstance(body, dict):
        raise Turned(400, "3101", "the body is no object")
    return body


def _members(value: Any, must: set[str], may: set[str]) -> None:
    if not isinstance(value, dict) or must - set(value) or set(value) - must - may:
        raise Turned(400, "3100", "a member is missing or unknown")


def _last_error(code: str) -> dict[str, Any]:
    information = {"errorCode": code, "errorDescription": f"sandbox says {code}"}
    return {"httpStatusCode": 500, "mojaloopError": {"errorInformation": information}}


def _refused(turned: Turned) -> web.Response:
    return web.json_response({"statusCode": turned.code, "message": turned.why}, status=turned.status)
