"""Cursors: where a list goes on, signed so that nobody writes one, good for one list only."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any, Final

import orjson

from adapters.http.problems import RequestRefused
from registry.signing import decode, encode
from registry.vault import BlindIndex

_MARK: Final = 16


def write_cursor(blind: BlindIndex, about: bytes, place: Sequence[Any]) -> str:
    """Return the cursor of a place in the list that `about` describes."""
    raw = orjson.dumps(list(place), default=str)
    return encode(blind.digest("cursor", about + b"\x00" + raw) + raw)


def read_cursor(blind: BlindIndex, about: bytes, text: str) -> list[Any]:
    """Return the place of a cursor; raises `RequestRefused` (`cursor-invalid`) for one of another list or hand."""
    try:
        whole = decode(text)
        mark, raw = whole[:_MARK], whole[_MARK:]
        if hmac.compare_digest(mark, blind.digest("cursor", about + b"\x00" + raw)):
            place: list[Any] = orjson.loads(raw)
            return place
    except ValueError:
        pass
    raise RequestRefused(
        "The cursor does not belong to this list. Nothing was searched.",
        code="cursor-invalid",
        remedy="Use the cursor of the last page with the same filters and sorting, or begin without one.",
    )
