"""Patterns of `matches`: the part of regular expressions that PostgreSQL and RE2 read alike, and both in bounded time."""

from __future__ import annotations

import re
from typing import Final

MAX_PATTERN: Final = 200
MAX_REPEATS: Final = 100
_PART: Final = re.compile(
    r"""(?P<set>\[\^?(?:(?:\\[\\\]\[^-]|[^\\\[\]^-])(?:-(?:\\[\\\]\[^-]|[^\\\[\]^-]))?)+-?\])
    |(?P<escape>\\[dw.\\+*?()\[\]{}|^$/-])
    |(?P<open>\((?:\?:)?)|(?P<close>\))
    |(?P<repeat>\{\d{1,3}(?:,\d{0,3})?\}|[*+?])
    |(?P<bar>\|)|(?P<anchor>[\^$])|(?P<plain>[^\\\[\](){}*+?|^$])""",
    re.VERBOSE,
)
_RANGE: Final = re.compile(r"(\\.|[^\\-])-(\\.|[^\\-])")
_CLASSES: Final = {"\\d": "[0-9]", "\\w": "[A-Za-z0-9_]"}


def plain_pattern(pattern: str) -> str:
    """Return a pattern in the form both engines read alike; raises `ValueError` with what is not taken.

    Taken: characters, `.`, sets and ranges, `\\d` and `\\w` (ASCII), groups, `|`, `^`, `$`, `* + ?` and `{m,n}` up to 100.
    """
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"the pattern is longer than {MAX_PATTERN} characters")
    made: list[str] = []
    counted = [False]
    """Whether a group that is open holds a counted repeat: repeated again, both engines would blow it up."""
    place, before = 0, "start"
    closed = False
    while place < len(pattern):
        found = _PART.match(pattern, place)
        if found is None or found.lastgroup is None:
            raise ValueError(f"`{pattern[place : place + 5]}` is not taken in a pattern")
        kind, text = found.lastgroup, found[0]
        if kind == "repeat":
            if before in {"start", "open", "bar", "repeat", "anchor"}:
                raise ValueError(f"`{text}` repeats nothing")
            if text[0] == "{":
                bounds = [int(one) for one in text[1:-1].split(",") if one]
                if max(bounds) > MAX_REPEATS or bounds[0] > bounds[-1]:
                    raise ValueError(f"`{text}` is no count up to {MAX_REPEATS}")
                if before == "close" and closed:
                    raise ValueError(f"`{text}` repeats what is counted already")
                counted[-1] = True
            elif before == "close" and closed:
                raise ValueError(f"`{text}` repeats what is counted already")
        elif kind == "open":
            counted.append(False)
            text = "(?:"
        elif kind == "close":
            if len(counted) == 1 or before in {"open", "bar"}:
                raise ValueError("a bracket is closed that holds nothing or was never opened")
            closed = counted.pop()
            counted[-1] = counted[-1] or closed
        elif kind == "bar" and before in {"start", "open", "bar"}:
            raise ValueError("`|` has nothing in front of it")
        elif kind == "set":
            text = _set(text)
        made.append(_CLASSES.get(text, text))
        place, before = found.end(), kind
    if len(counted) > 1 or before == "bar":
        raise ValueError("a bracket is never closed, or `|` has nothing behind it")
    return "".join(made)


def _set(text: str) -> str:
    for first, last in _RANGE.findall(text[1:-1]):
        if first[-1] > last[-1]:
            raise ValueError(f"`{first}-{last}` is no range")
    return text
