"""The pages of the error codes: one Markdown file per code, beside the package in a wheel, in docs/ in the source tree."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

_CODE: Final = re.compile(r"[a-z][a-z0-9-]{1,63}")
_PLACES: Final = (
    Path(__file__).resolve().with_name("errors"),
    Path(__file__).resolve().parents[2] / "docs" / "errors",
)
"""Where the pages lie: a wheel carries them as package data, the source tree has them among its documents."""


@cache
def folder() -> Path | None:
    """Return the folder of the pages, None where neither place was installed."""
    return next((place for place in _PLACES if place.is_dir()), None)


def codes() -> list[str]:
    """Return every code that has a page, sorted."""
    place = folder()
    return sorted(path.stem for path in place.glob("*.md")) if place is not None else []


@cache
def page(code: str) -> str | None:
    """Return the Markdown page of a code, None when there is none; any text may be given."""
    place = folder()
    if place is None or not _CODE.fullmatch(code):
        return None
    path = place / f"{code}.md"
    return path.read_text("utf-8") if path.is_file() else None


def summary(code: str) -> str:
    """Return the first sentence below "What happened" of a page, empty when there is no page."""
    text = page(code) or ""
    _, _, rest = text.partition("## What happened")
    paragraph = " ".join(rest.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[.;])\s", paragraph, maxsplit=1)[0]
