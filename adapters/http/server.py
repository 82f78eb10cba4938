"""The listening server: TLS, time limits of connections, and no open address without encryption."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from typing import Any, Final

from aiohttp import web

from adapters.http.ready import Runner
from canonical_model.errors import ConfigError
from registry.settings import HubSettings

IDLE_SECONDS: Final = 75.0
"""Most seconds a connection may wait without a complete request head, and so the time a slow head may take."""
_LINGER_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 20.0
_MAX_LINE: Final = 8190
_MAX_HEADERS: Final = 100


def make_runner(app: web.Application, settings: HubSettings) -> web.AppRunner:
    """Return the server of an application; give its sites `tls_context(settings)`.

    Raises `ConfigError`: `tls-required` for an address other machines reach without TLS and without `behind_tls_proxy`,
    `tls-invalid` for a certificate or key that cannot be used.
    """
    tls = tls_context(settings)
    if tls is None and not settings.behind_tls_proxy and not is_loopback(settings.host):
        raise ConfigError(
            f"The hub would listen on {settings.host} without encryption. Nothing was started.",
            code="tls-required",
            remedy="Set HUB_TLS_CERT and HUB_TLS_KEY, or HUB_BEHIND_TLS_PROXY=true when a proxy in front ends TLS.",
        )
    options: dict[str, Any] = {
        "keepalive_timeout": min(IDLE_SECONDS, settings.request_timeout),
        "lingering_time": _LINGER_SECONDS,
        "max_line_size": _MAX_LINE,
        "max_field_size": _MAX_LINE,
        "max_headers": _MAX_HEADERS,
        # Paths may carry ids and the log of requests costs more than the rest of a small answer; metrics count instead.
        "access_log": None,
        "shutdown_timeout": _STOP_SECONDS,
        "handler_cancellation": False,
    }
    return Runner(app, **options)


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches an address to listen on."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def tls_context(settings: HubSettings) -> ssl.SSLContext | None:
    """Return the TLS settings of the server (1.2 at least, forward secrecy only), None when no certificate is set."""
    if settings.tls_cert is None and settings.tls_key is None:
        return None
    if settings.tls_cert is None or settings.tls_key is None:
        raise _unusable("one of the two is not set")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(type(error).__name__) from None
    return context


def _unusable(why: str) -> ConfigError:
    return ConfigError(
        f"The certificate HUB_TLS_CERT and the key HUB_TLS_KEY cannot be used: {why}. Nothing was started.",
        code="tls-invalid",
        remedy="Give both as PEM files that belong together and that the hub may read.",
    )
