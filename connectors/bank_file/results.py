"""What a bank said, brought to the ledger: each payment matched by its reference, contradictions left to a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from connectors.bank_file.rail import IN_FILE, IN_PART, REFERENCE
from connectors.bank_file.reports import OPEN, PAID, RETURNED, UNCLEAR, Said
from connectors.payments import contract
from connectors.payments.contract import REVIEW, SENT, UNKNOWN, Ledger, Step, Transfer

_CHUNK: Final = 500
_SHOWN: Final = 1000


@dataclass
class ReadBack:
    """What a file comes to: how many payments moved where, and which."""

    counts: Counter[str] = field(default_factory=Counter)
    payments: list[dict[str, Any]] = field(default_factory=list)
    """The first thousand that move, or that nobody ordered; by their ids and codes only."""

    @property
    def moved(self) -> int:
        """How many payments came to another state."""
        return sum(self.counts[name] for name in ("paid", "failed", "review"))

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        names = ("paid", "failed", "review", "open", "unchanged", "unmatched")
        return {**{name: self.counts[name] for name in names}, "payments": self.payments}

    def note(self, what: str, reference: str, row: Transfer | None, code: str | None) -> None:
        """Count an outcome, and keep it among those that are shown."""
        self.counts[what] += 1
        if what not in {"open", "unchanged"} and len(self.payments) < _SHOWN:
            payment = None if row is None else row.payment_id
            self.payments.append({"reference": reference, "payment_id": payment, "to": what, "code": code})


async def take(ledger: Ledger, said: Sequence[Said], *, dry_run: bool) -> ReadBack:
    """Apply what a file says; a repeat changes nothing, and what contradicts goes to `review`."""
    done = ReadBack()
    words = await _by_payment(ledger, said, done)
    steps: list[Step] = []
    for reference, (row, each) in words.items():
        what, code, step = _decided(row, each)
        done.note(what, reference, row, code)
        if step is not None:
            steps.append(step)
    if not dry_run:
        for start in range(0, len(steps), _CHUNK):
            await ledger.apply(steps[start : start + _CHUNK])
    return done


async def _by_payment(
    ledger: Ledger, said: Sequence[Said], done: ReadBack
) -> Mapping[str, tuple[Transfer, list[Said]]]:
    words: dict[str, tuple[Transfer, list[Said]]] = {}
    for one in said:
        kinds = (IN_PART, IN_FILE) if one.whole else (REFERENCE,)
        rows: list[Transfer] = []
        for kind in kinds:
            rows = rows or await ledger.find(kind, one.reference)
        if not rows:
            done.note("unmatched", one.reference, None, None)
        for row in rows:
            words.setdefault(row.id, (row, []))[1].append(one)
    return words


def _decided(row: Transfer, said: Sequence[Said]) -> tuple[str, str | None, Step | None]:
    """Return what becomes of a payment by all that one file says of it."""
    words = [one for one in said if one.what != OPEN]
    at = (row.stage, row.state)
    if not words:
        return "open", None, None
    if row.state == REVIEW:
        return "unchanged", None, None
    ends = {one.what for one in words}
    last = words[-1]
    code = last.code
    if UNCLEAR in ends:
        return _review(row, next(one.code for one in words if one.what == UNCLEAR) or "unclear")
    if RETURNED in ends and ends <= {PAID, RETURNED}:
        # Booked and back before we knew: it has certainly not arrived. Back after it was paid is for a person.
        back = next(one for one in words if one.what == RETURNED)
        if row.state in {SENT, UNKNOWN}:
            return "failed", back.code, Step(row.id, at, state=contract.FAILED, reason=back.code)
        if row.state == contract.FAILED:
            return "unchanged", None, None
        return _review(row, "money-returned")
    if len(ends) > 1:
        return _review(row, "contradicts")
    (end,) = ends
    if end == PAID and any(one.amount is not None and one.amount != row.instruction.amount for one in words):
        return _review(row, "amount-differs")
    state = contract.PAID if end == PAID else contract.FAILED
    if row.state == state:
        return "unchanged", None, None
    if row.state not in {SENT, UNKNOWN}:
        return _review(row, "contradicts")
    fees = [one.fee for one in words if one.fee is not None]
    if any(fee.currency != row.instruction.amount.currency for fee in fees):
        return _review(row, "fee-currency")
    return state, code, Step(
        row.id, at, state=state, reason=None if end == PAID else code,
        fee=max((fee.minor_units for fee in fees), default=None), completed_at=last.at,
        rail_reference=next((one.rail_reference for one in words if one.rail_reference), None),
    )  # fmt: skip


def _review(row: Transfer, code: str) -> tuple[str, str | None, Step | None]:
    return "review", code, Step(row.id, (row.stage, row.state), state=REVIEW, reason=code)
