"""From text to syntax: CEL as cel-python parses it, with OpenSPP's named arguments.

CEL has no named arguments, so `event('survey', within_days=365)` is handed to the parser as `within_days<365`, which has
the same length and keeps every place; the places changed are remembered and read back as names.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from registry.rules.source import MAX_CHARACTERS, Source, Span

if TYPE_CHECKING:
    from lark import Lark, Tree

MAX_DEPTH: Final = 40
MAX_PARTS: Final = 400
_LARGEST: Final = 10**15
_DECIMALS: Final = 12
_TOKEN: Final = re.compile(
    r"""(?P<text>[rRbB]{0,2}(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<comment>//[^\n]*)|(?P<compare>[<>!=]=)|(?P<name>[A-Za-z_]\w*)|(?P<other>\S)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_OPERATORS: Final = {
    "relation_lt": "<", "relation_le": "<=", "relation_gt": ">", "relation_ge": ">=", "relation_eq": "==",
    "relation_ne": "!=", "relation_in": "in", "addition_add": "+", "addition_sub": "-", "multiplication_mul": "*",
    "multiplication_div": "/", "multiplication_mod": "%",
}  # fmt: skip
_LEFT_OUT: Final = {
    "member_index": "an index is not part of the dialect",
    "member_object": "an object is not part of the dialect",
    "map_lit": "a map is not part of the dialect",
    "dot_ident": "a name does not begin with a dot",
    "dot_ident_arg": "a name does not begin with a dot",
}


@dataclass(frozen=True, slots=True)
class Syntax:
    """One part of a rule as it was written, before anything is known of its meaning.

    `kind` is literal, name, select (`of.name`), call (`name(…)` or `of.name(…)`), list, operator or choice.
    """

    kind: str
    span: Span
    name: str = ""
    value: bool | int | Decimal | str | None = None
    of: Syntax | None = None
    parts: tuple[Syntax, ...] = ()
    named: tuple[tuple[str, Syntax], ...] = ()


def read(text: str) -> tuple[Source, Syntax]:
    """Parse a rule; raises `RuleRefused`: `rule-too-large`, `rule-invalid`, `rule-not-compilable`."""
    from lark.exceptions import UnexpectedInput

    source = Source(text)
    if len(text) > MAX_CHARACTERS:
        raise source.wrong(
            Span(MAX_CHARACTERS, len(text)), f"the rule is longer than {MAX_CHARACTERS:,} characters", code="rule-too-large"
        )  # fmt: skip
    for place, character in enumerate(text):
        if character < " " and character not in "\t\r\n":
            raise source.wrong(Span(place, place + 1), "a control character stands here")
    replaced, places = _named_arguments(source)
    try:
        tree = _parser().parse(replaced)
    except UnexpectedInput as error:
        if getattr(getattr(error, "token", None), "type", "") == "$END" and text.strip():
            end = len(text.rstrip())
            raise source.wrong(Span(end, end + 1), "the rule ends too early") from None
        raise _unread(source, error.line, error.column) from None
    except RecursionError:
        raise source.wrong(Span(0, len(text)), "the rule is nested too deep", code="rule-too-large") from None
    return source, _Reader(source, places).read(tree, 0)


@cache
def _parser() -> Lark:
    """Return a parser of cel-python's grammar; its own parser drops the places of true and false."""
    from lark import Lark, Token

    def literal(token: Token) -> Token:
        return Token.new_borrow_pos("BOOL_LIT", token, token) if token in {"true", "false"} else token

    return Lark(
        resources.files("celpy").joinpath("cel.lark").read_text(encoding="utf-8"),
        parser="lalr",
        start="expr",
        g_regex_flags=re.MULTILINE,
        lexer_callbacks={"IDENT": literal},
        propagate_positions=True,
        maybe_placeholders=False,
        priority="invert",
    )


def _named_arguments(source: Source) -> tuple[str, frozenset[int]]:
    """Return the text with `name=value` written `name<value`, and the places where that was done."""
    letters = list(source.text)
    places: set[int] = set()
    last = before = ""
    depth = 0
    for found in _TOKEN.finditer(source.text):
        if found.lastgroup == "comment":
            continue
        token = found[0] if found.lastgroup != "text" else "text"
        if token in {"(", "["}:
            depth += 1
            if depth > MAX_DEPTH:
                raise source.wrong(
                    Span(*found.span()),
                    f"more than {MAX_DEPTH} brackets are open here",
                    code="rule-too-large",
                )
        elif token in {")", "]"}:
            depth -= 1
        elif token == "=":  # noqa: S105 (no password)
            if not (last.isidentifier() and before in {"(", ","}):
                raise source.wrong(
                    Span(*found.span()), "`=` stands only behind the name of an argument", remedy="Compare with `==`."
                )  # fmt: skip
            letters[found.start()] = "<"
            places.add(found.start())
        before, last = last, token
    return "".join(letters), frozenset(places)


def _unread(source: Source, line: int | None, column: int | None) -> Exception:
    if not source.text.strip():
        return source.wrong(Span(0, 0), "the rule is empty")
    if line is None or column is None or line < 1 or column < 1:
        return source.wrong(Span(0, len(source.text)), "this is not an expression")
    lines = source.text.split("\n")
    start = sum(len(one) + 1 for one in lines[: line - 1]) + column - 1
    found = _TOKEN.match(source.text, start)
    end = found.end() if found else start + 1
    word = source.part(Span(start, end))
    if word in {"'", '"'}:
        return source.wrong(Span(start, end), "this quote is never closed")
    if word.lower() in {"and", "or", "not"}:
        sign = {"and": "&&", "or": "||", "not": "!"}[word.lower()]
        return source.wrong(Span(start, end), f"`{word}` is not an operator", remedy=f"Write `{sign}`.")
    return source.wrong(Span(start, end), f"the rule cannot be read from `{word[:40]}` on")


class _Reader:
    def __init__(self, source: Source, places: frozenset[int]) -> None:
        self._source = source
        self._places = places
        self._parts = 0

    def read(self, tree: Tree[Any], depth: int) -> Syntax:
        tree = self._descend(tree)
        span = _span(tree)
        # A long list of codes is one part of the rule, not hundreds.
        self._parts += tree.data != "literal"
        if depth > MAX_DEPTH or self._parts > MAX_PARTS:
            what = f"more than {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"more than {MAX_PARTS} parts"
            raise self._source.wrong(span, f"the rule has {what}", code="rule-too-large")
        if tree.data in _LEFT_OUT:
            raise self._source.wrong(span, _LEFT_OUT[tree.data], code="rule-not-compilable")
        reading = getattr(self, f"_{tree.data}")
        found: Syntax = reading(tree, span, depth + 1)
        return found

    def _descend(self, tree: Tree[Any]) -> Tree[Any]:
        """Go down through the levels of the grammar that say nothing."""
        while tree.data in {"expr", "conditionalor", "conditionaland", "relation", "addition", "multiplication",
                            "unary", "member", "primary", "paren_expr"} and len(tree.children) == 1:  # fmt: skip
            tree = tree.children[0]
        return tree

    def _expr(self, tree: Tree[Any], span: Span, depth: int) -> Syntax:
        return Syntax("choice", span, parts=tuple(self.read(part, depth) for part in tree.children))

    def _conditionalor(self, tree: Tree[Any], span: Span, depth: int) -> Syntax:
        return Syntax("operator", span, "||", parts=tuple(self.read(part, depth) for part in _chain(tree)))

    def _conditionaland(self, tree: Tree[Any], span: Span, depth: int) -> Syntax:
        return Syntax("operator", span, "&&", parts=tuple(self.read(part, depth) for part in _chain(tree)))

    def _binary(self, tree: Tree[Any], span: Span, depth: int) -> Syntax:
        first, right = tree.children
        left = self.read(first.children[0], depth)
        if first.data == "relation_lt" and first.meta.end_pos - 1 in self._places:
            raise self._source.wrong(_span(first), "a named argument stands only in a call")
        return Syntax("operator", span, _OPERATORS[first.data], parts=(left, self.read(right, depth)))

    _relation = _addition = _multiplication = _binary

    def _unary(self, tree: Tree[Any], span: Span, depth: int) -> Syntax:
        sign = "!" if tree.children[0].data == "unary_not" else "-"
        return Syntax("operator", span, sign, parts=(self.read(tree.children[1], depth),))

    def _member_dot(self, tree: Tree[Any], span: Span, depth: int) -> Syntax:
        of, name = tree.children
        return Syntax("select", span, str(name), of=self.read(of, depth))

    def _member_dot_arg(self, tree: Tree[Any], span: Span, depth: int) -> Syntax:
        of, name, *rest = tree.children
        parts, named = self._arguments(rest, depth)
        return Syntax("call", span, str(name), of=self.read(of, depth), parts=parts, named=named)

    def _ident_arg(self, tree: Tree[Any], span: Span, depth: int) -> Syntax:
        name, *rest = tree.children
        parts, named = self._arguments(rest, depth)
        return Syntax("call", span, str(name), parts=parts, named=named)

    def _ident(self, tree: Tree[Any], span: Span, _depth: int) -> Syntax:
        return Syntax("name", span, str(tree.children[0]))

    def _list_lit(self, tree: Tree[Any], span: Span, depth: int) -> Syntax:
        parts, _ = self._arguments(tree.children, depth)
        return Syntax("list", span, parts=parts)

    def _arguments(
        self, rest: list[Any], depth: int
    ) -> tuple[tuple[Syntax, ...], tuple[tuple[str, Syntax], ...]]:
        parts: list[Syntax] = []
        named: list[tuple[str, Syntax]] = []
        for argument in rest[0].children if rest else ():
            relation = self._descend(argument)
            first = relation.children[0] if relation.data == "relation" else None
            if first is not None and first.data == "relation_lt" and first.meta.end_pos - 1 in self._places:
                name = self.read(first.children[0], depth)
                named.append((name.name, self.read(relation.children[1], depth)))
            elif named:
                raise self._source.wrong(
                    _span(argument), "an argument without a name stands behind one with a name"
                )
            else:
                parts.append(self.read(argument, depth))
        return tuple(parts), tuple(named)

    def _literal(self, tree: Tree[Any], span: Span, _depth: int) -> Syntax:
        token: Any = tree.children[0]
        text = str(token)
        match token.type:
            case "BOOL_LIT":
                return Syntax("literal", span, value=text == "true")
            case "NULL_LIT":
                return Syntax("literal", span, value=None)
            case "INT_LIT" | "FLOAT_LIT":
                return Syntax("literal", span, value=self._number(text, span))
            case "STRING_LIT" | "MLSTRING_LIT":
                return Syntax("literal", span, value=self._text(text, span))
        raise self._source.wrong(
            span, "this kind of value is not part of the dialect", code="rule-not-compilable"
        )

    def _number(self, text: str, span: Span) -> int | Decimal:
        if "x" in text:
            whole = int(text, 16)
            if abs(whole) <= _LARGEST:
                return whole
            raise self._source.wrong(span, f"the number is beyond {_LARGEST:,}")
        value = Decimal(text)
        if not abs(value) <= _LARGEST:
            raise self._source.wrong(span, f"the number is beyond {_LARGEST:,}")
        if value and int(value.as_tuple().exponent) < -_DECIMALS:
            raise self._source.wrong(span, f"the number has more than {_DECIMALS} decimals")
        return int(value) if text.lstrip("-").isdigit() else value

    def _text(self, text: str, span: Span) -> str:
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            value = None
        if not isinstance(value, str) or "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
            raise self._source.wrong(span, "this text has an escape that is not known")
        return value


def _chain(tree: Tree[Any]) -> list[Tree[Any]]:
    """Return the parts of `a && b && c`, which the grammar nests to the left."""
    found: list[Tree[Any]] = []
    data = tree.data
    while tree.data == data and len(tree.children) == 2:
        found.append(tree.children[1])
        tree = tree.children[0]
    return [tree, *reversed(found)]


def _span(tree: Tree[Any]) -> Span:
    return Span(tree.meta.start_pos, tree.meta.end_pos)
