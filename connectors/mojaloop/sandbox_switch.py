"""What the sandbox's switch does with a request it has let in: the callbacks each one leads to."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from yarl import URL

from connectors.mojaloop.formats import dumps
from connectors.mojaloop.sandbox_scheme import Fault, Paid, Scheme
from connectors.mojaloop.sandbox_wire import Asked, Wire

Call = Callable[[], Awaitable[None]]
"""A callback that only has to be called."""
Led = tuple[list[tuple[Call, bool]], str]
"""The callbacks of a request, each with whether it comes before the 202, and the id the request is known by."""
MakeCall = Callable[[str, str, dict[str, Any] | str, str, str], Call]
"""Makes a callback from path, resource, body or error code, source, and the payee's identifier for misbehaviours."""
SWITCH = "switch"


class Switch:
    """Reads requests, has the scheme act on them, and says which callbacks follow."""

    def __init__(self, wire: Wire, scheme: Scheme, call: MakeCall) -> None:
        self._wire, self._scheme, self._call = wire, scheme, call
        self._answers: dict[str, tuple[str, dict[str, Any]]] = {}
        self.shuffle = False

    def posted(self, resource: str, body: dict[str, Any], raw: bytes) -> Led:
        """Act on a POST; raises `Turned`."""
        if resource == "quotes":
            return self.quotes(body, raw)
        if resource == "transfers":
            return self.transfers(body, raw)
        return self.bulk_quotes(body, raw) if resource == "bulkQuotes" else self.bulk_transfers(body, raw)

    def asked(self, uri: str, resource: str) -> list[Call]:
        """Return the callbacks a GET leads to; none where the scheme keeps silent."""
        parts = [URL(f"http://x/{part}", encoded=True).path[1:] for part in uri.split("/")[2:]]
        if resource == "parties" and len(parts) in {2, 3}:
            kind, identifier, sub = parts[0], parts[1], parts[2] if len(parts) == 3 else None
            if self._scheme.has(identifier, Fault.PARTY_SILENT):
                return []
            found = self._scheme.find(kind, identifier, sub)
            source = SWITCH if isinstance(found, str) else self._scheme.fsp_of(identifier)
            return [self._call(uri, "parties", found, source, identifier)]
        known = self._scheme.transfers.get(parts[0]) if resource == "transfers" else None
        if resource == "transfers":
            if known is None:
                return [self._call(uri, resource, "3208", SWITCH, "")]
            told = self._scheme.told(known, asked_for=True)
            return [self._call(uri, resource, told, known.fsp, "")] if told is not None else []
        if resource == "quotes":
            quote = self._scheme.quotes.get(parts[0])
            found = quote.answer if quote else "3205"
            return [self._call(uri, resource, found, quote.asked.payee.fsp or "" if quote else SWITCH, "")]
        kept = self._answers.get(parts[0])
        if kept is None:
            return [self._call(uri, resource, "3210" if resource == "bulkTransfers" else "3209", SWITCH, "")]
        return [self._call(uri, resource, kept[1], kept[0], "")]

    def quotes(self, body: dict[str, Any], raw: bytes) -> Led:
        """Act on `POST /quotes`."""
        asked = self._wire.read_quote(body)
        answer = self._scheme.quote(asked, raw)
        identifier = asked.payee.identifier
        if self._scheme.has(identifier, Fault.QUOTE_SILENT):
            return [], asked.id
        source = asked.payee.fsp or ""
        call = self._call(f"/quotes/{asked.id}", "quotes", answer, source, identifier)
        return [(call, self._scheme.has(identifier, Fault.EARLY))], asked.id

    def transfers(self, body: dict[str, Any], raw: bytes) -> Led:
        """Act on `POST /transfers`."""
        asked = self._wire.read_transfer(body)
        paid = self._scheme.transfer(asked, raw)
        told = None if paid is None else self._scheme.told(paid, asked_for=False)
        if paid is None or told is None:
            return [], asked.id
        source = SWITCH if paid.error in {"4001", "3205", "3100"} else paid.fsp
        uri = f"/transfers/{asked.id}"
        if self._scheme.has(paid.identifier, Fault.CONTRADICTION):
            calls = [self._call(uri, "transfers", "3303", SWITCH, "")]
            calls.append(self._call(uri, "transfers", told, source, ""))

            async def both() -> None:
                for call in calls:
                    await call()

            return [(both, False)], asked.id
        call = self._call(uri, "transfers", told, source, paid.identifier)
        return [(call, self._scheme.has(paid.identifier, Fault.EARLY))], asked.id

    def bulk_quotes(self, body: dict[str, Any], raw: bytes) -> Led:
        """Act on `POST /bulkQuotes`."""
        bulk_id = str(body.get("bulkQuoteId"))
        items = self._wire.read_bulk_quote(body)
        results = []
        expiration = ""
        for asked in items:
            answer = self._scheme.quote(asked, dumps(asked.raw))
            entry: dict[str, Any] = {"quoteId": asked.id}
            if isinstance(answer, str):
                entry["errorInformation"] = self._wire.error(answer, "")["errorInformation"]
            else:
                # All of a bulk expire together, so with the first of them.
                expiration = min(expiration or answer["expiration"], answer["expiration"])
                entry |= {k: v for k, v in answer.items() if k != "expiration"}
            results += self._occurrences(asked.payee.identifier, entry)
        source = items[0].payee.fsp or ""
        answer = {"expiration": expiration or "2030-01-01T00:00:00.000Z"}
        return self._bulk_call(
            "bulkQuotes", bulk_id, source, answer, "individualQuoteResults", results, items
        )

    def bulk_transfers(self, body: dict[str, Any], raw: bytes) -> Led:
        """Act on `POST /bulkTransfers`."""
        bulk_id = str(body.get("bulkTransferId"))
        items = self._wire.read_bulk_transfer(body)
        results = []
        known: Paid | None = None
        for asked in items:
            known = self._scheme.transfer(asked, dumps(asked.raw))
            if known is None:
                continue
            told = self._scheme.told(known, asked_for=False)
            entry: dict[str, Any] = {"transferId": asked.id}
            if isinstance(told, str):
                entry["errorInformation"] = self._wire.error(told, "")["errorInformation"]
            elif told is not None and "fulfilment" in told:
                entry["fulfilment"] = told["fulfilment"]
            elif told is None:
                continue
            results += self._occurrences(known.identifier, entry)
        answer = {
            "bulkTransferState": "COMPLETED",
            "completedTimestamp": self._wire.state("COMMITTED", None)["completedTimestamp"],
        }
        source = items[0].payee.fsp or ""
        return self._bulk_call(
            "bulkTransfers", bulk_id, source, answer, "individualTransferResults", results, items
        )

    def _occurrences(self, identifier: str, entry: dict[str, Any]) -> list[dict[str, Any]]:
        if self._scheme.has(identifier, Fault.ITEM_MISSING):
            return []
        return [entry, entry] if self._scheme.has(identifier, Fault.ITEM_DOUBLED) else [entry]

    def _bulk_call(
        self,
        resource: str,
        bulk_id: str,
        source: str,
        answer: dict[str, Any],
        member: str,
        results: list[dict[str, Any]],
        items: list[Asked],
    ) -> Led:
        if self.shuffle:
            random.shuffle(results)
        if results:
            answer[member] = results
        self._answers[bulk_id] = (source, answer)
        silent = {"bulkQuotes": Fault.QUOTE_SILENT, "bulkTransfers": Fault.SILENT}[resource]
        if silent in self._scheme.every:
            return [], bulk_id
        call = self._call(f"/{resource}/{bulk_id}", resource, answer, source, "")
        return [(call, Fault.EARLY in self._scheme.every)], bulk_id
