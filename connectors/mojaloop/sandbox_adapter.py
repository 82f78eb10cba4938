"""An institution's SDK scheme adapter on a loopback port: its outbound API with automatic acceptance off, or wrongly on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from connectors.mojaloop.formats import minor_units, new_ulid
from connectors.mojaloop.sandbox_adapter_bulk import BulkDesk
from connectors.mojaloop.sandbox_scheme import Fault, Paid, Scheme
from connectors.mojaloop.sandbox_wire import Asked, Turned, Wire, read_party_of

_MUST: Final = {"homeTransactionId", "from", "to", "amountType", "currency", "amount", "transactionType"}
_MAY: Final = {
    "subScenario",
    "note",
    "skipPartyLookup",
    "quoteRequestExtensions",
    "transferRequestExtensions",
}


@dataclass
class _Kept:
    home_id: str
    asked: Asked
    body: dict[str, Any]
    paid: Paid | None = None
    seen: list[str] = field(default_factory=list)


class AdapterSandbox:
    """Answers at `/`; its books and faults are those of the scheme sandbox."""

    def __init__(
        self,
        *,
        fsps: tuple[str, ...] = ("bluebank", "greenwallet"),
        accepts_by_itself: bool = False,
        fee: int = 0,
    ) -> None:
        self.scheme = Scheme(Wire("2.0", "payerfsp"), fsps, fee)
        self.accepts_by_itself = accepts_by_itself
        self.bulk = BulkDesk(self.scheme)
        """Takes bulk transactions, and misbehaves about them on demand."""
        self.bulk.accepts_by_itself = accepts_by_itself
        self.posts: list[str] = []
        """The home ids of every `POST /transfers`, repeats too."""
        self.drop_after: set[str] = set()
        """Steps (`post`, `party`, `quote`) after which the connection ends without an answer, once each."""
        self.port = 0
        self._kept: dict[str, _Kept] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free loopback port."""
        app = web.Application(client_max_size=8 << 20)
        app.router.add_get("/", self._health)
        app.router.add_get("/sandbox/state", self._state)
        app.router.add_post("/transfers", self._post)
        app.router.add_put("/transfers/{id}", self._put)
        app.router.add_get("/transfers/{id}", self._get)
        self.bulk.routes(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening; safe to call twice."""
        await self.bulk.stop()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def settings(self) -> dict[str, Any]:
        """Return the settings of a target that reaches this adapter."""
        return {
            "mode": "adapter",
            "url": f"http://127.0.0.1:{self.port}",
            "allow_private_networks": ["127.0.0.0/8"],
            "version": "2.0",
            "payer_fsp": "payerfsp",
            "payer_id": "MIN",
            "verify": "off",
        }

    def calls_back_to(self, address: str | None) -> None:
        """Send callbacks about bulk transactions to this address from now on; None: nowhere."""
        self.bulk.address = address

    async def settled(self) -> None:
        """Wait until every callback under way has been made."""
        await self.bulk.settled()

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=200)

    async def _state(self, request: web.Request) -> web.Response:
        paid = self.scheme.committed()
        return web.json_response(
            {
                "transfers": len(self.scheme.transfers),
                "committed": len(paid),
                "amount": sum(one.amount for one in paid),
                "bulks": len(self.bulk.bulks),
            }
        )

    async def _post(self, request: web.Request) -> web.Response:
        body = await request.json()
        if _MUST - set(body) or set(body) - _MUST - _MAY:
            return _error(400, "3100", "a member is missing or unknown")
        self.posts.append(body["homeTransactionId"])
        try:
            asked = self._asked(body)
        except Turned as turned:
            return _error(400, turned.code, turned.why)
        found = self.scheme.find(asked.payee.type, asked.payee.identifier, asked.payee.sub)
        transfer_id = asked.transaction_id
        state = {"transferId": transfer_id, **body}
        if isinstance(found, str):
            return _error(500, found, "party look-up failed", state | {"currentState": "ERROR_OCCURRED"})
        state |= {"getPartiesResponse": {"body": found, "headers": {}}}
        state["currentState"] = "WAITING_FOR_PARTY_ACCEPTANCE"
        kept = self._kept[transfer_id] = _Kept(body["homeTransactionId"], asked, state)
        if self.accepts_by_itself:
            self._quote(kept)
            return self._pay(kept)
        return self._lost("post", request) or web.json_response(state)

    async def _put(self, request: web.Request) -> web.Response:
        kept = self._kept.get(request.match_info["id"])
        if kept is None:
            return _error(500, "3208", "no such transfer")
        body = await request.json()
        if body in ({"acceptParty": False}, {"acceptQuote": False}):
            kept.body["currentState"] = "ABORTED"
            return web.json_response(kept.body)
        if body == {"acceptParty": True} and kept.body["currentState"] == "WAITING_FOR_PARTY_ACCEPTANCE":
            answer = self._quote(kept)
            return self._lost("party", request) or answer
        if body == {"acceptQuote": True} and kept.body["currentState"] == "WAITING_FOR_QUOTE_ACCEPTANCE":
            answer = self._pay(kept)
            return self._lost("quote", request) or answer
        return _error(500, "2001", "not in that state")

    async def _get(self, request: web.Request) -> web.Response:
        asked_for = request.match_info["id"]
        kept = self._kept.get(asked_for)
        paid = self.bulk.paid(asked_for) if kept is None else kept.paid
        told = None if paid is None else self.scheme.told(paid, asked_for=True)
        if told is None:
            return _error(504 if paid else 500, "2004" if paid else "3208", "unknown")
        if isinstance(told, str):
            return _error(500, told, "the transfer failed")
        state = "COMPLETED" if told["transferState"] == "COMMITTED" else "ERROR_OCCURRED"
        return web.json_response(
            {"transferId": asked_for, "currentState": state, "fulfil": {"body": told, "headers": {}}}
        )

    def _asked(self, body: dict[str, Any]) -> Asked:
        payee = read_party_of(body["to"], self.scheme.fsp_of(body["to"]["idValue"]))
        try:
            amount = minor_units(body["amount"], body["currency"])
        except ValueError:
            raise Turned(400, "3101", "the amount is malformed") from None
        transfer_id = new_ulid()
        return Asked(
            transfer_id, transfer_id, payee, amount, body["currency"], body["amountType"] == "RECEIVE", {}
        )

    def _quote(self, kept: _Kept) -> web.Response:
        answer = self.scheme.quote(kept.asked, kept.asked.id.encode())
        if isinstance(answer, str):
            kept.body["currentState"] = "ERROR_OCCURRED"
            return _error(500, answer, "the quote failed", kept.body)
        kept.body |= {"quoteId": kept.asked.id, "quoteResponse": {"body": answer, "headers": {}}}
        kept.body["currentState"] = "WAITING_FOR_QUOTE_ACCEPTANCE"
        return web.json_response(kept.body)

    def _pay(self, kept: _Kept) -> web.Response:
        quote = self.scheme.quotes[kept.asked.id]
        transfer = Asked(
            kept.asked.id, kept.asked.id, kept.asked.payee, quote.amount, kept.asked.currency, False, {}
        )
        kept.paid = self.scheme.transfer(transfer, kept.asked.id.encode())
        told = self.scheme.told(kept.paid, asked_for=False) if kept.paid else None
        if told is None:
            return _error(504, "2004", "timed out", kept.body | {"currentState": "ERROR_OCCURRED"})
        if isinstance(told, str):
            return _error(500, told, "the transfer failed", kept.body | {"currentState": "ERROR_OCCURRED"})
        if self.scheme.has(kept.asked.payee.identifier, Fault.WRONG_FULFILMENT):
            # What a real adapter does: no code of the scheme, no last error, and money may well have moved.
            return web.json_response(
                {"message": "fulfilment", "statusCode": "500", "transferState": kept.body}, status=500
            )
        kept.body |= {"fulfil": {"body": told, "headers": {}}, "currentState": "COMPLETED"}
        return web.json_response(kept.body)

    def _lost(self, step: str, request: web.Request) -> web.Response | None:
        if step not in self.drop_after:
            return None
        self.drop_after.discard(step)
        transport = request.transport
        if isinstance(transport, asyncio.Transport):
            transport.abort()
        return web.Response(status=500)


def _error(status: int, code: str, why: str, state: dict[str, Any] | None = None) -> web.Response:
    body = {"message": why, "statusCode": code, "transferState": state or {}}
    return web.json_response(body, status=status)
