"""Bearer tokens: verified once, remembered by their hash for a minute, never printed."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Protocol

import orjson

from canonical_model.errors import ConfigError, Refused
from registry.signing import SigningKey, VerifyKey, decode

LEEWAY_SECONDS: Final = 60
CACHE_SECONDS: Final = 60
CACHE_ENTRIES: Final = 4096
MAX_TOKEN_CHARS: Final = 8192
_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@|+-]{0,199}")
_TYPES: Final = frozenset({None, "jwt", "at+jwt", "application/at+jwt"})


class TokenRefused(Refused):
    """The bearer token was not accepted."""

    default_code = "token-invalid"


class TrustedIssuer(Protocol):
    """An issuer whose tokens are accepted, with the algorithms and the audience pinned."""

    @property
    def issuer(self) -> str:
        """The exact `iss` of its tokens."""
        ...

    @property
    def audience(self) -> str:
        """What `aud` must be or contain."""
        ...

    @property
    def algorithms(self) -> frozenset[str]:
        """The algorithms its tokens may be signed with."""
        ...

    @property
    def own(self) -> bool:
        """Whether the issuer is the hub itself."""
        ...

    async def key(self, kid: str | None) -> VerifyKey | None:
        """Return the key of this id (without an id: the only key), None when there is none.

        Raises `Unavailable` when the keys cannot be had.
        """
        ...


@dataclass(frozen=True, slots=True)
class OwnIssuer:
    """The hub itself as an issuer: its key is at hand."""

    issuer: str
    audience: str
    keys: tuple[VerifyKey, ...]
    algorithms: frozenset[str] = frozenset({"ES256"})
    own: bool = True

    @classmethod
    def of(cls, issuer: str, audience: str, *keys: SigningKey) -> OwnIssuer:
        """Trust the hub's current signing key and any retired ones."""
        return cls(issuer, audience, tuple(VerifyKey(key.public) for key in keys))

    async def key(self, kid: str | None) -> VerifyKey | None:
        """Return the hub's key of this id."""
        return pick(self.keys, kid)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says: who calls, what they may do, until when (Unix seconds)."""

    issuer: str
    client_id: str
    scopes: frozenset[str]
    expires: float
    own: bool = True
    """Whether the hub itself issued the token."""
    user: str | None = None
    """Who calls through the client: `sub` where it names somebody else than the client; never of the hub's own tokens."""
    roles: frozenset[str] = frozenset()
    """Roles of that user, from the claim `roles` (RFC 9068 section 2.2.3.1)."""

    @property
    def outside(self) -> str | None:
        """The outside issuer the client belongs to; None for a client of the hub itself."""
        return None if self.own else self.issuer


def pick(keys: Iterable[VerifyKey], kid: str | None) -> VerifyKey | None:
    """Return the key of this id; without an id the key when it is the only one, since guessing among several is unsafe."""
    found = tuple(keys)
    if kid is None:
        return found[0] if len(found) == 1 else None
    return next((key for key in found if key.kid == kid), None)


