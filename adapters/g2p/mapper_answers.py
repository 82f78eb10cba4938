"""What the account mapper says in the words of G2P Connect, as OpenG2P's SPAR says it, within the official lists of codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from adapters.g2p.disburse_answers import MOST, instant
from adapters.g2p.mapper_reading import OTHER, Item, Verb
from registry.accounts import (
    ADDRESS_CODE,
    ID_CODE,
    LINKED_CODE,
    REPEATED_CODE,
    UNLINKED_CODE,
    Accounts,
    Link,
    Linked,
    Question,
    Resolved,
    StrategyBook,
)
from routing.disbursements import Disbursements, Taken

KINDS: Final[Mapping[Verb, str]] = {
    "link": "link",
    "update": "mapper_update",
    "unlink": "unlink",
    "resolve": "resolve",
}
"""Under which kind the requests of each verb are stored."""
PURPOSE: Final = "g2p-connect mapper resolve"
_TEXTS: Final[Mapping[str, str]] = {
    ID_CODE: "an id is written type:id@provider",
    ADDRESS_CODE: "a financial address is written type:id@provider",
    LINKED_CODE: "the id is linked already; update it",
    UNLINKED_CODE: "there is no such link; link the id first",
    REPEATED_CODE: "the id stands twice in the message",
}
_CODES: Final[Mapping[tuple[str, str], str]] = {
    ("link", ID_CODE): "rjct.id.invalid",
    ("link", ADDRESS_CODE): "rjct.fa.invalid",
    ("link", LINKED_CODE): "rjct.reference_id.duplicate",
    ("update", REPEATED_CODE): "rjct.reference_id.duplicate",
}


def _entry(item: Item, at: datetime) -> dict[str, Any]:
    return {"reference_id": item.reference_id, "timestamp": instant(at)}


def _rejected(item: Item, at: datetime, code: str, text: str | None) -> dict[str, Any]:
    entry = {**_entry(item, at), "status": "rjct", "status_reason_code": code}
    return entry | ({"status_reason_message": text} if text else {})


async def written(
    accounts: Accounts,
    connection: Any,
    verb: Verb,
    items: Sequence[Item],
    at: datetime,
    *,
    actor: str,
    request_id: str | None,
) -> list[dict[str, Any]]:
    """Do what the items of link, update or unlink ask for and return an entry for each."""
    good = [one for one in items if one.code is None]
    if verb == "unlink":
        asked = [Question(one.id, one.fa) for one in good]
        done = await accounts.unlink(asked, actor=actor, request_id=request_id, connection=connection)
    else:
        links = [Link(one.id or "", one.fa or "", more=one.more) for one in good]
        work = accounts.link if verb == "link" else accounts.update
        done = await work(links, actor=actor, request_id=request_id, connection=connection)
    outcomes = iter(done)
    return [_told(verb, one, Linked() if one.code else next(outcomes), at) for one in items]


def _told(verb: Verb, item: Item, outcome: Linked, at: datetime) -> dict[str, Any]:
    if item.code is not None:
        entry = _rejected(item, at, item.code, item.text)
    elif outcome.code is not None:
        code = _CODES.get((verb, outcome.code), OTHER[verb])
        entry = _rejected(item, at, code, _TEXTS.get(outcome.code))
    else:
        entry = {**_entry(item, at), "status": "succ"}
    if verb == "update" or (verb == "link" and item.fa):
        # The official file requires `fa` in the answer to an update, whatever became of it.
        entry["fa"] = item.fa or ""
    if verb != "link" and item.id:
        entry["id"] = item.id
    return entry


async def resolved(
    accounts: Accounts, items: Sequence[Item], at: datetime, *, actor: str, request_id: str | None = None
) -> list[dict[str, Any]]:
    """Return what the mapper knows now of each item of a resolve."""
    good = [one for one in items if one.code is None]
    asked = [Question(one.id, one.fa) for one in good]
    found = iter(
        await accounts.resolve(asked, actor=actor, purpose=PURPOSE, request_id=request_id) if asked else ()
    )
    book = await accounts.strategies()
    entries = []
    for one in items:
        if one.code is not None:
            entries.append(_rejected(one, at, one.code, one.text))
            continue
        answer = next(found)
        if one.id is not None and book.read("id", one.id) is None:
            entries.append(_rejected(one, at, "rjct.id.invalid", _TEXTS[ID_CODE]))
        elif one.fa is not None and book.read("fa", one.fa) is None:
            entries.append(_rejected(one, at, "rjct.fa.invalid", _TEXTS[ADDRESS_CODE]))
        else:
            entries.append(_known(one, answer, at, book))
    return entries


def _known(item: Item, answer: Resolved, at: datetime, book: StrategyBook) -> dict[str, Any]:
    entry = {**_entry(item, at), "status": "succ", "status_reason_code": _reason(item, answer.state)}
    if item.id is not None:
        entry["id"] = item.id
    if not item.details or answer.address is None:
        return entry
    entry["fa"] = answer.address
    if answer.id is not None:
        entry["id"] = answer.id
    read = book.read("fa", answer.address)
    if read is not None and read.provider is not None:
        code, name = read.provider
        entry["account_provider_info"] = {"name": name, "code": code}
    if "additional_info" in answer.more:
        entry["additional_info"] = answer.more["additional_info"]
    return entry


def _reason(item: Item, state: str) -> str:
    if item.id is None:
        return "succ.fa.not_found" if state == "absent" else f"succ.fa.{state}"
    if state == "elsewhere" or (state == "absent" and item.fa is not None):
        return "succ.fa.not_linked_to_id"
    return "succ.id.not_found" if state == "absent" else f"succ.id.{state}"


def stored(items: Sequence[Item]) -> list[list[Any]]:
    """Return the items of a resolve as they are kept sealed until they are answered."""
    return [[one.reference_id, one.code, one.text, one.id, one.fa, one.details] for one in items]


def items_of(words: Mapping[str, Any]) -> list[Item]:
    """Return the items that were stored."""
    return [
        Item(ref, code, text, id_, fa, {}, details) for ref, code, text, id_, fa, details in words["items"]
    ]


async def entries_of(accounts: Accounts, taken: Taken, now: datetime) -> list[dict[str, Any]]:
    """Return the entries of a stored request: what was said of links, what is known now of a resolve."""
    if taken.kind == KINDS["resolve"]:
        return await resolved(accounts, items_of(taken.words), now, actor=taken.partner)
    entries: list[dict[str, Any]] = taken.words["entries"]
    return entries


async def status(
    store: Disbursements, accounts: Accounts, taken: Taken, now: datetime
) -> tuple[dict[str, Any], list[dict[str, Any]], str | None]:
    """Return the answer of a status request: its message, the entries it counts, and why there are none."""
    asked = taken.words["asked"]
    verb: Verb = asked["verb"]
    kind, value = asked["kind"], asked["value"]
    about, correlation, reason = taken.transaction_id, str(taken.id), None
    if kind == "correlation_id":
        one = await store.of_request(taken.partner, UUID(value)) if _is_uuid(value) else None
        requests = [] if one is None or one.kind != KINDS[verb] else [one]
    else:
        about = value if kind == "transaction_id" else about
        requests = await store.requests(taken.partner, about, KINDS[verb])
    entries: list[dict[str, Any]] = []
    for each in requests:
        about, correlation = each.transaction_id, str(each.id)
        if len(entries) < MOST:
            entries += await entries_of(accounts, each, now)
    if kind == "reference_id_list":
        by_reference = {one["reference_id"]: one for one in entries}
        entries = [by_reference.get(each) or _unknown(verb, Item(each), now) for each in dict.fromkeys(value)]
    if not requests:
        reason = "nothing of this was asked here"
    message = {
        "transaction_id": taken.transaction_id,
        "correlation_id": correlation,
        "txnstatus_response": {
            "txn_type": f"on-{verb}",
            "txn_status": {"transaction_id": about, f"{verb}_response": entries[:MOST]},
        },
    }
    return message, entries[:MOST], reason


def _unknown(verb: Verb, item: Item, now: datetime) -> dict[str, Any]:
    entry = _rejected(
        item, now, "rjct.reference_id.invalid", "this reference did not come in the transaction"
    )
    return entry | ({"fa": ""} if verb == "update" else {})


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
