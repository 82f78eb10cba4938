"""What is said of disbursements in the words of G2P Connect: statuses, reason codes, and the envelope around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import orjson

from adapters.g2p.disburse_reading import language_of
from registry.signing import SigningKey
from routing.disbursements import REPEATED, Disbursements, Item, State, Taken

CODES: Final = frozenset(
    {
        "rjct.reference_id.invalid",
        "rjct.reference_id.duplicate",
        "rjct.timestamp.invalid",
        "rjct.payer_fa.invalid",
        "rjct.payee_fa.invalid",
        "rjct.amount.invalid",
        "rjct.schedule_ts.invalid",
        "rjct.currency_code.invalid",
    }
)
"""DisburseStatusReasonCode; what a rail says besides stands in `status_reason_message`, as a code."""
_OURS: Final[Mapping[str, str]] = {
    REPEATED: "rjct.reference_id.duplicate",
    "amount-unpayable": "rjct.amount.invalid",
    "payee-unaddressed": "rjct.payee_fa.invalid",
    "payee-unwritable": "rjct.payee_fa.invalid",
}
_ECHOED: Final = (
    "instruction", "amount", "payer_fa", "payer_name", "payee_fa", "payee_name", "currency_code",
)  # fmt: skip
MOST: Final = 10_000
"""Statuses of one answer."""


async def statuses(
    store: Disbursements, partner: str, items: Sequence[Item], at: datetime
) -> list[dict[str, Any]]:
    """Return an entry of `disbursements_status` for each item, from the ledger; refused ones carry the time `at`."""
    ids = [one.payment_id for one in items if one.payment_id is not None]
    states = await store.states(ids, partner=partner)
    return [status_of(one, states.get(one.payment_id) if one.payment_id else None, at) for one in items]


def status_of(item: Item, state: State | None, at: datetime) -> dict[str, Any]:
    """Return one entry of `disbursements_status`."""
    if state is None:
        found: dict[str, Any] = {
            "reference_id": item.reference_id,
            "timestamp": instant(item.at or at),
            "status": "rjct",
            **_reason(item.code, item.text),
        }
        return found
    found = {"reference_id": item.reference_id, "timestamp": instant(state.at), "status": state.status}
    found |= _reason(state.code, None)
    found |= {name: state.words[name] for name in _ECHOED if name in state.words}
    if (language := language_of(state.words.get("locale"))) is not None:
        found["locale"] = language
    return found


def _reason(code: str | None, text: str | None) -> dict[str, str]:
    if code is None:
        return {}
    official = _OURS.get(code, code)
    said = {"status_reason_code": official} if official in CODES else {}
    words = text or (code if official != code or official not in CODES else None)
    return said | ({"status_reason_message": words[:999]} if words else {})


def overall(entries: Iterable[Mapping[str, Any]]) -> tuple[str, int]:
    """Return the status of a whole answer and how many of its entries have ended."""
    found = [one["status"] for one in entries]
    ended = sum(one in {"succ", "rjct"} for one in found)
    if ended < len(found):
        return "pdng", ended
    return ("succ" if "succ" in found or not found else "rjct"), ended


class Writer:
    """Writes signed answers: a compact JWS over the envelope without its signature, by the key of the hub's tokens."""

    def __init__(self, key: SigningKey, hub_id: str) -> None:
        self._key, self._hub_id = key, hub_id

    def answer(
        self,
        taken: Taken,
        action: str,
        message: Mapping[str, Any],
        entries: Sequence[Mapping[str, Any]],
        *,
        hub_id: str | None,
        reason: str | None = None,
    ) -> bytes:
        """Return an answer as the bytes to be sent; its message id is that of the request it answers, repeated or not."""
        status, ended = overall(entries)
        header: dict[str, Any] = {
            "version": "1.0.0",
            "message_id": str(uuid5(NAMESPACE_URL, f"{taken.id}/{action}/{status}/{ended}")),
            "message_ts": instant(datetime.now(UTC)),
            "action": action,
            "status": "rjct" if reason else status,
            "total_count": len(entries),
            "completed_count": ended,
            "sender_id": hub_id or self._hub_id,
            "is_msg_encrypted": False,
        }
        if reason:
            header["status_reason_message"] = reason
        if (sender := taken.words.get("sender_id")) is not None:
            header["receiver_id"] = sender
        body = {"header": header, "message": message}
        # A receiver that checks a signature compares what was signed with what it got.
        return orjson.dumps({"signature": self._key.sign(orjson.dumps(body), typ="JWS"), **body})


def instant(at: datetime) -> str:
    """Return an instant in RFC 3339 with milliseconds, in UTC."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
