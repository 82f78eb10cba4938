"""The pipeline every request passes: small stages put together once for each operation when the application is built."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache, partial
from ipaddress import ip_address
from typing import Any, Final

from aiohttp import web
from pydantic import ValidationError

from adapters.http.auditing import CLIENT, DENIED, READS, Auditor
from adapters.http.body import read_body, too_large
from adapters.http.issuing import TOKENS, address_of
from adapters.http.operations import Body, Call, Operation
from adapters.http.problems import RequestRefused, challenge, problem_response
from adapters.http.rates import RateLimits
from adapters.http.ready import Ready, lines_of
from adapters.http.security.partners import Partners
from adapters.http.security.tokens import Claims, TokenVerifier
from canonical_model.errors import Defect, HubError
from registry.settings import HubSettings

Stage = Callable[[web.Request, Call], Awaitable[None] | None]
"""One step: raises a `HubError` to refuse; an awaitable is returned only when there is something to wait for."""
Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID: Final = "X-Request-ID"
_HEX: Final = re.compile(r"[0-9a-f]{16,64}", re.IGNORECASE)
_RANDOM_ID: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"  # UUID (RFC 9562)
    r"|[0-7][0-9A-HJKMNP-TV-Z]{25}"  # ULID
    r"|00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",  # W3C trace context
    re.IGNORECASE,
)
_LONG_NUMBER: Final = re.compile(r"[0-9]{12}")
_SECURITY: Final = {
    "Server": "openspp-hub",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_HSTS: Final = "max-age=31536000"


def request_id_of(request: web.BaseRequest) -> str:
    """Return the caller's X-Request-ID where it is a random token, else a new random id.

    The id is stored in clear for as long as the audit trail, so one that may be a name or an identity number is not taken.
    """
    given = request.headers.get(REQUEST_ID)
    return given if given is not None and is_random_token(given) else os.urandom(16).hex()


def is_random_token(text: str) -> bool:
    """Say whether a text has the form of a random token: UUID, ULID, W3C trace context, or 16 to 64 hexadecimal digits.

    Random hexadecimal digits are letters in three cases of eight; a number with a few letters around it is none.
    """
    if len(text) > 64:
        return False
    letters = sum(one.isalpha() for one in text)
    if _HEX.fullmatch(text):
        return letters * 8 >= len(text) and (len(text) >= 32 or not _LONG_NUMBER.search(text))
    return letters * 8 >= len(text) and _RANDOM_ID.fullmatch(text) is not None


def security_headers(settings: HubSettings) -> dict[str, str]:
    """Return the security headers of every answer of this server."""
    headers = dict(_SECURITY)
    if settings.tls_cert is not None or settings.behind_tls_proxy:
        headers["Strict-Transport-Security"] = _HSTS
    return headers


def dress(response: web.StreamResponse, request_id: str, headers: dict[str, str]) -> None:
    """Put the request id and the given headers onto an answer; those it already has stay."""
    target = response.headers
    target[REQUEST_ID] = request_id
    for name, value in headers.items():
        if name not in target:
            target[name] = value


class Authentication:
    """The stage that finds out who calls, from the bearer token."""

    def __init__(self, tokens: TokenVerifier, partners: Partners) -> None:
        self._tokens, self._partners = tokens, partners

    def __call__(self, request: web.Request, call: Call) -> Awaitable[None] | None:
        """Identify the caller at once when the token is remembered; else verify it."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise RequestRefused(
                "The request carries no bearer token. Nothing was accepted.",
                code="token-missing",
                remedy="Get a token from the token endpoint and send it as Authorization: Bearer.",
            )
        claims = self._tokens.remembered(token)
        if claims is None:
            return self._verify(token, call)
        self._identify(claims, call)
        return None

    async def _verify(self, token: str, call: Call) -> None:
        self._identify(await self._tokens.verify(token), call)

    def _identify(self, claims: Claims, call: Call) -> None:
        found = self._partners.client(claims.client_id, claims.outside)
        if found is None:
            raise RequestRefused(
                "The token belongs to no active partner of this hub. Nothing was accepted.",
                code="partner-unknown",
                remedy="Ask the operator of the hub to register the client or to enable the partner.",
            )
        call.identify(found[0], claims.scopes & found[0].scopes, claims.user, claims.roles)


def authorize(request: web.Request, call: Call) -> None:
    """Refuse a caller without the operation's scope, in the token and in the partner's own list."""
    scope = call.operation.scope
    if scope is not None and scope not in call.scopes:
        refusal = RequestRefused(
            f"This operation needs the scope {scope.value}. Nothing was accepted.",
            code="scope-missing",
            remedy="Ask for the scope with the token; if it is not granted, ask the operator of the hub.",
        )
        refusal.headers = {"WWW-Authenticate": challenge(refusal, scope.value)}
        raise refusal


