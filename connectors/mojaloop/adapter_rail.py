"""The rail through an institution's scheme adapter: created, party accepted, quote accepted; only the last of these pays.

The creating call is made once. When its answer is lost, nobody knows the transfer's id, so the payment goes to a person; the
two acceptances are asked about by id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from connectors.errors import HubError, Unavailable
from connectors.mojaloop import adapter
from connectors.mojaloop.adapter import Progress
from connectors.mojaloop.callbacks import CallbackRefused, Told
from connectors.mojaloop.checks import party_fault
from connectors.mojaloop.errors import Action, action_of
from connectors.mojaloop.flow import Means, Verdict
from connectors.mojaloop.formats import dumps
from connectors.mojaloop.ilp import fulfils
from connectors.mojaloop.ledger import QUOTE, TRANSFER
from connectors.mojaloop.model import Order, Party
from connectors.mojaloop.payees import PayeeUnknown
from connectors.mojaloop.rail import Rail, ended_as, unanswered
from connectors.payments.contract import FAILED, LOOKUP, QUEUED, REVIEW, SENT, WORKING, Transfer


class AdapterRail(Rail):
    """Takes transfers through a scheme adapter, one call after the other."""

    async def begin(self, rows: Sequence[Transfer]) -> None:
        """Create queued transfers at the adapter; the intent is stored first, since the call is never repeated."""
        steps, going = [], []
        for row in rows:
            try:
                self.in_time(row)
                row.request = dumps(
                    adapter.transfer_request(row.payment_id, self._asked(row), self.flow.payer)
                )
            except PayeeUnknown as error:
                steps.append(ended_as(row, FAILED, str(error)))
                continue
            step = self.step(row, LOOKUP, WORKING, {}, due_in=self.settings.lookup_seconds)
            step.request = row.request
            steps.append(step)
            going.append(row)
        took = await self.apply(steps)
        for row in going:
            if row.id in took:
                self.spawn(self._create(self.at(row, LOOKUP, WORKING)))

    async def go_on(self, rows: Sequence[Transfer]) -> None:
        """Accept the party of transfers whose institution is known, which has the adapter ask for a quote."""
        took = await self.apply(
            [self.step(row, QUOTE, WORKING, {}, due_in=self.settings.lookup_seconds) for row in rows]
        )
        for row in rows:
            if row.id in took:
                self.spawn(self._accept_party(self.at(row, QUOTE, WORKING)))

    async def ask(self, rows: Sequence[Transfer]) -> None:
        """Act on overdue transfers: before the quote is accepted no money can have moved, afterwards the state is asked for."""
        for row in rows:
            if row.stage == LOOKUP:
                await self.apply([ended_as(row, REVIEW, "adapter-post-open")])
            elif row.stage == QUOTE:
                await self.apply([ended_as(row, FAILED, "quote-unanswered")])
            elif row.state == SENT and row.asked >= self.settings.asks:
                await self.apply([unanswered(row)])
            elif await self.count(row):
                self.spawn(self._ask_state(row))

    async def told(self, told: Told) -> None:
        """Refuse: about single transfers an adapter answers at once and calls nobody back."""
        raise CallbackRefused(404, "3002", "Nothing is called back here.")

    def _asked(self, row: Transfer) -> Order:
        payee = self.payee(row)
        return self.flow.order(row.instruction, payee, "", "")

    async def _create(self, row: Transfer) -> None:
        progress = await self._call("POST", "/transfers", row.request or b"")
        if progress is None:
            await self.apply([ended_as(row, REVIEW, "adapter-post-open")])
        elif isinstance(progress, Verdict):
            await self.judged([row], [progress])
        elif progress.state == adapter.DONE or (progress.fulfil and progress.fulfil.state == "COMMITTED"):
            # Acceptance is on at the adapter: this one has been paid, and nothing more is sent that way.
            await self.stop(row.batch_id, "adapter-accepts-by-itself")
            await self.judged([row], [self._finished(progress, None)])
        elif progress.error is not None or progress.open:
            await self._failed(row, progress, "adapter-post-open")
        elif progress.transfer_id is None or progress.party is None:
            await self.apply([ended_as(row, REVIEW, "adapter-post-open")])
        else:
            await self._party(row, progress)

    async def _party(self, row: Transfer, progress: Progress) -> None:
        assert progress.party is not None  # the caller has looked
        found = progress.party
        fault = party_fault(self.payee(row), found, row.instruction.amount.currency)
        if fault is not None:
            await self.apply([ended_as(row, FAILED, fault)])
            return
        references = {"transfer": progress.transfer_id or ""}
        await self.apply(
            [self.step(row, QUOTE, QUEUED, references, institution=found.party.fsp or "unknown")]
        )

    async def _accept_party(self, row: Transfer) -> None:
        progress = await self._put(row, acceptParty=True)
        if progress is None:
            return
        if isinstance(progress, Verdict):
            await self.judged([row], [progress])
            return
        if progress.state != adapter.QUOTE or progress.quote is None:
            await self._failed(row, progress, "quote-unreadable", money_sent=False)
            return
        row.references |= {"quote": progress.quote_id or ""}
        order = self._order_of(row, progress)
        verdict = self.flow.judged_quote(order, progress.quote)
        if verdict.means is not Means.GO:
            await self.judged([row], [verdict])
            return
        step = self.step(row, TRANSFER, SENT, dict(row.references), due_in=self.settings.ask_seconds)
        self.terms(step, row, verdict)
        step.request = dumps({"acceptQuote": True})
        if await self.apply([step]):
            self.spawn(self._accept_quote(self.at(row, TRANSFER, SENT)))

    def _order_of(self, row: Transfer, progress: Progress) -> Order:
        payee = self.payee(row)
        known = Party(payee.type, payee.identifier, payee.sub, row.institution)
        return self.flow.order(row.instruction, known, progress.quote_id or "", row.references["transfer"])

    async def _accept_quote(self, row: Transfer) -> None:
        progress = await self._put(row, acceptQuote=True)
        if isinstance(progress, Verdict):
            await self.judged([row], [progress])
        elif progress is not None:
            await self._settle(row, progress)

    async def _settle(self, row: Transfer, progress: Progress) -> None:
        if progress.state == adapter.DONE or (progress.fulfil and progress.fulfil.state == "COMMITTED"):
            await self.judged([row], [self._finished(progress, row.condition)])
        elif adapter.ABORTED in {progress.state, progress.fulfil.state if progress.fulfil else ""}:
            await self.judged([row], [Verdict(Means.FAILED, "aborted")])
        else:
            await self._failed(row, progress, "unanswered")

    @staticmethod
    def _finished(progress: Progress, condition: str | None) -> Verdict:
        """Return paid when the proof is there and fits; without the terms at hand the answer's own count."""
        proof = progress.fulfil.fulfilment if progress.fulfil else None
        terms = condition or (progress.quote.condition if progress.quote else None)
        if proof is None or terms is None:
            return Verdict(Means.REVIEW, "fulfilment-missing")
        if not fulfils(proof, terms):
            return Verdict(Means.REVIEW, "fulfilment-wrong")
        return Verdict(Means.PAID, transferred=progress.fulfil)

    async def _failed(
        self, row: Transfer, progress: Progress, unclear: str, *, money_sent: bool = True
    ) -> None:
        code = progress.error
        if progress.open or code is None:
            if not money_sent:
                await self.apply([ended_as(row, FAILED, code or unclear)])
            elif row.stage == LOOKUP:
                await self.apply([ended_as(row, REVIEW, unclear)])
            return
        action = action_of(code)
        if action is Action.SYSTEMIC:
            await self.judged([row], [Verdict(Means.SYSTEMIC, code)])
        elif action is Action.FINAL or not money_sent or row.stage == LOOKUP:
            await self.judged([row], [Verdict(Means.FAILED, code)])

    async def _ask_state(self, row: Transfer) -> None:
        deadline = asyncio.get_running_loop().time() + self.settings.request_timeout
        try:
            path = f"/transfers/{row.references['transfer']}"
            answer = await self.client.plain("GET", "transfers", path, b"", deadline)
        except (HubError, TimeoutError):
            return
        progress = adapter.read_status(answer)
        if progress.fulfil is not None or progress.state in {adapter.DONE, adapter.ABORTED}:
            await self._settle(row, progress)
        elif progress.error is not None and action_of(progress.error) is Action.FINAL:
            # The adapter forgets: what it does not know any more may have been paid.
            unknown = progress.error in {"3200", "3207", "3208"}
            verdict = Verdict(Means.REVIEW if unknown else Means.FAILED, progress.error)
            await self.judged([row], [verdict])

    async def _put(self, row: Transfer, **accepted: Any) -> Progress | Verdict | None:
        return await self._call("PUT", f"/transfers/{row.references['transfer']}", dumps(accepted))

    async def _call(self, method: str, path: str, body: bytes) -> Progress | Verdict | None:
        """Return what the adapter answers; None when nobody can tell, a verdict when nothing was sent."""
        deadline = asyncio.get_running_loop().time() + self.settings.request_timeout
        try:
            return adapter.read(await self.client.plain(method, "transfers", path, body, deadline))
        except Unavailable as error:
            return Verdict(Means.SYSTEMIC, error.code)
        except (HubError, TimeoutError):
            return None
