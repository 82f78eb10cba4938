"""G2P Connect disburse as a server: partners order payments, and ask what became of them, at once or by callback."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

from aiohttp import web

from adapters.dci.replies import acknowledged, refused
from adapters.g2p.disburse_answers import Writer, statuses
from adapters.g2p.disburse_callbacks import Answers
from adapters.g2p.disburse_questions import found, read_criteria, read_status, status
from adapters.g2p.disburse_reading import read_orders
from adapters.g2p.disburse_schemas import EXAMPLES, REQUESTS
from adapters.g2p.messages import NAMESPACE, Read, Reception, receivers, told
from adapters.http.app import add_operations
from adapters.http.operations import Body, Call, Operation
from adapters.http.security.partners import Partner, Partners, Scope
from adapters.http.security.whole import check_whole
from adapters.http.services import Services
from canonical_model.tracing import continued_traceparent
from routing.disbursements import Asked, Disbursements, Taken

Kind = Literal["disburse", "search", "status"]
PATHS: Final[dict[Kind, tuple[str, str, str, tuple[str, ...]]]] = {
    # The printed lists of actions are copies of one another: the true verb is spoken, the printed ones are understood.
    "disburse": ("/disburse", "/disburse/sync/disburse", "disbursements", ("disburse", "search")),
    "search": ("/disburse/search", "/disburse/sync/search", "search_criteria", ("search",)),
    "status": (
        "/disburse/txn/status", "/disburse/sync/txn/status", "txnstatus_request",
        ("status", "txn-status", "on-disburse", "disburse", "search", "subscribe"),
    ),
}  # fmt: skip
"""Of each question: its path, its sync path, the member that is counted, the actions it goes by."""
CALLBACKS: Final[dict[Kind, tuple[str, str]]] = {
    "disburse": ("/on-disburse", "on-disburse"),
    "search": ("/disburse/on-search", "on-search"),
    "status": ("/disburse/txn/on-status", "on-status"),
}
"""Of each answer: the path of its callback under an agreed address, and its action."""
_SUMMARIES: Final[dict[Kind, str]] = {
    "disburse": "Order payments (G2P Connect disburse 1.0.0)",
    "search": "Search one's own orders by financial address (G2P Connect disburse 1.0.0)",
    "status": "Ask what became of orders (G2P Connect disburse 1.0.0)",
}


class Disburser:
    """Answers the messages of disburse; what is ordered is stored before it is acknowledged."""

    def __init__(self, services: Services, store: Disbursements, writer: Writer) -> None:
        self._store, self._writer = store, writer
        self._reception = Reception(services)

    async def take(self, kind: Kind, request: web.Request, call: Call) -> web.Response:
        """Acknowledge a message whose answer comes by callback."""
        read = self._read(kind, request, call)
        taken = await self._store_it(kind, request, call, read, read.callback(CALLBACKS[kind][0]))
        return acknowledged(str(taken.id), taken.received_at)

    async def answer(self, kind: Kind, request: web.Request, call: Call) -> web.Response:
        """Answer a message at once."""
        read = self._read(kind, request, call)
        taken = await self._store_it(kind, request, call, read, None)
        body = await answer_of(self._store, self._writer, taken, read.profile.receiver_id)
        return web.Response(body=body, content_type="application/json")

    def _read(self, kind: Kind, request: web.Request, call: Call) -> Read:
        refuse_confined(call.partner)
        _, _, items, actions = PATHS[kind]
        return self._reception.read(request, call, [kind], actions, items)

    async def _store_it(
        self, kind: Kind, request: web.Request, call: Call, read: Read, uri: str | None
    ) -> Taken:
        envelope, profile = read.envelope, read.profile
        words: dict[str, Any] = {"dialect": "g2p", "sender_id": envelope.sender_id, "uri": uri}
        due = None if uri is None else 0.0
        if kind == "search":
            words["asked"] = read_criteria(envelope, profile, read.now)
            call.count_messages(len(words["asked"]))
        elif kind == "status":
            words["asked"] = read_status(envelope)
        asked = Asked(
            read.partner, kind, envelope.message_id, read.same, envelope.transaction_id, words, due
        )  # fmt: skip
        if kind != "disburse":
            return await self._store.ask(asked)
        trace = continued_traceparent(request.headers.get("traceparent"))
        orders = await read_orders(envelope, profile, read.partner, read.now, trace)
        call.count_messages(len(orders))
        return await self._store.order(asked, orders, call.request_id)


async def answer_of(
    store: Disbursements, writer: Writer, taken: Taken, hub_id: str | None, *, settled: bool = False
) -> bytes | None:
    """Return the answer to a stored request as it is now; with `settled` None while some payment has not ended."""
    kind: Kind = taken.kind  # type: ignore[assignment]
    at, reason = taken.received_at, None
    if kind == "search":
        message, entries, reason = await found(
            store, taken.partner, taken.transaction_id, taken.words["asked"], datetime.now(UTC)
        )
    elif kind == "status":
        message, entries, reason = await status(
            store, taken.partner, taken.transaction_id, taken.words["asked"], taken.id, at
        )
    else:
        entries = await statuses(store, taken.partner, taken.items, at)
        if settled and any(one["status"] in {"rcvd", "pdng"} for one in entries):
            return None
        message = {"transaction_id": taken.transaction_id, "disbursements_status": entries}
    return writer.answer(taken, CALLBACKS[kind][1], message, entries, hub_id=hub_id, reason=reason)


def refuse_confined(partner: Partner) -> None:
    """Raise `RequestRefused` (`partner-confined`) for a partner that sees a part of the people only."""
    check_whole(
        partner,
        "order payments by account. Nothing was ordered.",
        "Pay through a program: its partner orders by entitlements.",
    )


def operations(services: Services, store: Disbursements, writer: Writer) -> list[Operation]:
    """Return the operations of disburse; raises `ConfigError` for the wrong profile of a partner."""
    disburser = Disburser(services, store, writer)
    made = []
    for kind, (path, sync_path, _, _) in PATHS.items():
        for at_once in (False, True):
            handler = partial(disburser.answer if at_once else disburser.take, kind)
            made.append(_operation(kind, sync_path if at_once else path, at_once, handler))
    return made


def _operation(kind: Kind, path: str, at_once: bool, handler: Any) -> Operation:
    return Operation(
        name=f"g2p{kind.capitalize()}{'Sync' if at_once else ''}",
        method="POST",
        path=f"{NAMESPACE}{path}",
        tag="g2p",
        scope=Scope.PAYMENTS_ORDER,
        summary=f"{_SUMMARIES[kind]}{', answered at once' if at_once else ', answered by callback'}",
        description=(
            "A reference of a transaction is paid once, whatever is repeated. What is wrong with one order refuses that "
            "order alone; what is wrong with the envelope refuses all of it."
        ),
        handler=handler,
        body=Body.WHOLE,
        requests={"application/json": REQUESTS[kind]},
        example=EXAMPLES[kind],
        render=refused,
        answers=told(at_once, "What is known now of each order.", "The message is stored"),
    )


def answers_of(partners: Partners, store: Disbursements, writer: Writer) -> Answers:
    """Return what writes the callbacks of this dialect."""
    hub_ids = receivers(partners)

    async def answers(taken: Taken, settled: bool) -> bytes | None:
        return await answer_of(store, writer, taken, hub_ids.get(taken.partner), settled=settled)

    return answers


def extension(store: Disbursements, writer: Writer) -> Callable[[web.Application, Services], None]:
    """Return what `Services.extra` needs to take orders of G2P Connect."""
    return lambda app, services: add_operations(app, operations(services, store, writer))
