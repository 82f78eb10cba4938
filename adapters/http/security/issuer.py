"""The built-in issuer: OAuth 2.0 client credentials for partners where no outside issuer is run."""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import orjson

from adapters.http.security.partners import Partners
from adapters.http.security.secrets import ABSENT, verify_secret
from canonical_model.errors import Refused
from registry.signing import SigningKey

LIFETIME_SECONDS: Final = 3600
FREE_FAILURES: Final = 5
"""Wrong secrets for one client from one address that cost nothing; each further one doubles the wait, up to 15 minutes."""
FREE_FAILURES_OF_ADDRESS: Final = 50
"""The same for an address that tries many clients. No wait is for a client alone: a stranger could lock it out."""
_LONGEST_WAIT: Final = 900.0
_TRACKED: Final = 10_000
_PARALLEL: Final = 2
_MAX_SECRET_CHARS: Final = 512


class TokenDenied(Refused):
    """A token request was refused; `error` is the code of RFC 6749 section 5.2."""

    default_code = "token-denied"

    def __init__(self, error: str, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.error = error


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A fresh access token, its life in seconds and the scopes it carries."""

    access_token: str
    expires_in: int
    scope: str


class _Throttle:
    """Slows down guessing: counts failures by client and by address in a bounded table."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, *names: str) -> float:
        now = self._clock()
        return max((self._failures[name][1] - now for name in names if name in self._failures), default=0.0)

    def failed(self, client: str, address: str) -> None:
        now = self._clock()
        for name, free in ((client, FREE_FAILURES), (address, FREE_FAILURES_OF_ADDRESS)):
            count = self._failures.pop(name, (0, 0.0))[0] + 1
            extra = count - free
            pause = min(_LONGEST_WAIT, 2.0 ** min(extra, 10)) if extra >= 0 else 0.0
            self._failures[name] = (count, now + pause)
        while len(self._failures) > _TRACKED:
            self._failures.popitem(last=False)

    def succeeded(self, client: str) -> None:
        self._failures.pop(client, None)


class TokenIssuer:
    """Issues ES256 access tokens (RFC 9068) to the clients of `partners.yaml`."""

    def __init__(
        self,
        key: SigningKey,
        *,
        issuer: str,
        audience: str,
        partners: Partners,
        lifetime: int = LIFETIME_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.issuer, self.audience = issuer.rstrip("/"), audience
        self._key, self._partners, self._lifetime, self._clock = key, partners, lifetime, clock
        self._throttle = _Throttle(time.monotonic)
        self._slots = asyncio.Semaphore(_PARALLEL)

    @property
    def jwks(self) -> dict[str, object]:
        """The public keys tokens can be verified with."""
        return {"keys": [dict(self._key.public)]}

    def sign_claims(self, client_id: str, scopes: frozenset[str]) -> IssuedToken:
        """Return a token for a client; for the token endpoint, and for tools that run beside the hub."""
        now = int(self._clock())
        scope = " ".join(sorted(scopes))
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": client_id,
            "client_id": client_id,
            "scope": scope,
            "iat": now,
            "nbf": now,
            "exp": now + self._lifetime,
            "jti": os.urandom(16).hex(),
        }
        return IssuedToken(self._key.sign(orjson.dumps(claims)), self._lifetime, scope)

    async def issue(self, client_id: str, secret: str, scope: str | None, address: str) -> IssuedToken:
        """Check a client's secret and return its token; without `scope`, with every scope the partner has.

        Raises `TokenDenied`: `invalid_client` for a wrong id or secret (which of them is not said), `invalid_scope`, or
        `slow_down` with `retry_after` after repeated failures.
        """
        names = (f"{address} {client_id[:200]}", address)
        wait = self._throttle.wait(*names)
        if wait > 0:
            raise TokenDenied(
                "slow_down", "Too many wrong secrets; wait before the next try.", retry_after=wait
            )
        found = self._partners.client(client_id)
        hashed = found[1].secret if found is not None else None
        async with self._slots:
            # scrypt takes 50 ms of CPU on purpose and lets other threads run meanwhile. It runs for unknown clients too.
            right = await asyncio.to_thread(verify_secret, secret[:_MAX_SECRET_CHARS], hashed or ABSENT)
        if not right or found is None or hashed is None:
            self._throttle.failed(*names)
            raise TokenDenied("invalid_client", "The client id or the client secret is wrong.")
        self._throttle.succeeded(names[0])
        granted = frozenset(str(one) for one in found[0].scopes)
        if scope is not None and scope.strip():
            # The DCI spelling writes scopes with a slash as well as with a dot.
            wanted = frozenset(word.replace("/", ".") for word in scope.split())
            if not wanted <= granted:
                raise TokenDenied("invalid_scope", "The client may not have every scope it asks for.")
            granted = wanted
        return self.sign_claims(client_id, granted)
