"""A served hub for tests of its HTTP side: the real pipeline, the real intake, a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from adapters.http.app import build_app
from adapters.http.ready import Runner
from adapters.http.security import (
    OwnIssuer,
    Partner,
    Partners,
    Scope,
    SigningKey,
    TokenIssuer,
    TokenVerifier,
    TrustedIssuer,
    hash_secret,
)
from adapters.http.services import Services
from mappings.engine import MappingStore
from registry.objects import open_object_store
from registry.settings import HubSettings
from registry.storage import periods
from registry.storage.database import open_pool
from registry.vault import KeyEncryptionKey, Vault
from routing.intake import Intake
from routing.routes import RouteBook, parse_route

ISSUER = "http://hub.example"
AUDIENCE = "openspp-hub"
SECRET = "correct horse battery staple"
ROUTE = """
route: events-to-registry
when: {type: ["org.openspp.civil_event.*"]}
to: registry
"""


class Server(TestServer):
    """A test server run as the hub runs its own, short ways included."""

    async def _make_runner(self, **options: Any) -> web.AppRunner:
        return Runner(self.app, **options)


@dataclass
class Served:
    """A running server, its client, and the keys to talk to it."""

    client: TestClient[web.Request, web.Application]
    services: Services
    key: SigningKey
    pool: asyncpg.Pool | None

    def token(self, client_id: str = "civil-registry", *scopes: str) -> str:
        assert self.services.issuer is not None
        granted = frozenset(scopes or (str(one) for one in Scope))
        return self.services.issuer.sign_claims(client_id, granted).access_token

    def auth(self, client_id: str = "civil-registry", *scopes: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(client_id, *scopes)}"}

    async def stored(self) -> int:
        assert self.pool is not None
        return int(await self.pool.fetchval("SELECT count(*) FROM message"))


def partners(*more: Partner) -> Partners:
    hashed = hash_secret(SECRET, cost=1024)

    def partner(name: str, scopes: list[Scope], **rest: Any) -> Partner:
        return Partner.model_validate(
            {"name": name, "clients": [{"id": name, "secret": hashed}], "scopes": scopes, **rest}
        )

    return Partners(
        [
            partner("civil-registry", list(Scope), dialect={"name": "dci"}),
            partner("tolerated", list(Scope), dialect={"name": "dci", "options": {"tolerant": True}}),
            partner("reader", [Scope.MESSAGES_READ]),
            partner("slow-lane", list(Scope), rate={"per_second": 0.5, "burst": 2}),
            partner("gone", list(Scope), enabled=False),
            *more,
        ]
    )


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve_with(tmp_path: Path) -> AsyncIterator[Serve]:
    """Start a server around a given intake; settings are given as keywords."""
    open_clients: list[TestClient[web.Request, web.Application]] = []

    async def start(
        intake: Any,
        *,
        pool: asyncpg.Pool | None = None,
        more: tuple[Partner, ...] = (),
        issuers: tuple[TrustedIssuer, ...] = (),
        **settings: Any,
    ) -> Served:
        key = SigningKey.generate()
        known = partners(*more)
        services = Services(
            settings=HubSettings(data_dir=tmp_path, **settings),
            intake=intake,
            partners=known,
            tokens=TokenVerifier([OwnIssuer.of(ISSUER, AUDIENCE, key), *issuers]),
            issuer=TokenIssuer(key, issuer=ISSUER, audience=AUDIENCE, partners=known),
            mappings=MappingStore.load(),
            pool=pool,
        )
        client = TestClient(Server(build_app(services)))
        await client.start_server()
        open_clients.append(client)
        return Served(client, services, key, pool)

    yield start
    for client in open_clients:
        await client.close()


@pytest.fixture
async def serve(serve_with: Serve, database_url: str, tmp_path: Path) -> AsyncIterator[Serve]:
    """Start a server around the real intake on a database of its own."""
    settings = HubSettings(data_dir=tmp_path)
    pool = await open_pool(settings, size=4, url=database_url)
    await periods.ensure(pool, settings.partition)
    objects = open_object_store(settings)
    intake = Intake(
        pool,
        Vault(pool, KeyEncryptionKey.load(settings)),
        RouteBook([parse_route(ROUTE, "events.yaml")]),
        objects,
        group_commit_ms=1.0,
    )

    async def start(**given: Any) -> Served:
        return await serve_with(intake, pool=pool, **given)

    yield start
    await intake.drain()
    await objects.close()
    await pool.close()


@pytest.fixture
async def hub(serve: Serve) -> Served:
    """The server with its default settings."""
    return await serve()
