"""A checkpoint outside the hub's hands: written to a file that somebody else keeps, and compared with later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson

from canonical_model.errors import Refused
from registry.audit.checkpoint import META, Checkpoint, read_signed
from registry.signing import KeyRefused, VerifyKey

_FORMAT: Final = "openspp-hub-audit-checkpoint/1"
_MOST: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Witness:
    """One exported checkpoint: its number, its signed text and the public key that signed it."""

    number: int
    signed: str
    public: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """Return the file: JSON with the signed text, the key and when it was written."""
        body = {
            "format": _FORMAT,
            "number": self.number,
            "signed": self.signed,
            "key": dict(self.public),
            "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def load(cls, path: Path) -> Witness:
        """Read a file and verify its signature with the key it names; raises `Refused` (`audit-witness-invalid`)."""
        try:
            with path.open("rb") as file:
                body = orjson.loads(file.read(_MOST))
            number, signed, public = body["number"], body["signed"], body["key"]
            read = read_signed(signed)
            good = (
                body["format"] == _FORMAT
                and read is not None
                and read.claims.get("number") == number
                and VerifyKey(public).verify(signed, "ES256")
            )
        except OSError as error:
            raise _invalid(f"cannot be read ({type(error).__name__})") from error
        except (ValueError, KeyError, TypeError, AttributeError, KeyRefused) as error:
            raise _invalid("holds no exported checkpoint") from error
        if not good:
            raise _invalid("has a signature that does not fit its content")
        return cls(int(number), signed, public)


async def export(pool: asyncpg.Pool, number: int | None = None) -> Witness:
    """Return the newest checkpoint, or the one with a number, for somebody else to keep.

    Raises `Refused` (`audit-checkpoint-not-found`).
    """
    where, given = ("WHERE number = $1", [number]) if number is not None else ("", [])
    row = await pool.fetchrow(
        f"SELECT {META} FROM audit_checkpoint {where} ORDER BY number DESC LIMIT 1", *given
    )
    if row is None:
        raise Refused(
            "There is no such checkpoint.",
            code="audit-checkpoint-not-found",
            remedy="`hub audit checkpoint list` shows them; `hub audit seal` makes the first one.",
        )
    found = Checkpoint.of(row)
    read = read_signed(found.signed)
    public = await pool.fetchval("SELECT public FROM audit_key WHERE kid = $1", read.kid if read else "")
    return Witness(found.number, found.signed, public or {})


def _invalid(what: str) -> Refused:
    return Refused(
        f"The file given as a witness {what}. Nothing was compared.",
        code="audit-witness-invalid",
        remedy="Give a file that `hub audit checkpoint export` wrote, unchanged.",
    )
