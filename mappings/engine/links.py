"""The leaves a mapping ties together: every value pair with its full path on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from mappings.engine.codes import CodeList
from mappings.engine.compile import Environment
from mappings.engine.parse import MappingFile, Pair
from mappings.engine.paths import Step

Steps = tuple[Step, ...]
Side = Literal["canonical", "dialect"]


@dataclass(frozen=True, slots=True)
class Link:
    """One value pair: full steps of both sides, where it runs, under which conditions, through what."""

    pair: Pair
    canonical: Steps | None
    dialect: Steps | None
    writes: bool
    reads: bool
    conditional: bool
    codes: CodeList | None
    aliases: tuple[Steps, ...] = ()


@dataclass(frozen=True, slots=True)
class _Above:
    canonical: Steps = ()
    dialect: Steps = ()
    writes: bool = True
    reads: bool = True
    conditional: bool = False


def links(file: MappingFile, environment: Environment) -> Iterator[Link]:
    """Yield every value and constant pair of a mapping, those of nested pairs and used mappings included."""
    yield from _links(file, file.pairs, environment, _Above())


def _links(
    file: MappingFile, pairs: tuple[Pair, ...], environment: Environment, above: _Above
) -> Iterator[Link]:
    own = {found.name: found for found in file.code_lists}
    for pair in pairs:
        canonical = None if pair.canonical is None else above.canonical + pair.canonical.steps
        dialect = None if pair.dialect is None else above.dialect + pair.dialect.steps
        here = replace(
            above,
            canonical=canonical or (),
            dialect=dialect or (),
            writes=above.writes and pair.runs("to_dialect"),
            reads=above.reads and pair.runs("to_canonical"),
            conditional=above.conditional or bool(pair.when),
        )
        if pair.kind in ("object", "list"):
            yield from _links(file, pair.pairs, environment, here)
        elif pair.kind == "use":
            used = environment.used(pair.use or "")
            if used is not None:
                yield from _links(used, used.pairs, environment, here)
        else:
            codes = None if pair.codes is None else own.get(pair.codes) or environment.code_list(pair.codes)
            yield Link(
                pair,
                canonical,
                dialect,
                here.writes,
                here.reads,
                here.conditional,
                codes,
                tuple(above.dialect + path.steps for path in pair.also),
            )


def left_out(file: MappingFile, environment: Environment) -> Iterator[tuple[Side, tuple[str, ...], str]]:
    """Yield side, keys and reason of every `not_mapped` entry, those of used mappings included."""
    yield from _left_out(file, file.pairs, environment, (), (), own=True)


def _left_out(
    file: MappingFile,
    pairs: tuple[Pair, ...],
    environment: Environment,
    canonical: tuple[str, ...],
    dialect: tuple[str, ...],
    *,
    own: bool,
) -> Iterator[tuple[Side, tuple[str, ...], str]]:
    if own:
        for entry in file.not_mapped:
            yield (
                entry.side,
                (canonical if entry.side == "canonical" else dialect) + entry.path.keys,
                entry.why,
            )
    for pair in pairs:
        here = canonical + (pair.canonical.keys if pair.canonical else ())
        there = dialect + (pair.dialect.keys if pair.dialect else ())
        if pair.kind in ("object", "list"):
            yield from _left_out(file, pair.pairs, environment, here, there, own=False)
        elif pair.kind == "use" and (used := environment.used(pair.use or "")) is not None:
            yield from _left_out(used, used.pairs, environment, here, there, own=True)
