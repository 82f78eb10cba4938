"""What became of a file's payments: asked of the operations app, judged one by one, never by the batch's own figures."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from connectors.payment_hub_ee.client import PaymentHubClient
from connectors.payment_hub_ee.model import COMPLETED, Known
from connectors.payment_hub_ee.model import FAILED as FAILED_THERE
from connectors.payment_hub_ee.operations import Operations
from connectors.payment_hub_ee.settings import PaymentHubSettings
from connectors.payments.contract import (
    FAILED,
    PAID,
    REVIEW,
    SENT,
    UNKNOWN,
    Ledger,
    Step,
    Transfer,
)

_SINGLE: Final = "single"


class Reconciler:
    """Compares the ledger's rows of one file or single order with what the server knows of each."""

    def __init__(self, settings: PaymentHubSettings, ledger: Ledger, client: PaymentHubClient) -> None:
        self._settings, self._ledger = settings, ledger
        self._operations = Operations(client, settings.page_size)
        self._timeout = settings.request_timeout

    async def reconcile(
        self, order_id: str, file_name: str, rows: Sequence[Transfer], *, counted: bool
    ) -> list[Transfer]:
        """Let each row take the step that its transfers mean; return single orders the server has certainly not heard of.

        `counted`: it was due, so it counts towards the number of questions; a callback's hint does not. Raises as the
        operations app does (`Unavailable`), and then nothing is changed: the rows are due again.
        """
        asked = [row for row in rows if row.state in {SENT, UNKNOWN, FAILED}]
        is_open = any(row.state in {SENT, UNKNOWN} for row in asked)
        if not asked or not (is_open or not counted):
            return []
        single = rows[0].stage == _SINGLE
        batch_id = rows[0].references.get("batch")
        if batch_id is None and not single:
            since = min((row.sent_at for row in rows if row.sent_at is not None), default=None)
            batch_id = await self._operations.find_batch(order_id, file_name, since, self._deadline())
            if batch_id is not None:
                # Callbacks and authorisation name the batch by this id alone.
                found = [
                    Step(row.id, (row.stage, row.state), references={"batch": batch_id}) for row in asked
                ]
                await self._ledger.apply(found)
        known = await self._known(batch_id, asked)
        unheard = [row for row in asked if row.state == SENT and not known.get(row.references["request"])]
        if batch_id is not None and unheard:
            currency = rows[0].instruction.amount.currency
            listed = await self._operations.instructions(batch_id, currency, self._deadline())
            for one in listed:
                if one.status is not None and one.status == FAILED_THERE and not known.get(one.request_id):
                    known[one.request_id] = [one]
        steps, absent = [], []
        for row in asked:
            transfers = known.get(row.references["request"], [])
            step = self._judged(row, transfers)
            if step is None and counted and row.state == SENT:
                lost = batch_id is None and not transfers
                if lost and single and row.asked + 1 >= self._settings.lost_asks:
                    absent.append(row)
                    continue
                step = self._put_off(row, transfers, lost=lost)
            if step is not None:
                steps.append(step)
        if steps:
            await self._ledger.apply(steps)
        return absent

    async def _known(self, batch_id: str | None, rows: Sequence[Transfer]) -> dict[str, list[Known]]:
        found: dict[str, list[Known]] = defaultdict(list)
        if self._settings.reconcile_by == "batch" and batch_id is not None:
            transfers = await self._operations.detail(batch_id, self._deadline()) or []
        else:
            ids = [row.references["request"] for row in rows]
            transfers = await self._operations.transfers(ids, self._deadline())
        for transfer in transfers:
            # The same transfer may stand on two pages when rows were added between them.
            if transfer.transaction_id is None or all(
                transfer.transaction_id != other.transaction_id for other in found[transfer.request_id]
            ):
                found[transfer.request_id].append(transfer)
        return found

    @staticmethod
    def _judged(row: Transfer, transfers: Sequence[Known]) -> Step | None:
        """Return the step that a payment's transfers mean; None while nothing is decided."""
        at = (row.stage, row.state)
        paid = [one for one in transfers if one.status == COMPLETED]
        if len(paid) > 1:
            return Step(row.id, at, row.stage, REVIEW, reason="paid-twice")
        if paid:
            if row.state == FAILED:
                return Step(row.id, at, row.stage, REVIEW, reason="paid-after-failure")
            ordered = row.instruction.amount
            if paid[0].currency != ordered.currency or paid[0].minor_units() != ordered.minor_units:
                return Step(row.id, at, row.stage, REVIEW, reason="amount-differs")
            return Step(
                row.id,
                at,
                row.stage,
                PAID,
                completed_at=paid[0].completed_at,
                rail_reference=paid[0].transaction_id,
            )
        if row.state == FAILED or not transfers:
            return None
        if all(one.status == FAILED_THERE for one in transfers):
            reason = next((one.code for one in transfers if one.code), "failed")
            return Step(row.id, at, row.stage, FAILED, reason=reason)
        return None

    def _put_off(self, row: Transfer, transfers: Sequence[Known], *, lost: bool) -> Step:
        s, asked, at = self._settings, row.asked + 1, (row.stage, row.state)
        if lost and asked >= s.lost_asks:
            return Step(row.id, at, row.stage, REVIEW, reason="batch-not-found", asked=asked)
        wait = min(s.first_ask * 2 ** min(asked, 20), s.sweep_seconds)
        if asked >= (s.open_asks if transfers else max(s.missing_asks, s.lost_asks)):
            # A late answer still ends it, so it is looked at once more by every hint and by the sweep.
            reason = "still-open" if transfers else "row-missing"
            return Step(row.id, at, row.stage, UNKNOWN, reason=reason, asked=asked)
        return Step(row.id, at, asked=asked, due_in=wait)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout
