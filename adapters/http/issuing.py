"""The token endpoints and the documents that describe the built-in issuer."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

import orjson
from aiohttp import web
from pydantic import BaseModel, Field

from adapters.http.auditing import CLIENT, DENIED
from adapters.http.body import parse_json
from adapters.http.operations import Answer, Body, Call, Operation
from adapters.http.security.issuer import IssuedToken, TokenDenied, TokenIssuer
from adapters.http.services import Services

FORM: Final = "application/x-www-form-urlencoded"
TOKENS: Final = frozenset({"issueToken", "issueDciToken"})
_LIMIT: Final = 16 * 1024
_STATUS: Final = {"invalid_client": 401, "slow_down": 429}


class TokenReply(BaseModel):
    """An access token (RFC 6749 section 5.1)."""

    access_token: str
    token_type: str
    expires_in: int = Field(description="Life of the token in seconds.")
    scope: str


class DciTokenReply(BaseModel):
    """An access token as the DCI standard writes it."""

    access_token: str
    token_type: str
    expires_in: str = Field(description="Life of the token in seconds, as text.")


class TokenError(BaseModel):
    """A refused token request (RFC 6749 section 5.2)."""

    error: str
    error_description: str


class TokenForm(BaseModel):
    """A token request; the client may name itself here or by HTTP Basic."""

    grant_type: str
    client_id: str | None = None
    client_secret: str | None = None
    scope: str | None = None


def operations(services: Services) -> list[Operation]:
    """Return the issuer's operations; none when the hub issues no tokens."""
    issuer = services.issuer
    if issuer is None:
        return []
    refused = {
        status: Answer(text, {"application/json": TokenError})
        for status, text in (
            (400, "The request is not a token request."),
            (401, "The client is not known or its secret is wrong."),
            (429, "Too many wrong secrets."),
        )
    }
    problems = ("request-json-invalid", "body-too-large", "media-type-unsupported", "request-too-slow")
    token = partial(
        Operation,
        method="POST",
        tag="tokens",
        requests={FORM: TokenForm, "application/json": TokenForm},
        problems=problems,
        body=Body.WHOLE,
        body_limit=_LIMIT,
        example={"grant_type": "client_credentials", "client_id": "civil-registry", "client_secret": "…"},
    )
    document = partial(Operation, method="GET", tag="tokens")
    return [
        token(
            name="issueToken",
            path="/oauth2/token",
            summary="Get an access token (OAuth 2.0 client credentials)",
            handler=partial(_token, issuer, services.settings.behind_tls_proxy, False),
            answers={200: Answer("A token.", {"application/json": TokenReply}), **refused},
        ),
        token(
            name="issueDciToken",
            path="/oauth2/client/token",
            summary="Get an access token, in the spelling of the DCI standard",
            handler=partial(_token, issuer, services.settings.behind_tls_proxy, True),
            answers={200: Answer("A token.", {"application/json": DciTokenReply}), **refused},
        ),
        document(
            name="readKeys",
            path="/.well-known/jwks.json",
            summary="The public keys of the hub (RFC 7517)",
            handler=partial(_document, issuer.jwks),
            answers={200: Answer("A JSON Web Key Set.", {"application/json": {"type": "object"}})},
        ),
        *(
            document(
                name=name,
                path=f"/.well-known/{path}",
                summary="Where tokens are issued and how (RFC 8414)",
                handler=partial(_document, metadata(issuer)),
                answers={200: Answer("Metadata.", {"application/json": {"type": "object"}})},
            )
            for name, path in (
                ("readAuthorizationServer", "oauth-authorization-server"),
                ("readOpenidConfiguration", "openid-configuration"),
            )
        ),
    ]


def metadata(issuer: TokenIssuer) -> dict[str, Any]:
    """Return the authorization server metadata of the built-in issuer."""
    return {
        "issuer": issuer.issuer,
        "token_endpoint": f"{issuer.issuer}/oauth2/token",
        "jwks_uri": f"{issuer.issuer}/.well-known/jwks.json",
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }


async def _document(body: Mapping[str, Any], request: web.Request, call: Call) -> web.Response:
    return web.Response(
        body=orjson.dumps(body),
        content_type="application/json",
        headers={"Cache-Control": "public, max-age=300"},
    )


async def _token(
    issuer: TokenIssuer, proxied: bool, dci: bool, request: web.Request, call: Call
) -> web.Response:
    basic = request.headers.get("Authorization") is not None
    try:
        fields = _fields(request.content_type, call.body)
        if fields.get("grant_type") != "client_credentials":
            raise TokenDenied("unsupported_grant_type", "Only the grant type client_credentials is given.")
        client_id, secret = _client(request, fields)
        request[CLIENT] = client_id
        issued = await issuer.issue(client_id, secret, fields.get("scope"), address_of(request, proxied))
    except TokenDenied as denied:
        request[DENIED] = denied.error
        return _denied(denied, basic)
    return web.Response(
        body=orjson.dumps(_granted(issued, dci)),
        content_type="application/json",
        headers={"Pragma": "no-cache"},
    )


def address_of(request: web.BaseRequest, proxied: bool) -> str:
    """Return the caller's address: the peer, or behind our own proxy the last one it put into X-Forwarded-For."""
    forwarded = request.headers.getall("X-Forwarded-For", ()) if proxied else ()
    return forwarded[-1].rpartition(",")[2].strip()[:64] if forwarded else request.remote or ""


def _granted(issued: IssuedToken, dci: bool) -> dict[str, Any]:
    if dci:
        return {
            "access_token": issued.access_token,
            "token_type": "bearer",
            "expires_in": str(issued.expires_in),
        }
    return {
        "access_token": issued.access_token,
        "token_type": "Bearer",
        "expires_in": issued.expires_in,
        "scope": issued.scope,
    }


def _denied(denied: TokenDenied, basic: bool) -> web.Response:
    headers = {}
    status = _STATUS.get(denied.error, 400)
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="openspp-hub"'
    if denied.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(denied.retry_after + 0.5)))
    return web.Response(
        body=orjson.dumps({"error": denied.error, "error_description": denied.detail}),
        status=status,
        content_type="application/json",
        headers=headers,
    )


def _fields(media: str, body: bytes) -> dict[str, str]:
    if media == "application/json":
        value = parse_json(body)
        if not isinstance(value, dict) or not all(isinstance(one, str | None) for one in value.values()):
            raise TokenDenied("invalid_request", "The body is a JSON object of texts.")
        return {name: one for name, one in value.items() if isinstance(one, str)}
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise TokenDenied("invalid_request", "The body is not a form in UTF-8.") from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise TokenDenied("invalid_request", "A field stands more than once.")
    return dict(pairs)


def _client(request: web.Request, fields: Mapping[str, str]) -> tuple[str, str]:
    header = request.headers.get("Authorization")
    if header is None:
        if not fields.get("client_id") or not fields.get("client_secret"):
            raise TokenDenied("invalid_client", "The request names no client and secret.")
        return fields["client_id"], fields["client_secret"]
    scheme, _, coded = header.partition(" ")
    if scheme.lower() != "basic" or "client_secret" in fields:
        raise TokenDenied("invalid_request", "The client names itself in exactly one way.")
    try:
        name, colon, secret = base64.b64decode(coded, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        raise TokenDenied("invalid_client", "The Authorization header is not HTTP Basic.") from None
    if not colon:
        raise TokenDenied("invalid_client", "The Authorization header is not HTTP Basic.")
    # RFC 6749 section 2.3.1: both are form-encoded before they are joined.
    return unquote_plus(name), unquote_plus(secret)
