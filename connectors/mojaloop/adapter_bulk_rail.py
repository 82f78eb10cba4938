"""The rail through an institution's scheme adapter in bulk: one bulk transaction takes many payments from look-up to proof.

Three calls, and only the last one pays: the bulk is created, the parties found are accepted, the quotes are accepted. What is
known of each payment and the exact bytes of a call are in the ledger before its first byte leaves. The adapter's API has no
question about a bulk, so a call whose answer is lost is never made again: what follows is told by callback, or the payments
become unknown. A call that certainly was not taken is made again with the same bytes.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from connectors.errors import HubError, Unavailable
from connectors.http import NOT_TAKEN
from connectors.mojaloop import adapter, adapter_bulk
from connectors.mojaloop.adapter_bulk import Result
from connectors.mojaloop.adapter_callbacks import AdapterCallbackRefused
from connectors.mojaloop.adapter_rail import AdapterRail
from connectors.mojaloop.bulk_results import Judge, moved
from connectors.mojaloop.callbacks import Told
from connectors.mojaloop.flow import Means, Verdict
from connectors.mojaloop.formats import MAX_BODY, after, dumps, moment_text, parse_moment
from connectors.mojaloop.ledger import BULK, OPEN_TRANSFERS, QUOTE, TRANSFER, lead_expiry, lead_mark
from connectors.mojaloop.model import BodyInvalid
from connectors.mojaloop.payees import PayeeUnknown
from connectors.mojaloop.rail import LATER, answered, ended_as
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
    Step,
    Transfer,
)

_BULK_ID: Final = "bulk_transaction"
_ROOM: Final = 64 * 1024
"""Bytes of a bulk body kept for what is not items."""
_AWAY: Final = 5.0
_UNTAKEN: Final = "untaken"
"""The reference that repeats `lead` while that very call certainly was not taken."""
_EXPIRES: Final = 3
"""A bulk has three steps, each of which is waited for `bulk_seconds`."""
_BY_ITSELF: Final = "adapter-accepts-by-itself"
Results = Mapping[str, Result | None]


class AdapterBulkRail(AdapterRail):
    """Takes transfers through an adapter, in bulk transactions where the settings say so; what began one way ends that way."""

    def __init__(self, settings: Any, *parts: Any) -> None:
        super().__init__(settings, *parts)
        self._judge = Judge(self.flow, self.payee, self.in_time)
        self._questions = asyncio.Semaphore(settings.lookups)
        if settings.bulk:
            # The adapter looks the payees up, so where they are is not known when a bulk is made: what is under way at all
            # is held to the window, and so is each institution.
            window = max(settings.window, 2 * settings.bulk_items)
            items = settings.bulk_items
            self.bounds = Bounds(window, items, items, ahead=2 * items)

    # --- the driver's calls ----------------------------------------------------------------------------------

    async def begin(self, rows: Sequence[Transfer]) -> None:
        """Let queued transfers wait for a bulk to be filled, whatever institution their orders name; nothing is sent yet."""
        if not self.settings.bulk:
            await super().begin(rows)
            return
        steps = []
        for row in rows:
            try:
                self.in_time(row)
                self.payee(row)
            except PayeeUnknown as error:
                steps.append(ended_as(row, FAILED, str(error)))
            else:
                steps.append(Step(row.id, (row.stage, row.state), BULK, QUEUED, "", asked=0, resent=0))
        await self.apply(steps)

    async def go_on(self, rows: Sequence[Transfer]) -> None:
        """Create bulk transactions of the transfers that wait for one, to the limits of one call."""
        await super().go_on([row for row in rows if row.stage != BULK])
        late: list[Step] = []
        parts: list[list[Transfer]] = [[]]
        size = 0
        for row in (row for row in rows if row.stage == BULK):
            try:
                self.in_time(row)
            except PayeeUnknown as error:
                late.append(self._over(row, FAILED, str(error)))
                continue
            row.request = dumps(adapter_bulk.bulk_item(row.payment_id, self._asked(row), self.flow.payer))
            size += len(row.request) + 1
            if parts[-1] and (len(parts[-1]) >= self.settings.bulk_items or size > MAX_BODY - _ROOM):
                parts.append([])
                size = len(row.request) + 1
            parts[-1].append(row)
        await self.apply(late)
        for part in parts:
            if part:
                await self._create_bulk(part)

    async def ask(self, rows: Sequence[Transfer]) -> None:
        """Act on overdue transfers: a call that was not taken again, a question about each payment, or nobody knows."""
        await super().ask([row for row in rows if not row.references.get(_BULK_ID)])
        bulks: dict[tuple[str, str, str], list[Transfer]] = defaultdict(list)
        for row in rows:
            if row.references.get(_BULK_ID):
                bulks[row.references[_BULK_ID], row.stage, row.state].append(row)
        for (bulk_id, *_), some in bulks.items():
            if not await self._untaken(bulk_id, some):
                await self._unanswered(some)

    async def _unanswered(self, rows: Sequence[Transfer]) -> None:
        steps, asked = [], []
        for row in rows:
            if row.stage == BULK:
                steps.append(self._over(row, UNKNOWN, "unanswered"))
            elif row.stage == QUOTE:
                # No quote was accepted, so no money can have moved.
                steps.append(self._over(row, FAILED, "quote-unanswered"))
            elif row.state == SENT and row.asked >= self.settings.asks:
                steps.append(self._over(row, UNKNOWN, "unanswered", LATER))
            else:
                wait = self.settings.ask_seconds if row.state == SENT else LATER
                steps.append(Step(row.id, (row.stage, row.state), asked=row.asked + 1, due_in=wait))
                asked.append(row)
        took = await self.apply(steps)
        for row in asked:
            if row.id in took:
                self.spawn(self._ask_item(row))

    async def _untaken(self, bulk_id: str, due: Sequence[Transfer]) -> bool:
        """Say whether these wait for a call that certainly was not taken; it is made again by who has its bytes."""
        place = (due[0].stage, due[0].state)
        if place[1] == UNKNOWN or all(row.asked for row in due):
            return False
        rows = [row for row in await self._of(bulk_id) if (row.stage, row.state) == place]
        for lead in rows:
            until = lead_expiry(lead, bulk_id)
            if until is None or lead.references.get(_UNTAKEN) != lead.references["lead"]:
                continue
            if any(row.id == lead.id for row in due):
                await self._again(lead, until, rows)
            else:
                await self.apply([Step(r.id, place, due_in=self.settings.bulk_seconds) for r in due])
            return True
        return False

    # --- calls -----------------------------------------------------------------------------------------------

    async def _create_bulk(self, rows: list[Transfer]) -> None:
        bulk_id = self.flow.dialect.new_id()
        expires = after(_EXPIRES * self.settings.bulk_seconds)

        def body(left: Sequence[Transfer]) -> bytes:
            items = [orjson.Fragment(row.request or b"") for row in left]
            return dumps(adapter_bulk.bulk_request(bulk_id, items, self.flow.payer, expires))

        steps = []
        for row in rows:
            # What another bulk left behind is not this one's.
            row.references |= {_BULK_ID: bulk_id, "transfer": "", "institution": ""}
            step = self.step(row, BULK, WORKING, dict(row.references), due_in=self.settings.bulk_seconds)
            step.request = row.request
            steps.append(step)
        until = after(self.settings.bulk_seconds)
        await self._stored_and_sent("POST", bulk_id, rows, steps, until, body)

    async def _stored_and_sent(
        self,
        method: str,
        bulk_id: str,
        rows: list[Transfer],
        steps: list[Step],
        until: str,
        body: Callable[[Sequence[Transfer]], bytes],
        others: Sequence[Step] = (),
    ) -> None:
        """Commit the step of each transfer with the bytes of their call at the first of them, then make the call.

        Those that another process moved meanwhile are not in it: the bytes are made and stored once more without them.
        """
        stage, state = steps[0].stage or "", steps[0].state or ""
        content, mark = body(rows), lead_mark(stage, bulk_id, until)
        steps[0].request = content
        steps[0].references = {**(steps[0].references or {}), "lead": mark}
        took = await self.apply([*others, *steps])
        left = [self.at(row, stage, state) for row in rows if row.id in took]
        if not left:
            return
        if len(left) != len(rows):
            content = body(left)
            again = Step(left[0].id, (stage, state), references={"lead": mark}, request=content)
            if not await self.apply([again]):
                return
        self.spawn(self._call_bulk(method, bulk_id, left, content, mark))

    async def _call_bulk(
        self, method: str, bulk_id: str, rows: Sequence[Transfer], content: bytes, mark: str
    ) -> None:
        """Make a call for its transfers, the first of which keeps its bytes; `mark` is that one's reference `lead`."""
        verdict = await self._answer_of(method, bulk_id, content)
        if verdict.wait is None:
            await self.posted(rows, verdict)
            return
        # The others are overdue after the next try, not while it is waited for.
        later = verdict.wait + 2 * self.settings.bulk_seconds
        steps = [Step(row.id, (row.stage, row.state), due_in=later) for row in rows]
        steps[0].due_in, steps[0].references = verdict.wait, {_UNTAKEN: mark}
        await self.apply(steps)

    async def _answer_of(self, method: str, bulk_id: str, content: bytes) -> Verdict:
        """Make a call and return what its answer alone means; `wait` is set when it certainly was not taken."""
        path = "/bulkTransactions" if method == "POST" else f"/bulkTransactions/{bulk_id}"
        deadline = asyncio.get_running_loop().time() + self.settings.request_timeout
        try:
            answer = await self.client.plain(method, "bulkTransactions", path, content, deadline)
        except Unavailable as error:
            if error.code in {"token-refused", "address-not-allowed"}:
                return Verdict(Means.SYSTEMIC, error.code)
            return Verdict(Means.OPEN, error.code, wait=error.retry_after or _AWAY)
        except (HubError, TimeoutError):
            return Verdict(Means.OPEN, "outcome-unknown")
        if answer.taken:
            return Verdict(Means.OPEN)
        if answer.status in NOT_TAKEN:
            return Verdict(Means.OPEN, f"http-{answer.status}", wait=answer.retry_after or _AWAY)
        found = answered(replace(answer, code=answer.code or adapter_bulk.error_code(answer.body)))
        return replace(found, wait=None)

    async def _again(self, lead: Transfer, until: str, rows: list[Transfer]) -> None:
        """Make a call that was not taken again with its bytes.

        When its time has passed, or it names payments that have gone elsewhere meanwhile, nothing of it has happened or will.
        """
        bulk_id, place, content = lead.references[_BULK_ID], (lead.stage, lead.state), lead.request or b""
        rows.sort(key=lambda row: row.id != lead.id)
        here = {row.payment_id if lead.stage == BULK else row.references["transfer"] for row in rows}
        if parse_moment(until) <= datetime.now(UTC) or adapter_bulk.named(content) != here:
            if lead.stage == BULK:
                back = {_BULK_ID: ""}
                await self.apply([Step(r.id, place, LOOKUP, QUEUED, references=back, asked=0) for r in rows])
            else:
                reason = "quote-unanswered" if lead.stage == QUOTE else "quote-expired"
                await self.judged(rows, [Verdict(Means.FAILED, reason)] * len(rows))
            return
        # From here on it may have been taken, which is noted before it is made.
        steps = [Step(row.id, place, due_in=self.settings.bulk_seconds) for row in rows]
        steps[0].references = {_UNTAKEN: ""}
        took = await self.apply(steps)
        if lead.id in took:
            method = "POST" if lead.stage == BULK else "PUT"
            self.spawn(self._call_bulk(method, bulk_id, rows, content, lead.references["lead"]))

    async def _of(self, bulk_id: str) -> list[Transfer]:
        found = await self.ledger.find(_BULK_ID, bulk_id)
        return [row for row in found if row.references.get(_BULK_ID) == bulk_id]

    # --- callbacks -------------------------------------------------------------------------------------------

    async def told(self, told: Told) -> None:
        """Act on a callback about a bulk, entry by entry; entries of payments that are not in it are passed over."""
        found = await self.ledger.find(_BULK_ID, told.id)
        if not found:
            raise AdapterCallbackRefused(400, "3200", "Nothing of that id was asked for.")
        try:
            report = adapter_bulk.read(told.id, told.body)
        except BodyInvalid as error:
            raise AdapterCallbackRefused(400, "3100", f"The body cannot be used: {error}.") from None
        results = report.results
        # An earlier bulk of a payment that has gone on since: it was known dead.
        stale = [row for row in found if row.references.get(_BULK_ID) != told.id and row.state != REVIEW]
        await self.apply(
            [self._over(r, REVIEW, "paid-after-failure") for r in stale if moved(results.get(r.payment_id))]
        )
        rows = [row for row in found if row.references.get(_BULK_ID) == told.id]
        if report.state == adapter.PARTY:
            await self._parties_told(told.id, rows, results)
        elif report.state == adapter.QUOTE:
            await self._quotes_told(told.id, rows, results)
        else:
            await self._ended_told(rows, results)

    async def _parties_told(self, bulk_id: str, rows: list[Transfer], results: Results) -> None:
        others, accepted, steps = await self._unasked(rows, results), [], []
        for row in self._at(rows, others, BULK, WORKING):
            result = results.get(row.payment_id)
            verdict = self._judge.party(row, result, missing=row.payment_id not in results)
            if verdict.means is not Means.GO or verdict.party is None or result is None:
                others += await self.ended(row, verdict)
                continue
            row.references |= {"transfer": result.transfer_id or "", "institution": verdict.party.fsp or ""}
            accepted.append(row)
            steps.append(
                self.step(row, QUOTE, WORKING, dict(row.references), due_in=self.settings.bulk_seconds)
            )
        for row in self._at(rows, others, BULK, UNKNOWN):
            # Told too late: it is not accepted, so it is not paid.
            others.append(self._over(row, FAILED, "lookup-unanswered"))
        until = after(self.settings.bulk_seconds)
        await self._continued("acceptParty", bulk_id, rows, results, accepted, steps, until, others)

    async def _quotes_told(self, bulk_id: str, rows: list[Transfer], results: Results) -> None:
        others, accepted, steps = await self._unasked(rows, results), [], []
        until = datetime.max.replace(tzinfo=UTC)
        for row in self._at(rows, others, QUOTE, WORKING):
            result = results.get(row.payment_id)
            verdict = self._judge.quote(row, result, missing=row.payment_id not in results)
            if verdict.means is not Means.GO or verdict.quoted is None or result is None:
                others += await self.ended(row, verdict)
                continue
            row.references["quote"] = result.quote_id or ""
            step = self.step(row, TRANSFER, SENT, dict(row.references), due_in=self.settings.bulk_seconds)
            self.terms(step, row, verdict)
            until = min(until, verdict.quoted.expires_at)
            accepted.append(row)
            steps.append(step)
        for row in self._at(rows, others, BULK, WORKING):
            # The parties were to wait for the hub. No quote is accepted, so nothing is paid.
            others += await self.ended(row, Verdict(Means.SYSTEMIC, _BY_ITSELF))
        for row in self._at(rows, others, BULK, UNKNOWN):
            others.append(self._over(row, FAILED, "lookup-unanswered"))
        await self._continued(
            "acceptQuote", bulk_id, rows, results, accepted, steps, moment_text(until), others
        )

    async def _continued(
        self,
        accept: str,
        bulk_id: str,
        rows: Sequence[Transfer],
        results: Results,
        accepted: list[Transfer],
        steps: list[Step],
        until: str,
        others: list[Step],
    ) -> None:
        """Commit what a callback means and tell the adapter of each entry whether it is accepted."""

        named = [(row.id, results.get(row.payment_id)) for row in rows]
        known = [(row_id, found.transfer_id) for row_id, found in named if found and found.transfer_id]

        def body(left: Sequence[Transfer]) -> bytes:
            yes = {row.id for row in left}
            return adapter_bulk.continuation(accept, [(told, row_id in yes) for row_id, told in known])

        if accepted:
            await self._stored_and_sent("PUT", bulk_id, accepted, steps, until, body, others)
        elif await self.apply(others) and known:
            # Nothing hangs on this refusal: what is not accepted is not paid.
            self.spawn(self._refuse(bulk_id, body(())))

    async def _refuse(self, bulk_id: str, content: bytes) -> None:
        await self._answer_of("PUT", bulk_id, content)

    async def _unasked(self, rows: Sequence[Transfer], results: Results) -> list[Step]:
        """Return the steps of payments that were made although the hub has accepted nothing; their batches stop."""
        steps = []
        for row in rows:
            if (row.stage, row.state) in OPEN_TRANSFERS or row.state in {PAID, REVIEW}:
                continue
            if moved(results.get(row.payment_id)):
                await self.stop(row.batch_id, _BY_ITSELF)
                reason = "paid-after-failure" if row.state == FAILED else _BY_ITSELF
                steps.append(self._over(row, REVIEW, reason))
        return steps

    @staticmethod
    def _at(rows: Sequence[Transfer], taken: Sequence[Step], stage: str, state: str) -> list[Transfer]:
        ids = {step.id for step in taken}
        return [row for row in rows if (row.stage, row.state) == (stage, state) and row.id not in ids]

    async def _ended_told(self, rows: list[Transfer], results: Results) -> None:
        steps = await self._unasked(rows, results)
        for row in self._at(rows, steps, BULK, WORKING) + self._at(rows, steps, QUOTE, WORKING):
            # The bulk is over and no quote was accepted: whatever is told, it is not paid.
            steps += await self.ended(row, self._judge.unpaid(results.get(row.payment_id)))
        for row in self._at(rows, steps, BULK, UNKNOWN):
            steps += await self.ended(row, self._judge.unpaid(results.get(row.payment_id)))
        for row in rows:
            if (row.stage, row.state) not in OPEN_TRANSFERS:
                continue
            verdict = self._judge.transfer(row, results.get(row.payment_id))
            if verdict.means is Means.OPEN and row.state == SENT:
                # From now on this one is asked about by itself.
                steps.append(Step(row.id, (row.stage, row.state), due_in=self.settings.ask_seconds))
            elif verdict.means is not Means.OPEN:
                steps += await self.ended(row, verdict)
        await self.apply(steps)

    async def ended(self, row: Transfer, verdict: Verdict) -> list[Step]:
        """Return the steps of a verdict; with the last one the payment's institution is noted."""
        steps = await super().ended(row, verdict)
        for step in steps if row.references.get(_BULK_ID) else ():
            if step.state == QUEUED:
                # What the bulk it was in still tells of it is about an earlier try from now on.
                step.references = {_BULK_ID: ""}
            else:
                step.institution = self._where(row)
        return steps

    def _over(self, row: Transfer, state: str, reason: str, due_in: float | None = None) -> Step:
        """Return the step that ends a transfer, gives it to a person or leaves it unknown, with where its payee is."""
        step = ended_as(row, state, reason)
        step.institution, step.due_in = self._where(row), due_in
        return step

    @staticmethod
    def _where(row: Transfer) -> str | None:
        """Return the institution the look-up found, else the one the order names."""
        account = row.instruction.payee_account
        return row.references.get("institution") or (account.provider if account else None)

    # --- questions -------------------------------------------------------------------------------------------

    async def _ask_item(self, row: Transfer) -> None:
        """Ask for one payment by the id the adapter gave it: only proof and an abort count.

        The scheme may know the payment by another id, so that nobody knows this one means nothing.
        """
        async with self._questions:
            deadline = asyncio.get_running_loop().time() + self.settings.request_timeout
            path = f"/transfers/{row.references['transfer']}"
            try:
                answer = await self.client.plain("GET", "transfers", path, b"", deadline)
            except (HubError, TimeoutError):
                return
        progress = adapter.read_status(answer)
        if progress.fulfil is not None or progress.state == adapter.ABORTED:
            await self._settle(row, progress)
