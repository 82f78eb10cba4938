"""The answers to sent messages, in the form all three ways of sending share."""

from __future__ import annotations

import math

from adapters.http.catalog import fault_of
from adapters.http.problems import note_fault, problem_of
from adapters.http.services import AcceptedMessage
from canonical_model.errors import HubError


def reply_of(accepted: AcceptedMessage) -> dict[str, object]:
    """Return the answer for one accepted message."""
    return {
        "id": str(accepted.message_id),
        "accepted_at": accepted.accepted_at,
        "duplicate": accepted.duplicate,
    }


def result_of(
    index: int, answer: AcceptedMessage | HubError, request_id: str, language: str
) -> dict[str, object]:
    """Return the result of one message of a batch or stream."""
    if isinstance(answer, HubError):
        note_fault(answer, request_id)
        result: dict[str, object] = {
            "index": index,
            "status": fault_of(answer).status,
            "problem": problem_of(answer, request_id, language),
        }
        if answer.retry_after is not None:
            # One of many answers has no headers of its own.
            result["retry_after"] = max(1, math.ceil(answer.retry_after))
        return result
    return {"index": index, "status": 202, **reply_of(answer)}
