"""The HTTP client of one webhook target: a session of its own whose resolver obeys the guard."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Final

import orjson
from multidict import CIMultiDict
from yarl import URL

from connectors.http import Reply, http_request
from connectors.network import AddressGuard, GuardedResolver, open_session
from connectors.posting import Posting

_CODE: Final = re.compile(r"(?!.*[0-9]{5})[a-z][a-z0-9]*(?:[-_.][a-z0-9]+){1,5}")
_CODE_CHARS: Final = 40


class WebhookClient:
    """Posts bodies to one address through a session of its own, whose resolver obeys the guard."""

    def __init__(
        self,
        url: str,
        guard: AddressGuard,
        *,
        connections: int,
        connect_timeout: float,
        fixed: Mapping[str, str],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = URL(url)
        self.address = str(self._url.with_query(None))
        """Scheme, host and path: what may be recorded."""
        self._connect_timeout = connect_timeout
        self._session = open_session(
            limit=connections,
            limit_per_host=0,
            connect_timeout=connect_timeout,
            resolver=GuardedResolver(guard),
            tls=tls,
        )
        self._posting = Posting(self._session, self._url, fixed, connect_timeout=connect_timeout)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def post(self, headers: Mapping[str, str], body: bytes, deadline: float) -> Reply:
        """Post one body; raises `Unavailable` when nothing was sent and `Unknown` when something was and no answer came."""
        return await self._posting.post(headers, body, deadline)

    async def request(
        self, method: str, headers: Mapping[str, str] | CIMultiDict[str], body: bytes | None, deadline: float
    ) -> Reply:
        """Make any other request, with `headers` alone; raises as `post` does."""
        return await http_request(
            self._session,
            method,
            self._url,
            deadline=deadline,
            headers=headers,
            body=body,
            connect_timeout=self._connect_timeout,
        )


def problem_code(reply: Reply) -> str | None:
    """Return the code of a problem+json answer: its `code`, or the last segment of its `type`, when it has the shape of one.

    `title` and `detail` are texts of the other side and may name a person, whatever their shape; they are never read.
    """
    if not reply.headers.get("Content-Type", "").lower().startswith("application/problem+json") or reply.cut:
        return None
    try:
        body = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict):
        return None
    code, kind = body.get("code"), body.get("type")
    if isinstance(code, str) and _is_code(code):
        return code
    if isinstance(kind, str) and kind != "about:blank":
        slug = kind.rstrip("/").rpartition("/")[2].rpartition(":")[2]
        return slug if _is_code(slug) else None
    return None


def _is_code(text: str) -> bool:
    """Say whether a text has the shape of a code: at most 40 characters and no run of digits that could be a number of a person."""
    return len(text) <= _CODE_CHARS and _CODE.fullmatch(text) is not None
