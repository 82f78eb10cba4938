"""The history of registrants is in the audit trail: every change has an event, and what is done to its rows is named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from canonical_model.errors import Defect, Refused
from canonical_model.message import uuid7
from registry.audit import AuditTrail, Sealer, Verifier, adopt
from registry.audit.values import change_place
from registry.people import PeopleStore
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import Vault

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Registry:
    """People of one database, with what a superuser can do behind the hub's back."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault) -> None:
        self.pool, self.vault = pool, vault
        self.people = PeopleStore(pool, vault, vault.blind)
        self.trail = AuditTrail(pool, vault)

    async def put(self, number: str, days: int = 0, **more: Any) -> UUID:
        data = {"identifiers": [{"id_type": "UIN", "value": number}], **more}
        done = await self.people.upsert(
            data, source="urn:test", message_id=uuid7(), at=NOW + timedelta(days=days), actor="registrar"
        )
        assert done.id is not None
        return done.id

    async def seal(self) -> None:
        sealer = Sealer(self.pool, self.vault)
        async with asyncio.timeout(60):
            while True:
                await sealer.seal()
                if not (await Verifier(self.pool, self.vault).verify()).unsealed:
                    return
                await asyncio.sleep(0.02)

    async def breaks(self) -> list[tuple[str, UUID | None]]:
        report = await Verifier(self.pool, self.vault).verify()
        return [(each.kind, each.event) for each in report.breaks]

    async def by_hand(self, *statements: str) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            for table in ("registrant_change", "audit_event", "audit_checkpoint"):
                await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
            for statement in statements:
                await connection.execute(statement)
            for table in ("registrant_change", "audit_event", "audit_checkpoint"):
                await connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER ALL")


@pytest.fixture
async def registry(database_url: str, tmp_path: Path) -> AsyncIterator[Registry]:
    settings = HubSettings(data_dir=tmp_path)
    pool = await open_pool(settings, url=database_url, size=4)
    await ensure(pool, "month")
    found = Registry(pool, await Vault.open(pool, settings))
    yield found
    await found.people.close()
    await pool.close()


async def amina(registry: Registry) -> tuple[UUID, list[UUID]]:
    """Return a person made and changed twice, the last time in a name, with the events of it."""
    id_ = await registry.put(
        "1", sex="female", names=[{"full_name": "Amina Planted"}], birthdate="1990-01-02"
    )
    await registry.put("1", 1, birthdate="1990-01-03")
    await registry.put("1", 2, names=[{"full_name": "Amina Other"}], status="inactive")
    rows = await registry.pool.fetch(
        "SELECT event_id FROM registrant_change WHERE registrant_id = $1 ORDER BY version", id_
    )
    return id_, [row["event_id"] for row in rows]


async def test_every_change_has_an_event_with_marks_and_an_auditor_gets_the_values(
    registry: Registry,
) -> None:
    id_, events = await amina(registry)
    told = [await registry.trail.event(each) for each in events]
    assert [each.action for each in told] == ["registrant.create", "registrant.change", "registrant.change"]
    assert {(each.actor, each.object_id) for each in told} == {("registrar", str(id_))}
    details = told[2].details or {}
    assert (details["version"], details["changed"]) == (3, ["names", "status"])
    assert (details["old"]["status"], details["new"]["status"]) == ("active", "inactive")
    for each in told:
        assert "Amina" not in str(each.details)
        assert "1990" not in str(each.details)
    with pytest.raises(Refused) as caught:
        await registry.trail.reveal(events[2], purpose=" ", actor="auditor")
    assert caught.value.code == "purpose-missing"
    with pytest.raises(Refused) as caught:
        await registry.trail.reveal(events[0], purpose="complaint 17", actor="auditor")
    assert caught.value.code == "audit-values-none"
    values = await registry.trail.reveal(events[2], purpose="complaint 17", actor="auditor")
    assert values["old"] == {"names": [{"full_name": "Amina Planted"}], "status": "active"}
    assert values["new"] == {"names": [{"full_name": "Amina Other"}], "status": "inactive"}
    born = await registry.trail.reveal(events[1], purpose="complaint 17", actor="auditor")
    assert (born["old"], born["new"]) == ({"birthdate": "1990-01-02"}, {"birthdate": "1990-01-03"})
    seen = await registry.trail.who(id_, looks=True)
    assert [(each.actor, each.action) for each in seen] == [("auditor", "audit.reveal")] * 2
    assert [each.action for each in await registry.trail.who(id_)][2:] == [
        "registrant.change", "registrant.change", "registrant.create",
    ]  # fmt: skip


async def test_many_made_at_once_share_an_event_and_each_finds_it(registry: Registry) -> None:
    ids = await asyncio.gather(*(registry.put(str(number)) for number in range(40)))
    events = await registry.pool.fetch("SELECT * FROM audit_event WHERE action = 'registrant.create'")
    assert sum(each["details"]["count"] for each in events) == 40
    assert len(events) < 40
    for id_ in (ids[0], ids[-1]):
        (made,) = await registry.trail.who(id_)
        assert (made.action, made.actor) == ("registrant.create", "registrar")
    assert await registry.trail.who(ids[0], looks=True) == []
    assert await registry.breaks() == []


