"""The registry connector: canonical message in, applied fact out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Final
from uuid import UUID

from canonical_model.message import Message
from connectors.contract import Callback, Context, Exchange, Health, Manifest, Receipt, Settings
from connectors.errors import ConfigError, HubError, Refused, Unavailable, Unknown
from connectors.manifests import manifest_beside
from connectors.registry.client import (
    LIBRARY_ERRORS,
    Applied,
    Outcome,
    People,
    Programs,
    hub_error,
    hub_errors,
)
from connectors.registry.settings import RegistrySettings

PERSON: Final = "org.openspp.person.upserted.v1"
HOUSEHOLD: Final = "org.openspp.household.upserted.v1"
CIVIL_EVENT: Final = "org.openspp.civil_event.registered.v1"
PAYMENT_RESULT: Final = "org.openspp.payment.result.v1"
PAYMENT_RESULTS: Final = "org.openspp.payment.results.v1"
DECISION: Final = "org.openspp.decision.result.v1"
_PROBE_SECONDS: Final = 10.0


class RegistryConnector:
    """Delivers persons, households, civil events and results of payments to the hub's own registry, each applied once."""

    manifest: ClassVar[Manifest] = manifest_beside(__file__)
    settings_model: ClassVar[type[Settings]] = RegistrySettings
    library_errors: ClassVar[tuple[type[BaseException], ...]] = LIBRARY_ERRORS

    @staticmethod
    def map_error(error: BaseException) -> HubError:
        """Return the hub error of what the database client raised."""
        return hub_error(error)

    def __init__(self, settings: RegistrySettings) -> None:
        self._target = "registry"
        self._people: People | None = None
        self._programs: Programs | None = None

    async def open(self, ctx: Context) -> None:
        """Take the store from the hub's services and prove that it answers; raises `ConfigError` or `Unavailable`."""
        self._target = ctx.target
        people = ctx.services.get("people")
        if not isinstance(people, People):
            raise ConfigError(
                f"Target {ctx.target} delivers to the hub's own people store, which this process does not have.",
                code="people-service-missing",
                remedy="Start the worker with `hub serve`, or send these messages to another target.",
            )
        await self._prove(people)
        programs = ctx.services.get("programs")
        self._programs = programs if isinstance(programs, Programs) else None
        self._people = people

    async def close(self) -> None:
        """Let go of the store, which the hub closes itself; safe to call twice."""
        self._people = None

    async def probe(self) -> Health:
        """Ask the store whether it answers."""
        began = time.monotonic()
        try:
            await self._prove(self._ready())
        except HubError as error:
            return Health(False, error.detail, time.monotonic() - began)
        return Health(True, "The people store answers.", time.monotonic() - began)

    async def send(self, message: Message, deadline: float) -> Receipt:
        """Apply one message; a repeat is recognised by its id and changes nothing."""
        people = self._ready()
        takers: Mapping[str, Callable[..., Awaitable[Outcome | Applied]]] = {
            PERSON: people.upsert,
            HOUSEHOLD: people.upsert_group,
            CIVIL_EVENT: people.record_event,
            PAYMENT_RESULT: partial(self._apply, "apply_result"),
            PAYMENT_RESULTS: partial(self._apply, "apply_result_chunk"),
            DECISION: partial(self._apply, "apply_decision"),
        }
        apply = takers.get(message.type)
        if apply is None:
            raise Refused(
                f"Target {self._target} takes no messages of type {message.type}; message {message.id} was not applied.",
                code="message-type-unsupported",
                remedy="Narrow the route's condition to the types the connector's manifest names.",
            )
        started_at, began = datetime.now(UTC), time.monotonic()
        try:
            with hub_errors(self._target, f"message {message.id}", lost=Unknown):
                async with asyncio.timeout_at(deadline):
                    done = await apply(
                        message.data, source=message.source, message_id=message.id, at=message.time
                    )
        except TimeoutError:
            raise Unknown(
                f"The people store of target {self._target} gave no answer about message {message.id} in time.",
                code="outcome-unknown",
                remedy="Nothing: the hub sends it again, and the store recognises a repeat.",
            ) from None
        exchange = Exchange("APPLY", "people", _status(done), started_at, time.monotonic() - began)
        return Receipt(str(message.id), (exchange,))

    async def ask(self, message: Message, deadline: float) -> Receipt | None:
        """Say whether the store has applied a message: a receipt, or None when it never did."""
        people = self._ready()
        try:
            with hub_errors(self._target, f"message {message.id}"):
                async with asyncio.timeout_at(deadline):
                    applied = await people.was_applied(message.id)
        except (TimeoutError, Unavailable):
            raise Unknown(
                f"The people store of target {self._target} cannot say now what became of message {message.id}.",
                code="outcome-unknown",
            ) from None
        return Receipt(str(message.id)) if applied else None

    async def receive(self, callback: Callback) -> Sequence[Message]:
        """Return nothing: the people store has no callbacks."""
        return ()

    async def _apply(
        self,
        what: str,
        result: Mapping[str, Any],
        *,
        source: str,
        message_id: UUID,
        at: datetime | None = None,
    ) -> Applied:
        if self._programs is None:
            raise ConfigError(
                f"Target {self._target} needs the programs of the hub for message {message_id}, which this process does not have.",
                code="programs-service-missing",
                remedy="Start the worker with `hub serve`, or send results of payments to another target.",
            )
        taker: Callable[..., Awaitable[Applied]] = getattr(self._programs, what)
        return await taker(result, source=source, message_id=message_id, at=at)

    def _ready(self) -> People:
        if self._people is None:
            raise Unavailable(
                f"Target {self._target} is not open; nothing was applied.", code="target-closed"
            )
        return self._people

    async def _prove(self, people: People) -> None:
        try:
            with hub_errors(self._target, "a probe"):
                async with asyncio.timeout(_PROBE_SECONDS):
                    await people.probe()
        except TimeoutError:
            raise Unavailable(
                f"The people store of target {self._target} did not answer within {_PROBE_SECONDS:.0f} seconds.",
                code="database-unavailable",
            ) from None


def _status(done: Outcome | Applied) -> str:
    if done.repeated:
        return "repeated"
    if getattr(done, "disputed", None):
        return "disputed"
    return "created" if getattr(done, "created", False) else "changed" if done.changed else "unchanged"
