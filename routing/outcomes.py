"""How an attempt ends: later, refused, dead or delivered, and what is counted and logged of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from canonical_model.errors import HubError, Unavailable, Unknown
from registry.logs import log
from routing import metrics
from routing.contract import Exchange
from routing.routes import Route
from routing.store import Claim, Outcome

_LOG = logging.getLogger(__name__)
FORCED_CODE: Final = "replay-forced"
"""Code of a replay a person forced although an earlier attempt may have arrived."""
BROKER_DELAY: Final = 60.0
"""Waits up to this many seconds are the broker's; longer ones lie in the outbox."""
_REASON: Final = 500


class NotSent(Unavailable):
    """Something of our own was away before the target was reached; the attempt does not count."""


class NeverAgain(Unknown):
    """An unknown outcome that no machine can settle."""


def later(outcome: Outcome, wait: float, code: str | None, reason: str) -> tuple[Outcome, float]:
    """Let a delivery wait `wait` seconds from the start of this attempt; return it with the wait."""
    outcome.state = "waiting"
    outcome.code = code
    outcome.reason = reason[:_REASON]
    outcome.next_at = outcome.started_at + timedelta(seconds=wait)
    outcome.requeue = wait > BROKER_DELAY
    return outcome, wait


def end(outcome: Outcome, state: str, word: str, error: HubError) -> None:
    """End a delivery as `refused` or `dead`, with the error's code and detail."""
    outcome.state = state
    outcome.outcome = word
    outcome.code = error.code
    outcome.reason = error.detail[:_REASON]


def exchanges_of(exchanges: Iterable[Exchange]) -> list[dict[str, Any]] | None:
    """Return exchanges as they are stored with an attempt, None when there were none."""
    return [
        {
            "method": e.method, "address": e.address, "status": e.status, "started_at": e.started_at, "seconds": e.seconds,
            "request_bytes": e.request_bytes, "reply_bytes": e.reply_bytes, "notes": dict(e.notes),
        }
        for e in exchanges
    ] or None  # fmt: skip


def count(claim: Claim, route: Route, outcome: Outcome) -> None:
    """Count a recorded outcome, and log it when a person may want to know."""
    if outcome.state == "waiting":
        metrics.retried(route.name, claim.target, outcome.code or "closed")
        return
    seconds = (datetime.now(UTC) - claim.accepted_at).total_seconds()
    metrics.ended(route.name, claim.target, outcome.state, seconds)
    if outcome.state == "delivered":
        return
    if outcome.state == "dead":
        metrics.dead(route.name, outcome.code or "unknown")
    log(
        _LOG, logging.WARNING, "delivery-ended", delivery_id=str(claim.delivery_id), route=route.name,
        message_id=str(claim.message_id), target=claim.target, state=outcome.state, code=outcome.code,
        attempt=claim.attempt,
    )  # fmt: skip
