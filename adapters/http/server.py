"""The HTTP server itself: where it may listen, with which TLS, within which bounds."""

from __future__ import annotations

import ssl
from ipaddress import ip_address

from aiohttp import web

from canonical_model.errors import ConfigError
from registry.settings import HubSettings


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(settings: HubSettings) -> None:
    """Refuse to listen in clear where others can hear; raises `ConfigError` (code `tls-required`)."""
    if not _loopback(settings.host) and settings.tls_cert is None and not settings.behind_tls_proxy:
        raise ConfigError(
            f"The hub would listen on {settings.host} without TLS. Nothing was started.",
            code="tls-required",
            remedy="Set HUB_TLS_CERT and HUB_TLS_KEY, or HUB_BEHIND_TLS_PROXY=true when a proxy in front ends TLS.",
        )


def tls_context(settings: HubSettings) -> ssl.SSLContext | None:
    """Return the TLS context (1.2 and newer), None without a certificate; raises `ConfigError` (`tls-invalid`)."""
    if settings.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The certificate {settings.tls_cert} or its key cannot be used ({type(error).__name__}).",
            code="tls-invalid",
            remedy="Name a PEM chain and its private key in HUB_TLS_CERT and HUB_TLS_KEY.",
        ) from error
    return context


def make_runner(app: web.Application, settings: HubSettings) -> web.AppRunner:
    """Return the runner of the application with its bounds; raises `ConfigError` for an open address without TLS."""
    check_address(settings)
    return web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        keepalive_timeout=75,
        lingering_time=5,
        shutdown_timeout=10,
        max_line_size=8190,
        max_field_size=8190,
    )
