"""The HTTP side of a Mojaloop scheme: requests with their headers, signature and token, and answers told apart by what they mean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from yarl import URL

from connectors.errors import ConfigError, Unavailable, Unknown
from connectors.http import Reply, retry_after
from connectors.mojaloop.errors import is_code
from connectors.mojaloop.formats import http_date
from connectors.mojaloop.headers import VERSIONS, accepted, offered_versions
from connectors.mojaloop.model import Dialect
from connectors.mojaloop.settings import MojaloopSettings
from connectors.mojaloop.signing import Signer
from connectors.network import GuardedResolver, open_session, tls_context
from connectors.posting import Posting

_EARLY: Final = 30.0
"""Seconds before its end at which a token is fetched anew."""
_LONGEST_TOKEN: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered with; `code` is the error code in the body, `offered` the versions of a 406."""

    status: int
    code: str | None
    body: Any
    seconds: float
    offered: tuple[str, ...] = ()
    retry_after: float | None = None

    @property
    def taken(self) -> bool:
        """Whether the request was taken; the result comes by itself."""
        return 200 <= self.status < 300


class Tokens:
    """OAuth2 client credentials: one token at a time, fetched before the old one ends."""

    def __init__(self, posting: Posting, client_id: str, secret: str, scope: str | None) -> None:
        self._posting = posting
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
        self._form = urlencode(form | ({"scope": scope} if scope else {})).encode()
        self._token, self._end = "", 0.0
        self._lock = asyncio.Lock()

    async def get(self, deadline: float) -> str:
        """Return a token that holds; raises `Unavailable` while none can be had (nothing was sent then)."""
        if asyncio.get_running_loop().time() < self._end:
            return self._token
        async with self._lock:
            if asyncio.get_running_loop().time() >= self._end:
                await self._fetch(deadline)
            return self._token

    def drop(self, token: str) -> None:
        """Forget a token the other side refused, unless a newer one is there already."""
        if token == self._token:
            self._end = 0.0

    async def _fetch(self, deadline: float) -> None:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        try:
            reply = await self._posting.post(headers, self._form, deadline)
        except Unknown:
            raise Unavailable(
                "The token address broke off without an answer; nothing was sent to the scheme.",
                code="token-unavailable",
            ) from None
        body = _json(reply)
        token = body.get("access_token") if isinstance(body, dict) else None
        if (
            reply.status != 200
            or not isinstance(token, str)
            or not token.isascii()
            or not token.isprintable()
        ):
            raise Unavailable(
                f"The token address answered {reply.status} and gave no token; nothing was sent to the scheme.",
                code="token-refused" if reply.status in {400, 401, 403} else "token-unavailable",
                remedy="Check client_id, client_secret, scope and token_url of the target.",
            )
        lasts = body.get("expires_in")
        seconds = float(lasts) if isinstance(lasts, (int, float)) and not isinstance(lasts, bool) else 60.0
        seconds = min(max(seconds, 1.0), _LONGEST_TOKEN)
        self._token = token
        self._end = asyncio.get_running_loop().time() + max(seconds - _EARLY, seconds / 2)


