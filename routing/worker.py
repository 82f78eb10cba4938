"""The worker: takes a parcel, claims the delivery, sends it once, records what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from uuid import UUID

import orjson

from canonical_model.errors import ConfigError, Defect, HubError, Refused, Unavailable, Unknown
from canonical_model.message import Message
from registry.logs import log
from registry.objects import ObjectStore
from registry.storage.database import GONE
from registry.vault import Vault, aad
from routing import metrics
from routing.breaker import Breaker, Gate
from routing.brokers.contract import Broker, Consumer, Received
from routing.contract import Receipt, Repeat, Target, TargetDirectory
from routing.intake import Entry, Intake
from routing.outcomes import BROKER_DELAY, FORCED_CODE, NeverAgain, NotSent, count, end, exchanges_of, later
from routing.retry import RetryBudget, RetryPolicy
from routing.routes import Route, RouteBook
from routing.store import Claim, DeliveryStore, NotNow, Outcome, Sweeper, Withheld

_LOG = logging.getLogger(__name__)
BEAT: Final = 2.0
DEAD_AFTER: Final = 10.0
TIMEOUT: Final = 30.0
HOLD_MARGIN: Final = 5.0
"""Seconds a request may still be on its way to the target after its sender gave it up."""
GATE_PATIENCE: Final = 30.0
"""Seconds a parcel waits for its target's breaker or for a free place before it goes back to the broker."""


class Mapper(Protocol):
    """Turns canonical data into a dialect by the mapping's recorded name and version."""

    def to_dialect(self, reference: str, data: dict[str, Any]) -> dict[str, Any]:
        """Return the dialect document; raises `Refused` (code `mapping-failed`)."""
        ...


