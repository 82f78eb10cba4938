"""What the connector asks of a people store, and the faults of its database cut by what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Protocol, runtime_checkable
from uuid import UUID

import asyncpg

from connectors.errors import Defect, HubError, Refused, Unavailable

_LATER: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.TransactionRollbackError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidCachedStatementError,
    OSError,
)
"""Serialization failures, time-outs and a database that is away: the same message succeeds later."""

_DATA: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


class Outcome(Protocol):
    """What a store says became of a fact."""

    @property
    def created(self) -> bool:
        """Whether the person was not known before."""

    @property
    def changed(self) -> bool:
        """Whether any value changed."""

    @property
    def repeated(self) -> bool:
        """Whether the store had this message already."""


@runtime_checkable
class People(Protocol):
    """A people store: `registry.people.PeopleStore`, or another that keeps its promises."""

    async def upsert(
        self, person: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> Outcome:
        """Create or update a person; once per message id."""
        ...

    async def record_event(
        self, event: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> Outcome:
        """Record a civil event; once per message id."""
        ...

    async def was_applied(self, message_id: UUID) -> bool:
        """Say whether a message was applied."""
        ...

    async def probe(self) -> None:
        """Prove that the store answers."""
        ...


@contextmanager
def hub_errors(target: str, about: str) -> Iterator[None]:
    """Turn what a database raises into hub errors; `about` names the message. Texts of the database hold rows: dropped."""
    try:
        yield
    except (HubError, TimeoutError):
        raise
    except _LATER as error:
        raise Unavailable(
            f"The people store of target {target} could not take {about} now ({type(error).__name__}).",
            code="database-unavailable",
            remedy="The hub tries again; `hub doctor` shows whether the database answers.",
        ) from None
    except _DATA as error:
        raise Refused(
            f"The people store of target {target} does not take the data of {about} ({type(error).__name__}).",
            code="person-data-refused",
            remedy="Look at the message's values in the console, correct the mapping, then replay it.",
        ) from None
    except Exception as error:
        raise Defect(
            f"The people store of target {target} failed on {about} ({type(error).__name__}).",
            code="people-defect",
            remedy="Report it with the message id; replay the message after an update.",
        ) from None
