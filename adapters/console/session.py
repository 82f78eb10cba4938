"""Who looks at the console: a signed cookie of eight hours, got with a token or with a link that works once."""

from __future__ import annotations

import hmac
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg
import orjson

from canonical_model.errors import Refused
from canonical_model.message import uuid7
from registry.audit import AuditEvent, record
from registry.storage.database import database_errors
from routing.replay import Actor
from routing.search import Blind

__all__ = ["COOKIE", "LIFETIME", "LINK_LIFETIME", "Session", "Signer", "issue_login_link"]

COOKIE: Final = "hub_session"
LIFETIME: Final = 8 * 3600
LINK_LIFETIME: Final = 300
"""Seconds a login link may be used, once."""
OPERATOR: Final = "operator"
_MAX_TEXT: Final = 3000


@dataclass(frozen=True, slots=True)
class Session:
    """One signed-in person: `scopes` None and `partner` None for the operator, who may see and do everything."""

    name: str
    nonce: str
    expires: int
    partner: str | None = None
    scopes: frozenset[str] | None = None

    def may(self, scope: str) -> bool:
        """Say whether the session holds a scope."""
        return self.scopes is None or scope in self.scopes

    def actor(self, request_id: str | None = None) -> Actor:
        """Return on whose behalf deeds are done."""
        return Actor(f"console:{self.name}", self.scopes, self.partner, request_id)


class Signer:
    """Signs sessions, links and form tokens with a key derived from the hub's own, so that every process agrees."""

    def __init__(self, blind: Blind) -> None:
        self._key = blind.index("console-session", "key-1") + blind.index("console-session", "key-2")

    def __repr__(self) -> str:
        return "Signer()"

    def _seal(self, kind: str, value: dict[str, object]) -> str:
        body = urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=")
        return f"{body.decode()}.{self._mark(kind, body)}"

    def _mark(self, kind: str, body: bytes) -> str:
        return (
            urlsafe_b64encode(hmac.digest(self._key, kind.encode() + b"\x00" + body, "sha256"))
            .rstrip(b"=")
            .decode()
        )

    def _open(self, kind: str, text: str) -> dict[str, object] | None:
        body, _, mark = text.partition(".")
        if (
            len(text) > _MAX_TEXT
            or not text.isascii()
            or not hmac.compare_digest(mark, self._mark(kind, body.encode()))
        ):
            return None
        value = orjson.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        expires = value.get("exp") if isinstance(value, dict) else None
        return value if isinstance(expires, int) and expires > time.time() else None

    def start(
        self, name: str, partner: str | None, scopes: frozenset[str] | None, seconds: float = LIFETIME
    ) -> str:
        """Return the cookie of a new session that lasts `seconds`, eight hours at most."""
        held = None if scopes is None else sorted(scopes)
        expires = int(time.time() + min(seconds, LIFETIME))
        return self._seal(
            "session",
            {"sub": name, "par": partner, "scp": held, "exp": expires, "jti": secrets.token_urlsafe(12)},
        )

    def session(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie; None when it is missing, altered or over."""
        value = self._open("session", cookie) if cookie else None
        if value is None:
            return None
        scopes, partner, expires = value["scp"], value["par"], value["exp"]
        return Session(
            str(value["sub"]),
            str(value["jti"]),
            expires if isinstance(expires, int) else 0,
            partner if isinstance(partner, str) else None,
            frozenset(map(str, scopes)) if isinstance(scopes, list) else None,
        )

    def form_token(self, session: Session) -> str:
        """Return the token every form of this session carries."""
        return self._mark("form", session.nonce.encode())

    def form_fits(self, session: Session, token: str) -> bool:
        """Say whether a form was made for this session."""
        return token.isascii() and hmac.compare_digest(token, self.form_token(session))

    def link_code(self) -> str:
        """Return a code that signs the operator in once within five minutes."""
        return self._seal("link", {"id": str(uuid7()), "exp": int(time.time()) + LINK_LIFETIME})

    async def redeem(self, pool: asyncpg.Pool, code: str) -> str:
        """Use a link code and return the cookie of the operator's session.

        Its id becomes the id of the audit entry, which the database takes only once, whichever process is asked.
        Raises `Refused` (`link-invalid`) for a code that is wrong, too old or used.
        """
        value = self._open("link", code)
        if value is not None:
            event = AuditEvent(OPERATOR, "console.login", "console", "link", id=UUID(str(value["id"])))
            try:
                async with database_errors("signing in"):
                    await record(pool, event)
            except asyncpg.UniqueViolationError:
                value = None
        if value is None:
            raise Refused(
                "This sign-in link is wrong, older than five minutes, or was used before.",
                code="link-invalid",
                remedy="Make a new link with `hub console-link`.",
            )
        return self.start(OPERATOR, None, None)


def issue_login_link(blind: Blind, url: str) -> str:
    """Return an address that signs the operator in, once, within five minutes; `url` is the hub's own, without path.

    Whoever holds it may see and do everything on the console: print it to the operator's terminal and nowhere else.
    """
    return f"{url.rstrip('/')}/console/login?code={Signer(blind).link_code()}"
