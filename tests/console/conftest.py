"""A served console over a planted database."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from aiohttp import ClientSession, CookieJar, web
from aiohttp.test_utils import TestServer
from services.messages import Planter

from adapters.console import Console
from adapters.http.app import build_app
from adapters.http.security import OwnIssuer, Partners, SigningKey, TokenIssuer, TokenVerifier
from adapters.http.security.partners import Partner
from adapters.http.services import Services
from adapters.rest import messages_read
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.vault import KeyEncryptionKey, Vault
from routing.ledger import Books
from routing.ledger_desk import Desk as Ledger
from routing.replay import Replayer
from routing.routes import RouteBook, parse_route
from routing.trace import Trace

ISSUER = "http://hub.example"
ROUTE = 'route: crvs-to-registry\nversion: 7\nwhen: {type: "org.openspp.*"}\nto: registry\n'


class Nowhere:
    """An intake that takes nothing: these tests read."""


@dataclass
class Desk:
    """A running server with console and read API, and what is needed to sign in."""

    url: str
    pool: asyncpg.Pool
    plant: Planter
    issuer: TokenIssuer
    console: Console
    books: Books

    def token(self, client: str = "civil", *scopes: str) -> str:
        held = frozenset(scopes) or frozenset(
            {"messages:read", "messages:replay", "dead:read", "dead:write", "console:read"}
        )
        return self.issuer.sign_claims(client, held).access_token

    def session(self) -> ClientSession:
        return ClientSession(self.url, cookie_jar=CookieJar(unsafe=True))

    async def signed_in(self, session: ClientSession) -> str:
        """Sign in as the operator and return the form token."""
        code = self.console.signer.link_code()
        async with session.post("/console/login", data={"code": code}) as answer:
            assert answer.status == 200, await answer.text()
            found = re.search(r'name="csrf" value="([^"]+)"', await answer.text())
        assert found
        return found[1]


@pytest.fixture
async def desk(database_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    settings = HubSettings(data_dir=tmp_path)
    pool = await open_pool(settings, size=5, url=database_url)
    plant = Planter(pool)
    key = SigningKey.generate()
    scopes = ["messages:read", "messages:replay", "dead:read", "dead:write", "console:read"]
    known = Partners(
        [
            Partner.model_validate({"name": "civil", "clients": [{"id": "civil"}], "scopes": scopes}),
            Partner.model_validate({"name": "health", "clients": [{"id": "health"}], "scopes": scopes}),
            Partner.model_validate(
                {"name": "payer", "clients": [{"id": "payer"}], "scopes": [*scopes, "treasury.payments"]}
            ),
            Partner.model_validate(
                {"name": "finance", "clients": [{"id": "finance"}], "scopes": [*scopes, "payments:read"]}
            ),
            Partner.model_validate(
                {
                    "name": "county",
                    "clients": [{"id": "county"}],
                    "scopes": [*scopes, "payments:read"],
                    "areas": ["KE-01"],
                }
            ),
            Partner.model_validate(
                {"name": "auditor", "clients": [{"id": "auditor"}], "scopes": [*scopes, "messages:read-all"]}
            ),
        ]
    )
    issuer = TokenIssuer(key, issuer=ISSUER, audience="openspp-hub", partners=known)
    trace = Trace(pool, plant.blind)
    replayer = Replayer(pool, plant.blind, RouteBook([parse_route(ROUTE, "test")]))
    tokens = TokenVerifier([OwnIssuer.of(ISSUER, "openspp-hub", key)])
    books = Books(pool, Vault(pool, KeyEncryptionKey.load(settings)))
    console = Console(
        pool, plant.blind, trace, replayer, tokens, known, settings, desk=Ledger(pool, books), interval=0.2
    )

    def add_console(app: web.Application, services: Services) -> None:
        console.add_to(app)

    services = Services(
        settings=settings,
        intake=Nowhere(),  # type: ignore[arg-type]
        partners=known,
        tokens=tokens,
        issuer=issuer,
        pool=pool,
        extra=[messages_read.extension(trace, replayer), add_console],
    )
    server = TestServer(build_app(services))
    await server.start_server()
    try:
        yield Desk(str(server.make_url("")).rstrip("/"), pool, plant, issuer, console, books)
    finally:
        await server.close()
        await pool.close()
