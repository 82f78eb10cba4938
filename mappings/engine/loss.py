"""The loss report: what does not survive a round trip through a mapping, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from mappings.engine.links import Link, Side, Steps, left_out, links
from mappings.engine.mapping import Mapping
from mappings.engine.model import Leaf, leaves, models
from mappings.engine.parse import MappingFile
from mappings.engine.paths import matcher

Reason = Literal[
    "not mapped", "one-way", "condition", "function", "codes", "part of a list", "constant", "spelling"
]


@dataclass(frozen=True, slots=True)
class Loss:
    """One field that does not survive: its side, its path without brackets, the reason, and a sentence.

    `values` narrows the loss to these values. `kept` narrows it to list items: `first` (the others are lost) or tuples
    of the `field=value` of items that survive, which come back in that order.
    """

    side: Side
    path: str
    reason: Reason
    detail: str
    values: tuple[str, ...] = ()
    kept: Literal["first", "last"] | tuple[tuple[tuple[str, str], ...], ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the loss as plain JSON values."""
        made: dict[str, Any] = {"path": self.path, "reason": self.reason, "detail": self.detail}
        if self.values:
            made["values"] = list(self.values)
        return made


@dataclass(frozen=True, slots=True)
class LossReport:
    """What a mapping loses on canonical → dialect → canonical and on dialect → canonical → dialect."""

    mapping: str
    canonical: tuple[Loss, ...]
    dialect: tuple[Loss, ...]
    problems: tuple[str, ...] = field(default=())
    """Pairs that name a canonical field the model does not have, and `not_mapped` entries that are mapped."""

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "mapping": self.mapping,
            "canonical": [loss.as_dict() for loss in self.canonical],
            "dialect": [loss.as_dict() for loss in self.dialect],
            "problems": list(self.problems),
        }

    def surviving(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return a canonical document without what is listed as lost: what must come back unchanged.

        List items that survive are put in the order they come back in.
        """
        pruned = _without_empty(document)
        for loss in self.canonical:
            _prune(pruned, tuple(loss.path.split(".")), loss)
        return _without_empty(pruned)  # type: ignore[no-any-return]


def loss_report(mapping: Mapping) -> LossReport:
    """Work out from the file and the canonical model what a mapping loses; nothing is run."""
    found = list(links(mapping.file, mapping.environment))
    model = models().get(mapping.header.canonical)
    whys: dict[str, dict[tuple[str, ...], str]] = {"canonical": {}, "dialect": {}}
    for side, keys, why in left_out(mapping.file, mapping.environment):
        whys[side].setdefault(keys, why)
    problems: list[str] = []
    canonical: list[Loss] = []
    if model is None:
        problems.append(f"there is no canonical model '{mapping.header.canonical}'")
    else:
        all_leaves = leaves(model)
        problems += _strangers(found, all_leaves)
        canonical = _canonical(found, all_leaves, whys["canonical"])
    problems += _mapped_after_all(mapping.file, found)
    return LossReport(
        mapping.header.reference, tuple(canonical), tuple(_dialect(found, whys["dialect"])), tuple(problems)
    )


def _keys(steps: Steps | None) -> tuple[str, ...]:
    return tuple(step.key for step in steps or ())


def _strangers(found: list[Link], all_leaves: list[Leaf]) -> list[str]:
    known = {leaf.keys[:depth] for leaf in all_leaves for depth in range(1, len(leaf.keys) + 1)}
    open_ended = {leaf.keys for leaf in all_leaves}
    problems = []
    for link in found:
        keys = _keys(link.canonical)
        inside = any(keys[:depth] in open_ended for depth in range(1, len(keys)))
        if keys and keys not in known and not inside:
            problems.append(f"the model has no field '{'.'.join(keys)}'")
    return list(dict.fromkeys(problems))


def _mapped_after_all(file: MappingFile, found: list[Link]) -> list[str]:
    problems = []
    for entry in file.not_mapped:
        mapped = {_keys(link.canonical if entry.side == "canonical" else link.dialect) for link in found}
        if entry.path.keys in mapped:
            problems.append(f"'{entry.path}' is mapped, though not_mapped lists it")
    return problems


def _canonical(found: list[Link], all_leaves: list[Leaf], whys: dict[tuple[str, ...], str]) -> list[Loss]:
    by_keys: dict[tuple[str, ...], list[Link]] = defaultdict(list)
    for link in found:
        by_keys[_keys(link.canonical)].append(link)
    losses: list[Loss] = []
    list_losses: dict[str, Loss] = {}
    for leaf in all_leaves:
        mine = by_keys.get(leaf.keys) or _marks(leaf, found)
        losses += _leaf_losses(leaf, mine, whys)
        for loss in _list_losses(leaf, mine):
            list_losses.setdefault(loss.path, loss)
    return _folded(losses, all_leaves) + list(list_losses.values())


def _marks(leaf: Leaf, found: list[Link]) -> list[Link]:
    """Return the links whose `[field=value]` says this leaf: the kind of a contact point is said by its list."""
    marks = []
    for link in found:
        for depth, step in enumerate(link.canonical or (), start=1):
            base = _keys((link.canonical or ())[:depth])
            if any((*base, key) == leaf.keys for key, _ in step.match):
                marks.append(link)
    return marks


def _leaf_losses(leaf: Leaf, mine: list[Link], whys: dict[tuple[str, ...], str]) -> list[Loss]:
    path = ".".join(leaf.keys)
    if not mine:
        why = next((whys[leaf.keys[:n]] for n in range(len(leaf.keys), 0, -1) if leaf.keys[:n] in whys), "")
        return [Loss("canonical", path, "not mapped", why or "no pair names it")]
    both = [link for link in mine if link.writes and link.reads]
    if not both:
        writes = any(link.writes for link in mine)
        return [
            Loss("canonical", path, "one-way", f"only {'written to' if writes else 'read from'} the dialect")
        ]
    steady = [link for link in both if not link.conditional]
    if not steady or any(link.conditional for link in mine):
        return [Loss("canonical", path, "condition", "carried only when the condition of its pair holds")]
    lossless = [
        link for link in steady if link.pair.function is None or link.pair.function.canonical_survives
    ]
    if not lossless:
        return [
            Loss(
                "canonical", path, "function", steady[0].pair.function.note if steady[0].pair.function else ""
            )
        ]
    codes = lossless[0].codes
    if codes is None:
        return []
    merged = codes.canonical_lost()
    losses = []
    if merged:
        losses.append(Loss("canonical", path, "codes", f"many-to-one in {codes.name}", values=merged))
    known = codes.write_table()
    missing = tuple(value for value in leaf.values if value not in known)
    if missing and not codes.pass_through:
        losses.append(Loss("canonical", path, "codes", f"no code in {codes.name}", values=missing))
    return losses


def _list_losses(leaf: Leaf, mine: list[Link]) -> Iterable[Loss]:
    """Yield what is lost because a pair takes one item of a list, or only items of some kinds."""
    for place in sorted(leaf.lists):
        depth = len(place)
        steps = [
            link.canonical[depth - 1] for link in mine if link.canonical and len(link.canonical) >= depth
        ]
        both = [
            link.canonical[depth - 1]
            for link in mine
            if link.canonical and len(link.canonical) >= depth and link.writes and link.reads
        ]
        path = ".".join(place)
        if any(step.index is not None or step.one for step in steps):
            last = any(step.index == -1 for step in steps)
            word: Literal["first", "last"] = "last" if last else "first"
            yield Loss("canonical", path, "part of a list", f"only the {word} item is mapped", kept=word)
        elif any(step.match for step in both):
            kinds = tuple(dict.fromkeys(step.match for step in both))
            said = " and ".join(", ".join(f"{k}={v}" for k, v in kind) for kind in kinds)
            detail = f"only items with {said} come back, in that order"
            yield Loss("canonical", path, "part of a list", detail, kept=kinds)


def _folded(losses: list[Loss], all_leaves: list[Leaf]) -> list[Loss]:
    """Say "accounts" once instead of every field below it, where all of them are lost for the same reason."""
    whole = {(loss.path, loss.reason, loss.detail) for loss in losses if not loss.values}
    made: dict[tuple[str, str], Loss] = {}
    for loss in losses:
        path = loss.path
        if not loss.values:
            keys = tuple(path.split("."))
            for depth in range(1, len(keys)):
                prefix = keys[:depth]
                below = [".".join(leaf.keys) for leaf in all_leaves if leaf.keys[:depth] == prefix]
                if all((each, loss.reason, loss.detail) in whole for each in below):
                    path = ".".join(prefix)
                    break
        key = (path, ",".join(loss.values))
        made.setdefault(key, Loss(loss.side, path, loss.reason, loss.detail, loss.values, loss.kept))
    return list(made.values())


def _dialect(found: list[Link], whys: dict[tuple[str, ...], str]) -> list[Loss]:
    losses: dict[tuple[str, str], Loss] = {}

    def lose(steps: Steps | None, reason: Reason, detail: str, values: tuple[str, ...] = ()) -> None:
        path = ".".join(_keys(steps)) or "."
        losses.setdefault((path, reason), Loss("dialect", path, reason, detail, values))

    steady = {_keys(link.dialect) for link in found if link.writes and link.reads and not link.conditional}
    for link in found:
        if link.dialect is None:
            continue
        function = link.pair.function
        if link.pair.kind == "constant":
            lose(link.dialect, "constant", "always written as the same value")
        elif _keys(link.dialect) in steady:
            pass
        elif not (link.writes and link.reads):
            lose(link.dialect, "one-way", "only written" if link.writes else "only read")
        elif link.conditional:
            lose(link.dialect, "condition", "carried only when the condition of its pair holds")
        if function is not None and link.reads and not function.dialect_survives:
            lose(link.dialect, "function", function.note)
        if link.codes is not None:
            merged = link.codes.dialect_lost()
            if merged:
                lose(link.dialect, "codes", f"many-to-one in {link.codes.name}", merged)
            elif link.codes.ignore_case or link.codes.prefixed or link.codes.labels:
                lose(link.dialect, "spelling", f"other spellings of a code of {link.codes.name} are unified")
        for alias in link.aliases:
            lose(alias, "spelling", f"read as {'.'.join(_keys(link.dialect))} and written so")
    for keys, why in whys.items():
        losses.setdefault((".".join(keys), "not mapped"), Loss("dialect", ".".join(keys), "not mapped", why))
    return list(losses.values())


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        made = {key: _without_empty(item) for key, item in value.items()}
        return {key: item for key, item in made.items() if item not in (None, "", [], {})}
    if isinstance(value, list | tuple):
        return [item for item in map(_without_empty, value) if item not in (None, "", [], {})]
    return value


def _prune(node: Any, keys: tuple[str, ...], loss: Loss) -> None:
    if isinstance(node, list):
        for item in node:
            _prune(item, keys, loss)
        return
    if not isinstance(node, dict) or keys[0] not in node:
        return
    if len(keys) > 1:
        _prune(node[keys[0]], keys[1:], loss)
    elif loss.kept == "first":
        node[keys[0]] = node[keys[0]][:1]
    elif loss.kept == "last":
        node[keys[0]] = node[keys[0]][-1:]
    elif loss.kept is not None:
        node[keys[0]] = [item for kind in loss.kept for item in node[keys[0]] if matcher(kind)(item)]
    elif not loss.values:
        del node[keys[0]]
    elif isinstance(node[keys[0]], list):
        node[keys[0]] = [item for item in node[keys[0]] if item not in loss.values]
    elif node[keys[0]] in loss.values:
        del node[keys[0]]
