"""A question that cannot wait: recorded like any message, sent from this process at once, its answer returned."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg

from canonical_model.errors import Defect, HubError, Refused, Unavailable, Unknown
from canonical_model.message import Message, uuid7
from registry.storage.database import database_errors
from routing.outcomes import count, later
from routing.routes import Route
from routing.store import Claim, DeliveryStore, Outcome
from routing.worker import BEAT, Worker

MOST: Final = 1000
"""Questions under way at one time in one process."""
_CLAIMED: Final = """
UPDATE delivery SET worker = $2, claimed_at = now(), attempts = 1, held_until = now() + make_interval(secs => $3)
WHERE id = $1
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the target said, and what the hub has recorded of it."""

    message_id: UUID
    accepted_at: datetime
    duplicate: bool = False
    """The question came before: nothing was sent, and the trace of `message_id` tells what became of it."""
    reference: str | None = None
    produced: Sequence[Message] = ()
    told: Sequence[Message] = field(default=(), repr=False)
    """What the target told for this caller alone; the hub has recorded nothing of it."""


class Asker(Worker):
    """A worker without a queue, under the same rules for every outcome.

    It shares breakers and bounds with the worker it is made from, which need not be started; its own id lets the claims
    of a dead process be swept.
    """

    def __init__(self, worker: Worker, pool: asyncpg.Pool) -> None:
        id_ = uuid7()
        super().__init__(
            id_, DeliveryStore(pool, id_, worker._intake, group_commit_ms=0), worker._sweeper, worker._broker,
            worker._routes, worker._targets, worker._vault, worker._objects, worker._intake, worker._mapper,
        )  # fmt: skip
        self._gates, self._budgets = worker._gates, worker._budgets
        self._pool = pool
        self._tasks: set[asyncio.Task[Outcome]] = set()

    async def start(self) -> None:
        """Announce this process; it consumes nothing."""
        await self._store.beat("asker")
        self._last_beat = time.monotonic()
        self._keepers = [asyncio.create_task(self._beat())]

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            try:
                await self._store.beat("asker")
                self._last_beat = time.monotonic()
                await self._store.release_strays(self._in_hand)
            except Exception as error:  # whatever the database says, one that stops beating asks nobody
                self._waits("asker-waits-for-database", error)

    async def ask(
        self,
        message: Message,
        deadline: float,
        partner: str,
        *,
        raw: bytes | None = None,
        request_id: str | None = None,
    ) -> Answer:
        """Record the message, send it on the first route that takes it, record what came of it and return that.

        `deadline` is in seconds of the running loop's clock. Other routes that take the message get it by the queue. Raises
        `Refused` (also `no-route`, `message-id-reused`), `Unknown`, `Defect`, or `Unavailable`: `overloaded` and
        `database-unavailable` before anything was recorded; `ask-timeout` past the deadline, while the late answer is still
        awaited and recorded; any other when the target could not, and the queue goes on trying as the route says.
        """
        if self._stopping or self._silent() or len(self._tasks) >= MOST:
            raise Unavailable(
                "This process takes no further question now; nothing was recorded.",
                code="overloaded",
                retry_after=1,
            )
        claim, route, until, known = await self._recorded(
            message, partner, raw or message.to_json(), request_id
        )
        if known is not None:
            return known
        task = asyncio.create_task(self._carry(claim, route, min(deadline, until), until))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout_at(deadline):
                # A caller who leaves must not cut off a send whose outcome is still to be recorded.
                outcome = await asyncio.shield(task)
        except TimeoutError:
            raise Unavailable(
                f"No answer to the message {claim.message_id} in time; a late one is still recorded.",
                code="ask-timeout",
                remedy="Look at the message's trace, or repeat the same request: it is not sent twice.",
            ) from None
        return _answer(claim, outcome)

    async def _recorded(
        self, message: Message, partner: str, raw: bytes, request_id: str | None
    ) -> tuple[Claim, Route, float, Answer | None]:
        """Write message and claimed delivery in one transaction; an answer when the message came before."""
        entry = await self._intake.prepare(message, partner=partner, raw=raw, request_id=request_id)
        asked = next((one for one in entry.deliveries if one.state == "queued"), None)
        route = self._routes.get(asked.route.name) if asked is not None else None
        if asked is None or route is None:
            raise Refused(
                f"No route takes the question {message.id} of type {message.type}; it was not stored.",
                code="no-route",
                pointer="/type",
                remedy="Ask the operator of the hub for a route, then ask again.",
            )
        # It overtakes what waits for the same subject and holds up nothing that comes later.
        asked.state, asked.order_key = "sending", None
        limit, hold = self._limits(route)
        # The claim holds from here on, so the wait for a free place counts as well.
        until = asyncio.get_running_loop().time() + limit
        self._in_hand.add(asked.id)
        try:
            async with (
                database_errors("recording a question"),
                self._pool.acquire() as connection,
                connection.transaction(),
            ):
                (found,) = await self._intake.write(connection, [entry])
                if isinstance(found, Exception):
                    raise found
                await connection.execute(_CLAIMED, asked.id, self.id, hold)
        except BaseException:
            self._in_hand.discard(asked.id)  # a claim committed all the same is given back as a stray
            raise
        claim = Claim(
            asked.id, found.message_id, route.name, route.version, route.target, route.mapping, 1, None,
            entry.key_id, entry.body, entry.claim, found.accepted_at, partner,
        )  # fmt: skip
        if not found.duplicate:
            return claim, route, until, None
        self._in_hand.discard(asked.id)
        return claim, route, until, Answer(found.message_id, found.accepted_at, duplicate=True)

    async def _carry(self, claim: Claim, route: Route, patience: float, until: float) -> Outcome:
        self._busy += 1
        self._idle.clear()
        try:
            gate = self._gate(claim.target)
            if await gate.enter(max(patience - asyncio.get_running_loop().time(), 0.0)):
                async with gate.entered() as breaker:
                    outcome, _ = await self._attempt(claim, route, breaker, until)
            else:
                outcome = Outcome(
                    claim.delivery_id,
                    "sending",
                    "retry",
                    claim.attempt,
                    datetime.now(UTC),
                    0.0,
                    counted=False,
                )
                outcome, _ = later(
                    outcome, 0.0, "target-busy", "The target had no free place in time; nothing was sent."
                )
            # No broker holds a parcel of it: what is to be tried again goes to the queue by the outbox.
            outcome.requeue = outcome.state == "waiting"
            if await self._record(outcome):
                count(claim, route, outcome)
            else:
                outcome.state, outcome.code = "lost", "outcome-unknown"
            # Not in `finally`: one that failed here may have been sent, and stays in hand for the sweep after this process.
            self._in_hand.discard(claim.delivery_id)
            return outcome
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()


def _answer(claim: Claim, outcome: Outcome) -> Answer:
    """Return what a delivered question brought; raise what any other end means to the caller."""
    if outcome.state == "delivered":
        produced = tuple(entry.message for entry in outcome.produced)
        return Answer(
            claim.message_id,
            claim.accepted_at,
            reference=outcome.reference,
            produced=produced,
            told=tuple(outcome.told),
        )
    if outcome.code == "outcome-unknown":
        kind: type[HubError] = Unknown
    elif outcome.state == "refused":
        kind = Refused
    else:
        kind = Defect if outcome.outcome == "defect" else Unavailable
    raise kind(outcome.reason or f"The question {claim.message_id} got no answer.", code=outcome.code)
