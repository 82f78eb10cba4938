"""Client secrets as scrypt hashes: `scrypt$N$r$p$salt$hash`, salt and hash in base64url without padding."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from typing import Final

from registry.signing import decode, encode

COST: Final = 1 << 14
BLOCK: Final = 8
PARALLEL: Final = 1
_MAX_COST: Final = 1 << 17
_MAX_MEMORY: Final = 256 * 1024 * 1024
_FORM: Final = re.compile(
    r"scrypt\$(\d{4,6})\$(\d{1,2})\$(\d{1,2})\$([A-Za-z0-9_-]{16,64})\$([A-Za-z0-9_-]{32,128})"
)

ABSENT: Final = "scrypt$16384$8$1$AAAAAAAAAAAAAAAAAAAAAA$" + "A" * 43
"""A hash no secret has; it is checked for unknown clients so that they take as long as known ones."""


def new_secret() -> str:
    """Return a fresh client secret of 256 random bits."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str, *, cost: int = COST) -> str:
    """Return the salted scrypt hash of a client secret; takes about 50 ms and 16 MiB at the default cost."""
    salt = os.urandom(16)
    digest = _scrypt(secret, salt, cost, BLOCK, PARALLEL)
    return f"scrypt${cost}${BLOCK}${PARALLEL}${encode(salt)}${encode(digest)}"


def well_formed(text: str) -> bool:
    """Say whether a text is a hash this module can check within its bounds."""
    parts = _FORM.fullmatch(text)
    if parts is None:
        return False
    cost, block, parallel = (int(parts[place]) for place in (1, 2, 3))
    return 1024 <= cost <= _MAX_COST and cost & (cost - 1) == 0 and 1 <= block <= 16 and 1 <= parallel <= 4


def verify_secret(secret: str, hashed: str) -> bool:
    """Say whether the secret has this hash, comparing in constant time; blocking, so run it in a thread."""
    if not well_formed(hashed):
        return False
    _, cost, block, parallel, salt, digest = hashed.split("$")
    found = _scrypt(secret, decode(salt), int(cost), int(block), int(parallel))
    return hmac.compare_digest(encode(found), digest)


def _scrypt(secret: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        secret.encode("utf-8"), salt=salt, n=cost, r=block, p=parallel, maxmem=_MAX_MEMORY, dklen=32
    )
