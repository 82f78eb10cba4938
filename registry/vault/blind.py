"""The blind index: finds equal values without showing them."""

from __future__ import annotations

import unicodedata
from hashlib import blake2b
from typing import NoReturn

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC


class BlindIndex:
    """Keyed hashes of normalised values; equal values give equal hashes, nothing else can be read from them."""

    __slots__ = ("_key", "_keyed", "_tokens")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._keyed = HMAC(key, SHA256())
        self._tokens: dict[str, blake2b] = {}

    def __repr__(self) -> str:
        return "BlindIndex()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("The key of the blind index is not pickled.")

    def lent(self) -> bytes:
        """Return the key, for a process of this hub's own that hashes with it, over a pipe of its own."""
        return self._key

    def index(self, label: str, value: str) -> bytes:
        """Return the first 16 bytes of HMAC-SHA256 over label and value (NFKC, trimmed); labels keep uses apart."""
        text = value if value.isascii() else unicodedata.normalize("NFKC", value)
        # A copy spares setting up the key anew, which costs more than the hash.
        keyed = self._keyed.copy()
        keyed.update(f"{label}\x00{text.strip()}".encode())
        return keyed.finalize()[:16]

    def digest(self, label: str, raw: bytes) -> bytes:
        """Return 16 bytes of keyed BLAKE2b (RFC 7693) over label and exact bytes; for whole bodies, where it is faster."""
        return blake2b(raw, key=self._key, person=label.encode()[:16], digest_size=16).digest()

    def token(self, label: str, text: str) -> int:
        """Return a signed 64-bit keyed BLAKE2b (RFC 7693) over label and exact text; labels (1 to 16 bytes) keep uses apart."""
        begun = self._tokens.get(label)
        if begun is None:
            begun = blake2b(key=self._key, person=label.encode(), digest_size=8)
            self._tokens[label] = begun
        hashed = begun.copy()
        hashed.update(text.encode("utf-8", "surrogatepass"))
        return int.from_bytes(hashed.digest(), "big", signed=True)
