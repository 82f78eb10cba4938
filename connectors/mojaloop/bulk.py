"""The rail in bulk: quotes and transfers of one institution in one call, judged item by item.

A row keeps its own part of the body; the body is put together from the parts in the order they were sent, so that a repeat is
the same to the byte.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import orjson

from connectors.mojaloop.callbacks import CallbackRefused, Told
from connectors.mojaloop.flow import Flow, Means, Verdict
from connectors.mojaloop.formats import MAX_BODY, after, dumps
from connectors.mojaloop.fspiop import FspiopBodies
from connectors.mojaloop.ledger import ITEM, QUOTE, TRANSFER, bulk_parts, stored_part
from connectors.mojaloop.model import BodyInvalid, Item, Order
from connectors.mojaloop.payees import PayeeUnknown
from connectors.mojaloop.rail import RESENDS, Rail, ended_as, unanswered
from connectors.payments.contract import FAILED, REVIEW, SENT, WORKING, Bounds, Step, Transfer

_QUOTES: Final = "bulk_quote"
_TRANSFERS: Final = "bulk_transfer"
_ROOM: Final = 64 * 1024
"""Bytes of a bulk body kept for what is not items."""


class BulkRail(Rail):
    """Takes transfers through a scheme in bulk calls; look-ups stay single, the standard has no other."""

    def __init__(self, settings: Any, *parts: Any) -> None:
        super().__init__(settings, *parts)
        window = max(settings.window, 2 * settings.bulk_items)
        self.bounds = Bounds(window, settings.lookups, settings.bulk_items)

    @property
    def bodies(self) -> FspiopBodies:
        """The dialect, which has bulk messages: the settings have been checked."""
        assert isinstance(self.flow.dialect, FspiopBodies)  # the settings have been checked
        return self.flow.dialect

    async def go_on(self, rows: Sequence[Transfer]) -> None:
        """Quote transfers whose institution is known, in one call for each institution (or more, when they are many)."""
        by_institution: dict[str, list[Transfer]] = defaultdict(list)
        for row in rows:
            by_institution[row.institution or ""].append(row)
        for group in by_institution.values():
            for part in self._parts(group):
                await self._quote_bulk(part)

    def _parts(self, rows: Sequence[Transfer]) -> list[list[Transfer]]:
        """Give rows their ids and quote items, and split them to the limits of one call."""
        new_id = self.flow.dialect.new_id
        parts: list[list[Transfer]] = [[]]
        size = 0
        for row in rows:
            row.references |= {"quote": new_id(), "transfer": new_id()}
            row.request = dumps(self.bodies.quote_item(self.order(row), self.flow.payer))
            size += len(row.request) + 1
            if parts[-1] and (len(parts[-1]) >= self.settings.bulk_items or size > MAX_BODY - _ROOM):
                parts.append([])
                size = len(row.request) + 1
            parts[-1].append(row)
        return [part for part in parts if part]

    async def _quote_bulk(self, rows: Sequence[Transfer]) -> None:
        bulk_id, expires = self.flow.dialect.new_id(), after(self.settings.bulk_seconds)
        steps = []
        for place, row in enumerate(rows):
            row.references[_QUOTES] = bulk_id
            row.request = stored_part(place, expires, row.request or b"")
            step = self.step(row, QUOTE, WORKING, dict(row.references), due_in=self.settings.lookup_seconds)
            step.request = row.request
            steps.append(step)
        took = await self.apply(steps)
        going = [self.at(row, QUOTE, WORKING) for row in rows if row.id in took]
        if going:
            self.spawn(self._post_quotes(going))

    async def _post_quotes(self, rows: Sequence[Transfer]) -> None:
        expires, parts = bulk_parts(rows)
        bulk_id = rows[0].references[_QUOTES]
        body = self.bodies.bulk_quote(bulk_id, _spliced(parts), self.flow.payer, expires)
        verdict = await self.call("POST", "bulkQuotes", "/bulkQuotes", dumps(body), rows[0].institution)
        await self.posted(rows, verdict)

    async def told(self, told: Told) -> None:
        """Act on what a callback says, of a single or of a bulk call."""
        if told.resource == "bulkQuotes":
            await self._quotes_told(told, await self._rows(told, _QUOTES))
        elif told.resource == "bulkTransfers":
            await self._transfers_told(told, await self._rows(told, _TRANSFERS))
        else:
            await super().told(told)

    async def _rows(self, told: Told, kind: str) -> list[Transfer]:
        rows = await self.ledger.find(kind, told.id)
        if not rows:
            raise CallbackRefused(400, "3200", "Nothing of that id was asked for.")
        self.check_sender(told, rows[0])
        return [row for row in rows if row.references.get(kind) == told.id]

    async def _quotes_told(self, told: Told, rows: list[Transfer]) -> None:
        rows = [row for row in rows if (row.stage, row.state) == (QUOTE, WORKING)]
        if not rows:
            return
        if told.failed:
            verdict = self.flow.quote_told(self.order(rows[0]), told.body, failed=True)
            await self.judged(rows, [verdict] * len(rows))
            return
        items = self._items(told, "quotes")
        steps: list[Step] = []
        going: list[Transfer] = []
        bulk_id, expires = self.flow.dialect.new_id(), after(self.settings.bulk_seconds)
        for row in rows:
            item = items.get(row.references["quote"])
            order = self.order(row)
            verdict = self._quote_verdict(row, order, item)
            if verdict.means is not Means.GO or verdict.quoted is None:
                steps += await self.ended(row, verdict)
                continue
            row.references[_TRANSFERS] = bulk_id
            step = self.step(row, TRANSFER, SENT, dict(row.references), due_in=self.settings.ask_seconds)
            self.terms(step, row, verdict)
            part = dumps(self.bodies.transfer_item(order, verdict.quoted))
            step.request = row.request = stored_part(len(going), expires, part)
            steps.append(step)
            going.append(row)
        took = await self.apply(steps)
        # Rows another process moved meanwhile would leave holes in the body: the call is then made by asking.
        if going and all(row.id in took for row in going):
            self.spawn(self._post_transfers([self.at(row, TRANSFER, SENT) for row in going]))

    def _quote_verdict(self, row: Transfer, order: Order, item: Item | None) -> Verdict:
        if item is None:
            return Verdict(Means.FAILED, "quote-missing")
        try:
            self.in_time(row)
        except PayeeUnknown as error:
            return Verdict(Means.FAILED, str(error))
        return self.flow.quote_item(order, item)

    async def _post_transfers(self, rows: Sequence[Transfer]) -> None:
        expires, parts = bulk_parts(rows)
        first = rows[0].references
        body = self.bodies.bulk_transfer(
            first[_TRANSFERS],
            first[_QUOTES],
            rows[0].institution or "",
            _spliced(parts),
            self.flow.payer,
            expires,
        )
        verdict = await self.call("POST", "bulkTransfers", "/bulkTransfers", dumps(body), rows[0].institution)
        await self.posted(rows, verdict)

    async def _transfers_told(self, told: Told, rows: list[Transfer]) -> None:
        live = [row for row in rows if (row.stage, row.state) == (TRANSFER, SENT)]
        if told.failed:
            code = self.flow.dialect.read_error(told.body)
            verdict = self.flow.transfer_told("", told.body, failed=True)
            if verdict.means is Means.ABSENT:
                await self._resend_bulk(live)
            elif live:
                await self.judged(live, [Verdict(verdict.means, code)] * len(live))
            return
        items = self._items(told, "transfers")
        judged: list[tuple[Transfer, Verdict]] = []
        steps: list[Step] = []
        for row in rows:
            item = items.get(row.references["transfer"])
            if item is None:
                verdict = Verdict(Means.OPEN, "item-missing")
            else:
                verdict = self.flow.transfer_item(row.condition or "", item)
            if (row.stage, row.state) != (TRANSFER, SENT):
                await self.transfer_judged(row, verdict)
            elif verdict.means is Means.OPEN:
                # From now on this one is asked about by itself.
                steps.append(Step(row.id, (TRANSFER, SENT), ITEM, due_in=self.settings.ask_seconds))
            else:
                judged.append((row, verdict))
        await self.apply(steps)
        await self.judged([row for row, _ in judged], [verdict for _, verdict in judged])

    def _items(self, told: Told, kind: str) -> dict[str, Item]:
        """Return the entries of a bulk answer by id; of two for one id the first counts, and a contradiction leaves it open."""
        try:
            listed = (
                self.bodies.read_bulk_quote(told.body)
                if kind == "quotes"
                else self.bodies.read_bulk_transfer(told.body)[1]
            )
        except BodyInvalid:
            raise CallbackRefused(400, "3100", "The results cannot be read.") from None
        found: dict[str, Item] = {}
        for item in listed:
            known = found.setdefault(item.id, item)
            if known != item:
                found[item.id] = Item(item.id, None, None)
        return found

    async def ask(self, rows: Sequence[Transfer]) -> None:
        """Act on overdue transfers: one question for each bulk call that is still without an answer."""
        single: list[Transfer] = []
        bulks: dict[tuple[str, str], list[Transfer]] = defaultdict(list)
        for row in rows:
            if row.stage == QUOTE and row.state == WORKING and _QUOTES in row.references:
                bulks[_QUOTES, row.references[_QUOTES]].append(row)
            elif (row.stage, row.state) == (TRANSFER, SENT) and _TRANSFERS in row.references:
                bulks[_TRANSFERS, row.references[_TRANSFERS]].append(row)
            else:
                single.append(row)
        await super().ask(single)
        for (kind, bulk_id), some in bulks.items():
            everyone = [r for r in await self.ledger.find(kind, bulk_id) if r.references.get(kind) == bulk_id]
            live = {row.id for row in some}
            await self._ask_bulk(
                kind, bulk_id, [row for row in everyone if row.id in live or self._live(row, kind)]
            )

    @staticmethod
    def _live(row: Transfer, kind: str) -> bool:
        return (row.stage, row.state) == ((QUOTE, WORKING) if kind == _QUOTES else (TRANSFER, SENT))

    async def _ask_bulk(self, kind: str, bulk_id: str, rows: list[Transfer]) -> None:
        if not rows:
            return
        stage, state = (QUOTE, WORKING) if kind == _QUOTES else (TRANSFER, SENT)
        if rows[0].asked >= self.settings.asks:
            if kind == _QUOTES:
                await self.apply([ended_as(row, FAILED, "quote-unanswered") for row in rows])
            elif rows[0].resent == 0:
                await self._resend_bulk(rows)
            else:
                await self.apply([unanswered(row) for row in rows])
            return
        wait = self.settings.lookup_seconds if kind == _QUOTES else self.settings.ask_seconds
        steps = [Step(row.id, (stage, state), asked=row.asked + 1, due_in=wait) for row in rows]
        if not await self.apply(steps):
            return
        if kind == _QUOTES:
            self.spawn(self._post_quotes(rows))
        else:
            self.spawn(self._get_bulk(rows[0], bulk_id))

    async def _get_bulk(self, row: Transfer, bulk_id: str) -> None:
        await self.call("GET", "bulkTransfers", f"/bulkTransfers/{bulk_id}", b"", row.institution)

    async def resend(self, row: Transfer) -> None:
        """Give an entry the scheme does not know to a person: it is no request of its own, and its bulk has been answered."""
        if _TRANSFERS in row.references:
            await self.apply([ended_as(row, REVIEW, "unknown-there")])
        else:
            await super().resend(row)

    async def _resend_bulk(self, rows: list[Transfer]) -> None:
        if not rows:
            return
        if rows[0].resent >= RESENDS:
            await self.apply([ended_as(row, REVIEW, "unknown-there") for row in rows])
            return
        steps = []
        for row in rows:
            row.resent += 1
            steps.append(
                Step(row.id, (TRANSFER, SENT), asked=0, resent=row.resent, due_in=self.settings.ask_seconds)
            )
        took = await self.apply(steps)
        if len(took) == len(rows):
            self.spawn(self._post_transfers(rows))


def _spliced(parts: Sequence[bytes]) -> list[Any]:
    return [orjson.Fragment(part) for part in parts]


def rail_class(flow: Flow) -> type[Rail]:
    """Return the rail for a target's settings: in bulk where the dialect and the operator allow it."""
    return BulkRail if flow.settings.bulk and flow.dialect.bulk else Rail


__all__ = ["BulkRail", "rail_class"]
