"""What the console writes into the audit trail beside the deeds: who looked, and who was turned away."""

from __future__ import annotations

from aiohttp import web

from adapters.console.session import Session
from adapters.http.auditing import AUDITOR
from adapters.http.issuing import address_of
from adapters.http.pipeline import request_id_of


def look(request: web.Request, session: Session, action: str, id_: str = "") -> None:
    """Note that a session looked at messages; nothing where the application keeps no trail."""
    auditor = request.app.get(AUDITOR)
    if auditor is not None:
        auditor.look(session.actor().name, action, id_, request_id_of(request))


def turned_away(request: web.Request, proxied: bool, who: str | None, code: str) -> None:
    """Note that somebody was not signed in; `who` is the partner where it is known."""
    auditor = request.app.get(AUDITOR)
    if auditor is not None:
        auditor.refused(address_of(request, proxied), who, "console", code, request_id_of(request))
