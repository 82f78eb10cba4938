"""Paths of a mapping file: parsed once, turned into plain get and put closures.

A path is keys joined by dots. A key may carry one bracket: `address[0]` (that item of a list; `[-1]` is the last), `contacts[kind=phone]`
(the first item whose fields have these values; a list pair takes all of them) or `reg_records[one]` (one object; a
list that holds exactly one is read as well). The path `.` is the object itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

Getter = Callable[[Any], Any]
Putter = Callable[[dict[str, Any], Any], None]
Token = str | int

EMPTY_TYPES: Final = frozenset({str, list, dict, tuple, type(None)})
_SEGMENT = re.compile(r"^(?P<key>[@$A-Za-z_][@$\w:-]*)(\[(?P<bracket>[^\[\]]+)\])?$")
_CLAUSE = re.compile(r"^(?P<key>[@$A-Za-z_][@$\w-]*)=(?P<value>[^=,]+)$")


class Failure(Exception):  # internal; becomes a Refused with a pointer
    """A value could not be carried; `tokens` grow towards the root while the exception unwinds."""

    def __init__(self, reason: str, *, code: str = "mapping-failed", tokens: tuple[Token, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.tokens: tuple[Token, ...] = tokens

    def under(self, tokens: tuple[Token, ...]) -> Failure:
        """Return this failure, moved below `tokens`."""
        self.tokens = tokens + self.tokens
        return self


@dataclass(frozen=True, slots=True)
class Step:
    """One key of a path with its bracket, if any."""

    key: str
    index: int | None = None
    one: bool = False
    match: tuple[tuple[str, str], ...] = ()

    @property
    def plain(self) -> bool:
        """Whether the step is a key alone."""
        return self.index is None and not self.one and not self.match

    def __str__(self) -> str:
        if self.index is not None:
            return f"{self.key}[{self.index}]"
        if self.one:
            return f"{self.key}[one]"
        if self.match:
            return f"{self.key}[{','.join(f'{k}={v}' for k, v in self.match)}]"
        return self.key


@dataclass(frozen=True, slots=True)
class Path:
    """A parsed path; no steps mean the object itself."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return ".".join(map(str, self.steps)) or "."

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys without brackets, as the loss report compares them."""
        return tuple(step.key for step in self.steps)


def parse_path(text: str) -> Path:
    """Parse a path; raises ValueError with a sentence for the author of the file."""
    if text == ".":
        return Path(())
    steps = []
    for segment in re.split(r"\.(?![^\[]*\])", text):
        found = _SEGMENT.match(segment)
        if found is None:
            raise ValueError(f"'{segment}' is not a key, key[0], key[field=value] or key[one]")
        steps.append(_step(found["key"], found["bracket"]))
    return Path(tuple(steps))


def _step(key: str, bracket: str | None) -> Step:
    if bracket is None:
        return Step(key)
    if bracket == "one":
        return Step(key, one=True)
    if bracket.isdigit() or bracket == "-1":
        return Step(key, index=int(bracket))
    match = []
    for clause in bracket.split(","):
        found = _CLAUSE.match(clause.strip())
        if found is None:
            raise ValueError(f"'[{bracket}]' is not [0], [field=value] or [one]")
        match.append((found["key"], found["value"].strip()))
    return Step(key, match=tuple(match))


def is_empty(value: Any) -> bool:
    """Tell whether a value stands for "absent": null, empty text, empty list, empty object."""
    return not value and value.__class__ in EMPTY_TYPES


def matcher(match: tuple[tuple[str, str], ...]) -> Callable[[Any], bool]:
    """Return a test of one list item against `[field=value,...]`."""
    if len(match) == 1:
        ((key, wanted),) = match
        return lambda item: item.__class__ is dict and item.get(key) == wanted
    return lambda item: item.__class__ is dict and all(item.get(k) == v for k, v in match)


def _plain(key: str) -> Getter:
    def get(source: Any) -> Any:
        value = source.get(key)
        if value.__class__ is str:
            value = value.strip()
        if not value and value.__class__ in EMPTY_TYPES:
            return None
        return value

    return get


def _bracket(step: Step) -> Getter:
    key, index, one = step.key, step.index, step.one
    matches = matcher(step.match) if step.match else None

    def get(source: Any) -> Any:
        value = source.get(key)
        if is_empty(value):
            return None
        many = value.__class__ is list or value.__class__ is tuple
        if one:
            if many:
                if len(value) != 1:
                    raise Failure("one object was expected, a list of several was found", tokens=(key,))
                value = value[0]
        elif matches is not None:
            value = next((item for item in (value if many else (value,)) if matches(item)), None)
        elif many:
            value = value[index] if index < len(value) else None  # type: ignore[operator]
        elif index not in (0, -1):
            value = None
        return None if is_empty(value) else value

    return get


def getter(path: Path) -> Getter:
    """Return a closure that reads `path` below an object: the value, or None when it is absent or empty."""
    gets = [_plain(step.key) if step.plain else _bracket(step) for step in path.steps]
    if not gets:
        return _itself
    if len(gets) == 1:
        return gets[0]
    last = gets.pop()
    keys = path.keys

    def get(source: Any) -> Any:
        node = source
        for depth, step in enumerate(gets, start=1):
            node = step(node)
            if node is None:
                return None
            if node.__class__ is not dict:
                raise Failure("an object was expected", tokens=keys[:depth])
        return last(node)

    return get


def items_getter(path: Path) -> Getter:
    """Return a closure for a list pair: like `getter`, but the last step yields the whole list, unfiltered."""
    return getter(whole_list(path))


def whole_list(path: Path) -> Path:
    """Return the path of a list pair without the bracket of its last key."""
    return Path((*path.steps[:-1], Step(path.steps[-1].key))) if path.steps else path


def _itself(source: Any) -> Any:
    if source.__class__ is str:
        source = source.strip()
    return None if is_empty(source) else source


def _enter(step: Step) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a closure that goes down one step of the output, making what is not there yet."""
    key, index, match = step.key, step.index, step.match
    if index is None and not match:
        return lambda out: out.setdefault(key, {})
    matches = matcher(match)

    def enter(out: dict[str, Any]) -> dict[str, Any]:
        items: list[dict[str, Any]] = out.setdefault(key, [])
        if match:
            for item in items:
                if matches(item):
                    return item
        elif index is not None and index < len(items):
            return items[index]
        made = dict(match)
        items.append(made)
        return made

    return enter


