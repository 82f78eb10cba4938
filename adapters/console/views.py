"""The pages of the console and what their forms do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from importlib import resources
from typing import Any, Final
from uuid import UUID

import asyncpg
from aiohttp import web

from adapters.console import forms, payments
from adapters.console.flows import SharedFlows
from adapters.console.live import Pulse
from adapters.console.rendering import LANGUAGE_NAMES, render
from adapters.console.session import COOKIE, LIFETIME, Session, Signer
from adapters.console.trail import look, turned_away
from adapters.http.catalog import declare, fault_of, is_ours
from adapters.http.language import best_language
from adapters.http.pipeline import defect_of, request_id_of, security_headers
from adapters.http.problems import note_fault
from adapters.http.security.partners import Partners, Scope
from adapters.http.security.tokens import TokenVerifier
from adapters.http.services import Services
from adapters.rest.messages_read import READ_ALL
from adapters.rest.payments import sees_whole
from canonical_model.errors import HubError, Refused
from registry.settings import HubSettings
from routing.ledger_desk import Desk
from routing.replay import Replayer
from routing.search import STATES, Blind, MessageFilter
from routing.trace import Trace

__all__ = ["Console", "extend"]

for _code, _status, _title in (
    ("link-invalid", 403, "The sign-in link cannot be used"),
    ("form-expired", 403, "The form was made for another session"),
    ("console-busy", 503, "Too many pages are live"),
):
    declare(_code, _status, _title)

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_STATIC: Final[Mapping[str, str]] = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_LANGUAGE_COOKIE: Final = "hub_language"
_STREAM_SECONDS: Final = 600.0
_HEARTBEAT: Final = 15.0
_LEAST_GAP: Final = 1.0
_SHOWN: Final = ("partner", "type", "route", "state")
_MINUTES: Final = 60

View = Callable[[web.Request, Session], Awaitable[web.StreamResponse]]


class Console:
    """The console over one hub: its read side, its deeds, its sessions."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        blind: Blind,
        trace: Trace,
        replayer: Replayer,
        tokens: TokenVerifier,
        partners: Partners,
        settings: HubSettings,
        *,
        desk: Desk,
        interval: float = 2.0,
    ) -> None:
        self.pool = pool
        self.trace = trace
        self.replayer = replayer
        self.desk = desk
        self.signer = Signer(blind)
        self.pulse = Pulse(pool, interval)
        self._flows = SharedFlows(trace, _MINUTES)
        self._tokens = tokens
        self._partners = partners
        self._secure = settings.tls_cert is not None or settings.behind_tls_proxy
        self._proxied = settings.behind_tls_proxy
        self._headers = {**security_headers(settings), "Content-Security-Policy": _POLICY}

    def add_to(self, app: web.Application) -> None:
        """Add the console's pages to an application."""
        add = app.router.add_route
        add("GET", "/console", self._page(self._home))
        add("GET", "/console/messages/{id}", self._page(self._message))
        add("POST", "/console/messages/{id}/replay", self._page(self._replay))
        add("POST", "/console/find", self._page(self._find))
        add("GET", "/console/dead", self._page(self._dead))
        add("POST", "/console/dead/{id}/resend", self._page(self._resend))
        add("POST", "/console/dead/{id}/dismiss", self._page(self._dismiss))
        add("GET", "/console/payments", self._page(self._payments))
        add("POST", "/console/payments/find", self._page(self._find_payment))
        add("GET", "/console/payments/batches/{id}", self._page(self._batch))
        add("GET", "/console/payments/{id}", self._page(self._payment))
        add("GET", "/console/events", self._page(self._events))
        add("POST", "/console/logout", self._page(self._logout))
        add("GET", "/console/login", self._open(self._login_page))
        add("POST", "/console/login", self._open(self._login))
        add("GET", "/console/static/{name}", self._open(self._asset))
        app.on_shutdown.append(self._stop)

    async def _stop(self, app: web.Application) -> None:
        await self.pulse.close()

    # How every page is answered.

    def _open(self, view: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
        async def handler(request: web.Request) -> web.StreamResponse:
            request_id = request_id_of(request)
            try:
                if request.method == "POST":
                    forms.same_site(request)
                response = await view(request)
            except web.HTTPRedirection as redirect:
                response = web.Response(
                    status=redirect.status, headers={"Location": redirect.headers["Location"]}
                )
            except HubError as error:
                response = self._failed(request, error, request_id)
            except web.HTTPException as error:
                response = self._failed(
                    request,
                    Refused("There is nothing at this address.", code="resource-not-found"),
                    request_id,
                    error.status,
                )
            except ConnectionError:
                raise
            except Exception as error:
                response = self._failed(request, defect_of(error), request_id)
            if not response.prepared:
                for name, value in self._headers.items():
                    response.headers.setdefault(name, value)
                response.headers["X-Request-ID"] = request_id
            return response

        return handler

    def _page(self, view: View) -> Any:
        async def guarded(request: web.Request) -> web.StreamResponse:
            session = self._current(self.signer.session(request.cookies.get(COOKIE)))
            if session is None or not session.may(Scope.CONSOLE_READ):
                if request.method == "GET" and not request.path.endswith("/events"):
                    raise web.HTTPSeeOther("/console/login")
                raise Refused(
                    "You are not signed in, or no longer.",
                    code="token-missing",
                    remedy="Sign in and try again.",
                )
            return await view(request, session)

        return self._open(guarded)

    def _current(self, session: Session | None) -> Session | None:
        """Return the session with the rights its partner still has; None when the partner is gone or switched off."""
        if session is None or session.partner is None or session.scopes is None:
            return session
        partner = self._partners.get(session.partner)
        if partner is None or not partner.enabled:
            return None
        return replace(session, scopes=session.scopes & frozenset(map(str, partner.scopes)))

    def _failed(
        self, request: web.Request, error: HubError, request_id: str, status: int | None = None
    ) -> web.Response:
        note_fault(error, request_id)
        if error.code == "link-invalid":
            turned_away(request, self._proxied, None, error.code)
        fault = fault_of(error)
        ours = is_ours(error)
        return self._render(
            request,
            None,
            "error.html",
            status=status or fault.status,
            title=fault.title,
            detail=None if ours else error.detail,
            remedy=None if ours else error.remedy,
            code=error.code,
            request_id=request_id,
        )

    def _render(
        self,
        request: web.Request,
        session: Session | None,
        template: str,
        *,
        status: int = 200,
        **values: Any,
    ) -> web.Response:
        chosen = request.query.get("lang", "")
        language = chosen if chosen in LANGUAGE_NAMES else request.cookies.get(_LANGUAGE_COOKIE, "")
        if language not in LANGUAGE_NAMES:
            language = best_language(request.headers.get("Accept-Language", ""))
        text = render(
            template,
            language,
            session=session,
            csrf=self.signer.form_token(session) if session is not None else "",
            path=request.path,
            **values,
        )
        response = web.Response(text=text, status=status, content_type="text/html")
        response.headers["Content-Language"] = language
        response.headers["Vary"] = "Accept-Language, Cookie"
        if chosen in LANGUAGE_NAMES:
            response.set_cookie(
                _LANGUAGE_COOKIE,
                chosen,
                path="/console",
                samesite="Strict",
                httponly=True,
                secure=self._secure,
                max_age=31536000,
            )
        return response

    async def _form(self, request: web.Request, session: Session) -> Mapping[str, str]:
        """Return the fields of a form of this session; raises `Refused` (`form-expired`) for any other."""
        fields = await forms.fields(request)
        if not self.signer.form_fits(session, fields.get("csrf", "")):
            raise Refused(
                "The form was made for another session. Nothing was done.",
                code="form-expired",
                remedy="Reload the page and try again.",
            )
        return fields

    def _only(self, session: Session) -> str | None:
        return None if session.may(READ_ALL) else session.partner

    # Signing in and out.

    async def _login_page(self, request: web.Request) -> web.Response:
        code = request.query.get("code", "")[:1000]
        return self._render(request, None, "login.html", code=code, wrong=False)

    async def _login(self, request: web.Request) -> web.StreamResponse:
        fields = await forms.fields(request)
        if fields.get("code"):
            cookie, seconds = await self.signer.redeem(self.pool, fields["code"]), LIFETIME
        else:
            try:
                claims = await self._tokens.verify(fields.get("token", "").strip())
            except Refused as error:
                turned_away(request, self._proxied, None, error.code)
                return self._render(request, None, "login.html", status=403, code="", wrong=True)
            found = self._partners.client(claims.client_id, claims.outside)
            scopes = claims.scopes & found[0].scopes if found is not None else frozenset[str]()
            if found is None or Scope.CONSOLE_READ not in scopes:
                who = None if found is None else found[0].name
                turned_away(
                    request, self._proxied, who, "partner-unknown" if found is None else "scope-missing"
                )
                return self._render(request, None, "login.html", status=403, code="", wrong=True)
            # The session may do what the token may, and for eight hours at most.
            seconds = LIFETIME
            cookie = self.signer.start(found[0].name, found[0].name, frozenset(map(str, scopes)), seconds)
        response = web.Response(status=303, headers={"Location": "/console"})
        response.set_cookie(
            COOKIE,
            cookie,
            path="/console",
            httponly=True,
            samesite="Strict",
            secure=self._secure,
            max_age=seconds,
        )
        return response

    async def _logout(self, request: web.Request, session: Session) -> web.StreamResponse:
        await self._form(request, session)
        response = web.Response(status=303, headers={"Location": "/console/login"})
        response.del_cookie(COOKIE, path="/console", httponly=True, samesite="Strict", secure=self._secure)
        return response

    # Looking.

    async def _home(self, request: web.Request, session: Session) -> web.Response:
        wanted = request.query.get("id", "").strip()
        if wanted:
            raise web.HTTPSeeOther(f"/console/messages/{_uuid(wanted)}")
        given = {name: value for name in _SHOWN if (value := request.query.get(name, "").strip())}
        filter_ = MessageFilter.read(given)
        look(request, session, "read.search")
        only = self._only(session)
        cursor = request.query.get("cursor") or None
        flows = await self._flows.get(session.scopes) if only is None else ()
        page = await self.trace.search(filter_, cursor, 25, visible=session.scopes, partner=only)
        return self._render(
            request,
            session,
            "home.html",
            flows=flows,
            page=page,
            given={name: given.get(name, "") for name in _SHOWN},
            states=STATES,
            minutes=_MINUTES,
            found=False,
        )

    async def _find(self, request: web.Request, session: Session) -> web.Response:
        """Find by what may name a person: the value comes in the body, is hashed, and is not shown again."""
        fields = await self._form(request, session)
        given = {
            name: fields[name].strip()
            for name in ("subject", "originid", "partner")
            if fields.get(name, "").strip()
        }
        if not given.get("subject") and not given.get("originid"):
            raise web.HTTPSeeOther("/console")
        if "originid" in given and session.partner is not None:
            given.setdefault("partner", session.partner)
        if "originid" not in given:
            given.pop("partner", None)
        look(request, session, "read.search")
        page = await self.trace.search(
            MessageFilter.read(given), None, 100, visible=session.scopes, partner=self._only(session)
        )
        return self._render(
            request, session, "home.html", flows=(), page=page, given=dict.fromkeys(_SHOWN, ""), states=STATES,
            minutes=_MINUTES, found=True,
        )  # fmt: skip

    async def _message(self, request: web.Request, session: Session) -> web.Response:
        look(request, session, "read.trace", request.match_info["id"])
        found = await self.trace.message(_uuid(request.match_info["id"]), session.scopes, self._only(session))
        if found is None:
            raise Refused("There is no message with this id that you may see.", code="message-not-found")
        return self._render(
            request,
            session,
            "message.html",
            message=found,
            may_replay=session.may(Scope.MESSAGES_REPLAY),
            done=forms.done(request),
        )

    async def _dead(self, request: web.Request, session: Session) -> web.Response:
        if not session.may(Scope.DEAD_READ):
            raise Refused("Dead letters need the scope dead:read.", code="scope-missing")
        look(request, session, "read.dead-letters")
        route = request.query.get("route", "").strip()
        page = await self.trace.dead_letters(
            MessageFilter.read({"route": route} if route else {}),
            request.query.get("cursor") or None,
            25,
            visible=session.scopes,
            partner=self._only(session),
        )
        return self._render(
            request,
            session,
            "dead.html",
            page=page,
            route=route,
            may_write=session.may(Scope.DEAD_WRITE),
            done=forms.done(request),
        )

    def _ledger(self, request: web.Request, session: Session, id_: str = "") -> None:
        """Let in who may look into the ledger, as the REST pages do, and note the look."""
        if not session.may(Scope.PAYMENTS_READ):
            raise Refused("Payments need the scope payments:read.", code="scope-missing")
        if session.partner is not None and (partner := self._partners.get(session.partner)) is not None:
            sees_whole(partner)
        look(request, session, "read.payments", id_)

    async def _payments(self, request: web.Request, session: Session) -> web.Response:
        self._ledger(request, session)
        shown = await payments.list_page(self.desk, request)
        return self._render(request, session, "payments.html", **shown, nothing=False)

    async def _find_payment(self, request: web.Request, session: Session) -> web.Response:
        """Find by an id that comes in the body and is not shown again: it may be a person's by mistake."""
        fields = await self._form(request, session)
        self._ledger(request, session)
        address = await payments.found_at(self.desk, fields.get("find", "").strip())
        if address is not None:
            raise web.HTTPSeeOther(address)
        shown = await payments.list_page(self.desk, request)
        return self._render(request, session, "payments.html", **shown, nothing=True)

    async def _batch(self, request: web.Request, session: Session) -> web.Response:
        self._ledger(request, session, request.match_info["id"])
        shown = await payments.batch_page(self.desk, request)
        return self._render(request, session, "batch.html", **shown)

    async def _payment(self, request: web.Request, session: Session) -> web.Response:
        self._ledger(request, session, request.match_info["id"])
        shown = await payments.payment_page(self.desk, self.trace, request, session, self._only(session))
        return self._render(request, session, "payment.html", **shown)

    async def _events(self, request: web.Request, session: Session) -> web.StreamResponse:
        """Say "changed" whenever something did; the page then asks for itself again, with its own rights."""
        changed = self.pulse.subscribe()
        response = web.StreamResponse(
            headers={**self._headers, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        try:
            await response.prepare(request)
            await response.write(b"retry: 5000\n\n")
            until = min(time.time() + _STREAM_SECONDS, session.expires)
            while time.time() < until and not self.pulse.closed:
                try:
                    async with asyncio.timeout(_HEARTBEAT):
                        await changed.wait()
                except TimeoutError:
                    await response.write(b": still here\n\n")
                    continue
                changed.clear()
                await response.write(b"event: changed\ndata: 1\n\n")
                await asyncio.sleep(_LEAST_GAP)
        finally:
            self.pulse.unsubscribe(changed)
        return response

    # Doing.

    async def _replay(self, request: web.Request, session: Session) -> web.Response:
        self._needs(session, Scope.MESSAGES_REPLAY)
        await self._form(request, session)
        id_ = _uuid(request.match_info["id"])
        report = await self.replayer.replay(session.actor(request_id_of(request)), message_id=id_)
        raise web.HTTPSeeOther(f"/console/messages/{id_}?done={forms.word(report, 'resent')}")

    async def _resend(self, request: web.Request, session: Session) -> web.Response:
        self._needs(session, Scope.DEAD_WRITE)
        fields = await self._form(request, session)
        report = await self.replayer.resend(
            session.actor(request_id_of(request)),
            _uuid(request.match_info["id"]),
            force=fields.get("force") == "yes",
            reason=fields.get("reason"),
        )
        raise web.HTTPSeeOther(f"/console/dead?done={forms.word(report, 'resent')}")

    async def _dismiss(self, request: web.Request, session: Session) -> web.Response:
        self._needs(session, Scope.DEAD_WRITE)
        fields = await self._form(request, session)
        report = await self.replayer.dismiss(
            session.actor(request_id_of(request)), _uuid(request.match_info["id"]), fields.get("reason", "")
        )
        raise web.HTTPSeeOther(f"/console/dead?done={forms.word(report, 'dismissed')}")

    def _needs(self, session: Session, scope: Scope) -> None:
        if not session.may(scope):
            raise Refused(f"This needs the scope {scope.value}. Nothing was done.", code="scope-missing")

    async def _asset(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        kind = _STATIC.get(name)
        if kind is None:
            raise Refused("There is nothing at this address.", code="resource-not-found")
        body = resources.files("adapters.console").joinpath("static", name).read_bytes()
        return web.Response(
            body=body, content_type=kind, charset="utf-8", headers={"Cache-Control": "max-age=300"}
        )


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Refused(
            "There is no message with this id that you may see.", code="message-not-found"
        ) from None


def extend(app: web.Application, services: Services) -> None:
    """Offer the console on the hub's own database; nothing where the application runs without a hub."""
    hub = services.hub
    if hub is None:
        return
    blind = hub.vault.blind
    Console(
        hub.pool,
        blind,
        Trace(hub.pool, blind),
        Replayer(hub.pool, blind, hub.routes),
        services.tokens,
        services.partners,
        services.settings,
        desk=Desk(hub.pool, hub.books),
    ).add_to(app)
