"""A mapping file as typed, checked values: header, pairs, code lists and what is left out on purpose."""

from __future__ import annotations

from collections.abc import Mapping as Table
from dataclasses import dataclass, field
from typing import Any, Literal

from mappings.engine.codes import CodeList, code_list
from mappings.engine.functions import FunctionPair, make_function
from mappings.engine.paths import Path, parse_path
from mappings.engine.source import Place, SourceFile, check_schema, read_yaml

Direction = Literal["to_dialect", "to_canonical"]
Kind = Literal["value", "object", "list", "use", "constant"]
UNSET: Any = object()


@dataclass(frozen=True, slots=True)
class Header:
    """Who a mapping is: name, version, canonical model class, dialect type, one sentence, source of its facts."""

    name: str
    version: str
    canonical: str
    dialect: str
    description: str
    source: str

    @property
    def reference(self) -> str:
        """`name@version`, as deliveries record it."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Condition:
    """A test of one place of the source object: value in `values`, or presence when `present` is set."""

    path: Path
    values: tuple[Any, ...] = ()
    present: bool | None = None
    codes: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """One entry of a mapping file; `place` is where it stands in the file."""

    kind: Kind
    place: Place
    canonical: Path | None
    dialect: Path | None
    also: tuple[Path, ...] = ()
    function: FunctionPair | None = None
    function_name: str = ""
    codes: str | None = None
    when: Table[str, tuple[Condition, ...]] = field(default_factory=dict)
    default: Table[str, Any] = field(default_factory=dict)
    constant: Any = UNSET
    required: str | None = None
    direction: str = "both"
    single: bool = False
    pairs: tuple[Pair, ...] = ()
    use: str | None = None
    drop_unless: tuple[str, ...] = ()

    def runs(self, direction: Direction) -> bool:
        """Tell whether the pair takes part in that direction."""
        if self.kind == "constant":
            return (self.dialect is not None) == (direction == "to_dialect")
        if self.direction not in ("both", direction):
            return False
        if self.function is not None:
            return (self.function.write if direction == "to_dialect" else self.function.read) is not None
        return True


@dataclass(frozen=True, slots=True)
class NotMapped:
    """A place left out on purpose."""

    side: Literal["canonical", "dialect"]
    path: Path
    why: str


@dataclass(frozen=True, slots=True)
class MappingFile:
    """Everything one mapping file says."""

    header: Header
    pairs: tuple[Pair, ...]
    code_lists: tuple[CodeList, ...]
    not_mapped: tuple[NotMapped, ...]
    source: SourceFile


def parse_mapping(name: str, data: bytes) -> MappingFile:
    """Read one mapping file; raises ConfigError `mapping-file-invalid` naming file, line and key."""
    return build_mapping(read_yaml(name, data))


def build_mapping(source: SourceFile) -> MappingFile:
    """Check a read file against the JSON Schema and build its values; errors as `parse_mapping`."""
    check_schema(source, "mapping.schema.json")
    content = source.content
    return MappingFile(
        header=Header(**content["mapping"]),
        pairs=_pairs(source, content["pairs"], ("pairs",)),
        code_lists=tuple(code_list(source, entry) for entry in content.get("code_lists", ())),
        not_mapped=tuple(
            NotMapped(
                "canonical" if "canonical" in entry else "dialect",
                _path(source, entry.get("canonical") or entry["dialect"], ("not_mapped", at)),
                entry["why"],
            )
            for at, entry in enumerate(content.get("not_mapped", ()))
        ),
        source=source,
    )


def _pairs(source: SourceFile, entries: list[dict[str, Any]], place: Place) -> tuple[Pair, ...]:
    return tuple(_pair(source, entry, (*place, at)) for at, entry in enumerate(entries))


def _path(source: SourceFile, text: str, place: Place) -> Path:
    try:
        return parse_path(text)
    except ValueError as wrong:
        raise source.error(place, str(wrong)) from None


def _conditions(source: SourceFile, entry: Any, place: Place) -> tuple[Condition, ...]:
    if isinstance(entry, list):
        return tuple(_condition(source, test, (*place, at)) for at, test in enumerate(entry))
    return (_condition(source, entry, place),)


def _condition(source: SourceFile, entry: dict[str, Any], place: Place) -> Condition:
    values = tuple(entry["in"]) if "in" in entry else (entry["equals"],) if "equals" in entry else ()
    return Condition(
        _path(source, entry["path"], (*place, "path")), values, entry.get("present"), entry.get("codes")
    )


def _pair(source: SourceFile, entry: dict[str, Any], place: Place) -> Pair:
    def path(key: str) -> Path | None:
        return _path(source, entry[key], (*place, key)) if key in entry else None

    kind: Kind = "value"
    children: tuple[Pair, ...] = ()
    if "constant" in entry:
        kind = "constant"
    elif "each" in entry:
        kind, children = "list", _pairs(source, entry["each"], (*place, "each"))
    elif "pairs" in entry:
        kind, children = "object", _pairs(source, entry["pairs"], (*place, "pairs"))
    elif "use" in entry:
        kind = "use"
    function, function_name = None, ""
    if "function" in entry:
        said = entry["function"]
        options = {} if isinstance(said, str) else {k: v for k, v in said.items() if k != "name"}
        function_name = said if isinstance(said, str) else said["name"]
        try:
            function = make_function(function_name, options)
        except ValueError as wrong:
            raise source.error((*place, "function"), str(wrong)) from None
        if "codes" in entry:
            raise source.error((*place, "codes"), "a pair has a function or a code list, not both")
    pair = Pair(
        kind=kind,
        place=place,
        canonical=path("canonical"),
        dialect=path("dialect"),
        also=tuple(
            _path(source, text, (*place, "also", at)) for at, text in enumerate(entry.get("also", ()))
        ),
        function=function,
        function_name=function_name,
        codes=entry.get("codes"),
        when={
            side: _conditions(source, tests, (*place, "when", side))
            for side, tests in entry.get("when", {}).items()
        },
        default=entry.get("default", {}),
        constant=entry.get("constant", UNSET),
        required=entry.get("required"),
        direction=entry.get("direction", "both"),
        single=entry.get("single", False),
        pairs=children,
        use=entry.get("use"),
        drop_unless=tuple(entry.get("drop_unless", ())),
    )
    _check_dots(source, pair)
    return pair


def _check_dots(source: SourceFile, pair: Pair) -> None:
    if pair.kind != "list":
        return
    for side, mine in (("canonical", pair.canonical), ("dialect", pair.dialect)):
        if mine is None or not mine.steps:
            raise source.error((*pair.place, side), "a list pair needs a key on both sides")
        dots = [c for c in pair.pairs if c.kind == "value" and not (getattr(c, side) or mine).steps]
        if dots and len(pair.pairs) > 1:
            raise source.error(
                (*pair.place, "each"),
                f"where the {side} item is a plain value ('.'), one pair is all there is",
            )