def putter(path: Path) -> Putter:
    """Return a closure that writes a value at `path` below an object."""
    if not path.steps:
        return _merge
    *above, last = path.steps
    put = _put_last(last)
    enters = [_enter(step) for step in above]
    if not enters:
        return put
    if len(enters) == 1:
        enter = enters[0]
        return lambda out, value: put(enter(out), value)

    def put_deep(out: dict[str, Any], value: Any) -> None:
        for step in enters:
            out = step(out)
        put(out, value)

    return put_deep


def _merge(out: dict[str, Any], value: Any) -> None:
    """Write at `.`: an object is merged, a plain value (the item of a list) lands under the empty key."""
    if value.__class__ is dict:
        out.update(value)
    else:
        out[""] = value


def _put_last(step: Step) -> Putter:
    key = step.key
    if step.plain or step.one:

        def put(out: dict[str, Any], value: Any) -> None:
            if key in out and value.__class__ is dict:
                out[key].update(value)
            else:
                out[key] = value

        return put
    enter = _enter(step)

    def put_item(out: dict[str, Any], value: Any) -> None:
        if value.__class__ is dict:
            enter(out).update(value)
        else:
            out.setdefault(key, []).append(value)

    return put_item


def items_putter(path: Path) -> Putter:
    """Return a closure that writes the items of a list pair; `[field=value]` is set on each, and the list is shared."""
    *above, last = path.steps
    enters = [_enter(step) for step in above]
    key, match = last.key, last.match

    def put(out: dict[str, Any], items: list[Any]) -> None:
        for step in enters:
            out = step(out)
        if match:
            for item in items:
                item.update(match)
        if key in out:
            out[key].extend(items)
        else:
            out[key] = items

    return put


def locate(path: Path, document: Any) -> tuple[Token, ...]:
    """Return the tokens at which `path` is found in a document, with real list positions; slow, for reports."""
    tokens: list[Token] = []
    node = document
    for step in path.steps:
        tokens.append(step.key)
        node = node.get(step.key) if isinstance(node, dict) else None
        if isinstance(node, list | tuple) and not step.plain:
            wanted = matcher(step.match) if step.match else None
            place = len(node) - 1 if step.index == -1 else step.index or 0
            if wanted is not None:
                place = next((at for at, item in enumerate(node) if wanted(item)), len(node))
            tokens.append(place)
            node = node[place] if place < len(node) else None
    return tuple(tokens)


def pointer(tokens: tuple[Token, ...]) -> str:
    """Return the JSON Pointer (RFC 6901) of some tokens."""
    return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in tokens)
