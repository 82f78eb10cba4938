"""A hub that is closed has finished what it was given."""

from __future__ import annotations

import asyncio
from pathlib import Path

from adapters.hub import Hub
from canonical_model.message import uuid7
from registry.settings import HubSettings


async def test_closing_applies_to_the_people_store_what_was_handed_in(
    database_url: str, tmp_path: Path
) -> None:
    hub = Hub(HubSettings(database_url=database_url, data_dir=tmp_path))
    await hub.open(deliver=False)
    person = {"identifiers": [{"id_type": "UIN", "value": "X-1"}], "names": [{"full_name": "Planted Person"}]}
    applied = asyncio.create_task(hub.people.upsert(person, source="test", message_id=uuid7()))
    await asyncio.sleep(0)
    await hub.close()
    assert (await applied).created
