"""What is answered in the words of GovStack: response codes, the state of a batch, and who could not be registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import orjson
from aiohttp import web

from adapters.http.catalog import declare, fault_of, is_ours
from adapters.http.problems import headers_of, note_fault
from canonical_model.errors import HubError
from routing.disbursements import Disbursements, Taken

RECEIVED: Final = "00"
REFUSED: Final = "01"
REQUEST: Final = web.RequestKey("govstack_request", str)
"""The RequestID of this request, once it is known."""
_LONGEST: Final = 200

declare("govstack-request-invalid", 400, "The request is not valid")
declare("govstack-instructions-invalid", 400, "Some instructions cannot be paid")
declare("govstack-beneficiaries-refused", 400, "Some beneficiaries cannot be registered")
declare("disburse-reference-reused", 409, "A reference stands for another order")


def response(request_id: str, text: str, *, camel: bool = False) -> web.Response:
    """Return the answer to a request that was taken; `camel` spells it as chapter 8 does."""
    names = ("responseCode", "responseDescription", "requestID") if camel else _NAMES
    return web.json_response(dict(zip(names, (RECEIVED, text[:_LONGEST], request_id), strict=True)))


_NAMES: Final = ("ResponseCode", "ResponseDescription", "RequestID")


def refused(request: web.BaseRequest, request_id: str, error: HubError) -> web.Response:
    """Return a refusal: code 01, what is wrong and where, and the RequestID where one was read."""
    note_fault(error, request_id)
    status, title = fault_of(error)
    if 400 <= status < 500 and status not in {401, 403, 404, 408, 413, 415, 429}:
        status = 400
    text = title if is_ours(error) else f"{error.code} {error.pointer or ''} {error.detail}"
    body = dict(
        zip(_NAMES, (REFUSED, " ".join(text.split())[:_LONGEST], request.get(REQUEST, "")), strict=True)
    )
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json", headers=headers_of(error)
    )


async def batch_state(store: Disbursements, taken: Taken, *, settled: bool) -> bytes | None:
    """Return the status of a batch from the ledger; with `settled` None while some payment has not ended."""
    ids = [one.payment_id for one in taken.items if one.payment_id is not None]
    states = await store.states(ids, partner=taken.partner)
    counts: dict[str, int] = {"completed": 0, "failed": 0, "ongoing": 0}
    sums: dict[str, Decimal] = {name: Decimal(0) for name in counts}
    currency = ""
    for state in states.values():
        name = {"succ": "completed", "rjct": "failed"}.get(state.status, "ongoing")
        counts[name] += 1
        sums[name] += _amount(state.words)
        currency = str(state.words.get("currency") or state.words.get("Currency") or currency)
    if settled and counts["ongoing"]:
        return None
    return orjson.dumps(
        {
            "requestId": taken.id.hex[-12:],
            "batchId": taken.words.get("batch") or str(taken.id),
            "TotalTransactions": len(states),
            **counts,
            "currency": currency,
            "totalAmount": _number(sum(sums.values(), Decimal(0))),
            **{f"{name}_amount": _number(value) for name, value in sums.items()},
            "result_file": None,
            "resultGeneratedAt": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "note": "",
        }
    )


def registered(taken: Taken) -> bytes:
    """Return which beneficiaries of a request could not be registered."""
    asked: Sequence[Mapping[str, str]] = taken.words["asked"]
    failed = [
        {taken.words["id_name"]: one["id"], "paymentModality": one["modality"], "failureReason": code}
        for one, code in zip(asked, taken.words["codes"], strict=True)
        if code is not None
    ]
    return orjson.dumps(
        {
            "requestID": taken.id.hex[-12:],
            "registerRequestID": taken.words["request_id"],
            "numberFailedCases": len(failed),
            "failedCases": failed,
        }
    )


def _amount(words: Mapping[str, Any]) -> Decimal:
    try:
        return Decimal(str(words.get("amount") or words.get("Amount") or "0"))
    except InvalidOperation:
        return Decimal(0)


def _number(amount: Decimal) -> Any:
    # Written as it was ordered: a float would round.
    return orjson.Fragment(format(amount, "f").encode())
