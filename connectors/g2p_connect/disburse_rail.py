"""The rail: payments of the ledger as disburse messages, and what became of each, by callback or by asking.

Stages: `order` (ordered, or waiting to be), `resolve` (its payee is asked about at the mapper of the target), `pause` (certainly
not taken, waits a little). References: `order`, the message id
of a payment's order, whose first payment keeps the exact bytes, and `payment`, its reference there.
The other system knows a repeat by transaction and reference: after silence the hub asks, and sends the identical bytes once more
only when it is told that a reference is not known.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Final

import orjson

from canonical_model.message import uuid7
from connectors.errors import HubError, Refused, Unavailable
from connectors.g2p_connect.disburse_addresses import account_of
from connectors.g2p_connect.disburse_client import DisburseClient, Reaction
from connectors.g2p_connect.disburse_messages import (
    NOT_KNOWN,
    Envelopes,
    Told,
    as_ordered,
    disbursement_of,
    entries_of,
    known_by_mapper,
)
from connectors.g2p_connect.disburse_settings import DisburseSettings
from connectors.g2p_connect.mapper import Answered, Item, Mapper
from connectors.payments.contract import (
    FAILED,
    LOOKUP,
    PAID,
    QUEUED,
    REVIEW,
    SENT,
    UNKNOWN,
    WORKING,
    Bounds,
    Ledger,
    Step,
    Transfer,
)

ORDER: Final = "order"
PAUSE: Final = "pause"
RESOLVE: Final = "resolve"
_PAUSE_SECONDS: Final = 5.0
_ASKED_AT_ONCE: Final = 50
"""References of one question, so that its answer stays far below what is read of one."""
_SYSTEMIC: Final = frozenset({400, 401, 403, 404, 405, 406, 411, 413, 415, 422})
"""Answers that refuse a message as such: nothing of it was taken, and the next would fare the same."""
_UNPAYABLE: Final = {
    "absent": "payee-not-linked",
    "elsewhere": "payee-not-linked",
    "inactive": "payee-inactive",
}
"""Why a payee is not paid by what its mapper says; whatever is not said clearly is `payee-unclear`."""
_LATER: Final = frozenset({"err.request.too_many_requests", "err.service.unavailable"})


_Group = Sequence[tuple[Transfer, dict[str, Any]]]
"""Payments and the disbursement each becomes."""


class DisburseRail:
    """Takes the transfers of one target through a system that speaks G2P Connect."""

    def __init__(
        self, settings: DisburseSettings, ledger: Ledger, client: DisburseClient, mapper: Mapper | None = None
    ) -> None:
        self.settings, self.ledger, self.client, self.mapper = settings, ledger, client, mapper
        self.envelopes = Envelopes(settings)
        self.bounds = Bounds(
            settings.window, max(settings.message_items, 64), min(settings.message_items, settings.window)
        )
        self._slots = asyncio.Semaphore(settings.parallel)
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_hand: set[str] = set()

    async def close(self) -> None:
        """Break off what is on its way; the ledger knows all of it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def begin(self, rows: Sequence[Transfer]) -> None:
        """Fail what can never be paid, and let the rest wait for a message; there is nothing to look up."""
        await self.ledger.apply(
            [Step(row.id, (row.stage, row.state), ORDER, QUEUED) for row, _ in await self._payable(rows)]
        )

    async def go_on(self, rows: Sequence[Transfer]) -> None:
        """Order waiting payments, those of one batch together, once their message is stored."""
        together: dict[str, list[tuple[Transfer, dict[str, Any]]]] = defaultdict(list)
        for row, item in await self._payable(rows):
            together[_transaction(row)].append((row, item))
        size = self.settings.message_items
        # All at once: their steps share a commit, and a payment alone does not wait for that of the one before it.
        await asyncio.gather(
            *(
                self._send(transaction_id, group[start : start + size])
                for transaction_id, group in together.items()
                for start in range(0, len(group), size)
            )
        )

    async def ask(self, rows: Sequence[Transfer]) -> None:
        """Ask what became of what was ordered, and let what paused wait for a message again."""
        steps = [
            Step(row.id, (PAUSE, WORKING), LOOKUP, QUEUED) for row in rows if row.stage in {PAUSE, RESOLVE}
        ]
        asking: dict[str, list[Transfer]] = defaultdict(list)
        for row in rows:
            if (row.stage, row.state) != (ORDER, SENT):
                continue
            if row.asked >= self.settings.asks:
                steps.append(Step(row.id, (ORDER, SENT), ORDER, UNKNOWN, reason="unanswered"))
                continue
            wait = min(self.settings.first_ask * 2 ** min(row.asked + 1, 20), self.settings.longest_ask)
            steps.append(Step(row.id, (ORDER, SENT), asked=row.asked + 1, due_in=wait))
            asking[_transaction(row)].append(row)
        await self.ledger.apply(steps)
        for transaction_id, group in asking.items():
            for start in range(0, len(group), _ASKED_AT_ONCE):
                self._spawn(self._ask(transaction_id, group[start : start + _ASKED_AT_ONCE]))

    async def told(self, entries: Iterable[Told], *, believed: bool) -> int:
        """Act on what a callback says and return how many of its payments are ours; one that is not proven makes the hub ask."""
        known, steps = 0, []
        asking: dict[str, list[Transfer]] = defaultdict(list)
        listed = list(entries)
        # All at once, as one question to the books: one after another, a callback about a hundred would wait a hundred times.
        found = await asyncio.gather(*(self.ledger.find("payment", told.reference_id) for told in listed))
        for told, rows in zip(listed, found, strict=True):
            for row in rows:
                known += 1
                if not believed:
                    if row.state in {SENT, UNKNOWN}:
                        asking[_transaction(row)].append(row)
                elif (step := judged(row, told)) is not None:
                    steps.append(step)
        await self.ledger.apply(steps)
        for transaction_id, waiting in asking.items():
            for start in range(0, len(waiting), _ASKED_AT_ONCE):
                group = waiting[start : start + _ASKED_AT_ONCE]
                hand = f"{transaction_id}/{group[0].id}"
                if hand not in self._in_hand:
                    self._in_hand.add(hand)
                    self._spawn(self._ask(transaction_id, group), hand)
        return known

    @property
    def under_way(self) -> Sequence[asyncio.Task[None]]:
        """The requests being made now."""
        return tuple(self._tasks)

    # --- ordering --------------------------------------------------------------------------------------------

    async def _payable(self, rows: Sequence[Transfer]) -> list[tuple[Transfer, dict[str, Any]]]:
        found, failed = [], []
        for row in rows:
            try:
                found.append((row, disbursement_of(row.instruction, self.settings)))
            except Refused as error:
                failed.append(Step(row.id, (row.stage, row.state), row.stage, FAILED, reason=error.code))
        if failed:
            await self.ledger.apply(failed)
        return found

    async def _send(self, transaction_id: str, chunk: _Group) -> None:
        if self.mapper is None or not any(
            known_by_mapper(item["payee_fa"], self.settings) for _, item in chunk
        ):
            await self._store(transaction_id, chunk)
        elif held := await self._held(chunk):
            self._spawn(self._resolve(self.mapper, transaction_id, held))

    async def _held(self, chunk: _Group) -> _Group:
        """Note that payees are being asked about; a process that dies meanwhile leaves them to be asked about again."""
        due = 2 * self.settings.request_timeout
        took = await self.ledger.apply(
            [Step(row.id, (row.stage, row.state), RESOLVE, WORKING, due_in=due) for row, _ in chunk]
        )
        held = [one for one, done in zip(chunk, took, strict=True) if done]
        for row, _ in held:
            row.stage, row.state = RESOLVE, WORKING
        return held

    async def _resolve(self, mapper: Mapper, transaction_id: str, chunk: _Group) -> None:
        """Ask the mapper where payees are paid and order those it gives an address of; the others fail, with nothing sent."""
        asked = [item for _, item in chunk if known_by_mapper(item["payee_fa"], self.settings)]
        size = self.settings.mapper.items if self.settings.mapper is not None else len(asked)
        told: list[Answered] = []
        rows = [row for row, _ in chunk]
        try:
            async with self._slots, asyncio.timeout_at(deadline := self._deadline()):
                for start in range(0, len(asked), size):
                    part = [Item(item["payee_fa"]) for item in asked[start : start + size]]
                    told += await mapper.resolve(part, deadline)
        except Unavailable as error:
            await self._not_taken(rows, error.code, error.retry_after)
            return
        except TimeoutError:
            await self._not_taken(rows, "target-timeout", None)
            return
        except HubError as error:
            await self._systemic(
                rows, error.code
            )  # it takes no message of the hub: the next would fare the same
            return
        said = {id(item): one for item, one in zip(asked, told, strict=True)}
        payable, failed = [], []
        for row, item in chunk:
            answer = said.get(id(item))
            if answer is None:
                payable.append((row, item))
            elif answer.state == "active" and answer.address and account_of(answer.address) is not None:
                payable.append((row, {**item, "payee_fa": answer.address}))
            else:
                refused = answer.code if answer.state == "refused" else None
                reason = refused or _UNPAYABLE.get(answer.state, "payee-unclear")
                failed.append(Step(row.id, (RESOLVE, WORKING), RESOLVE, FAILED, reason=reason))
        await self.ledger.apply(failed)
        if payable:
            await self._store(transaction_id, payable)

    async def _store(self, transaction_id: str, group: _Group) -> None:
        order_id = str(uuid7())
        body = self.envelopes.order(order_id, transaction_id, [item for _, item in group])
        steps = []
        for place, (row, _) in enumerate(group):
            step = Step(row.id, (row.stage, row.state), ORDER, SENT, asked=0, due_in=self.settings.first_ask)
            step.references = {"order": order_id, "payment": row.payment_id}
            # One payment keeps the bytes for all of them.
            step.request = body if place == 0 else None
            steps.append(step)
        took = await self.ledger.apply(steps)
        rows = [row for (row, _), done in zip(group, took, strict=True) if done]
        for row in rows:
            row.stage, row.state, row.resent = ORDER, SENT, 0
        if len(rows) < len(group):
            # Another process has taken some meanwhile: nothing has left yet, so these wait for a message of their own.
            await self.ledger.apply([Step(row.id, (ORDER, SENT), LOOKUP, QUEUED) for row in rows])
            return
        self._spawn(self._hand_over(rows, body, again=False))

    async def _hand_over(self, rows: Sequence[Transfer], body: bytes, *, again: bool) -> None:
        async with self._slots:
            try:
                answer = await self.client.post("/disburse", body, self._deadline())
            except Unavailable as error:
                if not again:
                    await self._not_taken(rows, error.code, error.retry_after)
                return
            except (HubError, TimeoutError):
                return  # the answer is lost: it is asked about when it is due
        if again or (200 <= answer.status < 300 and answer.acknowledgement in {"ACK", "NACK"}):
            return  # a repeat that is refused says nothing of the first order
        await self._refused(rows, answer)

    async def _refused(self, rows: Sequence[Transfer], answer: Reaction) -> None:
        erred = answer.acknowledgement == "ERR"
        reason = answer.code or f"http-{answer.status}"
        if answer.status in {429, 503} or (erred and answer.code in _LATER):
            await self._not_taken(rows, reason, answer.wait)
        elif erred and len(rows) == 1 and reason == "err.request.bad":
            # Only this one is at fault: the others of its target go on.
            await self.ledger.apply([Step(rows[0].id, (ORDER, SENT), ORDER, FAILED, reason=reason)])
        elif answer.status in _SYSTEMIC or (erred and answer.status < 500):
            await self._systemic(rows, reason)
        # Anything else (500, 502, 504, an unreadable 200) may hide an order that was taken: it is asked about.

    async def _not_taken(self, rows: Sequence[Transfer], reason: str, wait: float | None) -> None:
        if reason in {"token-refused", "address-not-allowed", "target-tls-failed"}:
            await self._systemic(rows, reason)
            return
        pause = max(wait or 0.0, min(_PAUSE_SECONDS, self.settings.first_ask))
        await self.ledger.apply(
            [
                Step(row.id, (row.stage, row.state), PAUSE, WORKING, reason=reason, due_in=pause)
                for row in rows
            ]
        )

    async def _systemic(self, rows: Sequence[Transfer], reason: str) -> None:
        await self.ledger.stop(rows[0].batch_id, reason)
        await self.ledger.apply(
            [Step(row.id, (row.stage, row.state), LOOKUP, QUEUED, reason=reason) for row in rows]
        )

    # --- asking ----------------------------------------------------------------------------------------------

    async def _ask(self, transaction_id: str, rows: Sequence[Transfer]) -> None:
        question = self.envelopes.question(
            str(uuid7()), transaction_id, [row.payment_id for row in rows]
        )  # fmt: skip
        async with self._slots:
            answer = await self.client.post("/disburse/sync/txn/status", question, self._deadline())
        message = answer.body.get("message") if answer.body is not None else None
        if not 200 <= answer.status < 300 or answer.acknowledgement == "ERR" or not isinstance(message, dict):
            return
        if "txnstatus_response" not in message:
            return
        known = {told.reference_id: told for told in entries_of(message)}
        steps, absent = [], []
        for row in rows:
            told = known.get(row.payment_id)
            if told is not None and not (told.status == "rjct" and told.code in NOT_KNOWN):
                step = judged(row, told)
                if step is not None:
                    steps.append(step)
            elif (row.stage, row.state) == (ORDER, SENT):
                absent.append(row)
        await self.ledger.apply(steps)
        for order_id in {row.references["order"] for row in absent}:
            await self._resend(order_id, [row for row in absent if row.references["order"] == order_id])

    async def _resend(self, order_id: str, absent: Sequence[Transfer]) -> None:
        """Send an order again whose payments are not known there: the same bytes, once; then a person decides."""
        if any(row.resent for row in absent):
            await self.ledger.apply(
                [Step(row.id, (ORDER, SENT), ORDER, REVIEW, reason="unknown-there") for row in absent]
            )
            return
        rows = await self.ledger.find("order", order_id)
        body = next(
            (row.request for row in rows if row.request and _message_id(row.request) == order_id), None
        )
        steps = [
            Step(row.id, (ORDER, SENT), asked=row.asked, resent=1, due_in=self.settings.first_ask)
            for row in absent
        ]
        if body is not None and any(await self.ledger.apply(steps)):
            await self._hand_over(absent, body, again=True)

    # --- common ----------------------------------------------------------------------------------------------

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.settings.request_timeout

    def _spawn(self, work: Coroutine[Any, Any, None], hand: str | None = None) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)

        def done(ended: asyncio.Task[None]) -> None:
            self._tasks.discard(ended)
            if hand is not None:
                self._in_hand.discard(hand)

        task.add_done_callback(done)

    @staticmethod
    async def _guarded(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (HubError, TimeoutError):
            return  # the books are away or nothing usable came: it is due again by the clock


def judged(row: Transfer, told: Told) -> Step | None:
    """Return the step that an entry means for a payment; None while nothing is decided, or nothing is new."""
    at = (row.stage, row.state)
    if told.status == "succ":
        if row.state == PAID:
            return None if as_ordered(told, row.instruction.amount) else _review(row, "amount-differs")
        if row.state not in {SENT, UNKNOWN}:
            return None if row.state == REVIEW else _review(row, "paid-after-failure")
        if not as_ordered(told, row.instruction.amount):
            return _review(row, "amount-differs")
        return Step(row.id, at, row.stage, PAID, completed_at=told.at)
    if told.status != "rjct":
        return None
    if row.state == PAID:
        return _review(row, "contradicts")
    if row.state not in {SENT, UNKNOWN} or told.code == "rjct.reference_id.duplicate":
        return None  # a duplicate is an order that is there already: asking says what became of it
    return Step(row.id, at, row.stage, FAILED, reason=told.code or "rjct")


def _review(row: Transfer, reason: str) -> Step:
    return Step(row.id, (row.stage, row.state), row.stage, REVIEW, reason=reason)


def _transaction(row: Transfer) -> str:
    """Return the transaction of a payment, the same at every try: its batch, or itself."""
    return (row.batch_id or row.payment_id)[:99]


def _message_id(body: bytes) -> str | None:
    found: str | None = orjson.loads(body)["header"]["message_id"]
    return found
