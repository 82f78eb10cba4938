"""Chunks of results reach the programs whole, and once."""

from __future__ import annotations

from pathlib import Path

from services.programs import World

from canonical_model.message import uuid7
from canonical_model.payment import PaymentResults
from canonical_model.types import to_data


async def test_a_chunk_is_applied_in_one_go_and_a_repeat_changes_nothing(
    database_url: str, tmp_path: Path
) -> None:
    async with World(database_url, tmp_path) as world:
        ids = [str(uuid7()) for _ in range(3)]
        chunk = to_data(
            PaymentResults.model_validate(
                {"results": [{"payment_id": id_, "status": "failed"} for id_ in ids]}
            )
        )
        message_id = uuid7()
        first = await world.programs.apply_result_chunk(chunk, source="hub", message_id=message_id)
        again = await world.programs.apply_result_chunk(chunk, source="hub", message_id=message_id)
        assert (first.repeated, first.disputed, again.repeated) == (False, "not_ours", True)
        assert await world.programs.was_applied(message_id)
        assert await world.pool.fetchval("SELECT count(*) FROM payment_dispute") == 3
