"""The keys that sign checkpoints: made here, sealed by the vault, so that a stranger to its key can add none."""

from __future__ import annotations

from typing import Final

import asyncpg

from canonical_model.errors import Defect, HubError
from registry.signing import SigningKey, VerifyKey, new_pem
from registry.vault import Vault, aad

_TABLE: Final = "audit_key"


class AuditKeys:
    """Hands out the key that signs now, and the public part of every key that ever signed."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault) -> None:
        self._pool, self._vault = pool, vault
        self._signing: SigningKey | None = None
        self._known: dict[str, VerifyKey | None] = {}

    async def signing(self) -> SigningKey:
        """Return the newest key, making the first one; two processes that make one at once leave two, and both are good."""
        if self._signing is None:
            kid = await self._pool.fetchval("SELECT kid FROM audit_key ORDER BY made_at DESC, kid LIMIT 1")
            self._signing = await self._make() if kid is None else await self._open(kid)
        if self._signing is None:
            raise Defect(
                "The newest key for checkpoints was not made by this hub; nothing was sealed.",
                code="audit-key-broken",
                remedy="Run `hub audit verify`; the table audit_key was changed outside the hub.",
            )
        return self._signing

    async def renew(self) -> str:
        """Make a new key that signs from now on and return its id; what older keys signed is still verified."""
        self._signing = await self._make()
        return self._signing.kid

    async def verifying(self, kid: str) -> VerifyKey | None:
        """Return the public part of a key, None where the vault does not vouch for it."""
        if kid not in self._known:
            opened = await self._open(kid)
            self._known[kid] = None if opened is None else VerifyKey(opened.public)
        return self._known[kid]

    async def _make(self) -> SigningKey:
        pem = new_pem()
        made = SigningKey.from_pem(pem, "the new key for checkpoints")
        key = await self._vault.current_key(_TABLE)
        await self._pool.execute(
            "INSERT INTO audit_key (kid, public, key_id, sealed) VALUES ($1, $2, $3, $4)",
            made.kid,
            dict(made.public),
            key.id,
            key.seal(pem, aad(_TABLE, "sealed", made.kid.encode())),
        )
        return made

    async def _open(self, kid: str) -> SigningKey | None:
        row = await self._pool.fetchrow("SELECT public, key_id, sealed FROM audit_key WHERE kid = $1", kid)
        if row is None:
            return None
        try:
            key = await self._vault.key(row["key_id"])
            pem = key.open(row["sealed"], aad(_TABLE, "sealed", kid.encode()))
            opened = SigningKey.from_pem(pem, f"audit key {kid}")
        except HubError as error:
            if error.code in {"sealed-value-broken", "signing-key-invalid", "data-key-destroyed"}:
                return None
            raise
        return opened if opened.kid == kid and dict(opened.public) == row["public"] else None
