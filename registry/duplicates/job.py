"""Looking for duplicates as a job: each part of the keys is saved with what it found, and a kill costs one part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from registry.duplicates.finding import DuplicateFinder, Tally
from registry.jobs import JobContext
from registry.people.rows import Connection
from registry.vault import Vault

KIND: Final = "duplicates.find"


class FindDuplicates:
    """The handler of `KIND`; params: `program`, the id of the program whose registrants are meant, or nothing."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def run(self, context: JobContext) -> Mapping[str, Any] | None:
        """Look through all parts from where the job was saved last; return the tally."""
        before = context.position or {}
        program = context.params.get("program")

        async def save(connection: Connection, tally: Tally) -> None:
            whole = {name: before.get(name, 0) + value for name, value in _counts(tally).items()}
            position = {"done": tally.done, "parts": tally.parts, **whole}
            await context.save(connection, position, tally.done, tally.parts)
            context.show(tally.done, tally.parts)

        tally = await DuplicateFinder(context.pool, self._vault).run(
            context.actor,
            today=datetime.now(UTC).date(),
            program=None if program is None else UUID(program),
            start=before.get("done", 0),
            parts=before.get("parts"),
            save=save,
            stopped=lambda: context.cancelled,
        )
        return asdict(tally) | {name: before.get(name, 0) + value for name, value in _counts(tally).items()}


def _counts(tally: Tally) -> dict[str, int]:
    return {"compared": tally.compared, "opened": tally.opened, "found": tally.found}
