"""Keys: the key-encryption key from a file, data keys wrapped by it in the database."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final

import asyncpg
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)

from canonical_model.errors import ConfigError, Defect
from registry.settings import HubSettings
from registry.storage.database import database_errors
from registry.vault.blind import BlindIndex
from registry.vault.cipher import DataKey

_CACHE: Final = 512


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
    """The key above all keys; it never leaves this process."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.id = f"file:{sha256(b'openspp-hub kek id' + secret).hexdigest()[:16]}"

    @classmethod
    def load(cls, settings: HubSettings) -> KeyEncryptionKey:
        """Read the key file (32 bytes, base64), making one in the data folder when none is configured."""
        path = settings.kek_file
        if path is None:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
            raw = private_file(settings.data_dir / "kek", base64.b64encode(secrets.token_bytes(32)) + b"\n")
        elif path.exists():
            raw = private_file(path, b"")
        else:
            raise ConfigError(
                f"The key file {path} does not exist. Nothing was started.",
                code="key-file-missing",
                remedy="Restore it from your backup; without it nothing in the store can be read. For a new hub: "
                "head -c 32 /dev/urandom | base64 > FILE; chmod 600 FILE",
            )
        try:
            secret = base64.b64decode(raw.strip(), validate=True)
        except binascii.Error:
            secret = b""
        if len(secret) != 32:
            raise ConfigError("The key file does not hold 32 bytes in base64.", code="key-file-invalid")
        return cls(secret)

    def wrap(self, secret: bytes) -> bytes:
        """Wrap a data key (AES key wrap with padding, RFC 5649)."""
        return aes_key_wrap_with_padding(self._secret, secret)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Unwrap a data key; raises `ConfigError` when this is not the key it was wrapped with."""
        try:
            return aes_key_unwrap_with_padding(self._secret, wrapped)
        except InvalidUnwrap as error:
            raise ConfigError(
                f"The data keys in the database were not wrapped with the key-encryption key {self.id}.",
                code="key-file-wrong",
                remedy="Name the key file this database was made with in HUB_KEK_FILE.",
            ) from error

    def derive(self, purpose: str) -> bytes:
        """Return a 32-byte key for one purpose (HKDF-SHA256, RFC 5869)."""
        return HKDF(
            algorithm=hashes.SHA256(), length=32, salt=None, info=f"openspp-hub {purpose}".encode()
        ).derive(self._secret)


class Vault:
    """Hands out data keys: one per table, month and retention, made when first needed, cached in this process."""

    def __init__(self, pool: asyncpg.Pool, kek: KeyEncryptionKey) -> None:
        self._pool = pool
        self._kek = kek
        self._by_id: dict[int, DataKey] = {}
        self._by_scope: dict[str, DataKey] = {}
        self._at_hand: dict[tuple[str, int | None], DataKey] = {}
        self._hour = 0
        self.blind = BlindIndex(kek.derive("blind index"))

    def cached_key(self, table: str, retention_days: int | None = None) -> DataKey | None:
        """Return the key in use now when this process already holds it; free of any wait."""
        hour = int(time.time()) // 3600
        if hour != self._hour:
            # A new hour may be a new month, whose key is another one.
            self._at_hand.clear()
            self._hour = hour
        held = self._at_hand.get((table, retention_days))
        if held is None and (held := self._by_scope.get(_scope(table, retention_days))) is not None:
            self._at_hand[table, retention_days] = held
        return held

    async def current_key(self, table: str, retention_days: int | None = None) -> DataKey:
        """Return the key that seals values of `table` this month; with a retention it is destroyed when that ends."""
        scope = _scope(table, retention_days)
        held = self._by_scope.get(scope)
        if held is not None:
            return held
        now = datetime.now(UTC)
        expires = None
        if retention_days is not None:
            month_end = (now.replace(day=1) + timedelta(days=32)).replace(
                day=1, hour=0, minute=0, second=0, microsecond=0
            )
            expires = month_end + timedelta(days=retention_days)
        async with database_errors("fetching a data key"), self._pool.acquire() as connection:
            row = await connection.fetchrow("SELECT id, wrapped FROM data_key WHERE scope = $1", scope)
            if row is None:
                await connection.execute(
                    "INSERT INTO data_key (scope, wrapped, kek, expires_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                    scope,
                    self._kek.wrap(secrets.token_bytes(32)),
                    self._kek.id,
                    expires,
                )
                row = await connection.fetchrow("SELECT id, wrapped FROM data_key WHERE scope = $1", scope)
        assert row is not None  # inserted just above, and keys are never deleted
        key = self._unwrap(row["id"], row["wrapped"])
        # Scopes of past months are of no more use here.
        month = scope.split(":")[1]
        self._by_scope = {name: held for name, held in self._by_scope.items() if name.split(":")[1] == month}
        self._by_scope[scope] = key
        return key

    async def key(self, key_id: int) -> DataKey:
        """Return the key with this id; raises `Defect` (code `data-key-destroyed`) once its retention has ended."""
        held = self._by_id.get(key_id)
        if held is not None:
            return held
        async with database_errors("fetching a data key"):
            row = await self._pool.fetchrow("SELECT id, wrapped FROM data_key WHERE id = $1", key_id)
        return self._unwrap(key_id, row["wrapped"] if row else None)

    def _unwrap(self, key_id: int, wrapped: bytes | None) -> DataKey:
        if wrapped is None:
            raise Defect(
                f"Data key {key_id} was destroyed at the end of its retention; what it sealed can no longer be read.",
                code="data-key-destroyed",
                remedy="Nothing: this is what retention means. Lengthen `retention` on the route for future messages.",
            )
        if len(self._by_id) >= _CACHE:
            self._by_id.pop(next(iter(self._by_id)))
        return self._by_id.setdefault(key_id, DataKey(key_id, self._kek.unwrap(wrapped)))

    async def destroy_expired(self, now: datetime | None = None) -> int:
        """Destroy every data key whose retention has ended; return how many."""
        rows = await self._pool.fetch(
            "UPDATE data_key SET wrapped = NULL, destroyed_at = now() "
            "WHERE wrapped IS NOT NULL AND expires_at <= $1 RETURNING id, scope",
            now or datetime.now(UTC),
        )
        # Another process may have destroyed a key that this one still holds in memory.
        gone = await self._pool.fetch(
            "SELECT id, scope FROM data_key WHERE wrapped IS NULL AND id = ANY($1)", list(self._by_id)
        )
        self._at_hand.clear()
        for row in (*rows, *gone):
            self._by_id.pop(row["id"], None)
            self._by_scope.pop(row["scope"], None)
        return len(rows)


@lru_cache(maxsize=4)
def _month(hour: int) -> str:
    """Return the month (UTC) of an hour since 1970."""
    return datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m")


def _scope(table: str, retention_days: int | None) -> str:
    month = _month(int(time.time()) // 3600)
    return f"{table}:{month}:{'' if retention_days is None else retention_days}"