def limit_rate(limits: RateLimits) -> Stage:
    """Return the stage that takes one message from the partner's bucket, and lets handlers take more."""

    def stage(request: web.Request, call: Call) -> None:
        call.headers = dict(limits.take(call.partner))
        call.limit(partial(limits.take_more, call.partner))

    return stage


def check_query(request: web.Request, call: Call) -> None:
    """Refuse query parameters the operation does not know and check the values of those it does."""
    model = call.operation.query
    raw = request.rel_url.raw_query_string
    if not raw and model is None:
        return
    fields = (
        {} if model is None else {field.alias or name: field for name, field in model.model_fields.items()}
    )
    query = request.rel_url.query
    values: dict[str, Any] = {}
    for name in dict.fromkeys(query):
        if name not in fields:
            raise RequestRefused(
                "The query has a parameter this operation does not know. Nothing was done.",
                code="query-parameter-unknown",
                remedy=f"Parameters of this operation: {', '.join(sorted(fields)) or 'none'}.",
            )
        many = query.getall(name)
        listed = "list" in str(fields[name].annotation) or "tuple" in str(fields[name].annotation)
        if len(many) > 1 and not listed:
            raise _wrong_query(name, "stands more than once")
        values[name] = many if listed else many[0]
    if model is None:
        return
    try:
        call.query = model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise _wrong_query(str(first["loc"][0]) if first["loc"] else "", str(first["type"])) from None


def _wrong_query(name: str, rule: str) -> RequestRefused:
    return RequestRefused(
        f"The query parameter {name} is wrong: {rule}. Nothing was done.",
        code="query-parameter-invalid",
        remedy="Correct the parameter; /openapi.json says what it takes.",
        places=({"parameter": name, "detail": rule},),
    )


@lru_cache(maxsize=512)
def acceptable(accept: str, produces: tuple[str, ...]) -> bool:
    """Say whether an Accept header allows one of the content types; refusals with q=0 count."""
    for part in accept.split(","):
        media, _, parameters = part.strip().lower().partition(";")
        if re.search(r"(^|;)\s*q=0(\.0*)?\s*(;|$)", parameters):
            continue
        media = media.strip()
        if media in {"*/*", ""} or any(
            media == one or (media.endswith("/*") and one.startswith(media[:-1])) for one in produces
        ):
            return True
    return False


def negotiate(request: web.Request, call: Call) -> None:
    """Refuse a caller who accepts none of the content types of the operation."""
    accept = request.headers.get("Accept")
    if accept is not None and accept != "*/*" and not acceptable(accept[:500], call.operation.produces):
        raise RequestRefused(
            f"This operation answers with {', '.join(call.operation.produces)}.",
            code="not-acceptable",
            remedy="Name one of these content types in Accept, or leave the header out.",
            close=request.can_read_body,
        )


def check_media(request: web.Request, call: Call) -> None:
    """Refuse a body of a content type the operation does not take."""
    if request.content_type not in call.operation.requests:
        raise RequestRefused(
            f"This operation takes {', '.join(call.operation.requests)}. Nothing was accepted.",
            code="media-type-unsupported",
            remedy="Send the body with one of these in Content-Type.",
            headers={"Accept-Post": ", ".join(call.operation.requests)},
            close=True,
        )


def read_whole(limit: int, seconds: float) -> Stage:
    """Return the stage that reads the body within its limits."""

    async def stage(request: web.Request, call: Call) -> None:
        call.body = await read_body(request, call.operation.body_limit or limit, seconds)

    return stage


def from_this_machine(request: web.BaseRequest) -> bool:
    """Say whether the connection itself comes from this machine."""
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    if not isinstance(peer, tuple):
        return False
    try:
        return ip_address(str(peer[0])).is_loopback
    except ValueError:
        return False


def unless_local(stage: Stage) -> Stage:
    """Return the stage for callers of other machines only."""

    def local(request: web.Request, call: Call) -> Awaitable[None] | None:
        if from_this_machine(request) and "Authorization" not in request.headers:
            return None
        return stage(request, call)

    return local


