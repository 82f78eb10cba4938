"""A process is killed between the agreement to a change and the change itself; whoever looks next makes it, once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from adapters.hub import Hub
from registry.settings import HubSettings

pytestmark = [pytest.mark.crash, pytest.mark.slow]

AGREE = """
import asyncio, sys
from uuid import UUID
from adapters.hub import Hub
from registry.settings import HubSettings

async def main():
    hub = Hub(HubSettings())
    await hub.open(deliver=False)
    await hub.changes.decide(UUID(sys.argv[1]), "user:checker", ("approver",), agrees=True)

asyncio.run(main())
"""


@pytest.fixture
async def hub(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    monkeypatch.setenv("HUB_DATABASE_URL", database_url)
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path))
    opened = Hub(HubSettings())
    await opened.open(deliver=False)
    yield opened
    await opened.close()


async def test_a_kill_between_agreement_and_change_ends_in_one_effect(hub: Hub, database_url: str) -> None:
    made = await hub.people.upsert({"identifiers": [{"id_type": "NID", "value": "1"}]}, source="test")
    assert made.id is not None
    asked = await hub.changes.submit(
        {"type": "edit", "registrant": str(made.id), "set": {"language": "fr"}}, "user:maker"
    )
    blocker = await asyncpg.connect(database_url)
    # The change waits for its registrant, which another transaction holds; the agreement does not.
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT 1 FROM registrant WHERE id = $1 FOR UPDATE", made.id)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", AGREE, str(asked.id))

    async def waits() -> bool:
        return bool(
            await hub.pool.fetchval(
                "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
                "WHERE NOT l.granted AND a.datname = current_database()"
            )
        )

    try:
        async with asyncio.timeout(30):
            while not await waits():
                assert process.returncode is None
                await asyncio.sleep(0.05)
        assert (await hub.changes.get(asked.id)).state == "validated"
        process.kill()
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await transaction.rollback()
        await blocker.close()
    found = await hub.people.get(made.id)
    assert found is not None
    assert (found.version, found.language) == (1, None)
    await asyncio.gather(*(hub.changes.resume() for _ in range(4)))
    found = await hub.people.get(made.id)
    assert found is not None
    assert (found.version, found.language) == (2, "fr")
    after = await hub.changes.get(asked.id)
    assert (after.state, [each.actor for each in after.decisions]) == ("applied", ["user:checker"])
    assert len(await hub.people.history(made.id)) == 2
    applied = "SELECT count(*) FROM audit_event WHERE action = 'change.apply'"
    assert await hub.pool.fetchval(applied) == 1
    assert await hub.changes.resume() == 0