class TokenVerifier:
    """Verifies tokens of the trusted issuers and keeps the answers in a bounded cache keyed by SHA-256 of the token."""

    def __init__(
        self,
        issuers: Iterable[TrustedIssuer],
        *,
        clock: Callable[[], float] = time.time,
        cache_entries: int = CACHE_ENTRIES,
    ) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        for issuer in self._issuers.values():
            if not issuer.audience or not issuer.algorithms:
                raise ConfigError(
                    f"The issuer {issuer.issuer} has no audience or no algorithm. Nothing was started.",
                    code="issuer-invalid",
                    remedy="Set HUB_OIDC_AUDIENCE.",
                )
        self._clock = clock
        self._entries = cache_entries
        self._cache: OrderedDict[bytes, tuple[float, Claims]] = OrderedDict()

    def remembered(self, token: str) -> Claims | None:
        """Return the claims of a token verified within the last minute that has not expired since."""
        found = self._cache.get(sha256(token.encode("utf-8", "replace")).digest())
        return found[1] if found is not None and found[0] > self._clock() else None

    async def verify(self, token: str) -> Claims:
        """Verify a token and remember it; raises `TokenRefused`, or `Unavailable` when an issuer's keys cannot be had."""
        if len(token) > MAX_TOKEN_CHARS:
            raise TokenRefused("The token is longer than 8192 characters.")
        claims = await self._verified(token)
        now = self._clock()
        mark = sha256(token.encode("ascii")).digest()
        self._cache[mark] = (min(claims.expires, now + CACHE_SECONDS), claims)
        self._cache.move_to_end(mark)
        while len(self._cache) > self._entries:
            self._cache.popitem(last=False)
        return claims

    async def _verified(self, token: str) -> Claims:
        header, payload = _parts(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        issuer = self._issuers.get(str(payload.get("iss")))
        if issuer is None:
            raise TokenRefused("The issuer of the token is not trusted here.")
        if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
            raise TokenRefused("The token is signed with an algorithm this issuer may not use.")
        if kid is not None and not isinstance(kid, str):
            raise TokenRefused("The key id of the token is not a text.")
        key = await issuer.key(kid)
        if key is None:
            raise TokenRefused("No known key of the issuer fits the token.")
        if not key.verify(token, algorithm):
            raise TokenRefused("The signature of the token is wrong.")
        self._check_times(payload)
        audience = payload.get("aud")
        if issuer.audience not in (audience if isinstance(audience, list) else (audience,)):
            raise TokenRefused("The token is meant for another audience.")
        return _claims(issuer, payload)

    def _check_times(self, payload: dict[str, Any]) -> None:
        now = self._clock()
        moments: dict[str, float] = {}
        for name in ("exp", "nbf", "iat"):
            value = payload.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TokenRefused(f"The time {name} of the token is not a number.")
            moments[name] = value
        if "exp" not in moments:
            raise TokenRefused("The token never expires; such tokens are not accepted.")
        if moments["exp"] + LEEWAY_SECONDS <= now:
            raise TokenRefused("The token has expired.", code="token-expired")
        if max(moments.get("nbf", 0.0), moments.get("iat", 0.0)) - LEEWAY_SECONDS > now:
            raise TokenRefused("The token is not valid yet.")


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    pieces = token.split(".")
    if len(pieces) != 3 or not token.isascii():
        raise TokenRefused("The token is not a signed JSON Web Token.")
    try:
        header, payload = orjson.loads(decode(pieces[0])), orjson.loads(decode(pieces[1]))
    except ValueError:
        raise TokenRefused("The token is not a signed JSON Web Token.") from None
    if not isinstance(header, dict) or not isinstance(payload, dict):
        raise TokenRefused("The token is not a signed JSON Web Token.")
    kind = header.get("typ")
    if "crit" in header or (kind.lower() if isinstance(kind, str) else kind) not in _TYPES:
        raise TokenRefused("The token is of a kind that is not used to call the API.")
    return header, payload


def _claims(issuer: TrustedIssuer, payload: dict[str, Any]) -> Claims:
    # With an outside issuer `sub` may be a person's account, which somebody could name like a client.
    names = ("client_id", "azp", "sub") if issuer.own else ("client_id", "azp")
    client = next(
        (value for name in names if isinstance(value := payload.get(name), str) and value),
        None,
    )
    if client is None:
        raise TokenRefused("The token names no client.")
    scope = payload.get("scope", payload.get("scp", ""))
    words = scope.split() if isinstance(scope, str) else scope
    if not isinstance(words, list):
        raise TokenRefused("The scope of the token is neither a text nor a list.")
    return Claims(
        issuer.issuer,
        client,
        frozenset(word for word in words if isinstance(word, str)),
        float(payload["exp"]),
        issuer.own,
        *((None, frozenset()) if issuer.own else _user(payload, client)),
    )


def _user(payload: dict[str, Any], client: str) -> tuple[str | None, frozenset[str]]:
    """Return the user of a token and their roles; a subject that is the client itself is nobody else."""
    user = payload.get("sub")
    if user is None or user == client:
        return None, frozenset()
    if not isinstance(user, str) or not _USER.fullmatch(user):
        raise TokenRefused("The subject of the token cannot be kept as who acted.")
    given = payload.get("roles", ())
    # RFC 7643, which the claim takes its form from, writes a role as a text or as an object with a `value`.
    words = (
        [one.get("value") if isinstance(one, dict) else one for one in given]
        if isinstance(given, list)
        else ()
    )
    return user, frozenset(word for word in words if isinstance(word, str))
