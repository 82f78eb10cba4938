"""The key-encryption key in a file."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)

from canonical_model.errors import ConfigError
from registry.settings import HubSettings
from registry.vault.service import Wrapped


def private_file(path: Path, make: bytes) -> bytes:
    """Return a key file's content, creating it with mode 0600 when absent; refuses one that others may read."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            raise ConfigError(
                f"The key file {path} may be read by others. Nothing was started.",
                code="key-file-open",
                remedy=f"Run: chmod 600 {path}",
            ) from None
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The key file {path} can neither be read nor made ({type(error).__name__}).",
            code="key-file-missing",
            remedy="Give the hub's user access to the folder, or name another file in the settings.",
        ) from error
    with os.fdopen(handle, "wb") as file:
        file.write(make)
        file.flush()
        os.fsync(file.fileno())
    return make


class KeyEncryptionKey:
    """The key above all keys, read from a file; it never leaves this process."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.id = f"file:{sha256(b'openspp-hub kek id' + secret).hexdigest()[:16]}"

    def __repr__(self) -> str:
        return f"KeyEncryptionKey({self.id})"

    @classmethod
    def load(cls, settings: HubSettings) -> KeyEncryptionKey:
        """Read the key file (32 bytes, base64), making one in the data folder when none is configured."""
        if settings.kek_file is not None:
            return cls.read(settings.kek_file)
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        fresh = base64.b64encode(secrets.token_bytes(32)) + b"\n"
        return cls._parse(private_file(settings.data_dir / "kek", fresh))

    @classmethod
    def read(cls, path: Path) -> KeyEncryptionKey:
        """Read a key file that must be there (32 bytes, base64); raises `ConfigError` that says what is wrong with it."""
        if not path.exists():
            raise ConfigError(
                f"The key file {path} does not exist. Nothing was started.",
                code="key-file-missing",
                remedy="Restore it from your backup; without it nothing in the store can be read. For a new hub: "
                "head -c 32 /dev/urandom | base64 > FILE; chmod 600 FILE",
            )
        return cls._parse(private_file(path, b""))

    @classmethod
    def _parse(cls, raw: bytes) -> KeyEncryptionKey:
        try:
            secret = base64.b64decode(raw.strip(), validate=True)
        except binascii.Error:
            secret = b""
        if len(secret) != 32:
            raise ConfigError("The key file does not hold 32 bytes in base64.", code="key-file-invalid")
        return cls(secret)

    async def current(self) -> str:
        """Return the id of this key."""
        return self.id

    def holds(self, kek: str) -> bool:
        """Say whether this is the named key."""
        return kek == self.id

    async def wrap(self, secret: bytes) -> Wrapped:
        """Wrap a secret (AES key wrap with padding, RFC 5649)."""
        return Wrapped(self.id, aes_key_wrap_with_padding(self._secret, secret))

    async def unwrap(self, wrapped: Wrapped) -> bytes:
        """Unwrap a secret; raises `ConfigError` when this is not the key it was wrapped with."""
        try:
            return aes_key_unwrap_with_padding(self._secret, wrapped.sealed)
        except InvalidUnwrap as error:
            raise ConfigError(
                f"The data keys in the database were not wrapped with the key-encryption key {self.id}.",
                code="key-file-wrong",
                remedy="Name the key file this database was made with in HUB_KEK_FILE.",
            ) from error

    async def rewrap(self, wrapped: Wrapped) -> Wrapped:
        """Return the same secret wrapped anew."""
        return await self.wrap(await self.unwrap(wrapped))

    def derive(self, purpose: str) -> bytes:
        """Return a 32-byte key for one purpose (HKDF-SHA256, RFC 5869)."""
        return HKDF(
            algorithm=hashes.SHA256(), length=32, salt=None, info=f"openspp-hub {purpose}".encode()
        ).derive(self._secret)

    async def close(self) -> None:
        """Do nothing: a file needs no closing."""
