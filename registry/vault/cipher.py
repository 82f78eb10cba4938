"""AES-256-GCM with a fresh nonce per value, bound to where the value lies."""

from __future__ import annotations

import os
from typing import NoReturn
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from canonical_model.errors import Defect

NONCE = 12
VERSION = b"\x01"
FORMAT = 2
"""The newest format of a registrant's sealed document."""


def aad(table: str, column: str, row: bytes) -> bytes:
    """Return the associated data that binds a sealed value to table, column and row."""
    return b"\x00".join((table.encode(), column.encode(), row))


def sealed_place(form: int, registrant_id: UUID) -> bytes:
    """Return what a registrant's sealed document is bound to: format 1 lay in `person`, 2 lies in `registrant_vault`."""
    return aad("person" if form == 1 else "registrant_vault", "sealed", registrant_id.bytes)


class DataKey:
    """One data key in use; seals and opens values."""

    __slots__ = ("_cipher", "_secret", "id")

    def __init__(self, key_id: int, secret: bytes) -> None:
        self.id = key_id
        self._secret = secret
        self._cipher = AESGCM(secret)

    def __reduce__(self) -> NoReturn:
        # A key that is pickled by accident with something else would leave the process unseen; `lent` says it aloud.
        raise TypeError("A data key is not pickled.")

    def lent(self) -> tuple[int, bytes]:
        """Return id and secret, for a process of this hub's own that seals with it, over a pipe of its own."""
        return self.id, self._secret

    def __repr__(self) -> str:
        return f"DataKey(id={self.id})"

    def seal(self, plaintext: bytes, bound_to: bytes) -> bytes:
        """Return version, nonce and ciphertext; NIST SP 800-38D allows 2^32 random nonces per key."""
        nonce = os.urandom(NONCE)
        return VERSION + nonce + self._cipher.encrypt(nonce, plaintext, bound_to)

    def open(self, sealed: bytes, bound_to: bytes) -> bytes:
        """Return the plaintext; raises `Defect` (code `sealed-value-broken`) when key, place or bytes do not match."""
        try:
            return self._cipher.decrypt(sealed[1 : 1 + NONCE], sealed[1 + NONCE :], bound_to)
        except (InvalidTag, ValueError) as error:
            raise Defect(
                f"A value sealed with data key {self.id} cannot be opened; it was left as it is.",
                code="sealed-value-broken",
                remedy="The row was changed or moved outside the hub, or the key file is not the one it was sealed with.",
            ) from error
