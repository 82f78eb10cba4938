"""The contract of what holds the key-encryption key, and the ring of those a hub accepts while one replaces another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from canonical_model.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A secret that only the named key-encryption key can open."""

    kek: str
    """Which key wrapped it: `file:HASH`, or `transit:MOUNT/NAME:vVERSION`."""
    sealed: bytes = field(repr=False)


class KeyService(Protocol):
    """What holds a key-encryption key: a file, or a service the key never leaves.

    Every method may raise `Unavailable` (`key-service-unavailable`) where a service is away, and `ConfigError` where it
    refuses or the key is not the one that was used.
    """

    async def current(self) -> str:
        """Return the id of the key that wraps now, as `Wrapped.kek` has it."""

    def holds(self, kek: str) -> bool:
        """Say whether secrets wrapped by this key can be opened here."""

    async def wrap(self, secret: bytes) -> Wrapped:
        """Wrap a secret of 16 to 64 bytes with the newest key."""

    async def unwrap(self, wrapped: Wrapped) -> bytes:
        """Return the secret."""

    async def rewrap(self, wrapped: Wrapped) -> Wrapped:
        """Return the same secret under the newest key; a service does it without giving the secret away."""

    def derive(self, purpose: str) -> bytes | None:
        """Return a 32-byte key for one purpose, None where the key cannot be used for that."""

    async def close(self) -> None:
        """Release connections; safe to call twice."""


class KeyRing:
    """The key service in use and those it replaces: the first wraps, each opens what it wrapped itself."""

    def __init__(self, first: KeyService, others: Sequence[KeyService] = ()) -> None:
        self._first = first
        self._all = (first, *others)

    async def current(self) -> str:
        """Return the id of the key that wraps now."""
        return await self._first.current()

    def holds(self, kek: str) -> bool:
        """Say whether any of the keys is this one."""
        return any(each.holds(kek) for each in self._all)

    async def wrap(self, secret: bytes) -> Wrapped:
        """Wrap a secret with the key in use."""
        return await self._first.wrap(secret)

    async def unwrap(self, wrapped: Wrapped) -> bytes:
        """Open a secret with the key that wrapped it; raises `ConfigError` (`key-file-wrong`) when it is not at hand."""
        return await self._holder(wrapped.kek).unwrap(wrapped)

    async def rewrap(self, wrapped: Wrapped) -> Wrapped:
        """Return the same secret under the key in use."""
        holder = self._holder(wrapped.kek)
        if holder is self._first:
            return await holder.rewrap(wrapped)
        return await self._first.wrap(await holder.unwrap(wrapped))

    def derive(self, purpose: str) -> bytes | None:
        """Return what the key in use derives."""
        return self._first.derive(purpose)

    def derived_by(self, kek: str, purpose: str) -> bytes | None:
        """Return what a named key derives; raises `ConfigError` (`key-file-wrong`) when it is not at hand."""
        return self._holder(kek).derive(purpose)

    async def close(self) -> None:
        """Release the connections of all."""
        for each in self._all:
            await each.close()

    def _holder(self, kek: str) -> KeyService:
        for each in self._all:
            if each.holds(kek):
                return each
        raise ConfigError(
            f"The data keys in the database were wrapped with the key-encryption key {kek}, which is not at hand.",
            code="key-file-wrong",
            remedy="Name the key file this database was made with in HUB_KEK_FILE, or in HUB_KEK_OLD_FILE while it is "
            "replaced.",
        )
