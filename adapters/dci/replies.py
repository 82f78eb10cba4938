"""Acknowledgements and refusals in the words of the DCI standard."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import orjson
from aiohttp import web

from adapters.dci.schemas import ACK, ERRORS
from adapters.http.catalog import declare, fault_of, is_ours
from adapters.http.language import best_language, translate
from adapters.http.operations import Answer
from adapters.http.problems import RequestRefused, headers_of, note_fault
from canonical_model.errors import HubError

CORRELATION: Final = web.RequestKey("dci_correlation", str)
"""The correlation id of the message of this request, once its id is known."""
_MAX_TEXT: Final = 999

for _code, _status, _title in (
    ("dci-envelope-invalid", 400, "The DCI envelope is not valid"),
    ("dci-version-unsupported", 400, "This version of the DCI protocol is not spoken here"),
    ("dci-action-invalid", 400, "The action does not fit this address"),
    ("dci-message-time-invalid", 400, "The time of the message is too far from now"),
    ("dci-total-count-invalid", 400, "The number of events is not the number announced"),
    ("dci-sender-invalid", 400, "The sender is not the partner of the token"),
    ("dci-receiver-invalid", 400, "The message is meant for another receiver"),
    ("dci-sender-uri-invalid", 400, "Callbacks of the partner do not go to this address"),
    ("dci-signature-missing", 400, "The message must be signed"),
    ("dci-signature-invalid", 400, "The signature of the message does not hold"),
    ("dci-encryption-unsupported", 400, "Encrypted messages are not read here"),
    ("dci-event-invalid", 400, "An event of the notification cannot be understood"),
):
    declare(_code, _status, _title)

_CODES: Final[Mapping[str, str]] = {
    "token-missing": "err.request.unauthorized",
    "token-invalid": "err.request.unauthorized",
    "token-expired": "err.request.unauthorized",
    "partner-unknown": "err.request.forbidden",
    "scope-missing": "err.request.forbidden",
    "resource-not-found": "err.request.not_found",
    "request-too-slow": "err.request.timeout",
    "rate-limited": "err.request.too_many_requests",
    "dci-version-unsupported": "err.version.not_supported",
    "dci-sender-invalid": "err.sender_id.invalid",
    "partner-confined": "err.request.forbidden",
    "no-route": "err.service.unavailable",
    "dci-sender-uri-invalid": "err.sender_uri.invalid",
    "dci-receiver-invalid": "err.receiver_id.invalid",
    "dci-signature-missing": "err.signature.missing",
    "dci-signature-invalid": "err.signature.invalid",
    "dci-encryption-unsupported": "err.encryption.invalid",
}
_TRANSPORT: Final = frozenset({401, 403, 500})
"""Statuses for which the standard has a body of their own, without an acknowledgement."""
REFUSALS: Final[Mapping[int, Answer]] = {
    code: Answer(text, {"application/json": ERRORS if code in _TRANSPORT else ACK})
    for code, text in (
        (400, "The message cannot be used."),
        (401, "No valid token."),
        (403, "Not permitted."),
        (406, "The answer is JSON."),
        (408, "The body came too slowly."),
        (413, "The body is too large."),
        (415, "The body is not JSON."),
        (429, "Too many requests."),
        (500, "The hub failed."),
        (503, "The hub cannot store messages now."),
    )
}
"""What `refused` answers, for the description of operations that use it."""


def correlation_id(partner: str, message_id: str) -> str:
    """Return the correlation id of a partner's message; the same for every repeat of it."""
    return sha256(f"{partner}\x00{message_id}".encode()).hexdigest()[:32]


def acknowledged(correlation: str, at: datetime) -> web.Response:
    """Return the ACK of a message the hub has stored."""
    return _json(
        {"message": {"ack_status": "ACK", "timestamp": _instant(at), "correlation_id": correlation}}, 200, {}
    )


def refused(request: web.BaseRequest, request_id: str, error: HubError) -> web.Response:
    """Return a refusal: an ERR acknowledgement, or for 401, 403 and 500 the standard's transport error."""
    note_fault(error, request_id)
    status, title = fault_of(error)
    if 400 <= status < 500 and status not in {401, 403, 404, 408, 413, 415, 429}:
        status = 400
    language = best_language(request.headers.get("Accept-Language", ""))
    text = translate(title, language)
    if not is_ours(error):
        text = (
            f"{text}. {error.detail}"
            if error.pointer is None
            else f"{text} ({error.pointer}). {error.detail}"
        )
    code = _CODES.get(error.code) or ("err.service.unavailable" if status >= 500 else "err.request.bad")
    headers = {**headers_of(error), "Content-Language": language}
    if status in _TRANSPORT:
        return _json({"errors": [{"code": code, "message": text[:_MAX_TEXT]}]}, status, headers)
    response = _json(
        {
            "message": {
                "ack_status": "ERR",
                "timestamp": _instant(datetime.now(UTC)),
                "correlation_id": request.get(CORRELATION) or request_id[:99],
                "error": {"code": code, "message": text[:_MAX_TEXT]},
            }
        },
        status,
        headers,
    )
    if isinstance(error, RequestRefused) and error.close:
        response.force_close()
    return response


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(body: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json", headers=headers
    )
