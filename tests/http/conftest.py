"""A served hub for tests of its HTTP side: the real pipeline, the real intake, a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import orjson
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
from adapters.rest.resources import extension
from mappings.engine import MappingStore
from registry.changes import ChangeStore
from registry.imports.uploads import UploadStore
from registry.objects import open_object_store
from registry.people import PeopleStore
from registry.people.tokens import registrant_tokens
from registry.programs import Programs
from registry.settings import HubSettings
from registry.storage import periods
from registry.storage.database import open_pool
from registry.vault import KeyEncryptionKey, Vault
from routing.intake import Intake
from routing.outbox import HubOutbox
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
            partner("slow-lane", list(Scope), rate={"per_second": 0.05, "burst": 2}),
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
        extra: tuple[Callable[[web.Application, Services], None], ...] = (),
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
            extra=extra,
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


HASHED = "scrypt$1024$8$1$AAAAAAAAAAAAAAAAAAAAAA$" + "A" * 43
NATIONAL = "urn:gov:xx:national-id"


def _partner(name: str, **rest: Any) -> Partner:
    return Partner.model_validate(
        {"name": name, "clients": [{"id": name, "secret": HASHED}], "scopes": list(Scope), **rest}
    )


MORE = (
    _partner("north-office", areas=["N"]),
    _partner("enrolled-only", programs=["cash"]),
    _partner("clinic", consent={"purposes": ["vaccination", "nutrition"]}),
    _partner("onlooker", scopes=["registrants:read"]),
)


class Registry:
    """A served hub with its resources, and a client that speaks JSON."""

    def __init__(self, served: Any, people: PeopleStore) -> None:
        self.served, self.people, self.pool = served, people, served.pool

    async def call(
        self, method: str, path: str, body: Any = None, *, by: str = "civil-registry", **headers: str
    ) -> tuple[int, Any, Any]:
        sent = {**self.served.auth(by), **{name.replace("_", "-"): value for name, value in headers.items()}}
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else orjson.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        answer = await self.served.client.request(method, path, data=data, headers=sent)
        raw = await answer.read()
        value = (
            orjson.loads(raw)
            if "json" in answer.content_type and "ndjson" not in answer.content_type and raw
            else raw
        )
        return answer.status, value, answer.headers

    async def area(self, code: str, parent: str | None = None) -> None:
        status, body, _ = await self.call(
            "POST", "/v1/areas", {"id": code, "parent": parent, "names": {"en": code}}
        )
        assert status == 201, body

    async def person(self, number: str, area: str | None = None, name: str = "Amina Planted") -> str:
        done = await self.people.upsert(
            {
                "identifiers": [{"id_type": "national", "namespace": NATIONAL, "value": number}],
                "names": [{"full_name": name}],
                "sex": "female",
                **({"area_code": area} if area else {}),
            },
            source="test",
        )
        return str(done.id)


@pytest.fixture
async def registry(serve: Serve) -> AsyncIterator[Registry]:
    """The resources, served on a database of their own."""
    served = await serve(more=MORE)
    vault = Vault(served.pool, KeyEncryptionKey.load(served.services.settings))

    people = PeopleStore(
        served.pool, vault, vault.blind, tokens=partial(registrant_tokens, vault.blind), region="SL"
    )
    await served.client.close()
    again = await serve(more=MORE)
    objects = open_object_store(again.services.settings)
    # The application is built once more with the resources, as adapters.front does.
    again.services.extra = [
        extension(
            served.pool,
            vault,
            again.services.settings,
            people,
            Programs(served.pool, vault, HubOutbox(again.services.intake)),
            ChangeStore(served.pool, vault, people),
            UploadStore(served.pool, vault, objects),
            objects=objects,
        )
    ]
    await again.client.close()
    again.client = TestClient(TestServer(build_app(again.services)))
    await again.client.start_server()
    yield Registry(again, people)
    await again.client.close()
    await people.close()
