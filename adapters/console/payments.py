"""The pages of payments: batches per cycle and rail, what waits for a decision, and where one payment is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from aiohttp import web

from adapters.console.session import Session
from canonical_model.errors import Refused
from canonical_model.money import Money
from routing.ledger_desk import Desk
from routing.search import MessageFilter
from routing.trace import Trace
from routing.transfers import QUEUED, REVIEW, SENT, UNKNOWN, WORKING

__all__ = ["PAGE", "Shown", "amount", "batch_page", "found_at", "list_page", "payment_page"]

PAGE: Final = 25
"""Most rows of one table."""
WAITING: Final = (REVIEW, UNKNOWN)
"""What a person may decide."""
_LIMIT: Final = 200
_AGES: Final = ("hour", "day", "week", "older")
_OURS: Final = re.compile(r"[a-z]+(-[a-z]+)+\Z")
_ORDERS: Final = {
    "payment_id": "org.openspp.payment.instructed.v1",
    "batch_id": "org.openspp.payment.batch_instructed.v1",
}

Shown = Mapping[str, Any]
"""What a template is given."""


def amount(units: int | None, currency: str | None) -> str:
    """Return minor units as an exact decimal with its currency; a dash where either is not known yet."""
    if units is None or currency is None:
        return "–"
    return f"{Money(minor_units=units, currency=currency).decimal()} {currency}"


def uuid_or_none(text: str | None) -> UUID | None:
    """Return an id of the ledger, None for an empty one; raises `Refused` (`payment-not-found`) for anything else."""
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise Refused("There is no payment or batch at this address.", code="payment-not-found") from None


async def list_page(desk: Desk, request: web.Request) -> Shown:
    """Return the newest batches, the sums of a cycle where one is chosen, and what waits for a decision."""
    asked = request.query
    cycle, target = (asked.get(name, "").strip()[:_LIMIT] for name in ("cycle", "target"))
    waits = asked.get("waits", REVIEW)
    waits = waits if waits in WAITING else REVIEW
    batches = await desk.batches(
        target=target or None,
        cycle_id=cycle or None,
        before=uuid_or_none(asked.get("cursor")),
        limit=PAGE + 1,
    )
    waiting = await desk.listed(
        target=target or None, state=waits, after=uuid_or_none(asked.get("after")), limit=PAGE + 1
    )
    # The sums read a whole cycle: over everything that was ever paid they would take the database for themselves.
    sums = await desk.settlement(cycle_id=cycle, target=target or None) if cycle else []
    return {
        "batches": batches[:PAGE],
        "more": batches[PAGE - 1]["id"] if len(batches) > PAGE else None,
        "waiting": waiting[:PAGE],
        "more_waiting": waiting[PAGE - 1]["id"] if len(waiting) > PAGE else None,
        "waits": waits,
        "choices": WAITING,
        "sums": sums,
        "ages": _AGES,
        "cycle": cycle,
        "target": target,
    }


async def batch_page(desk: Desk, request: web.Request) -> Shown:
    """Return one batch and its payments; raises `Refused` (`payment-not-found`)."""
    id_ = uuid_or_none(request.match_info["id"])
    found = await desk.batches(id=id_, limit=1)
    if not found:
        raise Refused("There is no batch at this address.", code="payment-not-found")
    rows = await desk.listed(of=id_, after=uuid_or_none(request.query.get("after")), limit=PAGE + 1)
    return {
        "batch": found[0],
        "rows": rows[:PAGE],
        "more": rows[PAGE - 1]["id"] if len(rows) > PAGE else None,
    }


async def payment_page(
    desk: Desk, trace: Trace, request: web.Request, session: Session, only: str | None
) -> Shown:
    """Return every attempt of a payment, what to do about each, and the messages that ordered it."""
    id_ = uuid_or_none(request.match_info["id"])
    assert id_ is not None
    payment_id = await desk.named(id_)
    attempts = await desk.show(payment_id)
    for one in attempts:
        one["next"], one["command"] = _next(one)
        one["ours"] = bool(one["reason"] and _OURS.match(one["reason"]))
    return {
        "payment_id": payment_id,
        "attempts": attempts,
        "messages": await _messages(trace, attempts, session, only),
    }


async def found_at(desk: Desk, text: str) -> str | None:
    """Return the address of the payment, batch or cycle of this id; None when there is none.

    The address carries what was entered only when a cycle has that id: somebody may have entered a phone number.
    """
    if not 0 < len(text) <= _LIMIT or "\x00" in text:
        return None
    try:
        return f"/console/payments/{(await desk.show(text))[0]['id']}"
    except Refused as error:
        if error.code != "payment-not-found":
            raise
    batches = await desk.batches(batch_id=text, limit=2)
    if batches:
        # Over several rails the whole is what was ordered; its parts are listed in it.
        whole = next((one for one in batches if one["over_rails"]), batches[0])
        return f"/console/payments/batches/{whole['id']}"
    if await desk.batches(cycle_id=text, limit=1):
        return f"/console/payments?{urlencode({'cycle': text})}"
    return None


def _next(one: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return what the operator does about an attempt, and the command for it where there is one."""
    state, stopped = one["state"], one["batch_state"] == "stopped" or one["target_stopped"]
    at = f"--target {shlex.quote(one['target'])}"
    decide = f"hub payments review decide {at} -- {shlex.quote(one['payment_id'])} DECISION"
    if state in {QUEUED, WORKING} and stopped:
        batch = one["batch_id"]
        # A target that is stopped as a whole goes on as a whole.
        part = f" --batch {shlex.quote(batch)}" if batch and not one["target_stopped"] else ""
        return "stopped-next", f"hub payments resume {at}{part}"
    if one["superseded"]:
        return "superseded-next", None
    if state == QUEUED:
        return "queued-next", f"hub payments cancel {at} -- {shlex.quote(one['payment_id'])}"
    if state in {REVIEW, UNKNOWN}:
        return f"{state}-next", decide
    return ("sent-next" if state in {WORKING, SENT} else f"{state}-next"), None


async def _messages(
    trace: Trace, attempts: Sequence[Mapping[str, Any]], session: Session, only: str | None
) -> list[UUID]:
    """Return the orders that name the payment or its batch as subject or correlation, as far as the session may see them."""
    found: dict[UUID, None] = {}
    for name, type_ in _ORDERS.items():
        value = attempts[0][name]
        for filter_ in ({"correlationid": value}, {"subject": value}) if value else ():
            page = await trace.search(
                MessageFilter.read({"type": type_, **filter_}), None, 5, visible=session.scopes, partner=only
            )
            found |= dict.fromkeys(item.id for item in page.items)
    return list(found)
