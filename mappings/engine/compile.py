"""Pairs turned once into plain closures, one tree per direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from mappings.engine.codes import CodeList
from mappings.engine.parse import UNSET, Condition, Direction, MappingFile, Pair
from mappings.engine.paths import (
    EMPTY_TYPES,
    Failure,
    Getter,
    Path,
    Putter,
    getter,
    items_getter,
    items_putter,
    locate,
    matcher,
    putter,
    whole_list,
)
from mappings.engine.source import SourceFile

Op = Callable[[dict[str, Any], dict[str, Any]], None]
Convert = Callable[[Any], Any]
Test = Callable[[Any], bool]
_SELF = Path(())
_NESTED = frozenset({dict, list, tuple})
_FUNCTION_FAULTS = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError)


@dataclass(slots=True)
class Node:
    """One compiled pair of one direction: its closure, and what the trace needs to explain it."""

    pair: Pair
    op: Op
    sources: tuple[Path, ...]
    target: Path
    via: str
    test: Test | None = None
    needed: frozenset[str] = frozenset()
    children: tuple[Node, ...] = ()
    item_test: Test | None = None


class Environment(Protocol):
    """What a compilation looks up by name: code lists and other mappings."""

    def code_list(self, name: str) -> CodeList | None:
        """Return the code list of that name."""

    def used(self, reference: str) -> MappingFile | None:
        """Return the mapping file of that `name` or `name@version`."""


@dataclass(slots=True)
class Compiler:
    """Compiles the pairs of one file for one direction; errors name the place in the file."""

    source: SourceFile
    direction: Direction
    environment: Environment
    own_lists: dict[str, CodeList]
    using: tuple[str, ...] = ()

    def nodes(self, pairs: tuple[Pair, ...]) -> tuple[Node, ...]:
        """Return the compiled pairs that take part in the direction."""
        made: list[Node] = []
        for pair in pairs:
            if pair.runs(self.direction):
                node = self.node(pair)
                # A group at the same place on both sides adds nothing but its children.
                flat = stays(pair) and not node.test and not node.needed and not pair.required
                made.extend(node.children if flat else (node,))
        return tuple(made)

    def node(self, pair: Pair) -> Node:
        """Compile one pair with its condition."""
        make = {"object": self._object, "use": self._object, "list": self._list, "constant": self._constant}
        node = make.get(pair.kind, self._value)(pair)
        side = "canonical" if self.direction == "to_dialect" else "dialect"
        if side in pair.when:
            node.test = test = self._tests(pair.when[side], (*pair.place, "when", side))
            node.op = _guarded(test, node.op)
        return node

    def code_list(self, name: str, place: tuple[str | int, ...]) -> CodeList:
        """Return a code list of the file itself or of the store; raises ConfigError when there is none."""
        found = self.own_lists.get(name) or self.environment.code_list(name)
        if found is None:
            raise self.source.error(place, f"there is no code list '{name}'")
        return found

    def convert(self, pair: Pair) -> tuple[Convert, str]:
        """Return the conversion of a value pair and how the trace names it."""
        if pair.function is not None:
            found = pair.function.write if self.direction == "to_dialect" else pair.function.read
            assert found is not None  # Pair.runs left one-way functions out
            return found, f"function {pair.function_name}"
        if pair.codes is not None:
            codes = self.code_list(pair.codes, (*pair.place, "codes"))
            return (
                codes.writer() if self.direction == "to_dialect" else codes.reader()
            ), f"codes {pair.codes}"
        return _plain_value, "copy"

    def _sides(self, pair: Pair) -> tuple[tuple[Path, ...], Path]:
        canonical, dialect = pair.canonical or _SELF, pair.dialect or _SELF
        if self.direction == "to_dialect":
            return (canonical,), dialect
        return (dialect, *pair.also), canonical

    def _value(self, pair: Pair) -> Node:
        sources, target = self._sides(pair)
        convert, via = self.convert(pair)
        required = pair.required in ("both", self.direction)
        default = pair.default.get("dialect" if self.direction == "to_dialect" else "canonical", UNSET)
        op = _value_op(sources, target, convert, default, required)
        return Node(pair, op, sources, target, via)

    def _constant(self, pair: Pair) -> Node:
        target = pair.dialect if self.direction == "to_dialect" else pair.canonical
        put, constant = putter(target or _SELF), pair.constant

        def op(_source: dict[str, Any], out: dict[str, Any]) -> None:
            put(out, constant)

        return Node(pair, op, (), target or _SELF, "constant")

    def _children(self, pair: Pair) -> tuple[Node, ...]:
        if pair.use is None:
            return self.nodes(pair.pairs)
        used = self.environment.used(pair.use)
        if used is None:
            raise self.source.error((*pair.place, "use"), f"there is no mapping '{pair.use}'")
        if used.header.name in self.using:
            raise self.source.error((*pair.place, "use"), f"'{pair.use}' would use itself")
        own = {found.name: found for found in used.code_lists}
        inner = Compiler(used.source, self.direction, self.environment, own, (*self.using, used.header.name))
        return inner.nodes(used.pairs)

    def _object(self, pair: Pair) -> Node:
        sources, target = self._sides(pair)
        children = self._children(pair)
        if stays(pair) and not self._needed(pair):
            group = Node(
                pair, _group_op(tuple(c.op for c in children)), sources, target, "", children=children
            )
            group.via = f"mapping {pair.use}" if pair.use else ""
            return group
        get, put = _first(sources), putter(target)
        required = pair.required in ("both", self.direction)
        op = _object_op(get, put, tuple(c.op for c in children), sources, required, self._needed(pair))
        via = f"mapping {pair.use}" if pair.use else ""
        return Node(pair, op, sources, target, via, needed=self._needed(pair), children=children)

    def _needed(self, pair: Pair) -> frozenset[str]:
        return frozenset(pair.drop_unless if self.direction == "to_canonical" else ())

    def _list(self, pair: Pair) -> Node:
        sources, target = self._sides(pair)
        children = self.nodes(pair.pairs)
        get = _first(sources, items_getter)
        match = sources[0].steps[-1].match
        item_test = matcher(match) if match else None
        plain = next((c for c in children if not c.target.steps and c.pair.kind == "value"), None)
        item = _plain_item(plain) if plain is not None else _object_item(children, self._needed(pair))
        required = pair.required in ("both", self.direction)
        single = pair.single and self.direction == "to_canonical"
        op = _list_op(
            get, items_putter(target), item, item_test, tuple(map(whole_list, sources)), required, single
        )
        return Node(
            pair, op, sources, target, "", needed=self._needed(pair), children=children, item_test=item_test
        )

    def _tests(self, conditions: tuple[Condition, ...], place: tuple[str | int, ...]) -> Test:
        tests = tuple(self._test(condition, place) for condition in conditions)
        if len(tests) == 1:
            return tests[0]
        return lambda source: all(test(source) for test in tests)

    def _test(self, condition: Condition, place: tuple[str | int, ...]) -> Test:
        get, wanted = getter(condition.path), condition.present
        if wanted is not None:
            return lambda source: (get(source) is not None) is wanted
        values = condition.values
        if condition.codes is None:
            return lambda source: get(source) in values
        codes = self.code_list(condition.codes, (*place, "codes"))
        read = codes.reader() if self.direction == "to_canonical" else codes.writer()

        def test(source: Any) -> bool:
            value = get(source)
            return value is not None and read(value) in values

        return test


def stays(pair: Pair) -> bool:
    """Tell whether an object pair stands at `.` on both sides."""
    if pair.kind not in ("object", "use") or pair.canonical is None or pair.dialect is None:
        return False
    return not pair.canonical.steps and not pair.dialect.steps and not pair.also


def _group_op(ops: tuple[Op, ...]) -> Op:
    def op(source: dict[str, Any], out: dict[str, Any]) -> None:
        for child in ops:
            child(source, out)

    return op


def _plain_value(value: Any) -> Any:
    if value.__class__ in _NESTED:
        raise Failure("a plain value was expected, not an object or a list")
    return value


def _guarded(test: Test, op: Op) -> Op:
    def guarded(source: dict[str, Any], out: dict[str, Any]) -> None:
        if test(source):
            op(source, out)

    return guarded


def _first(paths: tuple[Path, ...], make: Callable[[Path], Getter] = getter) -> Getter:
    gets = tuple(make(path) for path in paths)
    if len(gets) == 1:
        return gets[0]

    def get(source: Any) -> Any:
        for one in gets:
            value = one(source)
            if value is not None:
                return value
        return None

    return get


def _where(paths: tuple[Path, ...], source: Any) -> tuple[str | int, ...]:
    """Return the tokens of the spelling that was found, for a pointer; only walked once something failed."""
    for path in paths:
        if getter(path)(source) is not None:
            return locate(path, source)
    return locate(paths[0], source)


def _value_op(sources: tuple[Path, ...], target: Path, convert: Convert, default: Any, required: bool) -> Op:
    get, put = _first(sources), putter(target)

    def missing(source: Any, out: dict[str, Any]) -> None:
        if default is not UNSET:
            put(out, default)
        elif required:
            raise Failure("a value is required here", tokens=locate(sources[0], source))

    def failed(failure: Exception, source: Any) -> Failure:
        if not isinstance(failure, Failure):
            # The text of a foreign exception may carry the value, so only its class is told.
            failure = Failure(f"the function could not carry this value ({type(failure).__name__})")
        return failure.under(_where(sources, source))

    step, last = sources[0].steps, target.steps
    if len(sources) == len(step) == len(last) == 1 and step[0].plain and last[0].plain:
        source_key, target_key = step[0].key, last[0].key
        absent = default is not UNSET or required

        def quick(source: dict[str, Any], out: dict[str, Any]) -> None:
            value = source.get(source_key)
            if value.__class__ is str:
                value = value.strip()
            if not value and value.__class__ in EMPTY_TYPES:
                if absent:
                    missing(source, out)
                return
            try:
                out[target_key] = convert(value)
            except (Failure, *_FUNCTION_FAULTS) as failure:
                raise failed(failure, source) from None

        return quick

    def op(source: dict[str, Any], out: dict[str, Any]) -> None:
        value = get(source)
        if value is None:
            missing(source, out)
            return
        try:
            value = convert(value)
        except (Failure, *_FUNCTION_FAULTS) as failure:
            raise failed(failure, source) from None
        put(out, value)

    return op


def _object_op(
    get: Getter,
    put: Putter,
    ops: tuple[Op, ...],
    sources: tuple[Path, ...],
    required: bool,
    needed: frozenset[str],
) -> Op:
    def op(source: dict[str, Any], out: dict[str, Any]) -> None:
        inner = get(source)
        if inner is None:
            if required:
                raise Failure("an object is required here", tokens=locate(sources[0], source))
            return
        if inner.__class__ is not dict:
            raise Failure("an object was expected", tokens=_where(sources, source))
        made: dict[str, Any] = {}
        try:
            for child in ops:
                child(inner, made)
        except Failure as failure:
            raise failure.under(_where(sources, source)) from None
        if made and needed <= made.keys():
            put(out, made)

    return op


def _object_item(children: tuple[Node, ...], needed: frozenset[str]) -> Convert:
    ops = tuple(child.op for child in children)
    takes_plain = all(not path.steps for child in children for path in child.sources)

    def item(value: Any) -> Any:
        if value.__class__ is not dict and not takes_plain:
            raise Failure("an object was expected")
        made: dict[str, Any] = {}
        for op in ops:
            op(value, made)
        return made if needed <= made.keys() else None

    return item


def _plain_item(node: Node) -> Convert:
    """Return the conversion of items that become plain values: the child's `.` lands under the empty key."""
    op, needs_object = node.op, bool(node.sources[0].steps)

    def item(value: Any) -> Any:
        if needs_object and value.__class__ is not dict:
            raise Failure("an object was expected")
        made: dict[str, Any] = {}
        op(value, made)
        return made.get("", made)

    return item


def _list_op(
    get: Getter,
    put: Callable[[dict[str, Any], list[Any]], None],
    item: Convert,
    item_test: Test | None,
    sources: tuple[Path, ...],
    required: bool,
    single: bool,
) -> Op:
    def op(source: dict[str, Any], out: dict[str, Any]) -> None:
        items = get(source)
        made: list[Any] = []
        if items is not None:
            lone = items.__class__ is not list and items.__class__ is not tuple
            if lone and not single:
                raise Failure("a list was expected", tokens=_where(sources, source))
            for at, value in enumerate((items,) if lone else items):
                if (not value and value.__class__ in EMPTY_TYPES) or (
                    item_test is not None and not item_test(value)
                ):
                    continue
                try:
                    found = item(value)
                except Failure as failure:
                    above = _where(sources, source)
                    raise failure.under(above if lone else (*above, at)) from None
                if found or found.__class__ not in EMPTY_TYPES:
                    made.append(found)
        if made:
            put(out, made)
        elif required:
            raise Failure("a list with at least one item is required here", tokens=locate(sources[0], source))

    return op
