"""Another account mapper, as strict as OpenG2P's SPAR and with the same refusals, and with the faults a caller must survive."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

import aiohttp
import orjson
from aiohttp import web

from connectors.g2p_connect.peers import acknowledge, is_signed, now
from registry.signing import SigningKey, keys_of_set, new_pem

_VERBS: Final = ("link", "update", "unlink", "resolve")
_HEADER: Final = ("message_id", "message_ts", "action", "sender_id", "total_count")
_BEARER: Final = "mapper-token"
_BOUND: Final = 100_000


class MapperPeer:
    """Keeps one address for each id, and answers at once or by callback.

    `lost` counts messages that are done and whose connection is then cut, `broken` ones that are done and answered with 500,
    `busy` ones that are answered with 503. Of the ids in `swapped` it tells the address of somebody else, those in `silent` it
    leaves out, those in `doubled` it answers twice. While `held` is not set it takes messages and answers none.
    """

    def __init__(self, *, signed: bool = True, hub_pem: str | None = None) -> None:
        self.hub_pem, self._key = hub_pem or new_pem().decode(), SigningKey.generate()
        self._hub_keys = keys_of_set({"keys": [dict(SigningKey.from_pem(self.hub_pem.encode(), "-").public)]})
        self.signed = signed
        """Whether it signs its answers."""
        self.links: dict[str, str] = {}
        self.inactive: set[str] = set()
        self.swapped: set[str] = set()
        self.silent: set[str] = set()
        self.doubled: set[str] = set()
        self.lost = self.broken = self.busy = 0
        self.held: asyncio.Event | None = None
        self.asked: list[dict[str, Any]] = []
        """Messages as they came."""
        self.answers: list[int] = []
        """How the hub answered callbacks."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._http: aiohttp.ClientSession | None = None
        self.url, self.port = "", 0

    async def start(self) -> None:
        """Listen on a loopback port, after `stop` on the same one."""
        app = web.Application(client_max_size=5 << 20)
        for verb in _VERBS:
            app.router.add_post(f"/mapper/{verb}", self._take)
            app.router.add_post(f"/mapper/sync/{verb}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
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
            "mapper_url": self.url,
            "sender_id": "hub.example.org",
            "payer_fa": "account:9000001@treasury",
            "signing_key": self.hub_pem,
            "peer_jwks": {"keys": [{**self._key.public}]},
            "bearer_token": _BEARER,
            "allow_private_networks": ["127.0.0.0/8"],
        }

    async def tell(self, address: str, body: Mapping[str, Any]) -> int:
        """Call the hub back and return how it answered."""
        assert self._http is not None
        async with self._http.post(address, data=orjson.dumps(dict(body))) as reply:
            self.answers.append(reply.status)
            return reply.status

    async def _take(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {_BEARER}":
            return web.json_response({"errors": [{"code": "err.request.unauthorized"}]}, status=401)
        verb, sync = request.path.rpartition("/")[2], "/sync/" in request.path
        try:
            body = orjson.loads(await request.read())
            header, message = body["header"], body["message"]
            items = message[f"{verb}_request"]
            good = all(name in header for name in _HEADER) and header["total_count"] == len(items) > 0
            good = good and header["action"] == verb and isinstance(message["transaction_id"], str)
        except (orjson.JSONDecodeError, KeyError, TypeError):
            good = False
        if not good:
            return acknowledge("ERR", "err.request.bad")
        if not is_signed(body, self._hub_keys):
            return acknowledge("ERR", "err.signature.invalid")
        if self.busy:
            self.busy -= 1
            return web.Response(status=503, headers={"Retry-After": "1"})
        self.asked.append(message)
        del self.asked[:-_BOUND]
        if self.held is not None:
            await self.held.wait()
        entries = [entry for item in items for entry in self._do(verb, item)]
        if self.lost:
            self.lost -= 1
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if self.broken:
            self.broken -= 1
            return web.Response(status=500, text="stack trace")
        reply = self._reply(verb, message["transaction_id"], entries)
        if sync:
            return web.json_response(reply)
        task = asyncio.get_running_loop().create_task(self._later(header["sender_uri"], reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return acknowledge("ACK")

    async def _later(self, address: str, reply: Mapping[str, Any]) -> None:
        await self.tell(address, reply)

    def _do(self, verb: str, item: Mapping[str, Any]) -> list[dict[str, Any]]:
        id_, fa = item.get("id"), item.get("fa")
        base: dict[str, Any] = {"reference_id": item["reference_id"], "timestamp": now(), "fa": None}
        if id_ in self.silent:
            return []
        entry = {**base, **self._found(verb, id_, fa, item.get("scope", "yes_no"))}
        if id_ in self.swapped:
            entry["id"] = "vid:somebody-else@nid"
        return [entry, {**entry}] if id_ in self.doubled else [entry]

    def _found(self, verb: str, id_: Any, fa: Any, scope: str) -> dict[str, Any]:
        if not id_ and not (verb == "resolve" and fa):
            code = "rjct.reference_id.invalid" if verb == "resolve" else "rjct.id.invalid"
            return _reject(code, "ID is null")
        if verb in {"link", "update"} and not fa:
            return _reject("rjct.fa.invalid", "FA is null")
        known = self.links.get(id_)
        if verb == "link":
            if known is not None:
                return _reject("rjct.reference_id.duplicate", "ID and FA are already mapped")
            self.links[id_] = fa
            return {"status": "succ", "fa": fa}
        if verb == "update":
            if known is None:
                return _reject("rjct.reference_id.duplicate", "ID doesnt exist please link first")
            self.links[id_] = fa
            return {"status": "succ", "id": id_}
        if verb == "unlink":
            if known is None or (fa and fa != known):
                return _reject("rjct.id.invalid", "ID doesnt exist please link first")
            del self.links[id_]
            return {"status": "succ"}
        if known is None or (fa and fa != known):
            # What it says of any id that it does not know.
            return {"status": "succ", "status_reason_code": "succ.fa.not_linked_to_id"}
        state = "inactive" if id_ in self.inactive else "active"
        found = {"status": "succ", "status_reason_code": f"succ.id.{state}", "id": id_}
        return found | ({"fa": known} if scope == "details" else {})

    def _reply(self, verb: str, transaction: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
        header = {
            "version": "1.0.0", "message_id": str(uuid4()), "message_ts": now(), "action": f"on-{verb}",
            "status": "succ", "total_count": len(entries), "sender_id": "mapper.example.org",
        }  # fmt: skip
        message = {"transaction_id": transaction, "correlation_id": str(uuid4()), f"{verb}_response": entries}
        body: dict[str, Any] = {"header": header, "message": message}
        if self.signed:
            body = {"signature": self._key.sign(orjson.dumps(body), typ="JWS"), **body}
        return body


def _reject(code: str, text: str) -> dict[str, Any]:
    return {"status": "rjct", "status_reason_code": code, "status_reason_message": text}
