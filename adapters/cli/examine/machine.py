"""This machine: disk, port, TLS certificate and key files."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509

from adapters.cli.examine.findings import Finding, fail, of_error, ok, warn
from adapters.http.security import SigningKey
from adapters.http.server import is_loopback, tls_context
from canonical_model.errors import HubError
from registry.settings import HubSettings
from registry.vault import KeyEncryptionKey

SOON: Final = timedelta(days=30)
"""A certificate that ends within this time is worth a warning."""
_CONNECT_SECONDS: Final = 3.0


def key_files(settings: HubSettings) -> Iterator[Finding]:
    """Look at the key-encryption key and the signing key; makes neither of them."""
    for part, path, generated in (
        ("kek", settings.kek_file or settings.data_dir / "kek", settings.kek_file is None),
        (
            "signing key",
            settings.signing_key_file or settings.data_dir / "keys" / "signing.pem",
            settings.signing_key_file is None,
        ),
    ):
        if part == "kek" and settings.kek_url is not None:
            yield ok(part, "A key service holds it; `sealed data` tells whether it opens the data keys.")
            continue
        if not path.exists():
            if generated:
                yield ok(part, f"Not made yet; `hub serve` makes {path} at its first start.")
                continue
            yield fail(
                part, f"The file {path} does not exist.", "Restore it from your backup.", "key-file-missing"
            )
            continue
        if path.stat().st_mode & 0o077:
            yield fail(
                part, f"The file {path} may be read by others.", f"Run: chmod 600 {path}", "key-file-open"
            )
            continue
        try:
            if part == "kek":
                name = KeyEncryptionKey.load(settings).id
            else:
                name = SigningKey.load(settings.signing_key_file, settings.data_dir).kid
        except HubError as error:
            yield of_error(part, error)
        except OSError as error:
            yield fail(
                part, f"The file {path} cannot be read ({type(error).__name__}).", f"Run: chown USER {path}"
            )
        else:
            yield ok(part, f"{path} can be read by its owner alone; key {name}.")
            if generated and settings.database_url is not None:
                yield warn(
                    part,
                    f"The generated key {path} serves an outside database.",
                    f"Keep the key apart from the data and back it up: set "
                    f"{'HUB_KEK_FILE' if part == 'kek' else 'HUB_SIGNING_KEY_FILE'}.",
                )


def tls(settings: HubSettings, now: datetime | None = None) -> Iterator[Finding]:
    """Look at the server certificate: whether it is needed, fits its key, is in force and carries the host."""
    part = "tls"
    try:
        context = tls_context(settings)
    except HubError as error:
        yield of_error(part, error)
        return
    if context is None or settings.tls_cert is None:
        if settings.behind_tls_proxy:
            yield ok(part, "A proxy in front ends TLS.")
        elif is_loopback(settings.host):
            yield ok(part, f"Not needed: {settings.host} is reached from this machine only.")
        else:
            yield fail(
                part,
                f"{settings.host} is reached by other machines and no certificate is set; `hub serve` refuses to start.",
                "Set HUB_TLS_CERT and HUB_TLS_KEY, or HUB_BEHIND_TLS_PROXY=true when a proxy in front ends TLS.",
                "tls-required",
            )
        return
    yield from _certificate(part, settings.tls_cert, settings.public_url, now or datetime.now(UTC))


def _certificate(part: str, path: Path, public_url: str | None, now: datetime) -> Iterator[Finding]:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError) as error:
        yield fail(
            part, f"{path} holds no certificate in PEM ({type(error).__name__}).", "Correct HUB_TLS_CERT."
        )
        return
    ends = found.not_valid_after_utc
    if ends <= now:
        yield fail(part, f"The certificate ended on {ends:%Y-%m-%d}.", "Renew it and restart the hub.")
    elif found.not_valid_before_utc > now:
        yield fail(
            part, f"The certificate begins on {found.not_valid_before_utc:%Y-%m-%d}.", "Check the clock."
        )
    elif ends - now < SOON:
        yield warn(
            part, f"The certificate ends on {ends:%Y-%m-%d}, in {(ends - now).days} days.", "Renew it."
        )
    else:
        yield ok(part, f"The certificate is in force until {ends:%Y-%m-%d} and fits its key.")
    host = urlsplit(public_url or "").hostname
    if host is None:
        yield warn(part, "HUB_PUBLIC_URL is not set, so the certificate's host cannot be checked.", "Set it.")
    elif not _carries(found, host):
        yield fail(
            part, f"The certificate does not carry the host {host} of HUB_PUBLIC_URL.", "Get one that does."
        )


def _carries(certificate: x509.Certificate, host: str) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        # Clients of today ignore the common name; a certificate without alternative names serves none of them.
        return False
    try:
        return ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        pass  # a name, not an address
    return any(
        fnmatchcase(host.lower(), name.lower()) and host.count(".") == name.count(".")
        for name in names.get_values_for_type(x509.DNSName)
    )


def port(settings: HubSettings) -> Finding:
    """Say whether the port is free, or a hub answers on it already."""
    part = "port"
    if settings.port == 0:
        return ok(part, "The hub picks a free port at its start.")
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except PermissionError:
            return fail(
                part,
                f"This user may not listen on port {settings.port}.",
                "Set HUB_PORT above 1023.",
                "address-in-use",
            )
        except OSError as error:
            if _is_hub(settings):
                return ok(part, f"A hub answers on {settings.host} port {settings.port}.")
            return fail(
                part,
                f"The hub cannot listen on {settings.host} port {settings.port} ({error.strerror}).",
                "Stop the program that uses it, or correct HUB_HOST and HUB_PORT.",
                "address-in-use",
            )
    return ok(part, f"Port {settings.port} of {settings.host} is free.")


def _is_hub(settings: HubSettings) -> bool:
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 - compared, not bound
    connection: http.client.HTTPConnection
    if settings.tls_cert is None:
        connection = http.client.HTTPConnection(host, settings.port, timeout=_CONNECT_SECONDS)
    else:
        # Only whether a hub is there is asked; nothing is sent that a stranger must not read.
        context = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection(
            host, settings.port, timeout=_CONNECT_SECONDS, context=context
        )
    try:
        connection.request("GET", "/healthz/live")
        return bool(json.loads(connection.getresponse().read(1024)) == {"status": "live"})
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()