class MojaloopClient:
    """Sends requests to the addresses of one scheme; call `open` with a running loop."""

    def __init__(self, settings: MojaloopSettings, dialect: Dialect, signer: Signer | None) -> None:
        self._settings = settings
        self._signer = signer
        self.versions = VERSIONS[settings.version] | settings.resource_versions
        self._content = {name: dialect.media_type(name, v) for name, v in self.versions.items()}
        self._accept = {name: dialect.media_type(name, accepted(v)) for name, v in self.versions.items()}
        secure = any(URL(address).scheme == "https" for address in settings.addresses().values())
        self._session = open_session(
            limit=settings.connections,
            limit_per_host=0,
            connect_timeout=settings.connect_timeout,
            resolver=GuardedResolver(settings.guard()),
            tls=tls_context(settings.ca_file, settings.client_cert_file, settings.client_key_file)
            if secure
            else None,
        )
        addresses = settings.addresses()
        fixed = {"FSPIOP-Source": settings.payer_fsp} if settings.mode == "scheme" else {}
        made = {
            address: Posting(
                self._session,
                URL(address),
                fixed,
                connect_timeout=settings.connect_timeout,
                varying=("Accept",),
            )
            for address in set(addresses.values())
        }
        self._postings = {name: made[address] for name, address in addresses.items()}
        self._bases = {name: URL(address).raw_path.rstrip("/") for name, address in addresses.items()}
        self.addresses = {name: str(URL(address).origin()) for name, address in addresses.items()}
        """What may be recorded of each address: scheme, host and port."""
        self._tokens = self._make_tokens()

    def _make_tokens(self) -> Tokens | None:
        settings = self._settings
        if settings.token_url is None or settings.client_id is None or settings.client_secret is None:
            return None
        return Tokens(
            self._postings["token"],
            settings.client_id,
            settings.client_secret.get_secret_value(),
            settings.scope,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def token(self, deadline: float) -> None:
        """Fetch a token if one is wanted, which proves the login."""
        if self._tokens is not None:
            await self._tokens.get(deadline)

    async def get(self, resource: str, path: str, destination: str | None, deadline: float) -> Answer:
        """Ask for a resource; `path` starts with its segment and is encoded. Never signed: there is no body."""

        def headers() -> dict[str, str]:
            found = {
                "Accept": self._accept[resource],
                "Content-Type": self._content[resource],
                "Date": http_date(),
            }
            return found if destination is None else found | {"FSPIOP-Destination": destination}

        return await self._call(resource, "GET", path, headers, b"", deadline)

    async def post(
        self, resource: str, path: str, body: bytes, destination: str | None, deadline: float
    ) -> Answer:
        """Create something; `body` goes out and is signed as it is."""

        def headers() -> dict[str, str]:
            date = http_date()
            found = {"Accept": self._accept[resource], "Content-Type": self._content[resource], "Date": date}
            if destination is not None:
                found["FSPIOP-Destination"] = destination
            if self._signer is not None:
                found |= self._signer.headers("POST", path, body, destination, date)
            return found

        return await self._call(resource, "POST", path, headers, body, deadline)

    async def plain(self, method: str, resource: str, path: str, body: bytes, deadline: float) -> Answer:
        """Make a request without the headers of FSPIOP, as the scheme adapter wants it."""
        fixed = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if body else {})
        return await self._call(resource, method, path, lambda: fixed, body, deadline)

    async def _call(
        self,
        resource: str,
        method: str,
        path: str,
        headers: Callable[[], dict[str, str]],
        body: bytes,
        deadline: float,
    ) -> Answer:
        posting, target = self._postings[resource], self._bases[resource] + path
        if self._tokens is None:
            return self._answer(await posting.request(method, target, headers(), body, deadline))
        for last in (False, True):
            token = await self._tokens.get(deadline)
            sent = headers() | {"Authorization": f"Bearer {token}"}
            reply = await posting.request(method, target, sent, body, deadline)
            if reply.status != 401:
                break
            # The token ended early or its keys changed: nothing was taken, so one more try with a new one is safe.
            self._tokens.drop(token)
            if last:
                break
        return self._answer(reply)

    def _answer(self, reply: Reply) -> Answer:
        if 200 <= reply.status < 300 and not reply.body:
            return Answer(reply.status, None, None, reply.seconds)
        body = _json(reply)
        information = body.get("errorInformation") if isinstance(body, dict) else None
        code = information.get("errorCode") if isinstance(information, dict) else None
        return Answer(
            reply.status,
            code if is_code(code) else None,
            body,
            reply.seconds,
            tuple(offered_versions(body)) if reply.status == 406 else (),
            retry_after(reply.headers, self._settings.retry_after_limit),
        )


def _json(reply: Reply) -> Any:
    if reply.cut:
        return None
    try:
        return orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return None


def checked_versions(settings: MojaloopSettings) -> None:
    """Raise `ConfigError` for settings that no scheme can serve."""
    if settings.version == "iso20022" and settings.bulk and settings.mode == "scheme":
        raise ConfigError(
            "The ISO 20022 form of FSPIOP has no bulk messages.",
            code="config-invalid",
            remedy="Set bulk: false for this target.",
        )
