"""A process that works on one job of programs, or applies results, until it is done or killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from uuid import UUID, uuid5

sys.path.append(str(Path(__file__).resolve().parents[1]))

from services.programs import World

from canonical_model.message import uuid7
from canonical_model.payment import PaymentResult, PaymentStatus
from registry.jobs import JobRunner
from registry.programs import Said

CHUNK = 40


async def main(url: str, folder: str, what: str) -> None:
    """Work on the job of this id, or apply a result to every payment for `results`."""
    async with World(url, Path(folder), chunk=CHUNK) as world:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        if what != "results":
            await JobRunner(world.pool, uuid7(), world.programs.kinds, silent=0.5).run(UUID(what))
            return
        rows = await world.pool.fetch("SELECT id FROM payment ORDER BY id")
        for start in range(0, len(rows), CHUNK):
            await world.programs.apply_results(
                [
                    # The same message about the same payment, whichever process brings it.
                    Said(
                        uuid5(row["id"], "result"),
                        PaymentResult(payment_id=row["id"].hex, status=PaymentStatus.PAID),
                    )
                    for row in rows[start : start + CHUNK]
                ]
            )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
