"""Transfers as the payment ledger keeps them, and the steps that move them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from canonical_model.payment import PaymentInstruction

QUEUED: Final = "queued"
"""Waits for the driver: nothing of it is under way."""
WORKING: Final = "working"
"""Looked up or quoted: no money can have moved."""
SENT: Final = "sent"
"""From the moment the order that moves money is stored: money may have moved."""
UNKNOWN: Final = "unknown"
"""Asked as often as is useful without an answer; a late answer still ends it."""
REVIEW: Final = "review"
"""Contradictory, or beyond asking: only a person decides."""
PAID: Final = "paid"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
STATES: Final = (QUEUED, WORKING, SENT, UNKNOWN, REVIEW, PAID, FAILED, CANCELLED)
LIVE: Final = frozenset({QUEUED, WORKING, SENT})
"""What keeps a batch open."""
FINAL: Final = frozenset({PAID, FAILED, CANCELLED})
LOOKUP: Final = "lookup"
"""The stage every transfer begins at; the stages after it are the rail's own words."""

TRAIL: Final = 39
"""Most steps that are kept of a transfer; one that has so many may have had others before."""


@dataclass(slots=True)
class Transfer:
    """One payment in the ledger as it is now; amounts are minor units, `request` the exact bytes last stored."""

    id: str
    payment_id: str
    batch_id: str | None
    instruction: PaymentInstruction = field(repr=False)
    stage: str = LOOKUP
    state: str = QUEUED
    institution: str | None = None
    references: dict[str, str] = field(default_factory=dict, repr=False)
    """Ids by kind, those of the rail and whatever else it stored; the newest of each kind."""
    request: bytes | None = field(default=None, repr=False)
    condition: str | None = None
    amount: int | None = None
    """What the payer is charged, once a rail said it."""
    fee: int | None = None
    asked: int = 0
    resent: int = 0
    reason: str | None = None
    sent_at: datetime | None = None


@dataclass(slots=True)
class Step:
    """One change of one transfer; None leaves a value as it is.

    It takes effect only while the transfer is at `expected` (stage and state), so that two answers, or two processes, cannot
    move it twice. `reason` is a code, never a sentence; `references` are kept sealed and are found by their blind index.
    """

    id: str
    expected: tuple[str, str]
    stage: str | None = None
    state: str | None = None
    institution: str | None = None
    references: Mapping[str, str] | None = None
    request: bytes | None = None
    condition: str | None = None
    amount: int | None = None
    fee: int | None = None
    asked: int | None = None
    resent: int | None = None
    reason: str | None = None
    due_in: float | None = None
    """Seconds until the transfer is to be asked about."""
    completed_at: datetime | None = None
    rail_reference: str | None = None
    """The rail's own id of the transfer, which names no person; goes into the result."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of a target may be under way: look-ups, transfers per payee institution, items of one bulk call (0: none).

    `ahead` is how many of a batch may wait at a later stage before more of it are begun with (0: any number); at least `bulk`.
    """

    window: int = 64
    lookups: int = 64
    bulk: int = 0
    ahead: int = 0
