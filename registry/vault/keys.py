"""Data keys and the key of the blind index: in the database, wrapped by the key-encryption key."""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

import asyncpg

from canonical_model.errors import ConfigError, Defect
from registry.settings import HubSettings
from registry.storage.database import database_errors
from registry.vault.blind import BlindIndex
from registry.vault.cipher import DataKey
from registry.vault.file import KeyEncryptionKey
from registry.vault.service import KeyRing, KeyService, Wrapped
from registry.vault.transit import TransitKeys

_CACHE: Final = 512
_AHEAD: Final = timedelta(days=3)
BLIND_SCOPE: Final = "blind_index"
_MAKE_KEY: Final = """
INSERT INTO data_key (scope, wrapped, kek, expires_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
_SCOPE_KEY: Final = "SELECT id, wrapped, kek FROM data_key WHERE scope = $1"


def open_keys(settings: HubSettings) -> KeyRing:
    """Return the key services the settings name: the one in use, then those it replaces. Raises `ConfigError`."""
    if settings.kek_url is not None and settings.kek_file is not None:
        raise ConfigError(
            "Both HUB_KEK_URL and HUB_KEK_FILE name a key-encryption key. Nothing was started.",
            code="key-service-invalid",
            remedy="Keep the one that is to wrap from now on; name the other in HUB_KEK_OLD_FILE or HUB_KEK_OLD_URL.",
        )

    def transit(url: str) -> TransitKeys:
        if settings.kek_token_file is None:
            raise ConfigError(
                "A key service is named and HUB_KEK_TOKEN_FILE is not. Nothing was started.",
                code="key-service-invalid",
                remedy="Name the file that holds the token for the key service.",
            )
        return TransitKeys(url, settings.kek_token_file, settings.kek_ca)

    first: KeyService = (
        KeyEncryptionKey.load(settings) if settings.kek_url is None else transit(settings.kek_url)
    )
    others: list[KeyService] = []
    if settings.kek_old_file is not None:
        others.append(KeyEncryptionKey.read(settings.kek_old_file))
    if settings.kek_old_url is not None:
        others.append(transit(settings.kek_old_url))
    return KeyRing(first, others)


async def load_blind(pool: asyncpg.Pool, keys: KeyRing) -> BlindIndex:
    """Return the blind index of this database, making and storing its key at the first start.

    The key lies wrapped among the data keys, so that a new key-encryption key does not change the index. A database from
    before keeps the key it had, which was derived from the key file. Raises `ConfigError` (`key-file-wrong`) when
    the database was made with another key.
    """
    async with database_errors("fetching the key of the blind index"):
        row = await pool.fetchrow(_SCOPE_KEY, BLIND_SCOPE)
        if row is None:
            # Whichever key wrapped what lies there also made the hashes that lie there.
            kek = await pool.fetchval(
                "SELECT kek FROM data_key WHERE wrapped IS NOT NULL ORDER BY id LIMIT 1"
            )
            derived = keys.derive("blind index") if kek is None else keys.derived_by(kek, "blind index")
            made = await keys.wrap(derived or secrets.token_bytes(32))
            await pool.execute(_MAKE_KEY, BLIND_SCOPE, made.sealed, made.kek, None)
            row = await pool.fetchrow(_SCOPE_KEY, BLIND_SCOPE)
    assert row is not None  # inserted just above, by us or by another process
    return BlindIndex(await keys.unwrap(Wrapped(row["kek"], row["wrapped"])))


class Vault:
    """Hands out data keys: one per table, month and retention, made when first needed, cached in this process."""

    def __init__(self, pool: asyncpg.Pool, keys: KeyService, blind: BlindIndex | None = None) -> None:
        """Take the keys; without `blind`, the blind index is the one derived from the key file. `open` reads the stored one."""
        self._pool = pool
        self._keys = keys
        self._fetching = asyncio.Lock()
        self._by_id: dict[int, DataKey] = {}
        self._by_scope: dict[str, DataKey] = {}
        self._at_hand: dict[tuple[str, int | None], DataKey] = {}
        self._hour = 0
        if blind is None:
            derived = keys.derive("blind index")
            if derived is None:
                raise Defect("A key service derives no keys: open the vault with `Vault.open`.")
            blind = BlindIndex(derived)
        self.blind = blind

    @classmethod
    async def open(cls, pool: asyncpg.Pool, settings: HubSettings) -> Vault:
        """Return the vault of a database with the keys the settings name; raises `ConfigError` and `Unavailable`."""
        keys = open_keys(settings)
        try:
            return cls(pool, keys, await load_blind(pool, keys))
        except BaseException:
            await keys.close()
            raise

    async def close(self) -> None:
        """Release what the key service holds; the pool stays the caller's."""
        await self._keys.close()

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
        key = await self._scope_key(scope, retention_days, datetime.now(UTC))
        # Scopes of past months are of no more use here.
        month = scope.split(":")[1]
        self._by_scope = {name: held for name, held in self._by_scope.items() if name.split(":")[1] == month}
        self._by_scope[scope] = key
        return key

    async def make_ahead(self, now: datetime | None = None) -> int:
        """Have the next month's keys at hand in the last days of this one; return how many tables have theirs.

        So a key service that is away at the turn of the month holds nobody up.
        """
        now = now or datetime.now(UTC)
        next_month = _next_month(now)
        if next_month - now > _AHEAD:
            return 0
        month = next_month.strftime("%Y-%m")
        for scope in list(self._by_scope):
            table, _, retention = scope.split(":")
            days = int(retention) if retention else None
            await self._scope_key(f"{table}:{month}:{retention}", days, next_month)
        return len(self._by_scope)

    async def _scope_key(self, scope: str, retention_days: int | None, within: datetime) -> DataKey:
        """Return the key of a scope, making it when there is none; `within` is a time of its month."""
        expires = None if retention_days is None else _next_month(within) + timedelta(days=retention_days)
        return await self._made(scope, expires)

    async def _made(self, scope: str, expires: datetime | None) -> DataKey:
        async with database_errors("fetching a data key"):
            row = await self._pool.fetchrow(_SCOPE_KEY, scope)
            if row is None:
                # No connection is held while the key service is asked.
                made = await self._keys.wrap(secrets.token_bytes(32))
                await self._pool.execute(_MAKE_KEY, scope, made.sealed, made.kek, expires)
                row = await self._pool.fetchrow(_SCOPE_KEY, scope)
        assert row is not None  # inserted just above, and keys are never deleted
        return await self._unwrap(row["id"], row)

    async def key(self, key_id: int) -> DataKey:
        """Return the key with this id; raises `Defect` (code `data-key-destroyed`) once its retention has ended."""
        held = self._by_id.get(key_id)
        if held is not None:
            return held
        async with database_errors("fetching a data key"):
            row = await self._pool.fetchrow("SELECT id, wrapped, kek FROM data_key WHERE id = $1", key_id)
        return await self._unwrap(key_id, row)

    @staticmethod
    def is_current(scope: str | None, table: str) -> bool:
        """Say whether a key of this scope seals values of `table` this month, or took another's place this month."""
        if scope is None:
            return False
        name, _, rest = scope.partition(":")
        month = _month(int(time.time()) // 3600)
        made, _, again = rest.partition("+")
        lasting = made.endswith(":")
        return month in {made.partition(":")[0], again} and (name == table or not lasting)

    async def successor(self, key_id: int, table: str) -> DataKey:
        """Return the key to seal anew with what this one sealed in `table`: itself while it is this month's.

        What is sealed with a key that has a retention gets one of its own that is destroyed on the same day.
        """
        async with database_errors("fetching a data key"):
            row = await self._pool.fetchrow("SELECT scope, expires_at FROM data_key WHERE id = $1", key_id)
        if row is None or self.is_current(row["scope"], table):
            return await self.key(key_id)
        if row["expires_at"] is None:
            return await self.current_key(table)
        scope = f"{row['scope'].partition('+')[0]}+{_month(int(time.time()) // 3600)}"
        return await self._made(scope, row["expires_at"])

    async def _unwrap(self, key_id: int, row: asyncpg.Record | None) -> DataKey:
        if row is None or row["wrapped"] is None:
            raise Defect(
                f"Data key {key_id} was destroyed at the end of its retention; what it sealed can no longer be read.",
                code="data-key-destroyed",
                remedy="Nothing: this is what retention means. Lengthen `retention` on the route for future messages.",
            )
        async with self._fetching:  # of many who need one key, the first asks the service
            held = self._by_id.get(key_id)
            if held is not None:
                return held
            secret = await self._keys.unwrap(Wrapped(row["kek"], row["wrapped"]))
            if len(self._by_id) >= _CACHE:
                self._by_id.pop(next(iter(self._by_id)))
            self._by_id[key_id] = key = DataKey(key_id, secret)
            return key

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


def _next_month(at: datetime) -> datetime:
    first = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)


@lru_cache(maxsize=4)
def _month(hour: int) -> str:
    """Return the month (UTC) of an hour since 1970."""
    return datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m")


def _scope(table: str, retention_days: int | None) -> str:
    month = _month(int(time.time()) // 3600)
    return f"{table}:{month}:{'' if retention_days is None else retention_days}"
