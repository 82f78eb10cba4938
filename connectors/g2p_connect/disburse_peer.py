"""A system that speaks G2P Connect disburse, as strict as a real one, with the faults the rail must survive."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping, Set
from enum import StrEnum
from typing import Any, Final
from uuid import uuid4

import aiohttp
import orjson
from aiohttp import web

from connectors.g2p_connect.peers import acknowledge, is_signed, now
from registry.signing import SigningKey, keys_of_set, new_pem

_ADDRESS: Final = re.compile(r"[A-Za-z0-9.:+_-]+@[A-Za-z0-9.-]+")
_AMOUNT: Final = re.compile(r"[0-9]{1,13}\.[0-9]{1,2}", re.ASCII)
_HEADER: Final = ("message_id", "message_ts", "action", "sender_id", "total_count")
_CLIENT: Final = "openspp-hub"
_BOUND: Final = 100_000
_ECHOED: Final = ("amount", "currency_code", "payer_fa", "payee_fa")


class Fault(StrEnum):
    """How the system misbehaves towards payees."""

    DOUBLED = "doubled"
    OTHER_AMOUNT = "other-amount"
    REFUSED = "refused"
    SILENT = "silent"
    TURNCOAT = "turncoat"


class DisbursePeer:
    """Takes orders once per transaction and reference, moves money, and says so by callback or when asked.

    Each set holds payee addresses, an empty one in place of all: `silent` are paid without a word and stay `pdng` when asked, `refused` are refused, `doubled`
    are told twice, `turncoats` are told paid and then refused, `wrong` are told with another amount. `lost` counts orders that
    vanish with a cut connection, `broken` ones that are taken and answered with 500, `busy` ones that are answered with 503.
    """

    def __init__(self, *, signed: bool = True) -> None:
        self.hub_pem, self._key = new_pem().decode(), SigningKey.generate()
        self._hub_keys = keys_of_set({"keys": [dict(SigningKey.from_pem(self.hub_pem.encode(), "-").public)]})
        self._secret, self._token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self.signed = signed
        self._known: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {}
        self.callback_url: str | None = None
        self.silent: set[str] = set()
        self.refused: set[str] = set()
        self.doubled: set[str] = set()
        self.turncoats: set[str] = set()
        self.wrong: set[str] = set()
        self.lost = self.broken = self.busy = 0
        self.mute = False
        """Whether it calls back nobody."""
        self.closed: str | None = None
        """A code of the standard with which every order is refused as such."""
        self.bodies: list[bytes] = []
        """Orders as they came, repeats too."""
        self.moved: list[tuple[str, str]] = []
        """References paid, in order; one that stands here twice was paid twice."""
        self.asked = 0
        self.answers: list[tuple[int, bytes]] = []
        """What the hub answered to callbacks."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._http: aiohttp.ClientSession | None = None
        self.url, self.port = "", 0

    async def start(self) -> None:
        """Listen on a loopback port."""
        app = web.Application(client_max_size=5 << 20)
        app.router.add_post("/token", self._give_token)
        app.router.add_post("/disburse", self._disburse)
        app.router.add_post("/disburse/sync/txn/status", self._status)
        app.router.add_get("/sandbox/state", self._state)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._http = aiohttp.ClientSession()

    async def stop(self) -> None:
        """Stop listening and calling back; safe to call twice."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.close()
            self._http = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def settings(self) -> dict[str, Any]:
        """Return the settings of a target that reaches it."""
        return {
            "url": self.url,
            "sender_id": "hub.example.org",
            "payer_fa": "account:9000001@treasury",
            "payee_ids": {"UIN": "vid@nid"},
            "signing_key": self.hub_pem,
            "peer_jwks": {"keys": [{**self._key.public}]},
            "token_url": f"{self.url}/token",
            "client_id": _CLIENT,
            "client_secret": self._secret,
            "allow_private_networks": ["127.0.0.0/8"],
        }

    def secrets(self) -> list[str]:
        """Return the secrets among the settings."""
        return [self._secret, self._token, self.hub_pem.splitlines()[1]]

    def misbehave(self, payee: str, fault: Fault) -> None:
        """Misbehave towards a payee's address, or towards everybody where it is empty."""
        sets = {
            Fault.DOUBLED: self.doubled,
            Fault.OTHER_AMOUNT: self.wrong,
            Fault.REFUSED: self.refused,
            Fault.SILENT: self.silent,
            Fault.TURNCOAT: self.turncoats,
        }
        sets[fault].add(payee)

    async def settled(self) -> None:
        """Return once every callback under way was made."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def signed_by(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a message with the system's signature."""
        return {"signature": self._key.sign(orjson.dumps(body), typ="JWS"), **body}

    async def tell(self, *entries: Mapping[str, Any], signed: bool = True, path: str = "on-disburse") -> int:
        """Call the hub back with entries and return how it answered."""
        header = {
            "version": "1.0.0", "message_id": str(uuid4()), "message_ts": now(), "action": path, "status": "succ",
            "total_count": len(entries), "sender_id": "pay.example.org",
        }  # fmt: skip
        message: dict[str, Any] = {"transaction_id": "any", "disbursements_status": list(entries)}
        body: dict[str, Any] = {"header": header, "message": message}
        if signed:
            body = self.signed_by(body)
        if self._http is None or self.callback_url is None:
            return 0
        async with self._http.post(f"{self.callback_url}/{path}", data=orjson.dumps(body)) as reply:
            self.answers.append((reply.status, await reply.read()))
            return reply.status

    async def _state(self, request: web.Request) -> web.Response:
        """Tell what is in its books, for whoever tries a hub against it."""
        twice = len(self.moved) - len(set(self.moved))
        return web.json_response(
            {"orders": len(self.bodies), "asked": self.asked, "moved": len(self.moved), "twice": twice}
        )

    async def _give_token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if (form.get("client_id"), form.get("client_secret")) != (_CLIENT, self._secret):
            return web.json_response({"error": "invalid_client"}, status=401)
        return web.json_response({"access_token": self._token, "expires_in": 300, "token_type": "bearer"})

    async def _disburse(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        checked = self._checked(request, raw, "disburse")
        if isinstance(checked, web.Response):
            return checked
        header, message = checked
        if self.busy:
            self.busy -= 1
            return web.Response(status=503, headers={"Retry-After": "0"})
        if self.closed is not None:
            return acknowledge("ERR", self.closed)
        items = message.get("disbursements")
        if not isinstance(items, list) or len(items) != header["total_count"]:
            return acknowledge("ERR", "err.request.bad")
        self.bodies.append(raw)
        del self.bodies[:-_BOUND]
        if self.lost:
            self.lost -= 1
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        told = [self._take(header["sender_id"], message["transaction_id"], item) for item in items]
        entries = [entry for found in told for entry in found]
        if self.broken:
            self.broken -= 1
            return web.Response(status=500, text="stack trace")
        uri = header.get("sender_uri")
        if uri and not self.mute and entries:
            self.callback_url = uri.rpartition("/")[0]
            self._later(entries)
        return acknowledge("ACK")

    def _take(self, sender: str, transaction: str, item: dict[str, Any]) -> list[dict[str, Any]]:
        """Take one order and return what is said of it by callback, which for some is nothing."""
        reference, payee = item["reference_id"], str(item.get("payee_fa"))
        key = (f"{sender}/{transaction}", reference)
        base: dict[str, Any] = {"reference_id": reference, "timestamp": now()}
        known = self._known.get(key)
        if known is not None:
            if known[0] != item:
                return [{**base, "status": "rjct", "status_reason_code": "rjct.reference_id.duplicate"}]
            return [] if _among(payee, self.silent) else [known[1]]
        code = self._fault(item)
        echoed: dict[str, Any] = {name: item[name] for name in _ECHOED if name in item}
        entry: dict[str, Any] = {**base, **echoed, "status": "succ"}
        if code is not None:
            entry = {**base, "status": "rjct", "status_reason_code": code}
        else:
            self.moved.append((transaction, reference))
        if _among(payee, self.wrong):
            entry["amount"] = "0.01"
        self._known[key] = (item, entry)
        if _among(payee, self.silent):
            return []
        more = [entry] if _among(payee, self.doubled) else []
        if _among(payee, self.turncoats):
            more = [{**base, "status": "rjct", "status_reason_code": "rjct.payee_fa.invalid"}]
        return [entry, *more]

    def _fault(self, item: Mapping[str, Any]) -> str | None:
        for name in ("payer_fa", "payee_fa"):
            if not _ADDRESS.fullmatch(str(item.get(name))):
                return f"rjct.{name}.invalid"
        if not isinstance(item.get("amount"), str) or not _AMOUNT.fullmatch(item["amount"]):
            return "rjct.amount.invalid"
        if not re.fullmatch("[A-Z]{3}", str(item.get("currency_code"))):
            return "rjct.currency_code.invalid"
        return "rjct.payee_fa.invalid" if _among(item["payee_fa"], self.refused) else None

    async def _status(self, request: web.Request) -> web.Response:
        self.asked += 1
        checked = self._checked(request, await request.read(), "status")
        if isinstance(checked, web.Response):
            return checked
        header, message = checked
        asked = message["txnstatus_request"]
        if asked["attribute_type"] != "reference_id_list":
            return acknowledge("ERR", "err.request.bad")
        transaction = f"{header['sender_id']}/{message['transaction_id']}"
        entries = []
        for reference in asked["attribute_value"]:
            known = self._known.get((transaction, reference))
            if known is None:
                code = {"status": "rjct", "status_reason_code": "rjct.reference_id.invalid"}
                entries.append({"reference_id": reference, "timestamp": now(), **code})
            elif _among(known[0]["payee_fa"], self.silent):
                entries.append({"reference_id": reference, "timestamp": now(), "status": "pdng"})
            else:
                entries.append(known[1])
        status = {"transaction_id": message["transaction_id"], "disbursements_status": entries}
        answer = {
            "transaction_id": message["transaction_id"],
            "correlation_id": str(uuid4()),
            "txnstatus_response": {"txn_type": "on-disburse", "txn_status": status},
        }
        return web.json_response(
            {"header": {"message_id": str(uuid4()), "action": "on-status"}, "message": answer}
        )

    def _checked(
        self, request: web.Request, raw: bytes, action: str
    ) -> tuple[dict[str, Any], dict[str, Any]] | web.Response:
        if request.headers.get("Authorization") != f"Bearer {self._token}":
            return web.json_response({"errors": [{"code": "err.request.unauthorized"}]}, status=401)
        try:
            body = orjson.loads(raw)
            header, message = body["header"], body["message"]
            complete = all(name in header for name in _HEADER) and isinstance(message["transaction_id"], str)
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return acknowledge("ERR", "err.request.bad")
        if not complete or header["action"] != action or len(message["transaction_id"]) > 99:
            return acknowledge("ERR", "err.request.bad")
        if self.signed and not is_signed(body, self._hub_keys):
            return acknowledge("ERR", "err.signature.invalid")
        return header, message

    def _later(self, entries: list[dict[str, Any]]) -> None:
        async def go() -> None:
            # A second word about one payment is a message of its own.
            first = {one["reference_id"]: one for one in reversed(entries)}
            await self.tell(*first.values())
            for number, entry in enumerate(entries):
                if number != next(
                    n for n, one in enumerate(entries) if one["reference_id"] == entry["reference_id"]
                ):
                    await self.tell(entry)

        task = asyncio.get_running_loop().create_task(go())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _among(payee: str, chosen: Set[str]) -> bool:
    return payee in chosen or "" in chosen
