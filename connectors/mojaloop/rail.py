"""The rail: one payment from look-up to proof, driven by rows of the ledger, callbacks and clocks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from connectors.errors import HubError, Refused, Unavailable
from connectors.mojaloop.callbacks import CallbackRefused, Reads, Told
from connectors.mojaloop.client import Answer, MojaloopClient
from connectors.mojaloop.errors import Action, action_of, action_of_status
from connectors.mojaloop.flow import Flow, Means, Verdict
from connectors.mojaloop.formats import dumps
from connectors.mojaloop.ledger import OPEN_TRANSFERS, PARTY, QUOTE, TRANSFER
from connectors.mojaloop.model import Order, Party
from connectors.mojaloop.payees import PayeeUnknown
from connectors.payments import amounts
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
    CallbackAnswer,
    Ledger,
    Step,
    Transfer,
)
from registry.logs import log

_AWAY: Final = 5.0
"""Seconds after which a scheme that took nothing is tried again; that is no silence, and is not counted as such."""
_LOG = logging.getLogger("openspp.payments")
RESENDS: Final = 2
_ONCE: Final = 0.5
"""Seconds in which one batch is stopped only once for one reason."""
LATER: Final = 3600.0
"""Seconds between questions about a transfer that has become unknown."""
_TAKEN: Final = Verdict(Means.OPEN)


class Rail:
    """Takes transfers of the ledger through a scheme, one call for each."""

    def __init__(
        self, settings: Any, ledger: Ledger, client: MojaloopClient, flow: Flow, reader: Reads
    ) -> None:
        self.settings, self.ledger, self.client, self.flow = settings, ledger, client, flow
        self.bounds = Bounds(settings.window, settings.lookups, 0)
        self._reader = reader
        self._lookups: dict[str, float] = {}
        self._stops: dict[tuple[str | None, str], float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Break off what is on its way; the ledger knows all of it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def begin(self, rows: Sequence[Transfer]) -> None:
        """Look the payees of queued transfers up; look-ups of one identifier under way at the same time are one."""
        steps, asked = [], []
        for row in rows:
            try:
                payee = self.payee(row)
                self.in_time(row)
            except PayeeUnknown as error:
                steps.append(ended_as(row, FAILED, str(error)))
                continue
            steps.append(
                self.step(row, LOOKUP, WORKING, {PARTY: payee.key}, due_in=self.settings.lookup_seconds)
            )
            asked.append((row, payee))
        took = await self.apply(steps)
        for key, payee in {payee.key: payee for row, payee in asked if row.id in took}.items():
            self._look_up(key, payee)

    async def go_on(self, rows: Sequence[Transfer]) -> None:
        """Quote transfers that wait at the stage of quotes: their institution is known, and it has room for them."""
        steps = []
        new_id = self.flow.dialect.new_id
        for row in rows:
            row.references |= {"quote": new_id(), "transfer": new_id()}
            row.request = self.flow.quote(self.order(row))
            step = self.step(row, QUOTE, WORKING, dict(row.references), due_in=self.settings.lookup_seconds)
            step.request = row.request
            steps.append(step)
        took = await self.apply(steps)
        for row in rows:
            if row.id in took:
                self.at(row, QUOTE, WORKING)
                self.spawn(self._post_quote(row))

    async def ask(self, rows: Sequence[Transfer]) -> None:
        """Act on transfers whose answer is overdue: the same question again, the state, the identical bytes, or a person."""
        for row in rows:
            if row.stage == LOOKUP:
                await self._ask_again(row, "lookup-unanswered", self._look_up_again)
            elif row.stage == QUOTE:
                await self._ask_again(row, "quote-unanswered", self._post_quote)
            else:
                await self._ask_transfer(row)

    async def receive(self, method: str, uri: str, headers: Any, raw: bytes) -> CallbackAnswer:
        """Take a callback: what it says is in the ledger before it is answered, what follows is sent afterwards."""
        try:
            told = self._reader.read(method, uri, headers, raw)
            await self.told(told)
        except CallbackRefused as refused:
            return CallbackAnswer(refused.status, dumps(refused.body()), {"Content-Type": "application/json"})
        return CallbackAnswer(200)

    async def told(self, told: Told) -> None:
        """Act on what a callback says; raises `CallbackRefused` when nobody asked or the sender has no part in it."""
        if told.resource == "parties":
            await self._party_told(told)
        elif told.resource == "quotes":
            await self._each(told, "quote", self._quote_told)
        elif told.resource == "transfers":
            await self._each(told, "transfer", self._transfer_told)
        else:
            raise CallbackRefused(404, "3002", "Nothing of that kind was asked for.")

    async def _each(self, told: Told, kind: str, act: Any) -> None:
        rows = await self.ledger.find(kind, told.id)
        if not rows:
            raise CallbackRefused(400, "3200", "Nothing of that id was asked for.")
        for row in rows:
            self.check_sender(told, row)
            await act(told, row)

    def check_sender(self, told: Told, row: Transfer) -> None:
        """Raise `CallbackRefused` unless the sender is the institution the transfer goes to, or the switch."""
        if told.source not in {row.institution, self.settings.switch_fsp}:
            raise CallbackRefused(400, "3100", "The sender has no part in this.")

    # --- look-up ---------------------------------------------------------------------------------------------

    def payee(self, row: Transfer) -> Party:
        """Return whom a transfer pays; raises `PayeeUnknown` when nobody can be looked up or the amount cannot be paid."""
        try:
            amounts.check(row.instruction.amount)
        except Refused as error:
            raise PayeeUnknown(error.code) from None
        return self.flow.payee(row.instruction)

    def _look_up(self, key: str, payee: Party) -> None:
        now = asyncio.get_running_loop().time()
        if self._lookups.get(key, 0.0) > now:
            return
        if len(self._lookups) > 100_000:
            self._lookups = {k: until for k, until in self._lookups.items() if until > now}
        self._lookups[key] = now + self.settings.lookup_seconds
        self.spawn(self._get_party(key, payee))

    async def _look_up_again(self, row: Transfer) -> None:
        payee = self.payee(row)
        self._look_up(payee.key, payee)

    async def _get_party(self, key: str, payee: Party) -> None:
        verdict = await self.call("GET", "parties", self.flow.party_path(payee), b"", None)
        if verdict is not _TAKEN:
            # Nobody is going to answer this one: the next who asks is not to wait for it.
            self._lookups.pop(key, None)
        if verdict.means in {Means.FAILED, Means.SYSTEMIC} or verdict.wait is not None:
            rows = [r for r in await self.ledger.find(PARTY, key) if (r.stage, r.state) == (LOOKUP, WORKING)]
            await self.posted(rows, verdict)

    async def _party_told(self, told: Told) -> None:
        self._lookups.pop(told.id, None)
        found = await self.ledger.find(PARTY, told.id)
        if not found:
            raise CallbackRefused(400, "3200", "Nobody of that kind was asked for.")
        rows = [row for row in found if (row.stage, row.state) == (LOOKUP, WORKING)]
        steps: list[Step] = []
        for row in rows:
            verdict = self.flow.party_told(
                self.payee(row), told.body, told.source, row.instruction.amount.currency, failed=told.failed
            )
            if verdict.means is Means.GO and verdict.party is not None:
                steps.append(self.step(row, QUOTE, QUEUED, {}, institution=verdict.party.fsp))
            else:
                steps += await self.ended(row, verdict)
        await self.apply(steps)

    # --- quote -----------------------------------------------------------------------------------------------

    def order(self, row: Transfer) -> Order:
        """Return a transfer as it is quoted, by the ids stored for it."""
        payee = self.payee(row)
        known = Party(payee.type, payee.identifier, payee.sub, row.institution)
        return self.flow.order(row.instruction, known, row.references["quote"], row.references["transfer"])

    async def _post_quote(self, row: Transfer) -> None:
        verdict = await self.call("POST", "quotes", "/quotes", row.request or b"", row.institution)
        await self.posted([row], verdict)

    async def _quote_told(self, told: Told, row: Transfer) -> None:
        if (row.stage, row.state) != (QUOTE, WORKING) or row.references.get("quote") != told.id:
            return
        verdict = self.quote_verdict(row, told)
        if verdict.means is not Means.GO or verdict.quoted is None:
            await self.judged([row], [verdict])
            return
        step = self.step(row, TRANSFER, SENT, {}, due_in=self.settings.ask_seconds)
        self.terms(step, row, verdict)
        step.request = row.request = self.flow.transfer(self.order(row), verdict.quoted)
        if await self.apply([step]):
            self.at(row, TRANSFER, SENT)
            self.spawn(self._post_transfer(row))

    def quote_verdict(self, row: Transfer, told: Told) -> Verdict:
        """Return what a quote's answer means, for an order that has perhaps come too late meanwhile."""
        try:
            self.in_time(row)
        except PayeeUnknown as error:
            return Verdict(Means.FAILED, str(error))
        return self.flow.quote_told(self.order(row), told.body, failed=told.failed)

    @staticmethod
    def in_time(row: Transfer) -> None:
        """Raise `PayeeUnknown` with the reason `order-expired` when the order says it is not to be paid any more."""
        until = row.instruction.expires_at
        if until is not None and until <= datetime.now(UTC):
            raise PayeeUnknown("order-expired")

    @staticmethod
    def terms(step: Step, row: Transfer, verdict: Verdict) -> None:
        """Take the terms of a quote into a step: condition, amount and fee."""
        quoted = verdict.quoted
        assert quoted is not None  # a verdict to go on carries the terms
        step.condition = row.condition = quoted.condition
        step.amount = row.amount = quoted.amount
        ordered = row.instruction.amount.minor_units
        receive = quoted.receive if quoted.receive is not None else ordered
        step.fee = row.fee = max(quoted.amount - receive, 0)
        step.asked = row.asked = 0

    # --- transfer --------------------------------------------------------------------------------------------

    async def _post_transfer(self, row: Transfer) -> None:
        verdict = await self.call("POST", "transfers", "/transfers", row.request or b"", row.institution)
        await self.posted([row], verdict)

    async def posted(self, rows: Sequence[Transfer], verdict: Verdict) -> None:
        """Let transfers take the step that the direct answer to their request means; most answers mean none."""
        if verdict.means in {Means.FAILED, Means.SYSTEMIC}:
            if verdict.reason == "3106":
                # Another body under this id is known there: what that one did, only a person can find out.
                verdict = Verdict(Means.REVIEW, "3106")
            elif any(row.resent for row in rows):
                # Refusing the repeat says nothing about the first request; the state does.
                if verdict.means is Means.SYSTEMIC:
                    await self.stop(rows[0].batch_id, verdict.reason or "systemic")
                return
            await self.judged(rows, [verdict] * len(rows))
        elif verdict.wait is not None:
            steps = [Step(row.id, (row.stage, row.state), due_in=verdict.wait) for row in rows]
            for step in steps:
                step.asked = None if step.expected[1] == SENT else 0
            await self.apply(steps)

    async def _transfer_told(self, told: Told, row: Transfer) -> None:
        if row.references.get("transfer") != told.id:
            # An earlier try of this payment that was known dead.
            if not told.failed and self._says_committed(told):
                await self.apply([ended_as(row, REVIEW, "paid-after-failure")])
            return
        verdict = self.flow.transfer_told(row.condition or "", told.body, failed=told.failed)
        await self.transfer_judged(row, verdict)

    def _says_committed(self, told: Told) -> bool:
        verdict = self.flow.transfer_told("", told.body, failed=False)
        return verdict.means is Means.REVIEW

    async def transfer_judged(self, row: Transfer, verdict: Verdict) -> None:
        """Let a transfer take the step its answer means; a contradiction to what is known goes to a person."""
        if row.state in {FAILED, QUEUED} and verdict.means in {Means.PAID, Means.REVIEW}:
            await self.apply([ended_as(row, REVIEW, "paid-after-failure")])
        elif (row.stage, row.state) in OPEN_TRANSFERS:
            if verdict.means is not Means.ABSENT:
                await self.judged([row], [verdict])
            elif row.state == SENT:
                await self.resend(row)

    async def _ask_transfer(self, row: Transfer) -> None:
        if row.state == SENT and row.asked >= self.settings.asks:
            if row.resent == 0 and row.stage == TRANSFER:
                await self.resend(row)
            else:
                await self.apply([unanswered(row)])
            return
        if await self.count(row):
            transfer_id = row.references["transfer"]
            self.spawn(self._get(row, "transfers", f"/transfers/{transfer_id}"))

    async def _get(self, row: Transfer, resource: str, path: str) -> None:
        await self.call("GET", resource, path, b"", row.institution)

    async def resend(self, row: Transfer) -> None:
        """Send the identical bytes again, at most twice; then a person decides."""
        if row.resent >= RESENDS:
            await self.apply([ended_as(row, REVIEW, "unknown-there")])
            return
        row.resent += 1
        step = Step(row.id, (TRANSFER, SENT), asked=0, resent=row.resent, due_in=self.settings.ask_seconds)
        if await self.apply([step]):
            self.spawn(self._post_transfer(row))

    # --- common ----------------------------------------------------------------------------------------------

    async def call(
        self, method: str, resource: str, path: str, body: bytes, destination: str | None
    ) -> Verdict:
        """Make one request and return what its answer alone means; `OPEN` when it was taken or nobody can tell."""
        deadline = asyncio.get_running_loop().time() + self.settings.request_timeout
        try:
            if method == "GET":
                answer = await self.client.get(resource, path, destination, deadline)
            else:
                answer = await self.client.post(resource, path, body, destination, deadline)
        except Unavailable as error:
            systemic = error.code in {"token-refused", "address-not-allowed"}
            if systemic:
                return Verdict(Means.SYSTEMIC, error.code)
            return Verdict(Means.OPEN, error.code, wait=error.retry_after or _AWAY)
        except (HubError, TimeoutError):
            return Verdict(Means.OPEN, "outcome-unknown")
        return _TAKEN if answer.taken else answered(answer)

    async def judged(self, rows: Sequence[Transfer], verdicts: Sequence[Verdict]) -> None:
        """Let transfers take the steps of their verdicts, in one commit."""
        steps = []
        for row, verdict in zip(rows, verdicts, strict=True):
            steps += await self.ended(row, verdict)
        await self.apply(steps)

    async def ended(self, row: Transfer, verdict: Verdict) -> list[Step]:
        """Return the step of a verdict that ends a transfer or sets it back; an open one means none."""
        if verdict.means is Means.PAID:
            step = ended_as(row, PAID, None)
            step.rail_reference = row.references.get("transfer")
            if verdict.transferred is not None:
                step.completed_at = verdict.transferred.completed_at
            return [step]
        if verdict.means in {Means.FAILED, Means.REVIEW}:
            return [ended_as(row, FAILED if verdict.means is Means.FAILED else REVIEW, verdict.reason)]
        if verdict.means is Means.SYSTEMIC:
            await self.ledger.stop(row.batch_id, verdict.reason or "systemic")
            return [
                Step(row.id, (row.stage, row.state), LOOKUP, QUEUED, reason=verdict.reason, asked=0, resent=0)
            ]
        return []

    async def stop(self, batch_id: str | None, reason: str) -> None:
        """Stop a batch; a thousand transfers of one answer that all say so stop it once."""
        now, key = asyncio.get_running_loop().time(), (batch_id, reason)
        if self._stops.get(key, 0.0) <= now:
            self._stops = {known: until for known, until in self._stops.items() if until > now}
            self._stops[key] = now + _ONCE
            await self.ledger.stop(batch_id, reason)

    async def _ask_again(self, row: Transfer, unanswered: str, act: Any) -> None:
        if row.asked >= self.settings.asks:
            await self.apply([ended_as(row, FAILED, unanswered)])
        elif await self.count(row):
            self.spawn(act(row))

    async def count(self, row: Transfer) -> bool:
        """Count a question about a transfer, and say whether it may be asked."""
        row.asked += 1
        waits = {SENT: self.settings.ask_seconds, UNKNOWN: LATER}
        wait = waits.get(row.state, self.settings.lookup_seconds)
        return bool(await self.apply([Step(row.id, (row.stage, row.state), asked=row.asked, due_in=wait)]))

    async def apply(self, steps: Sequence[Step]) -> set[str]:
        """Commit steps and return the ids of the transfers that took theirs."""
        if not steps:
            return set()
        took = await self.ledger.apply(steps)
        return {step.id for step, done in zip(steps, took, strict=True) if done}

    @staticmethod
    def step(
        row: Transfer,
        stage: str,
        state: str,
        references: dict[str, str],
        *,
        due_in: float | None = None,
        institution: str | None = None,
    ) -> Step:
        """Return a step of a row to another stage and state."""
        if institution is not None:
            row.institution = institution
        return Step(
            row.id, (row.stage, row.state), stage, state, institution, references, due_in=due_in, asked=0
        )

    @staticmethod
    def at(row: Transfer, stage: str, state: str) -> Transfer:
        """Bring a row in hand to where its step has brought it in the ledger."""
        row.stage, row.state, row.asked = stage, state, 0
        return row

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something after the callback has been answered; what it does not reach is overdue and asked about."""
        task = asyncio.get_running_loop().create_task(_guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # One that is cancelled before it began would be told as never awaited.
        task.add_done_callback(lambda _: work.close())

    @property
    def under_way(self) -> Iterable[asyncio.Task[None]]:
        """The requests being made now."""
        return tuple(self._tasks)


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    """Do something nobody waits for; where it breaks off, the ledger knows what is overdue."""
    try:
        await work
    except HubError as error:
        log(_LOG, logging.WARNING, "payment-step-broken-off", code=error.code)
    except Exception as error:  # the text of a foreign exception may quote a person
        log(_LOG, logging.ERROR, "payment-step-broken-off", error=error)


def answered(answer: Answer) -> Verdict:
    """Return what an answer that is no 2xx means for a request that was to create something or to ask."""
    if answer.status == 406 and answer.offered:
        return Verdict(Means.SYSTEMIC, f"version-offered-{answer.offered[0]}")
    action = action_of(answer.code) if answer.code is not None else action_of_status(answer.status)
    reason = answer.code or f"http-{answer.status}"
    if action is Action.SYSTEMIC:
        return Verdict(Means.SYSTEMIC, reason)
    if action is Action.FINAL and 400 <= answer.status < 500:
        return Verdict(Means.FAILED, reason)
    wait = answer.retry_after or (_AWAY if action is Action.LATER else None)
    return Verdict(Means.OPEN, reason, wait=wait)


def ended_as(row: Transfer, state: str, reason: str | None) -> Step:
    """Return the step that ends a transfer, or gives it to a person."""
    return Step(row.id, (row.stage, row.state), row.stage, state, reason=reason)


def unanswered(row: Transfer) -> Step:
    """Return the step to unknown: a late answer still ends it, and now and then it is asked about."""
    step = ended_as(row, UNKNOWN, "unanswered")
    step.due_in = LATER
    return step
