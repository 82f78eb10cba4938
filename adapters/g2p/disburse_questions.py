"""Questions about disbursements: the status of a transaction, and the search by financial address."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from adapters.dci.envelope import MAX_ID, Reader, an_object, refuse
from adapters.g2p.disburse_answers import MOST, instant, status_of, statuses
from adapters.g2p.disburse_profile import DisburseProfile
from adapters.g2p.disburse_reading import MAX_ITEMS, Envelope
from connectors.g2p_connect.disburse_addresses import account_of
from routing.disbursements import Disbursements, Item

_FOUND: Final = 1000
"""Payments one criterion of a search may find; a bank account has few, an account that pays has many."""
_ATTRIBUTES: Final = ("payer_fa", "payee_fa")
_BY: Final = ("transaction_id", "reference_id_list", "correlation_id")
Answered = tuple[dict[str, Any], list[dict[str, Any]], str | None]
"""The message of an answer, the entries it counts, and why there are none."""


def read_criteria(read: Envelope, profile: DisburseProfile, now: datetime) -> list[dict[str, Any]]:
    """Return the criteria of a search, each with the code it is refused with or None.

    Raises `RequestRefused` for what is no list of criteria.
    """
    found = read.message.get("search_criteria")
    if not isinstance(found, list):
        refuse("/message/search_criteria", "the criteria are a list")
    reader = Reader(profile.tolerant)
    seen: set[str] = set()
    criteria = []
    for number, one in enumerate(found):
        at = f"/message/search_criteria/{number}"
        item = an_object(one, at)
        reference = item.get("reference_id")
        if not isinstance(reference, str):
            refuse(f"{at}/reference_id", "rjct.reference_id.invalid: each criterion has a reference id")
        reader.instant(item.get("timestamp"), f"{at}/timestamp", now)
        code = None
        kind, value = item.get("attribute_type"), item.get("attribute_value")
        if not 0 < len(reference) <= MAX_ID or not reference.isprintable():
            code = "rjct.reference_id.invalid"
        elif reference in seen:
            code = "rjct.reference_id.duplicate"
        elif item.get("request_type") != "disburse":
            code = "rjct.request_type.invalid"
        elif kind not in _ATTRIBUTES:
            code = "rjct.attribute_type.invalid"
        elif not isinstance(value, str) or account_of(value) is None:
            code = f"rjct.srch_{kind}.invalid"
        seen.add(reference)
        criteria.append({"reference_id": reference, "kind": kind, "value": value, "code": code})
    return criteria


async def found(
    store: Disbursements, partner: str, transaction_id: str, criteria: list[dict[str, Any]], at: datetime
) -> Answered:
    """Return the answer of a search.

    Each payment found is one entry under its own reference; a criterion that is refused or finds nothing is one under the
    criterion's reference.
    """
    entries: list[dict[str, Any]] = []
    for one in criteria:
        reference, code = one["reference_id"], one["code"]
        ids: list[UUID] = []
        if code is None:
            ids = await store.search(partner, one["kind"], one["value"], _FOUND + 1)
            if len(ids) > _FOUND or len(entries) + len(ids) > MOST:
                code = "rjct.srch.too_many_records_found"
        base = {"reference_id": reference, "timestamp": instant(at)}
        if code is not None:
            entries.append({**base, "status": "rjct", "status_reason_code": code})
        elif not ids:
            entries.append({**base, "status": "succ", "status_reason_message": "nothing found"})
        else:
            for id_, state in (await store.states(ids, partner=partner)).items():
                entry = status_of(Item(str(state.words["reference_id"]), id_), state, at)
                entry.pop(
                    "status_reason_code", None
                )  # the codes of a search are others than those of an order
                entries.append(entry)
    return {"transaction_id": transaction_id, "disbursements_status": entries}, entries, None


def read_status(read: Envelope) -> dict[str, Any]:
    """Return what a status request asks for; raises `RequestRefused` with the place of a fault."""
    at = "/message/txnstatus_request"
    asked = an_object(read.message.get("txnstatus_request"), at)
    reference = asked.get("reference_id")
    if not isinstance(reference, str) or not 0 < len(reference) <= MAX_ID:
        refuse(f"{at}/reference_id", "rjct.reference_id.invalid: the request has a reference id")
    if asked.get("txn_type") not in {"disburse", "on-disburse"}:
        refuse(
            f"{at}/txn_type", "the status of disburse is kept; a search is made again instead of asked about"
        )
    kind, value = asked.get("attribute_type"), asked.get("attribute_value")
    if kind not in _BY:
        refuse(f"{at}/attribute_type", "the attribute is transaction_id, reference_id_list or correlation_id")
    if kind == "reference_id_list":
        if not isinstance(value, list) or not 0 < len(value) <= MAX_ITEMS:
            refuse(f"{at}/attribute_value", f"the references are a list of 1 to {MAX_ITEMS} texts")
        if not all(isinstance(each, str) and 0 < len(each) <= MAX_ID for each in value):
            refuse(f"{at}/attribute_value", f"each reference is a text of 1 to {MAX_ID} characters")
    elif not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        refuse(f"{at}/attribute_value", "the value is a text")
    return {"kind": kind, "value": value}


async def status(
    store: Disbursements,
    partner: str,
    transaction_id: str,
    asked: Mapping[str, Any],
    correlation: UUID,
    at: datetime,
) -> Answered:
    """Return the answer of a status request, from the ledger."""
    kind, value = asked["kind"], asked["value"]
    about, reason = transaction_id, None
    if kind == "reference_id_list":
        by_reference = await store.of_references(partner, value)
        items = [
            Item(reference, id_, None if id_ else "rjct.reference_id.invalid")
            for reference in value
            for id_ in by_reference.get(reference) or (None,)
        ]
    elif kind == "correlation_id":
        request = await store.of_request(partner, UUID(value)) if _is_uuid(value) else None
        items = [] if request is None else list(request.items)
        about = transaction_id if request is None else request.transaction_id
        correlation = correlation if request is None else request.id
    else:
        items, about = await store.of_transaction(partner, value), value
    if not items:
        reason = "nothing of this was ordered here"
    if len(items) > MOST:
        items, reason = items[:MOST], f"the first {MOST} are shown; ask for the others by reference_id_list"
    entries = await statuses(store, partner, items, at)
    message = {
        "transaction_id": transaction_id,
        "correlation_id": str(correlation),
        "txnstatus_response": {
            "txn_type": "on-disburse",
            "txn_status": {"transaction_id": about, "disbursements_status": entries},
        },
    }
    return message, entries, reason


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
