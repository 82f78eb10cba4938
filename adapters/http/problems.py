"""RFC 9457 problem answers: one form for every refusal, in the caller's language, without any value of the request."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from aiohttp import web

from adapters.http.catalog import fault_of, is_ours
from adapters.http.language import best_language, translate
from canonical_model.errors import HubError, Refused
from registry.logs import log
from registry.rules.source import RuleRefused
from routing import metrics

_LOG = logging.getLogger(__name__)
MEDIA_TYPE: Final = "application/problem+json"
_OURS: Final = "The hub failed while it worked on this request. Nothing was accepted."


class RequestRefused(Refused):
    """The HTTP request itself was refused, before anything was done with it."""

    default_code = "request-invalid"

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        remedy: str | None = None,
        retry_after: float | None = None,
        pointer: str | None = None,
        headers: Mapping[str, str] | None = None,
        places: Sequence[Mapping[str, Any]] = (),
        close: bool = False,
    ) -> None:
        super().__init__(detail, code=code, remedy=remedy, retry_after=retry_after, pointer=pointer)
        self.headers = headers or {}
        self.places = places
        self.close = close
        """Whether the connection ends with the answer, since the rest of the body is not wanted."""


def problem_of(error: HubError, request_id: str, language: str) -> dict[str, Any]:
    """Return the problem object of an error; the detail of our own faults stays in our log."""
    status, title = fault_of(error)
    detail = _OURS if is_ours(error) else error.detail
    body: dict[str, Any] = {
        "type": f"/errors/{error.code}",
        "title": translate(title, language),
        "status": status,
        "detail": detail,
        "instance": request_id,
        "code": error.code,
    }
    if error.remedy and not is_ours(error):
        body["remedy"] = error.remedy
    places = error.places if isinstance(error, RequestRefused) else ()
    if not places and error.pointer is not None:
        places = ({"pointer": error.pointer, "detail": detail},)
    elif isinstance(error, RuleRefused):
        place = {"line": error.line, "column": error.column, "length": error.length, "marked": error.marked}
        places = ({"pointer": "", "detail": detail, **place},)
    if places:
        body["errors"] = list(places)
    return body


def headers_of(error: HubError) -> dict[str, str]:
    """Return the headers an error's answer carries besides its body: Retry-After, WWW-Authenticate, Allow."""
    headers = dict(error.headers) if isinstance(error, RequestRefused) else {}
    status = fault_of(error).status
    if error.retry_after is not None or status == 503:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after or 1)))
    if status == 401:
        headers.setdefault("WWW-Authenticate", challenge(error))
    return headers


def challenge(error: HubError, scope: str | None = None) -> str:
    """Return the WWW-Authenticate header (RFC 6750) of a refusal; it never repeats any part of a token."""
    if error.code == "token-missing":
        return 'Bearer realm="openspp-hub"'
    kind = "insufficient_scope" if scope else "invalid_token"
    quoted = error.detail.replace("\\", " ").replace('"', "'")
    text = f'Bearer realm="openspp-hub", error="{kind}", error_description="{quoted}"'
    return f'{text}, scope="{scope}"' if scope else text


def problem_response(request: web.BaseRequest, request_id: str, error: HubError) -> web.Response:
    """Return the problem+json answer of an error and log it when the fault is ours."""
    language = best_language(request.headers.get("Accept-Language", ""))
    body = problem_of(error, request_id, language)
    note_fault(error, request_id)
    response = web.Response(
        body=orjson.dumps(body), status=body["status"], content_type=MEDIA_TYPE, headers=headers_of(error)
    )
    response.headers["Content-Language"] = language
    if isinstance(error, RequestRefused) and error.close:
        response.force_close()
    return response


def note_fault(error: HubError, request_id: str) -> None:
    """Count a refusal, and log one that is the hub's own fault with the request id by which it is found."""
    metrics.refused(error.code)
    if is_ours(error):
        log(
            _LOG,
            logging.ERROR,
            "request-failed",
            request_id=request_id,
            code=error.code,
            error=error.__cause__ or error,
        )
