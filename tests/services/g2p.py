"""A hub that takes orders of G2P Connect: its real store and ledger, and a partner that listens for callbacks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

from adapters.g2p.disburse_callbacks import Teller
from adapters.g2p.serving import Disbursing
from adapters.http.security import Partner, Partners, SigningKey
from canonical_model.payment import PaymentInstruction
from connectors.payments.contract import LOOKUP, QUEUED, Step
from registry.objects import open_object_store
from registry.settings import HubSettings
from registry.storage import periods
from registry.storage.database import open_pool
from registry.vault import KeyEncryptionKey, Vault
from routing.disbursements import Disbursements
from routing.intake import Intake
from routing.ledger import Books
from routing.routes import RouteBook, parse_route

ROUTE = """
route: payments
when: {type: ["org.openspp.payment.instructed.v1"]}
to: bank
"""
COPY = """
route: archive
when: {type: ["org.openspp.payment.instructed.v1"]}
to: archive
copies: true
"""
HASHED = "scrypt$1024$8$1$AAAAAAAAAAAAAAAAAAAAAA$" + "A" * 43
SCOPES = ("payments:order", "accounts:read", "accounts:write")
PAYER = "account:9000001@treasury"


def partner(name: str, dialect: str = "g2p-connect", **more: Any) -> Partner:
    """Return a partner that may order payments; `options` are those of its dialect."""
    options = more.pop("options", {})
    return Partner.model_validate(
        {
            "name": name,
            "clients": [{"id": name, "secret": HASHED}],
            "scopes": more.pop("scopes", list(SCOPES)),
            "dialect": {"name": dialect, "options": options},
            **more,
        }
    )


class Listener:
    """A partner's address for callbacks, which answers as it is told to."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.queries: list[dict[str, str]] = []
        self.status = 200
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self.server = TestServer(app)

    @property
    def base(self) -> str:
        """Where it listens."""
        return str(self.server.make_url("/g2p"))

    async def _take(self, request: web.Request) -> web.Response:
        self.queries.append(dict(request.query))
        self.got.append((request.path, orjson.loads(await request.read())))
        return web.json_response({"message": {"ack_status": "ACK"}}, status=self.status)


class Desk:
    """Everything a test of orders needs at hand."""

    def __init__(self, served: Any, store: Disbursements, teller: Teller, listener: Listener) -> None:
        self.served, self.store, self.teller, self.listener = served, store, teller, listener
        self.books: Books
        self.jwks: dict[str, Any]

    async def post(self, path: str, body: Any, by: str = "ministry", **headers: str) -> tuple[int, Any]:
        """Send a body to a path below the hub's address; return status and JSON."""
        answer = await self.served.client.post(
            path,
            data=body if isinstance(body, bytes) else orjson.dumps(body),
            headers={
                **self.served.auth(by, *SCOPES),
                "Content-Type": "application/json",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )
        return answer.status, orjson.loads(await answer.read())

    async def payment(self, reference: str, by: str = "ministry") -> UUID:
        """Return the one payment of a reference."""
        (found,) = (await self.store.of_references(by, [reference]))[reference]
        return found

    async def settle(
        self, reference: str, state: str, reason: str | None = None, by: str = "ministry"
    ) -> None:
        """Let the rail end a payment: it enters the ledger and takes its steps there."""
        id_ = str(await self.payment(reference, by))
        order = PaymentInstruction.model_validate(
            {
                "payment_id": id_,
                "payee": {"identifiers": [{"id_type": "X", "value": "1"}]},
                "amount": {"minor_units": 125000, "currency": "PHP"},
            }
        )
        await self.books.enter("bank", UUID(id_), None, [order])
        row = await self.served.pool.fetchval("SELECT id FROM transfer WHERE payment_id = $1", id_)
        steps = [Step(str(row), (LOOKUP, QUEUED), "sending", "sent", due_in=60.0)]
        await self.books.apply("bank", steps)
        if state != "sent":
            await self.books.apply("bank", [Step(str(row), ("sending", "sent"), None, state, reason=reason)])

    async def stored(self) -> int:
        """Return how many orders became messages."""
        return int(await self.served.pool.fetchval("SELECT count(*) FROM message"))


@asynccontextmanager
async def desk(serve_with: Any, database_url: str, folder: Path, *callbacks: str) -> AsyncIterator[Desk]:
    """Serve the hub with its G2P Connect side; the teller is run round by round by the test."""
    settings = HubSettings(data_dir=folder)
    pool = await open_pool(settings, size=4, url=database_url)
    await periods.ensure(pool, settings.partition)
    objects = open_object_store(settings)
    vault = Vault(pool, KeyEncryptionKey.load(settings))
    intake = Intake(
        pool,
        vault,
        RouteBook([parse_route(ROUTE, "p.yaml"), parse_route(COPY, "c.yaml")]),
        objects,
        group_commit_ms=1.0,
    )
    listener = Listener()
    await listener.server.start_server()
    options = {
        "currency": "PHP",
        "payers": [PAYER],
        "callbacks": [listener.base, *callbacks],
        "callback_networks": ["127.0.0.0/8"],
    }
    govstack = {
        "source_id": "SOCIALWELFAR",
        "payer_fa": PAYER,
        "providers": {"00": "national-bank", "01": "m-pay"},
        "callbacks": options["callbacks"],
        "callback_networks": options["callback_networks"],
    }
    more = (
        partner("ministry", options=options),
        partner("other-ministry", options=options),
        partner("confined", areas=["N"], options=options),
        partner("loose", options={**options, "tolerant": True}),
        partner("welfare", "govstack", options=govstack),
        partner("welfare-confined", "govstack", areas=["N"], options=govstack),
    )
    key = SigningKey.generate()
    disbursing = Disbursing(pool, vault, intake, Partners(more), key, "https://hub.example")
    served = await serve_with(intake, pool=pool, more=more, extra=tuple(disbursing.extensions))
    store, teller = disbursing.store, disbursing.teller
    made = Desk(served, store, teller, listener)
    made.jwks = {"keys": [dict(key.public)]}
    made.books = Books(pool, vault, group_commit_ms=1.0)
    try:
        yield made
    finally:
        await teller.stop()
        await listener.server.close()
        await made.books.drain()
        await intake.drain()
        await objects.close()
        await pool.close()


def now(**shift: float) -> str:
    """Return an instant near now as the standard writes it."""
    return (datetime.now(UTC) + timedelta(**shift)).isoformat()


def order(reference: str = "r-1", **changes: Any) -> dict[str, Any]:
    """Return one disbursement."""
    return {
        "reference_id": reference,
        "payer_fa": PAYER,
        "payee_fa": "account:12345@national-bank",
        "amount": "1250.00",
        "currency_code": "PHP",
        "payee_name": "Amina Planted",
        **changes,
    }


def envelope(
    action: str, message: dict[str, Any], message_id: str = "m-1", count: int = 1, **header: Any
) -> dict[str, Any]:
    """Return a request around a message."""
    return {
        "signature": "",
        "header": {
            "version": "1.0.0",
            "message_id": message_id,
            "message_ts": now(),
            "action": action,
            "sender_id": "ministry.example.org",
            "total_count": count,
            "is_msg_encrypted": False,
            **header,
        },
        "message": message,
    }


def disbursing(
    *orders: dict[str, Any], message_id: str = "m-1", transaction_id: str = "t-1", **header: Any
) -> dict[str, Any]:
    """Return a request that orders payments."""
    return envelope(
        header.pop("action", "disburse"),
        {"transaction_id": transaction_id, "disbursements": list(orders)},
        message_id,
        len(orders),
        **header,
    )
