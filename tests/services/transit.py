"""A stand-in for a transit secrets engine that refuses what the real one refuses: tokens, policies, versions, wrong bytes.

Statuses and sentences are those of the engine's API pages and of its source (path_encrypt, path_decrypt, path_rewrap).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MOUNT = "transit"
NAME = "openspp-hub"


class TransitSandbox:
    """One unsealed server with one key; `policy` says which paths the token may update."""

    def __init__(self, folder: Path) -> None:
        self.token = f"hvs.{secrets.token_urlsafe(24)}"
        self.token_file = folder / "transit-token"
        self.keys: dict[str, list[bytes]] = {NAME: [os.urandom(32)]}
        self.min_decryption_version = 1
        self.policy = {f"{MOUNT}/{deed}/{NAME}" for deed in ("encrypt", "decrypt", "rewrap")}
        self.sealed = False
        self.stalls = False
        self.calls: Counter[str] = Counter()
        self.seen: list[bytes] = []
        """Every body that arrived."""
        self.url = ""
        self.write_token()

    def write_token(self) -> None:
        """Write the token's file as an agent would."""
        self.token_file.write_text(self.token + "\n")
        self.token_file.chmod(0o600)

    def rotate(self) -> None:
        """Make a new version of the key."""
        self.keys[NAME].append(os.urandom(32))

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one call."""
        if self.stalls:
            await asyncio.sleep(30)
        if self.sealed:
            return _errors(503, "Vault is sealed")
        path = request.path.removeprefix("/v1/")
        if not path.startswith(f"{MOUNT}/"):
            return _errors(404, f'no handler for route "{path}". route entry not found.')
        if request.headers.get("X-Vault-Token") != self.token:
            return _errors(403, "permission denied")
        mount, _, rest = path.partition("/")
        deed, _, name = rest.partition("/")
        if request.method not in {"POST", "PUT"}:
            return _errors(405, "1 error occurred:\n\t* unsupported operation\n\n")
        if f"{mount}/{deed}/{name}" not in self.policy:
            return _errors(403, "1 error occurred:\n\t* permission denied\n\n")
        raw = await request.read()
        self.seen.append(raw)
        self.calls[deed] += 1
        deeds: dict[str, Callable[[str, dict[str, str]], Awaitable[web.Response]]] = {
            "encrypt": self._encrypt,
            "decrypt": self._decrypt,
            "rewrap": self._rewrap,
        }
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return _errors(400, "failed to parse JSON input: invalid character")
        return await deeds[deed](name, body)

    async def _encrypt(self, name: str, body: dict[str, str]) -> web.Response:
        if "plaintext" not in body:
            return _errors(400, "missing plaintext to encrypt")
        try:
            plaintext = base64.b64decode(body["plaintext"], validate=True)
        except binascii.Error:
            return _errors(400, "illegal base64 data at input byte 0")
        if name not in self.keys:
            return _errors(400, "encryption key not found")
        return _data(ciphertext=self._seal(name, plaintext), key_version=len(self.keys[name]))

    async def _decrypt(self, name: str, body: dict[str, str]) -> web.Response:
        opened = self._open(name, body)
        return (
            opened if isinstance(opened, web.Response) else _data(plaintext=base64.b64encode(opened).decode())
        )

    async def _rewrap(self, name: str, body: dict[str, str]) -> web.Response:
        opened = self._open(name, body)
        if isinstance(opened, web.Response):
            return opened
        return _data(ciphertext=self._seal(name, opened), key_version=len(self.keys[name]))

    def _seal(self, name: str, plaintext: bytes) -> str:
        nonce = os.urandom(12)
        sealed = nonce + AESGCM(self.keys[name][-1]).encrypt(nonce, plaintext, None)
        return f"vault:v{len(self.keys[name])}:{base64.b64encode(sealed).decode()}"

    def _open(self, name: str, body: dict[str, str]) -> bytes | web.Response:
        ciphertext = body.get("ciphertext") or ""
        if not ciphertext:
            return _errors(400, "missing ciphertext to decrypt")
        if name not in self.keys:
            return _errors(400, "encryption key not found")
        if not ciphertext.startswith("vault:v"):
            return _errors(400, "invalid ciphertext: no prefix")
        version, found, payload = ciphertext.removeprefix("vault:v").partition(":")
        if not found:
            return _errors(400, "invalid ciphertext: wrong number of fields")
        if not version.isdecimal():
            return _errors(400, "invalid ciphertext: version number could not be decoded")
        number = int(version) or 1
        if number > len(self.keys[name]):
            return _errors(400, "invalid ciphertext: version is too new")
        if number < self.min_decryption_version:
            return _errors(400, "ciphertext or signature version is disallowed by policy (too old)")
        try:
            raw = base64.b64decode(payload, validate=True)
            return AESGCM(self.keys[name][number - 1]).decrypt(raw[:12], raw[12:], None)
        except (binascii.Error, ValueError):
            return _errors(400, "invalid ciphertext: could not decode base64")
        except InvalidTag:
            return _errors(400, "cipher: message authentication failed")


def _errors(status: int, *said: str) -> web.Response:
    return web.Response(status=status, body=orjson.dumps({"errors": said}), content_type="application/json")


def _data(**data: str | int) -> web.Response:
    envelope = {"request_id": secrets.token_hex(8), "lease_id": "", "renewable": False, "lease_duration": 0}
    return web.Response(body=orjson.dumps(envelope | {"data": data}), content_type="application/json")


@asynccontextmanager
async def transit(folder: Path) -> AsyncIterator[TransitSandbox]:
    """Run one on a free port of this machine."""
    sandbox = TransitSandbox(folder)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", sandbox.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    sandbox.url = f"http://127.0.0.1:{port}/v1/{MOUNT}/keys/{NAME}"
    try:
        yield sandbox
    finally:
        await runner.cleanup()
