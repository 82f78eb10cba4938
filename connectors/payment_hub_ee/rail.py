"""The rail: payments of the ledger into files and single orders, and what became of each, asked row by row.

Stages: `file` (part of a payment file), `single` (ordered at the channel), `pause` (was certainly not sent, waits a little).
References: `request` (the id a payment has at the server, kept over its tries), `order` (correlation id of its file or single
order, which is in the file's name too), `batch` (the server's id of a file), `place` and `fsp` of the file.
A batch has no repeat recognition at the server: a file is handed over once, and looked for when the answer was lost.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from connectors.errors import HubError, Refused, Unavailable
from connectors.payment_hub_ee import batches
from connectors.payment_hub_ee.batches import Limits, Shape
from connectors.payment_hub_ee.client import Answer, PaymentHubClient, batch_accepted
from connectors.payment_hub_ee.model import Order
from connectors.payment_hub_ee.orders import is_single, mode_of, order_of, transfer_body
from connectors.payment_hub_ee.reconciling import Reconciler
from connectors.payment_hub_ee.settings import PaymentHubSettings
from connectors.payments.contract import (
    FAILED,
    LOOKUP,
    QUEUED,
    REVIEW,
    SENT,
    WORKING,
    Bounds,
    Ledger,
    Step,
    Transfer,
)

FILE: Final = "file"
SINGLE: Final = "single"
PAUSE: Final = "pause"
_PAUSE_SECONDS: Final = 5.0
_SYSTEMIC: Final = frozenset({400, 401, 403, 404, 405, 411, 412, 413, 415})
"""Answers that refuse a file as such: nothing of it was taken, and the next file would fare the same."""


class Rail:
    """Takes the transfers of one target through a deployment."""

    def __init__(self, settings: PaymentHubSettings, ledger: Ledger, client: PaymentHubClient) -> None:
        self.settings, self.ledger, self.client = settings, ledger, client
        # Files are cut from what is taken at once; taking a good part of the window fills them.
        bulk = min(settings.window, max(settings.max_file_rows * settings.parallel, 1))
        self.bounds = Bounds(settings.window, max(bulk, 64), bulk)
        self._slots = asyncio.Semaphore(settings.parallel)
        self._tasks: set[asyncio.Task[None]] = set()
        self._shape = Shape(
            settings.form,
            settings.payer_id_type or "",
            settings.payer_id or "",
            settings.wide,
            client.dialect.json_amount == "number",
        )
        self._limits = Limits(
            settings.max_file_bytes,
            settings.max_file_rows,
            settings.sub_batch_size,
            client.dialect.note_length,
        )
        self.reconciler = Reconciler(settings, ledger, client)
        self._in_hand: dict[str, bool] = {}
        """Files and single orders at work, each with whether that work says anew when they are due."""
        self._again: dict[str, bool] = {}
        """Those to be asked about once more after it, each with whether the question counts."""

    async def close(self) -> None:
        """Break off what is on its way; the ledger knows all of it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def begin(self, rows: Sequence[Transfer]) -> None:
        """Fail what can never be paid, and let the rest wait for a file; there is nothing to look up."""
        steps = []
        for row, _ in await self._payable(rows):
            references = {"request": row.references["request"]}
            steps.append(Step(row.id, (row.stage, row.state), FILE, QUEUED, references=references))
        await self.ledger.apply(steps)

    async def go_on(self, rows: Sequence[Transfer]) -> None:
        """Cut waiting transfers of one institution into files, store the files, and hand them over."""
        by_batch: dict[str | None, list[tuple[Transfer, Order]]] = defaultdict(list)
        for row, order in await self._payable(rows):
            if is_single(row.instruction, row.batch_id, self.settings):
                await self._order_single(row, order)
            else:
                by_batch[row.batch_id].append((row, order))
        for together in by_batch.values():
            by_request = {order.request_id: row for row, order in together}
            for file in batches.plan([order for _, order in together], self._limits, self._shape):
                await self._store_file([by_request[order.request_id] for order in file], file)

    async def ask(self, rows: Sequence[Transfer]) -> None:
        """Ask what became of what was sent, a whole file at a time, and let what paused wait for a file again."""
        steps = [Step(row.id, (PAUSE, WORKING), LOOKUP, QUEUED) for row in rows if row.stage == PAUSE]
        if steps:
            await self.ledger.apply(steps)
        for order_id in {row.references.get("order", "") for row in rows if row.stage != PAUSE}:
            if order_id:
                self._look_after(order_id, counted=True)

    def hint(self, order_id: str) -> None:
        """Ask about a file now, because somebody says that something happened; it proves nothing."""
        self._look_after(order_id, counted=False)

    @property
    def under_way(self) -> Sequence[asyncio.Task[None]]:
        """The requests being made now."""
        return tuple(self._tasks)

    # --- sending ---------------------------------------------------------------------------------------------

    async def _payable(self, rows: Sequence[Transfer]) -> list[tuple[Transfer, Order]]:
        """Return rows with their orders; those that cannot be paid any more fail here. A request id is kept over all tries."""
        found, failed = [], []
        for row in rows:
            request_id = row.references.get("request") or self.client.dialect.request_id()
            try:
                found.append((row, order_of(row.instruction, request_id, self.settings, self.client.dialect)))
                row.references["request"] = request_id
            except Refused as error:
                failed.append(Step(row.id, (row.stage, row.state), row.stage, FAILED, reason=error.code))
        if failed:
            await self.ledger.apply(failed)
        return found

    async def _store_file(self, rows: Sequence[Transfer], orders: Sequence[Order]) -> None:
        order_id = self.client.dialect.correlation_id()
        steps = []
        for place, (row, order) in enumerate(zip(rows, orders, strict=True)):
            row.request = batches.stored(place, batches.row(place, order, self._shape))
            row.references["order"] = order_id
            step = Step(row.id, (row.stage, row.state), FILE, SENT, asked=0, due_in=self.settings.first_ask)
            step.references, step.request = {"order": order_id}, row.request
            steps.append(step)
        took = await self.ledger.apply(steps)
        # What another process has taken meanwhile is left out of the file before it exists anywhere else.
        kept = [row for row, done in zip(rows, took, strict=True) if done]
        for row in kept:
            row.stage, row.state, row.asked = FILE, SENT, 0
        if kept:
            self._in_hand[order_id] = False
            self._spawn(self._hand_over(order_id, kept), order_id)

    async def _hand_over(self, order_id: str, rows: Sequence[Transfer]) -> None:
        parts = batches.restored(row.request or b"" for row in rows)
        content = batches.joined(parts, self._shape)
        async with self._slots:
            deadline = self._deadline()
            try:
                answer = await self.client.post_batch(
                    content, file_name(order_id), order_id, rows[0].institution, deadline
                )
            except Unavailable as error:
                await self._not_taken(rows, error.code, error.retry_after)
                return
            except (HubError, TimeoutError):
                return  # the answer is lost: the file is looked for when it is due, and never handed over again
        await self._answered(rows, answer)

    async def _answered(self, rows: Sequence[Transfer], answer: Answer) -> None:
        accepted = batch_accepted(answer)
        if accepted is not None:
            if not self.client.answer_signed(answer):
                await self.ledger.stop(rows[0].batch_id, "answer-unsigned")
            wait = min(self.settings.first_ask, accepted.seconds or self.settings.first_ask)
            await self.ledger.apply(
                [
                    Step(row.id, (FILE, SENT), references={"batch": accepted.batch_id}, due_in=wait)
                    for row in rows
                ]
            )
        elif answer.status in {429, 503}:
            await self._not_taken(rows, f"http-{answer.status}", answer.wait)
        elif answer.status in _SYSTEMIC:
            await self._systemic(rows, answer.code or f"http-{answer.status}")
        # Anything else (500 with an exception's text, 502, 504, an unreadable 202) may hide a batch that was begun.

    async def _order_single(self, row: Transfer, order: Order) -> None:
        request_id = order.request_id
        row.request = transfer_body(order, self.settings)
        row.references["order"] = request_id
        step = Step(row.id, (row.stage, row.state), SINGLE, SENT, asked=0, due_in=self.settings.first_ask)
        step.references, step.request = {"order": request_id}, row.request
        if (await self.ledger.apply([step]))[0]:
            row.stage, row.state, row.asked = SINGLE, SENT, 0
            self._in_hand[request_id] = False
            self._spawn(self._hand_single(row, order.mode), request_id)

    async def _hand_single(self, row: Transfer, mode: str) -> None:
        async with self._slots:
            try:
                answer = await self.client.post_transfer(
                    row.request or b"", row.references["request"], mode, self._deadline()
                )
            except Unavailable as error:
                if row.resent == 0:
                    await self._not_taken([row], error.code, error.retry_after)
                return
            except (HubError, TimeoutError):
                return
        if row.resent and answer.status != 200:
            return  # refusing the repeat says nothing of the first order
        transaction = answer.body.get("transactionId") if isinstance(answer.body, dict) else None
        if answer.status == 200 and isinstance(transaction, (str, int)):
            step = Step(row.id, (SINGLE, SENT), references={"transaction": str(transaction)})
            await self.ledger.apply([step])
        elif answer.status in {429, 503}:
            await self._not_taken([row], f"http-{answer.status}", answer.wait)
        elif answer.status == 400 and answer.code == "TransactionExists":
            return  # it is there: its state is asked for when it is due
        elif (
            answer.status == 400
            and answer.code
            and "Signature" not in answer.code
            and "PublicKey" not in answer.code
        ):
            await self.ledger.apply([Step(row.id, (SINGLE, SENT), SINGLE, FAILED, reason=answer.code)])
        elif answer.status in _SYSTEMIC:
            await self._systemic([row], answer.code or f"http-{answer.status}")

    async def _not_taken(self, rows: Sequence[Transfer], reason: str, wait: float | None) -> None:
        """Let what was certainly not sent pause, then wait for a new file; a wrong login or address stops the batch."""
        if reason in {"token-refused", "address-not-allowed", "target-tls-failed"}:
            await self._systemic(rows, reason)
            return
        pause = max(wait or 0.0, min(_PAUSE_SECONDS, self.settings.first_ask))
        await self.ledger.apply(
            [Step(row.id, (row.stage, SENT), PAUSE, WORKING, reason=reason, due_in=pause) for row in rows]
        )

    async def _systemic(self, rows: Sequence[Transfer], reason: str) -> None:
        await self.ledger.stop(rows[0].batch_id, reason)
        await self.ledger.apply(
            [Step(row.id, (row.stage, SENT), LOOKUP, QUEUED, reason=reason) for row in rows]
        )

    # --- asking ----------------------------------------------------------------------------------------------

    def _look_after(self, order_id: str, *, counted: bool) -> None:
        due_anew = self._in_hand.get(order_id)
        if due_anew is None:
            self._in_hand[order_id] = counted
            self._spawn(self._reconcile(order_id, counted=counted), order_id)
        elif not counted:
            self._again.setdefault(order_id, False)
        elif not due_anew:
            # What is overdue now would otherwise wait for its lease, since nothing at work says when it is due again.
            self._again[order_id] = True

    async def _reconcile(self, order_id: str, *, counted: bool) -> None:
        async with self._slots:
            rows = await self.ledger.find("order", order_id)
            rows = [row for row in rows if row.references.get("order") == order_id]
            if not rows:
                return
            absent = await self.reconciler.reconcile(order_id, file_name(order_id), rows, counted=counted)
        for row in absent:
            await self._absent_single(row)

    async def _absent_single(self, row: Transfer) -> None:
        """Send a single order the server has never heard of again, where it recognises a repeat; else ask a person."""
        mode = mode_of(row.instruction, self.settings)
        if self.settings.channel_recognises_repeats and mode.lower() != "gsma" and row.resent == 0:
            row.resent = 1
            step = Step(row.id, (SINGLE, SENT), asked=0, resent=1, due_in=self.settings.first_ask)
            if (await self.ledger.apply([step]))[0]:
                self._spawn(self._hand_single(row, mode), None)
            return
        await self.ledger.apply([Step(row.id, (SINGLE, SENT), SINGLE, REVIEW, reason="order-not-found")])

    # --- common ----------------------------------------------------------------------------------------------

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.settings.request_timeout

    def _spawn(self, work: Coroutine[Any, Any, None], order_id: str | None) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)

        def done(ended: asyncio.Task[None]) -> None:
            self._tasks.discard(ended)
            if order_id is None:
                return
            self._in_hand.pop(order_id, None)
            counted = self._again.pop(order_id, None)
            if counted is not None and not ended.cancelled():
                self._look_after(order_id, counted=counted)

        task.add_done_callback(done)

    @staticmethod
    async def _guarded(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except HubError:
            return  # the books are away or nothing usable came: it is due again by the clock


def file_name(order_id: str) -> str:
    """Return the name of a payment file, by which it is found again."""
    return f"hub-{order_id}.csv"
