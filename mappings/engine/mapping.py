"""A compiled mapping: canonical to dialect and back, with errors that point at the place and never show a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from canonical_model.errors import Refused
from mappings.engine.compile import Compiler, Environment, Node, Op
from mappings.engine.parse import Direction, Header, MappingFile, Pair
from mappings.engine.paths import Failure, pointer
from mappings.engine.trace import Trace, trace_nodes

_REMEDY = "Correct the document at that place, or the mapping; `hub mapping try` shows where each field goes."


class Mapping:
    """One mapping file, compiled for both directions when it is made.

    Documents are plain JSON objects: the canonical side is `model_dump(mode="json")` of the canonical model. Absent,
    null, empty text, empty list and empty object all mean "no value", and none of them is written.
    """

    def __init__(self, file: MappingFile, environment: Environment) -> None:
        """Compile a parsed file; raises ConfigError `mapping-file-invalid` for a name that leads nowhere."""
        self.file = file
        self.header: Header = file.header
        self.environment = environment
        own = {found.name: found for found in file.code_lists}
        self._nodes: dict[Direction, tuple[Node, ...]] = {}
        for direction in ("to_dialect", "to_canonical"):
            compiler = Compiler(file.source, direction, environment, own, (file.header.name,))
            self._nodes[direction] = compiler.nodes(file.pairs)
        self.to_dialect = self._runner("to_dialect")
        self.to_canonical = self._runner("to_canonical")

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs of the file, in its order."""
        return self.file.pairs

    def convert(self, document: dict[str, Any], direction: Direction) -> dict[str, Any]:
        """Run the mapping in the direction given; raises Refused as `to_dialect` and `to_canonical` do."""
        return self.to_dialect(document) if direction == "to_dialect" else self.to_canonical(document)

    def trace(self, document: dict[str, Any], direction: Direction) -> Trace:
        """Run the mapping slowly and say of each output field where it came from and through what; raises Refused."""
        self.convert(document, direction)
        return trace_nodes(self._nodes[direction], document)

    def _runner(self, direction: Direction) -> Callable[[dict[str, Any]], dict[str, Any]]:
        ops: tuple[Op, ...] = tuple(node.op for node in self._nodes[direction])

        def run(document: dict[str, Any]) -> dict[str, Any]:
            """Return the document as the other side says it; raises Refused `mapping-failed` or `mapping-code-unknown`."""
            out: dict[str, Any] = {}
            try:
                if document.__class__ is not dict:
                    _object(document)
                for op in ops:
                    op(document, out)
            except Failure as failure:
                raise self._refused(failure, direction) from None
            return out

        return run

    def _refused(self, failure: Failure, direction: Direction) -> Refused:
        side = "dialect" if direction == "to_dialect" else "canonical"
        where = pointer(failure.tokens)
        return Refused(
            f"Mapping {self.header.reference} could not carry {where or 'the document'} to its {side} form: {failure.reason}.",
            code=failure.code,
            pointer=where,
            remedy=_REMEDY,
        )


def _object(document: Any) -> dict[str, Any]:
    if isinstance(document, dict):
        return document
    raise Failure("the document is not an object")