@pytest.mark.parametrize(
    ("deed", "kind"),
    [
        ("UPDATE registrant_change SET actor = 'registrat' WHERE version = 2", "change-changed"),
        (
            'UPDATE registrant_change SET clear = \'{"birthdate": ["1990-01-02", "1990-01-04"]}\' WHERE version = 2',
            "change-changed",
        ),
        ("UPDATE registrant_change SET key_id = NULL, sealed = NULL WHERE version = 3", "change-changed"),
        (
            "UPDATE registrant_change SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) WHERE version = 3",
            "change-changed",
        ),
        ("DELETE FROM registrant_change WHERE version = 3", "change-missing"),
        (
            (
                "INSERT INTO registrant_change (registrant_id, version, actor, source) "
                "SELECT registrant_id, 4, 'x', 'x' FROM registrant_change WHERE version = 1"
            ),
            "change-inserted",
        ),
        (
            (
                "INSERT INTO registrant_change (registrant_id, version, actor, source, event_id) "
                "SELECT registrant_id, 4, 'x', 'x', event_id FROM registrant_change WHERE version = 3"
            ),
            "change-inserted",
        ),
    ],
    ids=["actor", "clear", "unsealed", "one-byte", "removed", "inserted", "slipped-in"],
)
async def test_what_is_done_to_the_history_by_hand_is_named(registry: Registry, deed: str, kind: str) -> None:
    _, events = await amina(registry)
    assert await registry.breaks() == []
    await registry.by_hand(deed)
    found = await registry.breaks()
    expected = None if "'x' FROM" in deed else events[2 if "version = 3" in deed else 1]
    assert found == [(kind, expected)]


async def test_rows_put_in_each_others_place_are_named(registry: Registry) -> None:
    _, events = await amina(registry)
    await registry.seal()
    await registry.by_hand(
        "UPDATE registrant_change SET version = version + 10 WHERE version IN (2, 3)",
        "UPDATE registrant_change SET version = 15 - version WHERE version IN (12, 13)",
    )
    assert await registry.breaks() == [("change-changed", events[1]), ("change-changed", events[2])]
    report = await Verifier(registry.pool, registry.vault).verify()
    assert all(each.checkpoint > 0 for each in report.breaks), "the checkpoint that seals the event is named"


async def test_a_change_taken_away_with_its_event_and_checkpoint_is_named(registry: Registry) -> None:
    _, events = await amina(registry)
    await registry.seal()
    await registry.put("1", 3, sex="male")
    await registry.seal()
    await registry.by_hand(
        f"DELETE FROM registrant_change WHERE event_id = '{events[2]}'",
        f"DELETE FROM audit_event WHERE id = '{events[2]}'",
    )
    assert await registry.breaks() == [("event-missing", events[2])]
    await registry.by_hand("DELETE FROM audit_checkpoint WHERE number = 1")
    assert (await registry.breaks())[0] == ("checkpoint-missing", None)


async def test_a_signing_key_changed_by_hand_vouches_for_nothing(registry: Registry) -> None:
    await amina(registry)
    await registry.seal()
    await registry.pool.execute(
        "UPDATE audit_key SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1)"
    )
    assert (await registry.breaks())[0] == ("signature-wrong", None)


async def test_values_that_were_taken_away_are_not_made_up(registry: Registry) -> None:
    _, events = await amina(registry)
    await registry.by_hand("DELETE FROM registrant_change WHERE version = 3")
    with pytest.raises(Defect) as caught:
        await registry.trail.reveal(events[2], purpose="complaint 17", actor="auditor")
    assert caught.value.code == "sealed-value-broken"


async def test_the_history_from_before_is_taken_into_the_trail_once(registry: Registry) -> None:
    key = await registry.vault.current_key("registrant_change")
    ids = sorted(uuid7() for _ in range(2500))
    await registry.pool.execute(
        "INSERT INTO registrant_change (registrant_id, version, actor, source, fields, key_id, sealed) "
        "SELECT id, 1, 'before', 's', '{names}', $2, sealed FROM unnest($1::uuid[], $3::bytea[]) AS t (id, sealed)",
        ids, key.id, [key.seal(b'{"names": [null, []]}', change_place(each, 1)) for each in ids],
    )  # fmt: skip
    assert ("change-inserted", None) in await registry.breaks()
    seen: list[tuple[int, int]] = []
    assert await adopt(registry.pool, lambda done, total: seen.append((done, total))) == 2500
    assert seen == [(1000, 2500), (2000, 2500), (2500, 2500)]
    assert await registry.breaks() == []
    assert await adopt(registry.pool) == 0
    (told,) = await registry.trail.who(ids[7])
    assert (told.action, told.object_id) == ("registrant.adopt", "*")
