"""The chain over the audit trail: whatever is changed behind the hub's back is named, and nothing slips in unnoticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import orjson
import pytest

from canonical_model.errors import Refused
from canonical_model.message import uuid7
from registry.audit import (
    AuditEvent,
    AuditTrail,
    Report,
    Sealed,
    Sealer,
    Verifier,
    Witness,
    clock,
    export,
    insert_many,
    record,
)
from registry.settings import HubSettings
from registry.signing import SigningKey
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import KeyEncryptionKey, Vault

REGISTRANT = "0197c0de-0000-7000-8000-000000000001"


@dataclass
class Trail:
    pool: asyncpg.Pool
    vault: Vault
    sealer: Sealer

    async def write(self, count: int) -> list[UUID]:
        events = [
            AuditEvent("officer-1", "route.change", "route", f"births-{number}", details={"version": number})
            for number in range(count)
        ]
        await record(self.pool, *events)
        return sorted(event.id for event in events)

    async def verify(self, **given: object) -> Report:
        return await Verifier(self.pool, self.vault).verify(**given)  # type: ignore[arg-type]

    async def seal(self) -> Sealed:
        """Seal everything; transactions of other databases of the server keep events open for a moment."""
        events = checkpoints = late = 0
        async with asyncio.timeout(60):
            while True:
                done = await self.sealer.seal()
                events, checkpoints, late = (
                    events + done.events,
                    checkpoints + done.checkpoints,
                    late + done.late,
                )
                if not (await self.verify()).unsealed:
                    return Sealed(events, checkpoints, late)
                await asyncio.sleep(0.02)

    async def by_hand(self, statement: str, *given: object) -> None:
        """Do what a superuser can who first switches every trigger off."""
        async with self.pool.acquire() as connection, connection.transaction():
            for table in ("audit_event", "audit_checkpoint"):
                await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
            await connection.execute(statement, *given)
            for table in ("audit_event", "audit_checkpoint"):
                await connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER ALL")


@pytest.fixture
async def trail(database_url: str, tmp_path: Path) -> AsyncIterator[Trail]:
    settings = HubSettings(data_dir=tmp_path)
    pool = await open_pool(settings, url=database_url, size=4)
    await ensure(pool, "month")
    vault = Vault(pool, KeyEncryptionKey.load(settings))
    yield Trail(pool, vault, Sealer(pool, vault, size=10))
    await pool.close()


async def test_a_trail_that_nobody_touched_is_whole(trail: Trail) -> None:
    assert (await trail.verify()).whole
    await trail.write(25)
    sealed = await trail.seal()
    assert (sealed.events, sealed.checkpoints) == (25, 3)
    for _ in range(3):
        await trail.write(4)
        await trail.seal()
    await trail.write(2)
    report = await trail.verify()
    assert report.whole, report.breaks
    assert (report.events, report.checkpoints, report.unsealed) == (37, 6, 2)
    assert (await trail.seal()).events == 2
    assert (await trail.seal()).events == 0


@pytest.mark.parametrize("place", [0, 7, 12, 26])
async def test_one_changed_byte_is_named(trail: Trail, place: int) -> None:
    ids = await trail.write(25)
    await trail.seal()
    ids += await trail.write(3)
    await trail.seal()
    await trail.write(1)
    assert (await trail.verify()).whole
    await trail.by_hand("UPDATE audit_event SET object_id = object_id || 'x' WHERE id = $1", ids[place])
    report = await trail.verify()
    assert [(each.kind, each.event) for each in report.breaks] == [("event-changed", ids[place])]


@pytest.mark.parametrize(
    "change",
    [
        "at = at + interval '1 microsecond'",
        "actor = 'somebody'",
        "action = 'route.read'",
        "object_type = 'person'",
        "outcome = 'refused'",
        "request_id = 'r-1'",
        "details = NULL",
        "details = '{\"version\": 1.0}'",
        "transaction = transaction + 1",
    ],
)
async def test_every_column_counts(trail: Trail, change: str) -> None:
    ids = await trail.write(3)
    await trail.seal()
    await trail.write(1)
    await trail.seal()
    await trail.by_hand(f"UPDATE audit_event SET {change} WHERE id = $1", ids[1])
    report = await trail.verify()
    assert [(each.kind, each.event) for each in report.breaks] == [("event-changed", ids[1])]


@pytest.mark.parametrize("place", [0, 9, 10, 24])
async def test_a_missing_event_is_named(trail: Trail, place: int) -> None:
    ids = await trail.write(25)
    await trail.seal()
    await trail.by_hand("DELETE FROM audit_event WHERE id = $1", ids[place])
    report = await trail.verify()
    assert [(each.kind, each.event) for each in report.breaks] == [("event-missing", ids[place])]


async def test_an_event_slipped_in_behind_a_checkpoint_is_named(trail: Trail) -> None:
    await trail.write(5)
    await trail.seal()
    forged = uuid7()
    await trail.by_hand(
        "INSERT INTO audit_event (id, actor, action, object_type, object_id, outcome, transaction) "
        "VALUES ($1, 'officer-2', 'route.change', 'route', 'births', 'ok', 1)",
        forged,
    )
    report = await trail.verify()
    assert [(each.kind, each.event) for each in report.breaks] == [("event-inserted", forged)]


async def test_an_event_of_a_transaction_that_cannot_be_is_named(trail: Trail) -> None:
    await trail.write(5)
    await trail.seal()
    hidden = uuid7()
    await trail.by_hand(
        "INSERT INTO audit_event (id, actor, action, object_type, object_id, outcome, transaction) "
        "VALUES ($1, 'officer-2', 'route.change', 'route', 'births', 'ok', 1 << 40)",
        hidden,
    )
    report = await trail.verify()
    assert [(each.kind, each.event) for each in report.breaks] == [("event-inserted", hidden)]


async def test_what_commits_late_is_sealed_next_and_never_lost(trail: Trail) -> None:
    """An event with an old id of a transaction still open keeps the window open below it, and only it."""
    async with trail.pool.acquire() as slow:
        deed = slow.transaction()
        await deed.start()
        late = AuditEvent("officer-1", "route.change", "route", "late")
        await insert_many(slow, [late])
        await trail.write(5)
        assert (await trail.sealer.seal()).events == 0
        assert (await trail.verify()).unsealed == 5
        await deed.commit()
    assert (await trail.seal()).events == 6
    old = AuditEvent(
        "officer-1", "route.change", "route", "old", id=uuid7(int(late.at.timestamp() * 1000) - 60_000)
    )
    await record(trail.pool, old)
    sealed = await trail.seal()
    assert (sealed.events, sealed.late) == (1, 1)
    report = await trail.verify()
    assert report.whole, report.breaks
    assert (report.events, report.late) == (7, 1)


async def test_two_sealers_at_once_make_one_chain(trail: Trail) -> None:
    await trail.write(30)
    async with trail.pool.acquire() as other, other.transaction():
        await other.fetchval("SELECT pg_advisory_xact_lock($1)", 0x6F70_6571)
        assert (await trail.sealer.seal()).busy
    assert (await trail.seal()).events == 30
    assert (await trail.verify()).whole


async def test_a_round_that_broke_off_is_gone_on_with(trail: Trail) -> None:
    ids = await trail.write(35)

    def stop(done: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    async def go_on() -> None:
        while True:
            await trail.sealer.seal(stop)

    with pytest.raises(KeyboardInterrupt):
        await go_on()
    report = await trail.verify()
    assert report.whole, report.breaks
    assert (report.events, report.unsealed) == (20, 15)
    ids += await trail.write(3)
    assert (await trail.seal()).events == 18
    report = await trail.verify()
    assert report.whole, report.breaks
    assert report.events == len(ids)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
async def test_a_deleted_checkpoint_is_named(trail: Trail, number: int) -> None:
    await trail.write(25)
    await trail.seal()
    for _ in range(2):
        await trail.write(4)
        await trail.seal()
    await trail.by_hand("DELETE FROM audit_checkpoint WHERE number = $1", number)
    report = await trail.verify()
    assert [(each.kind, each.checkpoint) for each in report.breaks] == [("checkpoint-missing", number)]


async def test_a_signature_of_somebody_else_is_named(trail: Trail) -> None:
    await trail.write(5)
    await trail.seal()
    signed = await trail.pool.fetchval("SELECT signed FROM audit_checkpoint")
    from registry.audit.checkpoint import read_signed, sign

    read = read_signed(signed)
    assert read is not None
    stranger = SigningKey.generate()
    await trail.pool.execute(
        "INSERT INTO audit_key (kid, public, key_id, sealed) SELECT $1, $2, key_id, sealed FROM audit_key",
        stranger.kid,
        dict(stranger.public),
    )
    await trail.by_hand("UPDATE audit_checkpoint SET signed = $1", sign(read.claims, stranger))
    report = await trail.verify()
    assert [(each.kind, each.checkpoint) for each in report.breaks] == [("signature-wrong", 1)]


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE audit_checkpoint SET count = count + 1, leaves = leaves || leaves_of WHERE number = 2", "checkpoint-changed"),
        ("UPDATE audit_checkpoint SET made_at = now() WHERE number = 2", "checkpoint-changed"),
        ("UPDATE audit_checkpoint SET leaves = set_byte(leaves, 20, get_byte(leaves, 20) # 1) WHERE number = 2", "checkpoint-changed"),
    ],
)  # fmt: skip
async def test_a_changed_checkpoint_is_named(trail: Trail, statement: str, kind: str) -> None:
    for _ in range(3):
        await trail.write(4)
        await trail.seal()
    await trail.by_hand(statement.replace("leaves_of", "substring(leaves FROM 1 FOR 48)"))
    report = await trail.verify()
    assert (report.breaks[0].kind, report.breaks[0].checkpoint) == (kind, 2)


async def test_checkpoints_that_changed_places_are_named(trail: Trail) -> None:
    for _ in range(3):
        await trail.write(4)
        await trail.seal()
    await trail.by_hand(
        "UPDATE audit_checkpoint c SET lower = o.lower, upper = o.upper, first_id = o.first_id, last_id = o.last_id, "
        "leaves = o.leaves, signed = o.signed, made_at = o.made_at FROM audit_checkpoint o "
        "WHERE c.number IN (2, 3) AND o.number = 5 - c.number"
    )
    report = await trail.verify()
    assert (report.breaks[0].kind, report.breaks[0].checkpoint) == ("checkpoint-reordered", 2)


async def test_a_witness_outside_finds_a_chain_that_was_rolled_back(trail: Trail, tmp_path: Path) -> None:
    for _ in range(2):
        await trail.write(4)
        await trail.seal()
    file = tmp_path / "checkpoint.json"
    file.write_bytes((await export(trail.pool)).to_bytes())
    witness = Witness.load(file)
    assert witness.number == 2
    assert (await trail.verify(against=witness)).whole
    # Somebody with every right takes the last checkpoint and its events away, and the hub seals on.
    await trail.by_hand("DELETE FROM audit_checkpoint WHERE number = 2")
    assert [each.kind for each in (await trail.verify(against=witness)).breaks] == ["witness-missing"]
    await trail.seal()
    assert (await trail.verify()).whole
    assert [each.kind for each in (await trail.verify(against=witness)).breaks] == ["witness-differs"]


@pytest.mark.parametrize("member", ["number", "signed", "key", "format"])
async def test_a_witness_that_was_changed_is_refused(trail: Trail, tmp_path: Path, member: str) -> None:
    await trail.write(1)
    await trail.seal()
    body = orjson.loads((await export(trail.pool)).to_bytes())
    body[member] = {"number": 9, "signed": body["signed"][:-4] + "AAAA", "key": {}, "format": "x"}[member]
    file = tmp_path / "checkpoint.json"
    file.write_bytes(orjson.dumps(body))
    with pytest.raises(Refused) as caught:
        Witness.load(file)
    assert caught.value.code == "audit-witness-invalid"


async def test_what_an_older_key_signed_is_still_verified(trail: Trail) -> None:
    await trail.write(2)
    await trail.seal()
    await trail.sealer.keys.renew()
    await trail.write(2)
    await trail.seal()
    kids = await trail.pool.fetchval("SELECT count(*) FROM audit_key")
    assert kids == 2
    assert (await trail.verify()).whole


async def test_a_period_can_be_verified_alone(trail: Trail) -> None:
    now = datetime.now(UTC)
    for days in (20, 10, 0):
        at = int((now - timedelta(hours=days)).timestamp() * 1000)
        await record(trail.pool, *(AuditEvent("a", "b", "c", str(n), id=uuid7(at + n)) for n in range(3)))
        await trail.seal()
    report = await trail.verify(since=now - timedelta(hours=15), until=now - timedelta(hours=5))
    assert report.whole, report.breaks
    assert (report.checkpoints, report.events) == (1, 3)
    first = await trail.pool.fetchval("SELECT id FROM audit_event ORDER BY id LIMIT 1")
    await trail.by_hand("DELETE FROM audit_event WHERE id = $1", first)
    assert (await trail.verify(since=now - timedelta(hours=15))).whole
    assert not (await trail.verify()).whole


async def test_a_trail_restored_into_another_server_goes_on(trail: Trail) -> None:
    await trail.write(3)
    await trail.seal()
    await trail.write(2)
    # As in a younger server: everything there has numbers this one has yet to reach.
    ahead = 10_000_000
    await trail.by_hand(f"UPDATE audit_event SET transaction = transaction + {ahead}")
    await trail.by_hand("DELETE FROM audit_checkpoint")
    await trail.pool.execute(f"UPDATE audit_clock SET shift = {ahead}")
    assert (await trail.seal()).events == 5
    await trail.pool.execute("UPDATE audit_clock SET shift = 0")
    with pytest.raises(Refused) as caught:
        await trail.sealer.seal()
    assert caught.value.code == "audit-clock-behind"
    assert await clock.wind(trail.pool) > 0
    assert await clock.wind(trail.pool) == 0
    await trail.write(4)
    assert (await trail.seal()).events == 4
    report = await trail.verify()
    assert report.whole, report.breaks
    assert report.events == 9


@pytest.mark.parametrize("table", ["audit_event", "audit_checkpoint", "registrant_change", "{partition}"])
@pytest.mark.parametrize("deed", ["DELETE FROM {table}", "TRUNCATE {table}"])
async def test_triggers_hold_in_a_session_that_replays_replication(
    trail: Trail, table: str, deed: str
) -> None:
    await trail.write(1)
    await trail.seal()
    partition = await trail.pool.fetchval("SELECT tableoid::regclass::text FROM audit_event LIMIT 1")
    async with trail.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with connection.transaction():
                await connection.execute(deed.format(table=table.format(partition=partition)))


async def test_who_saw_a_record_includes_what_was_merged_into_it(trail: Trail) -> None:
    kept, merged = uuid7(), uuid7()
    await trail.pool.execute("INSERT INTO registrant (id, source) VALUES ($1, 'test')", kept)
    await trail.pool.execute(
        "INSERT INTO registrant (id, source, status, merged_into) VALUES ($1, 'test', 'merged', $2)",
        merged,
        kept,
    )
    await record(
        trail.pool,
        AuditEvent("clinic", "registrant.reveal", "registrant", str(merged), details={"purpose": "p"}),
        AuditEvent("clinic", "registrant.reveal", "registrant", str(uuid7())),
        AuditEvent(
            "desk", "registrant.search", "registrant", "*", details={"shown": [str(uuid7()), str(kept)]}
        ),
        AuditEvent("desk", "registrant.search", "registrant", "*", details={"shown": [str(uuid7())]}),
    )
    seen = await AuditTrail(trail.pool, trail.vault).who(kept, looks=True)
    assert [(each.actor, each.object_id) for each in seen] == [("desk", "*"), ("clinic", str(merged))]
    assert (seen[0].details or {})["shown"] == 2