class Pipeline:
    """Builds the endpoint of an operation: its stages in order, then its handler, then the dressing of the answer."""

    def __init__(
        self,
        settings: HubSettings,
        tokens: TokenVerifier,
        partners: Partners,
        auditor: Auditor | None = None,
    ) -> None:
        self._settings = settings
        self._auditor = auditor
        self._authenticate = Authentication(tokens, partners)
        self._limit_rate = limit_rate(RateLimits(settings.rate_limit, settings.rate_burst))
        self._headers = security_headers(settings)

    def stages(self, operation: Operation) -> list[Stage]:
        """Return the stages of an operation in the order they run."""
        stages: list[Stage] = []
        if operation.guarded:
            guarded: list[Stage] = [self._authenticate, self._limit_rate, authorize]
            # Behind a proxy every connection is local, so being local proves nothing there.
            trusted = operation.trust_loopback and not self._settings.behind_tls_proxy
            stages += [unless_local(stage) for stage in guarded] if trusted else guarded
        stages += [check_query, negotiate]
        if operation.requests:
            stages.append(check_media)
        if operation.body is Body.WHOLE:
            stages.append(read_whole(self._settings.body_limit, self._settings.request_timeout))
        return stages

    def endpoint(self, operation: Operation) -> Endpoint:
        """Return the aiohttp handler of an operation."""
        witness = _witness(self._auditor, operation, self._settings.behind_tls_proxy)
        return _endpoint(operation, self.stages(operation), self._dressing(operation), witness)

    def expectation(
        self, operation: Operation
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse | None]]:
        """Return what answers `Expect: 100-continue`: the go-ahead, or the refusal of a body that is too large."""
        limit = operation.body_limit or self._settings.body_limit

        async def expect(request: web.Request) -> web.StreamResponse | None:
            length = request.headers.get("Content-Length", "")
            streamed = request.content_type == "application/x-ndjson" and operation.body is Body.STREAM
            if length.isdigit() and int(length) > limit and not streamed:
                # Refused before a byte of the body is sent; the endpoint then finds nothing more to say.
                request_id = request_id_of(request)
                response = (operation.render or problem_response)(request, request_id, too_large(limit))
                dress(response, request_id, self._headers)
                return response
            if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
                request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None

        return expect

    def _dressing(self, operation: Operation) -> dict[str, str]:
        if operation.browser:
            return {**self._headers, "Content-Security-Policy": _PAGE_POLICY}
        return self._headers


Witness = Callable[[web.Request, Call, HubError | None], None]
"""Told of every request that was refused (with the error), and of those of some operations that were not."""


def _witness(auditor: Auditor | None, operation: Operation, proxied: bool) -> tuple[Witness | None, bool]:
    """Return who writes the audit trail for an operation, and whether what succeeds is told too."""
    if auditor is None:
        return None, False
    reading, name = READS.get(operation.name), operation.name
    if name in TOKENS:

        def token(request: web.Request, call: Call, error: HubError | None) -> None:
            outcome = request.get(DENIED, "ok") if error is None else error.code
            auditor.token(address_of(request, proxied), request.get(CLIENT), outcome, call.request_id)

        return token, True

    def witness(request: web.Request, call: Call, error: HubError | None) -> None:
        actor = call.partner.name if call.known else None
        if error is not None:
            auditor.refused(address_of(request, proxied), actor, name, error.code, call.request_id)
        if reading is not None and actor is not None and (error is None or error.code == "message-not-found"):
            id_ = request.match_info.get("id", "")
            auditor.read(actor, reading, id_, "ok" if error is None else error.code, call.request_id)

    return witness, reading is not None


def _endpoint(
    operation: Operation,
    stages: Sequence[Stage],
    headers: dict[str, str],
    witnessed: tuple[Witness | None, bool],
) -> Endpoint:
    witness, always = witnessed
    handler, render = operation.handler, operation.render or problem_response
    common = lines_of(headers)

    async def endpoint(request: web.Request) -> web.StreamResponse:
        call = Call(operation, request_id_of(request))
        response: web.StreamResponse
        try:
            for stage in stages:
                pending = stage(request, call)
                if pending is not None:
                    await pending
            call.common = headers
            response = await handler(request, call)
            if always and witness is not None:
                witness(request, call, None)
        except HubError as error:
            if witness is not None:
                witness(request, call, error)
            response = render(request, call.request_id, error)
        except web.HTTPException as error:
            response = render(request, call.request_id, refusal_of(error))
        except ConnectionError:
            raise
        except Exception as error:
            response = render(request, call.request_id, defect_of(error))
        if isinstance(response, Ready):
            call.headers[REQUEST_ID] = call.request_id
            response.dress(call.headers, common)
        elif not response.prepared:
            dress(response, call.request_id, call.headers)
            dress(response, call.request_id, headers)
        return response

    return endpoint


def defect_of(error: Exception) -> Defect:
    """Return the defect an unexpected exception is answered as; its text stays out of the answer."""
    defect = Defect("The hub failed while it worked on this request.")
    defect.__cause__ = error
    return defect


def refusal_of(error: web.HTTPException) -> HubError:
    """Return aiohttp's own refusal (no such path, method, bad request) as ours."""
    if error.status == 404:
        return RequestRefused("There is nothing at this address.", code="resource-not-found")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return RequestRefused(
            f"This address takes {allowed}.", code="method-not-allowed", headers={"Allow": allowed}
        )
    if error.status == 413:
        return RequestRefused("The body is larger than this hub takes.", code="body-too-large", close=True)
    if 400 <= error.status < 500:
        return RequestRefused("The request is not valid HTTP for this address.", close=True)
    return defect_of(error)


def edge(settings: HubSettings) -> Any:
    """Return the middleware that answers what no operation took: unknown paths and methods."""
    headers = security_headers(settings)

    @web.middleware
    async def middleware(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            request_id = request_id_of(request)
            response = problem_response(request, request_id, refusal_of(error))
            dress(response, request_id, headers)
            return response

    return middleware
