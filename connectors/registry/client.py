"""What the connector asks of a people store, and the faults of its database cut by what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Protocol, runtime_checkable
from uuid import UUID

import asyncpg

from connectors.errors import Defect, HubError, Refused, Unavailable, Unknown

_LOST: Final = (
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.ConnectionFailureError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    ConnectionError,
)
"""The connection went while the store was at work: it may have applied the message or not."""

_LATER: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.TooManyConnectionsError,
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

LIBRARY_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What the database client raises of its own."""


class Outcome(Protocol):
    """What a store says became of a fact."""

    @property
    def created(self) -> bool:
        """Whether the person or group was not known before."""

    @property
    def changed(self) -> bool:
        """Whether any value changed."""

    @property
    def repeated(self) -> bool:
        """Whether the store had this message already."""


class Applied(Protocol):
    """What the programs say became of a result."""

    @property
    def changed(self) -> bool:
        """Whether a payment changed."""

    @property
    def repeated(self) -> bool:
        """Whether the programs had this message already."""

    @property
    def disputed(self) -> str | None:
        """Why a person has to decide, if so."""


@runtime_checkable
class Programs(Protocol):
    """Programs that take the results of their payments: `registry.programs.Programs`, or another that keeps its promises."""

    async def apply_result(
        self, result: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> Applied:
        """Apply the result of a payment; once per message id."""
        ...

    async def apply_result_chunk(
        self, results: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> Applied:
        """Apply many results of payments together; once per message id."""
        ...

    async def apply_decision(
        self, result: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> Applied:
        """Apply what an outside service decided; once per message id."""
        ...


@runtime_checkable
class People(Protocol):
    """A people store: `registry.people.PeopleStore`, or another that keeps its promises."""

    async def upsert(
        self, person: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> Outcome:
        """Create or update a person; once per message id."""
        ...

    async def upsert_group(
        self, household: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> Outcome:
        """Create or update a household or other group with its memberships; once per message id."""
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


def hub_error(
    error: BaseException,
    target: str = "registry",
    about: str = "a message",
    lost: type[Unavailable] | type[Unknown] = Unknown,
) -> HubError:
    """Return the hub error of what a database raised; the database's own text holds rows and is dropped.

    `about` names the message; `lost` stands for a connection that went while something was under way.
    """
    name = type(error).__name__
    if isinstance(error, HubError):
        return error
    if isinstance(error, _LOST) and not isinstance(error, ConnectionRefusedError):
        return lost(
            f"The connection of target {target} to its people store was lost at {about} ({name}).",
            code="database-unavailable" if lost is Unavailable else "outcome-unknown",
            remedy="Nothing: the hub sends it again, and the store recognises a repeat.",
        )
    if isinstance(error, _LATER):
        return Unavailable(
            f"The people store of target {target} could not take {about} now ({name}).",
            code="database-unavailable",
            remedy="The hub tries again; `hub doctor` shows whether the database answers.",
        )
    if isinstance(error, _DATA):
        return Refused(
            f"The people store of target {target} does not take the data of {about} ({name}).",
            code="person-data-refused",
            remedy="Look at the message's values in the console, correct the mapping, then replay it.",
        )
    return Defect(
        f"The people store of target {target} failed on {about} ({name}).",
        code="people-defect",
        remedy="Report it with the message id; replay the message after an update.",
    )


@contextmanager
def hub_errors(
    target: str, about: str, lost: type[Unavailable] | type[Unknown] = Unavailable
) -> Iterator[None]:
    """Turn what a database raises into hub errors; a `TimeoutError` is the caller's own deadline and passes."""
    try:
        yield
    except (HubError, TimeoutError):
        raise
    except Exception as error:
        raise hub_error(error, target, about, lost) from None
