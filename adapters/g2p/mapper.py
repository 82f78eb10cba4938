"""G2P Connect mapper as a server: partners link ids to financial addresses and resolve them, at once or by callback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

from aiohttp import web

from adapters.dci.replies import acknowledged, refused
from adapters.g2p.disburse_answers import Writer
from adapters.g2p.disburse_callbacks import Answers
from adapters.g2p.mapper_answers import KINDS, entries_of, status, stored, written
from adapters.g2p.mapper_reading import VERBS, read_items, read_status
from adapters.g2p.mapper_schemas import EXAMPLES, REQUESTS
from adapters.g2p.messages import NAMESPACE, Read, Reception, receivers, told
from adapters.http.app import add_operations
from adapters.http.operations import Body, Call, Operation
from adapters.http.security.partners import Partner, Partners, Scope
from adapters.http.security.whole import check_whole
from adapters.http.services import Services
from registry.accounts import Accounts
from routing.disbursements import Asked, Disbursements, Taken

DIALECT: Final = "g2p-mapper"
Kind = Literal["link", "update", "unlink", "resolve", "status"]
STATUS: Final = "mapper_status"
_VERB_OF: Final[Mapping[str, Kind]] = {**{kind: verb for verb, kind in KINDS.items()}, STATUS: "status"}
# The printed lists of actions are copies of one another: the true verb is spoken, the printed ones are understood.
ACTIONS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "link": ("link",), "update": ("update", "link"), "unlink": ("unlink", "link"), "resolve": ("resolve", "link"),
    "status": ("txn-status", "status"),
}  # fmt: skip
_CALLBACKS: Final[Mapping[Kind, tuple[str, str]]] = {
    **{verb: (f"/mapper/on-{verb}", f"on-{verb}") for verb in VERBS},
    "status": ("/mapper/txn/on-status", "txn-on-status"),
}
"""Of each answer: the path of its callback under an agreed address, and its action."""
_SUMMARIES: Final[Mapping[Kind, str]] = {
    "link": "Link ids to financial addresses",
    "update": "Give linked ids another financial address",
    "unlink": "End the links of ids",
    "resolve": "Resolve ids and financial addresses",
    "status": "Ask what became of earlier messages",
}


class Mapper:
    """Answers the messages of the mapper; what is to be linked is linked before it is acknowledged."""

    def __init__(self, services: Services, store: Disbursements, accounts: Accounts, writer: Writer) -> None:
        self._store, self._accounts, self._writer = store, accounts, writer
        self._reception = Reception(services)

    async def take(self, kind: Kind, request: web.Request, call: Call) -> web.Response:
        """Acknowledge a message whose answer comes by callback."""
        read = self._read(kind, request, call)
        taken = await self._store_it(kind, call, read, read.callback(_CALLBACKS[kind][0]))
        return acknowledged(str(taken.id), taken.received_at)

    async def answer(self, kind: Kind, request: web.Request, call: Call) -> web.Response:
        """Answer a message at once."""
        read = self._read(kind, request, call)
        taken = await self._store_it(kind, call, read, None)
        body = await answer_of(self._store, self._accounts, self._writer, taken, read.profile.receiver_id)
        return web.Response(body=body, content_type="application/json")

    def _read(self, kind: Kind, request: web.Request, call: Call) -> Read:
        _refuse_confined(call.partner)
        items = "txnstatus_request" if kind == "status" else f"{kind}_request"
        return self._reception.read(request, call, ["mapper", kind], ACTIONS[kind], items)

    async def _store_it(self, kind: Kind, call: Call, read: Read, uri: str | None) -> Taken:
        envelope, now = read.envelope, read.now
        words: dict[str, Any] = {"dialect": DIALECT, "sender_id": envelope.sender_id, "uri": uri}
        stored_as = STATUS if kind == "status" else KINDS[kind]
        due = None if uri is None else 0.0
        asked = Asked(
            read.partner, stored_as, envelope.message_id, read.same, envelope.transaction_id, words, due
        )
        if kind == "status":
            words["asked"] = read_status(envelope)
            return await self._store.ask(asked)
        found = read_items(envelope, kind, read.profile, now)
        call.count_messages(len(found))
        if kind == "resolve":
            words["items"] = stored(found)
            return await self._store.ask(asked)

        async def work(connection: Any) -> dict[str, Any]:
            entries = await written(
                self._accounts,
                connection,
                kind,
                found,
                now,
                actor=read.partner,
                request_id=call.request_id,
            )
            return {"entries": entries}

        await self._accounts.prepare()
        return await self._store.do_once(asked, work)


async def answer_of(
    store: Disbursements, accounts: Accounts, writer: Writer, taken: Taken, hub_id: str | None
) -> bytes:
    """Return the answer to a stored request, signed."""
    kind, now, reason = _VERB_OF[taken.kind], datetime.now(UTC), None
    if kind == "status":
        message, entries, reason = await status(store, accounts, taken, now)
    else:
        entries = await entries_of(accounts, taken, now)
        message = {
            "transaction_id": taken.transaction_id,
            "correlation_id": str(taken.id),
            f"{kind}_response": entries,
        }
    return writer.answer(taken, _CALLBACKS[kind][1], message, entries, hub_id=hub_id, reason=reason)


def _refuse_confined(partner: Partner) -> None:
    """Raise `RequestRefused` (`partner-confined`) for a partner that sees a part of the people only."""
    check_whole(
        partner,
        "use the account mapper. Nothing was done.",
        "Let a partner that sees all of it ask for accounts.",
    )


def operations(
    services: Services, store: Disbursements, accounts: Accounts, writer: Writer
) -> list[Operation]:
    """Return the operations of the mapper; raises `ConfigError` for the wrong profile of a partner."""
    mapper = Mapper(services, store, accounts, writer)
    made = []
    for kind in ACTIONS:
        path = "/mapper/txn/status" if kind == "status" else f"/mapper/{kind}"
        made.append(
            _operation(kind, path, f"g2pMapper{kind.capitalize()}", partial(mapper.take, kind), False)
        )
        sync = path.replace("/mapper/", "/mapper/sync/")
        handler = partial(mapper.answer, kind)
        made.append(_operation(kind, sync, f"g2pMapper{kind.capitalize()}Sync", handler, True))
    # As the official file prints it.
    handler = partial(mapper.answer, "status")
    made.append(_operation("status", "/registry/sync/txn/status", "g2pRegistryStatusSync", handler, True))
    return made


def _operation(kind: Kind, path: str, name: str, handler: Any, at_once: bool) -> Operation:
    writes = kind in {"link", "update", "unlink"}
    return Operation(
        name=name,
        method="POST",
        path=f"{NAMESPACE}{path}",
        tag="g2p",
        scope=Scope.ACCOUNTS_WRITE if writes else Scope.ACCOUNTS_READ,
        summary=f"{_SUMMARIES[kind]} (G2P Connect mapper 1.0.0), answered {'at once' if at_once else 'by callback'}",
        description=(
            "A repeat of a message id gets the first answer of links, and what is known now of a resolve. What is wrong "
            "with one item refuses that item alone; what is wrong with the envelope refuses all of it."
        ),
        handler=handler,
        body=Body.WHOLE,
        requests={"application/json": REQUESTS[kind]},
        example=EXAMPLES[kind],
        render=refused,
        answers=told(at_once, "What became of each item.", "The message is done"),
    )


def answers(
    partners: Partners, store: Disbursements, accounts: Accounts, writer: Writer
) -> Mapping[str, Answers]:
    """Return what the teller of callbacks answers the mapper's requests with."""
    hub_ids = receivers(partners)

    async def tell(taken: Taken, settled: bool) -> bytes | None:
        return await answer_of(store, accounts, writer, taken, hub_ids.get(taken.partner))

    return {DIALECT: tell}


def extension(
    store: Disbursements, accounts: Accounts, writer: Writer
) -> Callable[[web.Application, Services], None]:
    """Return what `Services.extra` needs to be an account mapper of G2P Connect."""
    return lambda app, services: add_operations(app, operations(services, store, accounts, writer))
