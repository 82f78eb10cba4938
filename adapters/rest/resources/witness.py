"""The trace that a list about people leaves: whose entries were shown, to whom, before they are answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from adapters.rest.resources.declaration import Viewer, Witness
from registry.audit import AuditEvent, record


def witness_of(kind: str) -> Witness:
    """Return the witness of entries of this kind; each person shown finds the event by `hub audit who`."""

    async def witness(pool: asyncpg.Pool, viewer: Viewer, keys: Sequence[Any], shown: bool) -> None:
        if not shown:
            return
        details: dict[str, Any] = {"of": kind}
        if viewer.purpose is not None:
            details["purpose"] = viewer.purpose
        people = sorted({str(key) for key in keys})
        event = (
            AuditEvent(
                viewer.actor, "registrant.read", "registrant", people[0], "ok", viewer.request_id, details
            )
            if len(people) == 1
            else AuditEvent(
                viewer.actor, "registrant.search", "registrant", "*", "ok", viewer.request_id,
                {**details, "shown": people},
            )
        )  # fmt: skip
        await record(pool, event)

    return witness