class Worker:
    """Delivers every route's messages through its target, in order per subject, never twice where that can be known."""

    def __init__(
        self,
        worker_id: UUID,
        store: DeliveryStore,
        sweeper: Sweeper,
        broker: Broker,
        routes: RouteBook,
        targets: TargetDirectory,
        vault: Vault,
        objects: ObjectStore,
        intake: Intake,
        mapper: Mapper,
        *,
        prefetch: int = 200,
    ) -> None:
        self.id = worker_id
        self._store = store
        self._sweeper = sweeper
        self._broker = broker
        self._routes = routes
        self._targets = targets
        self._vault = vault
        self._objects = objects
        self._intake = intake
        self._mapper = mapper
        self._prefetch = prefetch
        self._gates: dict[str, Gate] = {}
        self._budgets: dict[str, RetryBudget] = {}
        self._consumers: list[Consumer] = []
        self._in_hand: set[UUID] = set()
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._last_beat = self._steady_since = time.monotonic()
        self._stopping = False
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Announce this worker and subscribe to every route; returns once consuming."""
        await self._store.beat("worker")
        self._last_beat = time.monotonic()
        self._steady_since = self._last_beat - DEAD_AFTER
        self._keepers = [asyncio.create_task(self._beat()), asyncio.create_task(self._sweep())]
        for route in self._routes:
            self._consumers.append(
                await self._broker.consume(route.name, self._handle, prefetch=self._prefetch)
            )

    async def stop(self, patience: float = TIMEOUT) -> None:
        """Take nothing new, finish what is being sent (at most `patience` seconds), record it."""
        self._stopping = True
        for consumer in self._consumers:
            await consumer.cancel()
        for gate in self._gates.values():
            gate.breaker.let_go()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._idle.wait()
        await self._store.drain()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _beat(self) -> None:
        """Say every two seconds that this worker lives; a failing database is waited for."""
        while True:
            await asyncio.sleep(BEAT)
            try:
                await self._store.beat("worker")
            except (
                Exception
            ) as error:  # whatever the database says, a worker that stops beating serves nobody
                self._waits("worker-waits-for-database", error)
                continue
            now = time.monotonic()
            if now - self._last_beat > DEAD_AFTER - 2 * BEAT:
                self._steady_since = now
            self._last_beat = now

    async def _sweep(self) -> None:
        """Give back every few seconds what dead workers, lost answers and lost pointers left behind."""
        while True:
            await asyncio.sleep(2 * BEAT)
            try:
                await self._store.release_strays(self._in_hand)
                if time.monotonic() - self._steady_since < DEAD_AFTER:
                    # After an outage of the database every worker looks silent; the others need time to say they live.
                    continue
                idle = [route.name for route in self._routes if await self._broker.depth(route.name) == 0]
                freed, again = await self._sweeper.sweep(idle)
                if freed or again:
                    log(_LOG, logging.WARNING, "sweep-renewed", count=freed + again)
            except Exception as error:  # the next round tries again, whatever it was
                self._waits("sweep-waits", error)

    @staticmethod
    def _waits(event: str, error: Exception) -> None:
        known = isinstance(error, (HubError, *GONE))
        code = getattr(error, "code", "database-unavailable")
        log(
            _LOG,
            logging.WARNING if known else logging.ERROR,
            event,
            code=code,
            error=None if known else error,
        )

    async def _handle(self, received: Received) -> None:
        self._busy += 1
        self._idle.clear()
        try:
            await self._deliver(received)
        except Unavailable as error:
            # Database away: nothing was recorded, so the parcel comes back; the claim, if any, is swept.
            log(
                _LOG,
                logging.WARNING,
                "delivery-put-back",
                delivery_id=str(received.parcel.delivery_id),
                code=error.code,
            )
            received.retry(5.0)
        except Exception as error:
            log(
                _LOG,
                logging.ERROR,
                "delivery-put-back",
                delivery_id=str(received.parcel.delivery_id),
                error=error,
            )
            received.retry(15.0)
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    async def _deliver(self, received: Received) -> None:
        parcel = received.parcel
        route = self._routes.get(parcel.route)
        if route is None:
            received.retry(BROKER_DELAY)
            return
        gate = self._gate(route.target)
        if not await gate.enter(GATE_PATIENCE):
            # A broker takes back what is held unsettled for too long, so a closed target's parcels go back by themselves.
            received.retry(BROKER_DELAY)
            return
        async with gate.entered() as breaker:
            if self._stopping or self._silent() or parcel.delivery_id in self._in_hand:
                breaker.abandoned()
                received.retry(1.0)
                return
            # In hand from before the claim, so that no sweep takes the claim for one whose answer was lost.
            self._in_hand.add(parcel.delivery_id)
            limit, hold = self._limits(route)
            # From here on counts what the claim allows: the database starts its own count later, never earlier.
            until = asyncio.get_running_loop().time() + limit
            try:
                claim = await self._store.claim(parcel.delivery_id, hold)
            except BaseException:
                self._in_hand.discard(parcel.delivery_id)
                raise
            if isinstance(claim, Withheld):
                self._in_hand.discard(parcel.delivery_id)
                breaker.abandoned()
                self._put_off(received, claim)
                return
            if claim.target == route.target:
                await self._carry_out(received, claim, route, breaker, until)
                return
            breaker.abandoned()
        # The route was changed since: this one still goes where it was addressed, within that target's bounds.
        second = self._gate(claim.target)
        if not await second.enter(max(until - asyncio.get_running_loop().time() - 1.0, 0.0)):
            outcome = Outcome(
                claim.delivery_id, "waiting", "retry", claim.attempt, datetime.now(UTC), 0.0, counted=False
            )
            outcome, wait = later(outcome, 5.0, claim.code, "The target's breaker is open.")
            await self._record(outcome)
            self._in_hand.discard(claim.delivery_id)
            received.retry(wait or 5.0)
            return
        async with second.entered() as breaker:
            await self._carry_out(received, claim, route, breaker, until)

    def _limits(self, route: Route) -> tuple[float, float]:
        """Return the seconds a send may take, and the seconds nobody else may take its claim.

        A target that recognises repeats needs no such hold: sent again early, it does nothing twice.
        """
        limit = route.file.timeout or TIMEOUT
        try:
            target = self._targets.get(route.target)
        except ConfigError:
            return limit, 0.0
        limit = min(limit, target.timeout)
        return limit, 0.0 if target.repeat is Repeat.RECOGNISED else limit + HOLD_MARGIN

    async def _carry_out(
        self, received: Received, claim: Claim, route: Route, breaker: Breaker, until: float
    ) -> None:
        try:
            outcome, wait = await self._attempt(claim, route, breaker, until)
            kept = await self._record(outcome)
        except Exception as error:
            # Sent, perhaps, and not recorded: it stays in hand, so that nobody sends it again while this worker
            # lives; afterwards the sweep gives it back as an unknown outcome.
            log(_LOG, logging.ERROR, "outcome-not-recorded", delivery_id=str(claim.delivery_id), error=error)
            received.ack()
            return
        self._in_hand.discard(claim.delivery_id)
        if kept and wait is not None and wait <= BROKER_DELAY:
            received.retry(wait)
        else:
            received.ack()
        if kept:
            count(claim, route, outcome)

    def _gate(self, name: str) -> Gate:
        gate = self._gates.get(name)
        if gate is None:
            try:
                bound = self._targets.get(name).concurrency
            except ConfigError:
                bound = 1
            gate = self._gates[name] = Gate(name, bound)
        return gate

    def _silent(self) -> bool:
        """Say whether others may already take this worker for dead: sending now could send twice."""
        return time.monotonic() - self._last_beat > DEAD_AFTER - BEAT

    @staticmethod
    def _put_off(received: Received, claim: Withheld) -> None:
        if claim.why is NotNow.EARLY:
            received.retry(min(claim.due_in, BROKER_DELAY))
        elif claim.why is NotNow.ELSEWHERE:
            # The worker that has it may have lost its own pointer with its connection to the broker.
            received.retry(5.0)
        elif claim.why is NotNow.BEHIND and not received.redelivered:
            # The end of the earlier one points to this one, unless it ended while this one was being accepted: look once more.
            received.retry(1.0)
        else:
            received.ack()

    async def _record(self, outcome: Outcome) -> bool:
        """Write the outcome, however long the database is away: what was sent must not be forgotten while we live."""
        wait = 0.2
        while True:
            try:
                return await self._store.finish(outcome)
            except Exception as error:  # a full disk passes too; what was sent is not forgotten for it
                known = isinstance(error, Unavailable)
                log(
                    _LOG,
                    logging.WARNING if known else logging.ERROR,
                    "outcome-waits-for-database",
                    delivery_id=str(outcome.delivery_id),
                    code=getattr(error, "code", None),
                    error=None if known else error,
                )
                await asyncio.sleep(wait)
                wait = min(wait * 2, 5.0)

    async def _attempt(
        self, claim: Claim, route: Route, breaker: Breaker, until: float
    ) -> tuple[Outcome, float | None]:
        started = time.perf_counter()
        outcome = Outcome(claim.delivery_id, "sending", "defect", claim.attempt, datetime.now(UTC), 0.0)
        if route.schedule is not None and (opens := route.schedule.next_open(outcome.started_at)) is not None:
            breaker.abandoned()
            outcome.counted = False
            return later(
                outcome, (opens - outcome.started_at).total_seconds(), claim.code, "The target is closed now."
            )
        metrics.in_flight(claim.target, 1)
        wait: float | None = None
        reached: list[bool] = []
        try:
            receipt = await self._send(claim, until, reached)
        except Refused as error:
            # A mapping that refuses says nothing about the target.
            breaker.good() if reached else breaker.abandoned()
            end(outcome, "refused", "refused", error)
        except NotSent as error:
            breaker.abandoned()
            outcome.counted = False
            outcome, wait = later(outcome, 5.0, claim.code, error.detail)
        except Unavailable as error:
            breaker.bad()
            outcome, wait = self._again(outcome, claim, route, error, "retry", claim.code)
        except Unknown as error:
            breaker.bad()
            outcome, wait = self._unclear(outcome, claim, route, error)
        except Exception as error:
            breaker.abandoned()
            if not isinstance(error, HubError):
                log(_LOG, logging.ERROR, "delivery-defect", delivery_id=str(claim.delivery_id), error=error)
                error = Defect(f"The hub failed on this delivery ({type(error).__name__}).")
            end(outcome, "dead", "defect", error)
            if claim.code == "outcome-unknown":
                outcome.code = claim.code  # our own fault does not tell what became of the earlier attempt
        else:
            breaker.good()
            outcome.state = outcome.outcome = "delivered"
            outcome.reference = receipt.reference
            outcome.exchanges = exchanges_of(receipt.exchanges)
            outcome.told = receipt.told
            for message in receipt.produced:
                outcome.produced.append(await self._prepare(message))
        finally:
            metrics.in_flight(claim.target, -1)
        outcome.seconds = time.perf_counter() - started
        metrics.attempted(claim.target, outcome.seconds)
        return outcome, wait

    async def _prepare(self, message: Message) -> Entry:
        """Make a produced message ready, however long the database or the object store is away: its cause was sent."""
        wait = 0.2
        while True:
            try:
                return await self._intake.prepare(
                    message, partner="hub", raw=orjson.dumps(message.data), request_id=None
                )
            except Unavailable as error:
                log(_LOG, logging.WARNING, "answer-waits", message_id=str(message.id), code=error.code)
                await asyncio.sleep(wait)
                wait = min(wait * 2, 5.0)

    async def _send(self, claim: Claim, until: float, reached: list[bool]) -> Receipt:
        target = self._targets.get(claim.target)
        try:
            message = await self._open(claim)
        except Unavailable as error:
            raise NotSent(error.detail, code=error.code) from error
        if claim.mapping is not None:
            message = message.model_copy(
                update={"data": self._mapper.to_dialect(claim.mapping, message.data)}
            )
        self._still_ours(until)
        reached.append(True)
        if claim.code == "outcome-unknown":
            known = await self._ask_first(target, message, until)
            if known is not None:
                return known
            self._still_ours(until)
        elif claim.code == FORCED_CODE and target.repeat is Repeat.ASK:
            # A person wants it sent again although it may have arrived; where the target can say, it is asked all the same.
            known = await target.ask(message, until)
            if known is not None:
                return known
            self._still_ours(until)
        self._budget(claim.target).sent()
        return await target.send(message, until)

    def _still_ours(self, until: float) -> None:
        """Refuse to send when this process stood still for so long that others may have taken the delivery."""
        if self._silent() or asyncio.get_running_loop().time() >= until:
            raise NotSent(
                "This worker was silent for too long; nothing was sent by it.", code="worker-silent"
            )

    async def _ask_first(self, target: Target, message: Message, deadline: float) -> Receipt | None:
        """Before a repeat of an unknown outcome: ask the target, or rely on it to recognise the id, or leave it."""
        if target.repeat is Repeat.RECOGNISED:
            return None
        if target.repeat is Repeat.ASK:
            return await target.ask(message, deadline)
        raise NeverAgain(
            "An earlier attempt may have reached the target, which can neither be asked nor tell a repeat; not sent again.",
            code="outcome-unknown",
            remedy="Find out at the target whether it arrived, then resend or dismiss the dead letter.",
        )

    async def _open(self, claim: Claim) -> Message:
        key = await self._vault.key(claim.key_id)
        body = claim.body
        if body is None:
            if claim.claim_key is None:
                raise Defect(
                    "The message has neither a body nor a place in the object store.",
                    code="message-body-missing",
                )
            body = await self._objects.get(claim.claim_key)
        return Message.from_stored(key.open(body, aad("message", "body", claim.message_id.bytes)))

    def _budget(self, target: str) -> RetryBudget:
        return self._budgets.setdefault(target, RetryBudget())

    def _unclear(
        self, outcome: Outcome, claim: Claim, route: Route, error: Unknown
    ) -> tuple[Outcome, float | None]:
        repeat = self._targets.get(claim.target).repeat
        if isinstance(error, NeverAgain) or repeat is Repeat.NEVER:
            end(outcome, "dead", "unknown", error)
            outcome.code = "outcome-unknown"
            return outcome, None
        return self._again(outcome, claim, route, error, "unknown", "outcome-unknown")

    def _again(
        self, outcome: Outcome, claim: Claim, route: Route, error: HubError, word: str, carried: str | None
    ) -> tuple[Outcome, float | None]:
        policy: RetryPolicy = route.retry
        age = 0.0 if claim.first_at is None else (outcome.started_at - claim.first_at).total_seconds()
        wait = policy.delay(claim.attempt, age=age, retry_after=error.retry_after)
        if wait is None:
            end(outcome, "dead", word, error)
            if carried == "outcome-unknown":
                outcome.code = "outcome-unknown"
            return outcome, None
        if not self._budget(claim.target).take():
            wait = min(wait * 2, max(policy.longest, wait))
        outcome.outcome = word
        # An outcome once unknown stays so until the target has been asked or has answered.
        code = carried if carried in {"outcome-unknown", FORCED_CODE} else error.code
        return later(outcome, wait, code, error.detail)
