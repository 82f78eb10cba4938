"""The key-encryption key in a transit secrets engine, as HashiCorp Vault and OpenBao have it over HTTP.

The hub sends a data key to be encrypted or decrypted (`/v1/MOUNT/encrypt|decrypt|rewrap/NAME`); the key above it never
leaves the service. Facts: the engine's API pages, "Encrypt data", "Decrypt data", "Rewrap data", and "HTTP status codes".
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import secrets
import ssl
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson

from canonical_model.errors import ConfigError, HubError, Unavailable
from registry.vault.service import Wrapped

DEADLINE: Final = 5.0
_ANSWER_LIMIT: Final = 65_536
_PATH: Final = re.compile(r"/v1/(?P<mount>[\w./-]+)/keys/(?P<name>[\w-](?:[\w.-]*[\w-])?)")
_CIPHERTEXT: Final = re.compile(r"vault:v(?P<version>[1-9][0-9]{0,8}):[A-Za-z0-9+/]+={0,2}")
_LOOPBACK: Final = {"127.0.0.1", "localhost", "::1"}
_AGAIN: Final = {307, 308, 412, 429, 472, 473}
"""Answers of a standby, of one that lags behind, or of one that is asked too often."""


class TransitKeys:
    """One named key of a transit secrets engine; each call has `deadline` seconds and is not repeated here.

    `url` is the key's own address, `https://HOST:8200/v1/transit/keys/NAME`. The token is read anew for each call, so that
    whoever renews it only writes the file. The token needs `update` on encrypt, decrypt and rewrap of that one key.
    """

    def __init__(
        self, url: str, token_file: Path, ca: Path | None = None, *, deadline: float = DEADLINE
    ) -> None:
        parts = urlsplit(url)
        path = _PATH.fullmatch(parts.path)
        if (
            path is None
            or parts.hostname is None
            or parts.query
            or parts.username
            or parts.scheme not in {"http", "https"}
        ):
            raise _invalid("HUB_KEK_URL is not the address of a transit key")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise _invalid("HUB_KEK_URL has no TLS and does not stay on this machine")
        self._base = f"{parts.scheme}://{parts.netloc}/v1/{path['mount']}"
        self._name = path["name"]
        self._id = f"transit:{path['mount']}/{self._name}:v"
        self._token_file = token_file
        self._deadline = deadline
        self._session: aiohttp.ClientSession | None = None
        try:
            self._tls = ssl.create_default_context(cafile=ca) if parts.scheme == "https" else None
        except (OSError, ssl.SSLError) as error:
            raise _invalid(f"the file in HUB_KEK_CA cannot be used ({type(error).__name__})") from error

    def __repr__(self) -> str:
        return f"TransitKeys({self._id}*)"

    async def current(self) -> str:
        """Return the key with its newest version; it is asked for by wrapping something of no use."""
        return (await self.wrap(secrets.token_bytes(32))).kek

    def holds(self, kek: str) -> bool:
        """Say whether this is the named key, in any version."""
        return kek.startswith(self._id)

    async def wrap(self, secret: bytes) -> Wrapped:
        """Have a secret encrypted with the newest version of the key."""
        answer = await self._call("encrypt", {"plaintext": base64.b64encode(secret).decode()})
        return self._wrapped(answer)

    async def unwrap(self, wrapped: Wrapped) -> bytes:
        """Have a secret decrypted."""
        answer = await self._call("decrypt", {"ciphertext": wrapped.sealed.decode("ascii", "replace")})
        try:
            return base64.b64decode(answer.get("plaintext", ""), validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise _strange() from None

    async def rewrap(self, wrapped: Wrapped) -> Wrapped:
        """Have a secret re-encrypted with the newest version; it never reaches the hub."""
        answer = await self._call("rewrap", {"ciphertext": wrapped.sealed.decode("ascii", "replace")})
        return self._wrapped(answer)

    def derive(self, purpose: str) -> None:
        """Return None: the key cannot be used outside the service."""

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _wrapped(self, answer: dict[str, Any]) -> Wrapped:
        ciphertext = answer.get("ciphertext")
        found = _CIPHERTEXT.fullmatch(ciphertext) if isinstance(ciphertext, str) else None
        if found is None:
            raise _strange()
        return Wrapped(f"{self._id}{found['version']}", found[0].encode())

    async def _call(self, deed: str, body: dict[str, str]) -> dict[str, Any]:
        token = await asyncio.to_thread(self._token)
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=8, ssl=self._tls if self._tls is not None else True)
            self._session = aiohttp.ClientSession(connector=connector)
        try:
            async with (
                asyncio.timeout(self._deadline),
                self._session.post(
                    f"{self._base}/{deed}/{self._name}",
                    data=orjson.dumps(body),
                    headers={
                        "X-Vault-Token": token,
                        "X-Vault-Request": "true",
                        "Content-Type": "application/json",
                    },
                    allow_redirects=False,
                ) as response,
            ):
                raw = await response.content.read(_ANSWER_LIMIT)
                status = response.status
        except aiohttp.ClientConnectorCertificateError as error:
            raise ConfigError(
                "The certificate of the key service is not trusted; no key was sent.",
                code="key-service-refused",
                remedy="Name the CA that signed it in HUB_KEK_CA.",
            ) from error
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise _away(f"does not answer ({type(error).__name__})") from error
        if status == 200:
            return _data(raw)
        raise _refusal(deed, status, raw)

    def _token(self) -> str:
        try:
            if self._token_file.stat().st_mode & 0o007:
                raise ConfigError(
                    f"The token file {self._token_file} may be read by everybody; no key was sent.",
                    code="key-file-open",
                    remedy=f"Run: chmod o-rwx {self._token_file}",
                )
            token = self._token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"The token file {self._token_file} cannot be read ({type(error).__name__}); no key was sent.",
                code="key-file-missing",
                remedy="Have the agent that logs in to the key service write it, readable by the hub's user.",
            ) from error
        if not token or not token.isprintable():
            raise _invalid(f"the token file {self._token_file} holds no token")
        return token


def _data(raw: bytes) -> dict[str, Any]:
    try:
        data = orjson.loads(raw)["data"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise _strange() from None
    if not isinstance(data, dict):
        raise _strange()
    return data


def _refusal(deed: str, status: int, raw: bytes) -> HubError:
    """Tell what the service cannot do now from what it will never do."""
    try:
        errors = orjson.loads(raw)["errors"]
        reason = "; ".join(str(each) for each in errors)[:160]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        reason = ""
    said = f": {reason}" if reason.isprintable() and reason else ""
    if status >= 500 or status in _AGAIN:
        return _away(f"answered {status}{said}")
    return ConfigError(
        f"The key service refused to {deed} with {status}{said}. No data key was changed.",
        code="key-service-refused",
        remedy="Check the name of the key in HUB_KEK_URL, and that the token in HUB_KEK_TOKEN_FILE is valid and may update "
        f"{deed}/NAME.",
    )


def _away(how: str) -> Unavailable:
    return Unavailable(
        f"The key service {how}; data keys that are not in memory cannot be opened now.",
        code="key-service-unavailable",
        remedy="Start or unseal the key service; the hub asks again by itself.",
        retry_after=5,
    )


def _strange() -> ConfigError:
    return ConfigError(
        "The key service answered something that is no answer of a transit secrets engine.",
        code="key-service-refused",
        remedy="Check that HUB_KEK_URL leads to the service itself and the key is neither derived nor convergent.",
    )


def _invalid(what: str) -> ConfigError:
    return ConfigError(
        f"The key service cannot be used: {what}. Nothing was started.",
        code="key-service-invalid",
        remedy="Write HUB_KEK_URL as https://HOST:8200/v1/transit/keys/NAME and name the token's file in HUB_KEK_TOKEN_FILE.",
    )
