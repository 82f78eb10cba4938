"""Where connectors may reach: the address guard, the guarded resolver and bounded HTTP sessions."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from connectors.errors import ConfigError

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_CLOUD_CONTROL: Final = frozenset({ip_address("168.63.129.16")})
"""Machine-control addresses of cloud providers that lie in public ranges."""
_NAT64: Final = IPv6Network("64:ff9b::/96")
_SPECIAL: Final = tuple(
    ip_network(text)
    for text in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "64:ff9b:1::/48",
        "2001:db8::/32",
        "3fff::/20",
    )
)
"""Special-purpose networks (IANA registries, RFC 6890) that some Python versions still take for public."""
USER_AGENT: Final = "openspp-hub"


class AddressRefused(OSError):
    """A host name leads only to addresses the hub may not reach."""


def _embedded(address: Address) -> list[Address]:
    """Return the address and every IPv4 address it carries inside (mapped, 6to4, Teredo, NAT64)."""
    found: list[Address] = [address]
    if isinstance(address, IPv6Address):
        for inner in (address.ipv4_mapped, address.sixtofour, address.teredo and address.teredo[1]):
            if inner:
                found.append(inner)
        if address in _NAT64:
            found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return found


class AddressGuard:
    """Decides which addresses may be reached: public ones, and the private networks allowed by name."""

    def __init__(self, allow: Iterable[str | Network] = (), *, only_allowed: bool = False) -> None:
        self._allow = tuple(ip_network(str(network)) for network in allow)
        self._only_allowed = only_allowed

    def permits(self, address: str) -> bool:
        """Say whether this numeric address may be reached."""
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if any(parsed.version == network.version and parsed in network for network in self._allow):
            return True
        return not self._only_allowed and all(_is_public(inner) for inner in _embedded(parsed))


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and (address.ipv4_mapped is not None or address in _NAT64):
        # Only a way to write an IPv4 address, which is judged by itself.
        return True
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_unspecified
        and address not in _CLOUD_CONTROL
        and not any(address.version == network.version and address in network for network in _SPECIAL)
    )


class GuardedResolver(AbstractResolver):
    """A resolver that hands out only permitted addresses, so that what was checked is what is connected to."""

    def __init__(self, guard: AddressGuard, inner: AbstractResolver | None = None) -> None:
        self._guard = guard
        self._inner = inner or aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve a host name; raises `AddressRefused` when none of its addresses is permitted."""
        results = await self._inner.resolve(host, port, family)
        permitted = [result for result in results if self._guard.permits(result["host"])]
        if not permitted:
            raise AddressRefused("no permitted address")
        return permitted

    async def close(self) -> None:
        """Close the resolver underneath."""
        await self._inner.close()


def open_session(
    *,
    limit: int = 256,
    limit_per_host: int = 64,
    connect_timeout: float = 10.0,
    resolver: AbstractResolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> aiohttp.ClientSession:
    """Return an HTTP session with bounds and without ambient state: no cookies, no proxy or login from the environment.

    Call it with a running loop. `connect_timeout` is in seconds; the total time is the caller's deadline.
    """
    connector = aiohttp.TCPConnector(
        limit=limit,
        limit_per_host=limit_per_host,
        keepalive_timeout=30,
        resolver=resolver,
        ssl=tls if tls is not None else True,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        trust_env=False,
        auto_decompress=False,
        max_line_size=8190,
        max_field_size=8190,
    )


def tls_context(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    """Return a TLS context for one target; raises `ConfigError` when a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        if cert_file is not None:
            context.load_cert_chain(str(cert_file), str(key_file) if key_file else None, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The TLS files of the target cannot be used: {type(error).__name__}.",
            code="tls-files-invalid",
            remedy="Check ca_file, client_cert_file and client_key_file: PEM, readable, key without passphrase.",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
