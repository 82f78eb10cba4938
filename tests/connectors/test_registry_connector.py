"""The registry connector: against the sandbox in every mood, and against the real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from canonical_model.message import Message
from connectors.contract import Callback, Connector, Context
from connectors.discovery import discover
from connectors.errors import ConfigError, Defect, HubError, Refused, Unavailable, Unknown
from connectors.registry import RegistryConnector, RegistrySettings
from connectors.registry.sandbox import RegistrySandbox
from connectors.testing.sandbox import Mode
from registry.people import PeopleStore
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.vault import KeyEncryptionKey, Vault

PERSON = "org.openspp.person.upserted.v1"
EVENT = "org.openspp.civil_event.registered.v1"
SUBJECT: dict[str, Any] = {
    "identifiers": [{"id_type": "UIN", "value": "PLANT-1"}],
    "names": [{"full_name": "Planted Name"}],
}
DEATH: dict[str, Any] = {"event_type": "death", "subject": SUBJECT, "event_date": "2026-10-01"}


def message(type_: str = PERSON, data: dict[str, Any] | None = None) -> Message:
    return Message(source="urn:test", type=type_, data=SUBJECT if data is None else data)


def soon(seconds: float = 5) -> float:
    return asyncio.get_running_loop().time() + seconds


async def opened(services: Any) -> RegistryConnector:
    connector = RegistryConnector(RegistrySettings())
    async with aiohttp.ClientSession() as http:
        await connector.open(Context("people-here", http, services))
    return connector


@pytest.fixture
async def sandbox() -> AsyncIterator[RegistrySandbox]:
    made = RegistrySandbox()
    await made.start()
    yield made
    await made.stop()


async def test_it_is_a_connector_the_hub_finds(sandbox: RegistrySandbox) -> None:
    assert isinstance(await opened(sandbox.services()), Connector)
    assert discover().get("registry") in (RegistryConnector, None)


async def test_without_a_store_it_does_not_open() -> None:
    for services in ({}, {"people": object()}):
        with pytest.raises(ConfigError) as caught:
            await opened(services)
        assert caught.value.code == "people-service-missing"


async def test_a_repeat_is_recognised_and_an_applied_message_can_be_asked_for(
    sandbox: RegistrySandbox,
) -> None:
    connector, sent = await opened(sandbox.services()), message()
    assert await connector.ask(sent, soon()) is None
    statuses = [(await connector.send(sent, soon())).exchanges[0].status for _ in range(2)]
    assert statuses == ["created", "repeated"]
    assert sandbox.effects() == (str(sent.id),)
    assert await connector.ask(sent, soon()) is not None
    assert await connector.receive(Callback("/", {}, b"")) == ()


@pytest.mark.parametrize(
    ("mode", "kind", "code"),
    [
        (Mode.REFUSE, Refused, "identifier-missing"),
        (Mode.STATUS, Unavailable, "database-unavailable"),
        (Mode.CLOSE_AFTER_BODY, Unknown, "outcome-unknown"),
        (Mode.GARBAGE, Unknown, "outcome-unknown"),
        (Mode.HANG, Unknown, "outcome-unknown"),
    ],
)
async def test_every_mood_of_the_store_has_its_error(
    sandbox: RegistrySandbox, mode: Mode, kind: type[HubError], code: str
) -> None:
    connector = await opened(sandbox.services())
    sandbox.switch(mode)
    with pytest.raises(kind) as caught:
        await connector.send(message(), soon(0.2))
    assert caught.value.code == code


ERRORS = [
    (asyncpg.SerializationError, Unavailable),
    (asyncpg.DeadlockDetectedError, Unavailable),
    (asyncpg.QueryCanceledError, Unavailable),
    (asyncpg.LockNotAvailableError, Unavailable),
    (asyncpg.DiskFullError, Unavailable),
    (asyncpg.AdminShutdownError, Unavailable),
    (asyncpg.CannotConnectNowError, Unavailable),
    (asyncpg.InterfaceError, Unknown),
    (ConnectionResetError, Unknown),
    (OSError, Unavailable),
    (asyncpg.CharacterNotInRepertoireError, Refused),
    (asyncpg.CheckViolationError, Refused),
    (asyncpg.UndefinedTableError, Defect),
    (KeyError, Defect),
]


@pytest.mark.parametrize(("raised", "kind"), ERRORS)
async def test_every_fault_of_the_database_is_mapped_and_its_text_dropped(
    sandbox: RegistrySandbox, monkeypatch: pytest.MonkeyPatch, raised: type[Exception], kind: type[HubError]
) -> None:
    connector = await opened(sandbox.services())

    async def fail(*_: Any, **__: Any) -> None:
        raise raised("Key (name)=(Planted Name) already exists")

    monkeypatch.setattr(sandbox, "upsert", fail)
    with pytest.raises(kind) as caught:
        await connector.send(message(), soon())
    assert "Planted" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_another_type_is_refused_and_a_closed_target_unavailable(sandbox: RegistrySandbox) -> None:
    connector = await opened(sandbox.services())
    with pytest.raises(Refused) as caught:
        await connector.send(message("org.openspp.payment.instructed.v1"), soon())
    assert caught.value.code == "message-type-unsupported"
    await sandbox.stop()
    assert not (await connector.probe()).ok
    with pytest.raises(Unknown):
        await connector.ask(message(), soon())
    await connector.close()
    await connector.close()
    with pytest.raises(Unavailable):
        await connector.send(message(), soon())


async def test_messages_reach_the_real_store(database_url: str, tmp_path: Path) -> None:
    pool = await open_pool(HubSettings(), url=database_url, size=4)
    try:
        vault = Vault(pool, KeyEncryptionKey.load(HubSettings(data_dir=tmp_path)))
        people = PeopleStore(pool, vault, vault.blind)
        connector = await opened({"people": people})
        assert (await connector.probe()).ok
        death = message(EVENT, DEATH)
        assert (await connector.send(death, soon())).exchanges[0].status == "created"
        assert (await connector.send(death, soon())).exchanges[0].status == "repeated"
        assert await connector.ask(death, soon()) is not None
        assert await connector.ask(message(), soon()) is None
        late = Message(source="urn:test", type=PERSON, data=SUBJECT, time=datetime(2020, 1, 1, tzinfo=UTC))
        assert (await connector.send(late, soon())).exchanges[0].status == "unchanged"
        found = await people.find_by_identifier("UIN", "PLANT-1")
        assert found is not None
        assert found.status == "deceased"
        with pytest.raises(Refused) as caught:
            await connector.send(Message(source="urn:\0", type=EVENT, data=DEATH), soon())
        assert caught.value.code == "person-data-refused"
    finally:
        await pool.close()
