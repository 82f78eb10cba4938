"""The HTTP side of one hub process: partners, tokens, pages and the server they are reached by."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from functools import partial

import aiohttp
from aiohttp import web

from adapters import console
from adapters.g2p.disburse_callbacks import Teller
from adapters.g2p.serving import Disbursing
from adapters.http import callbacks
from adapters.http.app import build_app
from adapters.http.security import (
    OutsideIssuer,
    OwnIssuer,
    Partners,
    SigningKey,
    TokenIssuer,
    TokenVerifier,
    TrustedIssuer,
    load_partners,
)
from adapters.http.server import make_runner, tls_context
from adapters.http.services import Check, Services
from adapters.hub import Hub
from adapters.rest.accounts import extension as accounts_extension
from adapters.rest.messages_read import extension as messages_extension
from adapters.rest.payments import extension as payments_extension
from adapters.rest.resources import extension as resources_extension
from canonical_model.errors import ConfigError
from registry.accounts import Accounts
from registry.settings import HubSettings
from routing.ledger_desk import Desk
from routing.replay import Replayer
from routing.trace import Trace


def own_url(settings: HubSettings, port: int) -> str:
    """Return the URL partners reach this hub by, which is also the issuer of its tokens."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    scheme = "https" if settings.tls_cert else "http"
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 - compared, not bound
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def free_port(host: str) -> int:
    """Return a port nobody listens on at this moment."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def checks_of(hub: Hub) -> dict[str, Callable[[], Awaitable[Check]]]:
    """Return what must hold for a process of the hub to be ready."""

    async def check(part: str) -> Check:
        well, note = await hub.check(part)
        return Check(well, note)

    return {part: partial(check, part) for part in ("database", "schema", "broker", "disk", "clock")}


class Front:
    """Serves a hub over HTTP from `start` to `stop`."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.partners: Partners
        self.issuer: TokenIssuer
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._teller: Teller | None = None

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=10), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        return self._session

    async def start(self) -> str:
        """Listen and return the hub's URL; raises `ConfigError` for an open address without TLS."""
        settings, hub = self.hub.settings, self.hub
        port = settings.port or free_port(settings.host)
        self.url = own_url(settings, port)
        self.partners = load_partners(hub.config_dir)
        key = SigningKey.load(settings.signing_key_file, settings.data_dir)
        self.issuer = TokenIssuer(
            key, issuer=self.url, audience=settings.oidc_audience, partners=self.partners
        )
        trusted: list[TrustedIssuer] = [OwnIssuer.of(self.url, settings.oidc_audience, key)]
        if settings.oidc_issuer:
            trusted.append(OutsideIssuer(settings.oidc_issuer, settings.oidc_audience, self._http))
        services = Services(
            settings=settings,
            intake=hub.intake,
            partners=self.partners,
            tokens=TokenVerifier(trusted),
            issuer=self.issuer,
            mappings=hub.mappings,
            pool=hub.pool,
            broker=hub.broker,
            checks=checks_of(hub),
            extra=self._extensions(key),
            hub=hub,
        )
        self._runner = make_runner(build_app(services), settings)
        await self._runner.setup()
        site = web.TCPSite(self._runner, settings.host, port, ssl_context=tls_context(settings), backlog=1024)
        try:
            await site.start()
        except OSError as error:
            await self.stop()
            raise ConfigError(
                f"The address {settings.host}:{port} cannot be listened on ({type(error).__name__}). Nothing was started.",
                code="address-in-use",
                remedy="Stop what holds it, or choose another with HUB_PORT or --port.",
            ) from error
        if self._teller is not None:
            self._teller.start()
        return self.url

    def _extensions(self, key: SigningKey) -> list[Callable[[web.Application, Services], None]]:
        hub = self.hub
        disbursing = Disbursing(hub.pool, hub.vault, hub.intake, self.partners, key, self.url)
        self._teller = disbursing.teller
        trace = Trace(hub.pool, hub.vault.blind)
        replayer = Replayer(hub.pool, hub.vault.blind, hub.routes)
        resources = resources_extension(
            hub.pool,
            hub.vault,
            hub.settings,
            hub.people,
            hub.programs,
            hub.changes,
            hub.uploads,
            lambda: hub.catalog,
            hub.objects,
        )
        payments = payments_extension(Desk(hub.pool, hub.books))
        return [
            messages_extension(trace, replayer), resources, payments, *disbursing.extensions,
            accounts_extension(Accounts(hub.pool, hub.vault)), console.extend,
            callbacks.extension,
        ]  # fmt: skip

    async def stop(self) -> None:
        """Finish the requests under way and stop listening; safe to call twice."""
        teller, self._teller = self._teller, None
        if teller is not None:
            await teller.stop()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        if self._session is not None:
            await self._session.close()
            self._session = None
