"""Where each field of an output came from, and through what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mappings.engine.compile import Node, stays
from mappings.engine.paths import Path, Token, is_empty, locate, pointer, whole_list

Tokens = tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """One output field: its JSON Pointer, the pointer it came from (None for a fixed value), and through what."""

    output: str
    source: str | None
    via: str


@dataclass(slots=True)
class Trace:
    """The output of a mapping, the origin of every field in it, and pointers of source fields that went nowhere."""

    output: dict[str, Any]
    origins: list[Origin] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Note:
    output: Tokens
    source: Tokens | None
    via: str


def trace_nodes(nodes: tuple[Node, ...], document: dict[str, Any]) -> Trace:
    """Run compiled pairs one at a time and note what each wrote; the document must be one the mapping accepts."""
    output: dict[str, Any] = {}
    latest: dict[Tokens, _Note] = {}
    for note in _walk(nodes, document, (), output):
        latest[note.output] = note
    used = {note.source for note in latest.values() if note.source is not None}
    origins = [
        Origin(pointer(note.output), None if note.source is None else pointer(note.source), note.via)
        for note in latest.values()
    ]
    leaves = _leaves(document, ())
    unused = [pointer(leaf) for leaf in leaves if not any(leaf[: len(place)] == place for place in used)]
    return Trace(output, origins, unused)


def _walk(nodes: tuple[Node, ...], source: Any, above: Tokens, out: dict[str, Any]) -> list[_Note]:
    notes: list[_Note] = []
    for node in nodes:
        if node.test is not None and not node.test(source):
            continue
        if node.pair.kind in ("object", "use"):
            notes += _object(node, source, above, out)
        elif node.pair.kind == "list":
            notes += _list(node, source, above, out)
        else:
            notes += _value(node, source, above, out)
    return notes


def _found(node: Node, source: Any) -> Tokens | None:
    for path in node.sources:
        tokens = locate(whole_list(path) if node.pair.kind == "list" else path, source)
        if not is_empty(_at(source, tokens)):
            return tokens
    return None


def _value(node: Node, source: Any, above: Tokens, out: dict[str, Any]) -> list[_Note]:
    place = _found(node, source)
    node.op(source, out)
    where = locate(node.target, out) or ("",)
    if _at(out, where) is None:
        return []
    if place is not None:
        return [*_marks(node, out), _Note(where, above + place, node.via)]
    if node.pair.kind == "constant" or node.pair.default:
        return [_Note(where, None, node.via if node.pair.kind == "constant" else "default")]
    return []


def _object(node: Node, source: Any, above: Tokens, out: dict[str, Any]) -> list[_Note]:
    if stays(node.pair) and not node.needed:
        return _walk(node.children, source, above, out)
    place = _found(node, source)
    if place is None:
        return []
    made: dict[str, Any] = {}
    notes = _walk(node.children, _at(source, place), above + place, made)
    if not made or not node.needed <= made.keys():
        return []
    node.op(source, out)
    where = locate(node.target, out)
    return _marks(node, out) + [_Note(where + note.output, note.source, note.via) for note in notes]


def _marks(node: Node, out: dict[str, Any]) -> list[_Note]:
    """Note the fields a `[field=value]` in the path of a single value has set."""
    notes: list[_Note] = []
    for depth, step in enumerate(node.target.steps, start=1):
        above = locate(Path(node.target.steps[:depth]), out)
        notes += [_Note((*above, key), None, "constant") for key, _ in step.match]
    return notes


def _list(node: Node, source: Any, above: Tokens, out: dict[str, Any]) -> list[_Note]:
    place = _found(node, source)
    if place is None:
        return []
    found = _at(source, place)
    lone = not isinstance(found, list | tuple)
    items = [(place, found)] if lone else [((*place, at), item) for at, item in enumerate(found)]
    where = locate(whole_list(node.target), out)
    at = len(_at(out, where) or ())
    notes: list[_Note] = []
    for tokens, item in items:
        if is_empty(item) or (node.item_test is not None and not node.item_test(item)):
            continue
        made: dict[str, Any] = {}
        inner = _walk(node.children, item, above + tokens, made)
        if not made or not node.needed <= made.keys():
            continue
        notes += [_Note((*where, at, key), None, "constant") for key, _ in node.target.steps[-1].match]
        for note in inner:
            output = () if note.output == ("",) else note.output
            notes.append(_Note((*where, at, *output), note.source, note.via))
        at += 1
    node.op(source, out)
    return notes


def _at(document: Any, tokens: Tokens) -> Any:
    for token in tokens:
        if isinstance(document, dict):
            document = document.get(token)
        elif isinstance(document, list | tuple) and isinstance(token, int) and token < len(document):
            document = document[token]
        else:
            return None
    return document


def _leaves(value: Any, above: Tokens) -> list[Tokens]:
    if is_empty(value):
        return []
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, (*above, key))]
    if isinstance(value, list | tuple):
        return [leaf for at, item in enumerate(value) for leaf in _leaves(item, (*above, at))]
    return [above]
