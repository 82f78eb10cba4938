"""The registry connector and the people store with real programs behind them."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from services.programs import World

from canonical_model.message import Message, uuid7
from connectors.contract import Context
from connectors.errors import ConfigError, Refused
from connectors.file import FileConnector
from connectors.file.settings import FileSettings
from connectors.registry import RegistryConnector, RegistrySettings
from registry.people import PeopleStore

RESULT = "org.openspp.payment.result.v1"


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with World(database_url, tmp_path) as found:
        yield found


async def opened(services: dict[str, Any]) -> RegistryConnector:
    connector = RegistryConnector(RegistrySettings())
    async with aiohttp.ClientSession() as http:
        await connector.open(Context("registry", http, services))
    return connector


def said(payment_id: str, **more: Any) -> Message:
    return Message(source="/bank", type=RESULT, data={"payment_id": payment_id, "status": "paid", **more})


async def test_results_arriving_together_are_applied_once_each(world: World) -> None:
    await world.persons(5)
    await world.program()
    await world.enroll()
    cycle = await world.distributed()
    await world.fetch_all(cycle)
    connector = await opened({"people": world.people, "programs": world.programs})
    deadline = asyncio.get_running_loop().time() + 45
    messages = [said(row["id"].hex) for row in await world.payments(cycle)]
    receipts = await asyncio.gather(*(connector.send(one, deadline) for one in [*messages, *messages]))
    assert sorted(receipt.exchanges[0].status for receipt in receipts) == ["changed"] * 5 + ["repeated"] * 5
    assert (await world.programs.reconcile(cycle.id))["paid"] == 25_000
    assert await connector.ask(messages[0], deadline) is not None
    contradiction = await connector.send(
        Message(
            source="/bank",
            type=RESULT,
            data={"payment_id": messages[0].data["payment_id"], "status": "failed"},
        ),
        deadline,
    )
    assert contradiction.exchanges[0].status == "disputed"


async def test_a_result_of_another_shape_is_refused(world: World) -> None:
    connector = await opened({"people": world.people, "programs": world.programs})
    with pytest.raises(Refused) as refused:
        await connector.send(said("x", fee="much"), asyncio.get_running_loop().time() + 10)
    assert refused.value.code == "payment-result-invalid"


async def test_without_programs_a_result_is_not_taken_and_people_still_are(world: World) -> None:
    connector = await opened({"people": world.people})
    deadline = asyncio.get_running_loop().time() + 45
    with pytest.raises(ConfigError) as refused:
        await connector.send(said(uuid7().hex), deadline)
    assert refused.value.code == "programs-service-missing"
    person = {"identifiers": [{"id_type": "UIN", "value": "1"}]}
    await connector.send(Message(source="/x", type="org.openspp.person.upserted.v1", data=person), deadline)


async def test_a_death_event_stops_the_payment_that_has_not_gone_out(world: World) -> None:
    people = PeopleStore(
        world.pool, world.vault, world.vault.blind, delay=0.001, on_status=world.programs.on_registrant_status
    )
    connector = await opened({"people": people, "programs": world.programs})
    ids = [await world.person("1", account="A-1"), await world.person("2", account="A-2")]
    await world.program()
    await world.enroll()
    cycle = await world.distributed()
    subject = {"identifiers": [{"id_type": "UIN", "value": "NID-1"}]}
    event = {"event_type": "death", "subject": subject, "event_date": "2026-10-01"}
    death = Message(source="/crvs", type="org.openspp.civil_event.registered.v1", data=event)
    await connector.send(death, asyncio.get_running_loop().time() + 10)
    (held,) = await world.programs.entitlements(cycle.id, held="registrant-deceased")
    assert held["registrant_id"] == ids[0]
    rows = await world.fetch_all(cycle)
    assert [row["payee_account"]["account_number"] for row in rows] == ["A-2"]
    await people.close()


async def test_a_batch_becomes_a_file_a_bank_can_read(world: World, tmp_path: Path) -> None:
    for number in range(3):
        await world.person(str(number), account=f"KE-{number}", currency="KES")
    await world.program()
    await world.enroll()
    cycle = await world.distributed()
    (ordered,) = await world.messages("org.openspp.payment.batch_instructed.v1")
    folder = tmp_path / "bank"
    folder.mkdir(mode=0o700)
    connector = FileConnector(FileSettings(folder=folder, format="csv"))
    async with aiohttp.ClientSession() as http:
        await connector.open(Context("bank", http, {"rows": world.programs.rows}))
        receipt = await connector.send(ordered, asyncio.get_running_loop().time() + 20)
    rows = list(csv.DictReader((folder / (receipt.reference or "")).read_text().splitlines()))
    assert [row["payment_id"] for row in rows] == [row["id"].hex for row in await world.payments(cycle)]
    assert {(row["account_number"], row["amount"], row["currency"]) for row in rows} == {
        (f"KE-{number}", "50.00", "KES") for number in range(3)
    }
