"""Help for testing a mapping: documents made from the canonical model, and the round trip they must survive.

    @given(canonical_documents("CivilEvent"))
    def test_nothing_is_lost(document):
        assert_round_trip(mapping, document)

Needs the `hypothesis` package, which is not part of an installed hub.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC
from enum import Enum
from functools import cache
from typing import Annotated, Any, get_args, get_origin
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import AfterValidator, AwareDatetime, BaseModel

from canonical_model.dates import PartialDate
from mappings.engine.loss import LossReport, loss_report
from mappings.engine.mapping import Mapping
from mappings.engine.model import models, unwrapped

Documents = SearchStrategy[dict[str, Any]]
_WORDS = st.text(alphabet="abcXYZ éñجü0129 '-:./|", min_size=1, max_size=20).map(str.strip).filter(bool)
_ASCII = st.characters(min_codepoint=32, max_codepoint=126)
_KNOWN = (("pt-BR", "en", "zh-Hant"), ("USD", "UGX"))
_DEPTH = 4
_MAX_ITEMS = 2


def _contact_point(_depth: int) -> Documents:
    phones = st.from_regex(r"\A\+[1-9][0-9]{7,13}\Z", fullmatch=False).map(str)
    return st.one_of(
        st.fixed_dictionaries({"kind": st.sampled_from(["phone", "mobile"]), "value": phones}),
        st.fixed_dictionaries(
            {"kind": st.just("email"), "value": st.from_regex(r"\A[a-z]{1,8}@[a-z]{1,8}\.org\Z")}
        ),
    )


def _person_name(depth: int) -> Documents:
    def named(document: dict[str, Any]) -> bool:
        return any(document.get(key) for key in ("family_name", "given_name", "full_name"))

    return _fields(models()["PersonName"], depth).filter(named)


SPECIAL: dict[str, Callable[[int], Documents]] = {"ContactPoint": _contact_point, "PersonName": _person_name}
"""Strategies of models whose validators ask more than their field types say; add yours by class name."""


def canonical_documents(model: str) -> Documents:
    """Return a strategy of JSON documents of a canonical model, in the form `model_dump(mode="json")` has."""
    return _model(models()[model], 0)


def assert_round_trip(mapping: Mapping, document: dict[str, Any], report: LossReport | None = None) -> None:
    """Hold `to_canonical(to_dialect(x)) == x` on everything the loss report does not list."""
    report = report or loss_report(mapping)
    expected = report.surviving(document)
    came_back = report.surviving(mapping.to_canonical(mapping.to_dialect(expected)))
    assert came_back == expected, "a field that is not listed as lost changed on the way"  # it is a test


@cache
def _model(model: type[BaseModel], depth: int) -> Documents:
    special = SPECIAL.get(model.__name__)
    return special(depth) if special else _fields(model, depth)


def _fields(model: type[BaseModel], depth: int) -> Documents:
    required: dict[str, SearchStrategy[Any]] = {}
    optional: dict[str, SearchStrategy[Any]] = {}
    for name, field in model.model_fields.items():
        annotation: Any = field.annotation
        for extra in field.metadata:
            annotation = Annotated[annotation, extra]
        values = _values(annotation, depth)
        if values is not None:
            (required if field.is_required() else optional)[name] = values
    return st.fixed_dictionaries(required, optional=optional)


def _constraints(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Annotated:
        inner, *extras = get_args(annotation)
        return (*extras, *_constraints(inner))
    found: tuple[Any, ...] = ()
    for inner in get_args(annotation):
        found += _constraints(inner)
    return found


def _values(annotation: Any, depth: int) -> SearchStrategy[Any] | None:
    if _names_instant(annotation):
        return st.datetimes(timezones=st.just(UTC)).map(lambda at: at.isoformat().replace("+00:00", "Z"))
    kind, many = unwrapped(annotation)
    one = _one(kind, annotation, depth)
    if one is None or not many:
        return one
    return st.lists(one, max_size=_MAX_ITEMS)


def _names_instant(annotation: Any) -> bool:
    return annotation is AwareDatetime or AwareDatetime in get_args(annotation)


def _one(kind: Any, annotation: Any, depth: int) -> SearchStrategy[Any] | None:
    if not isinstance(kind, type):
        return None
    if issubclass(kind, BaseModel):
        return None if depth >= _DEPTH else _model(kind, depth + 1)
    if issubclass(kind, Enum):
        return st.sampled_from([each.value for each in kind])
    if kind is str:
        return _texts(_constraints(annotation))
    simple: dict[type, SearchStrategy[Any]] = {
        PartialDate: st.one_of(st.dates().map(str), st.from_regex(r"\A(19|20)[0-9]{2}(-0[1-9])?\Z").map(str)),
        bool: st.booleans(),
        int: st.integers(0, 10**9),
        float: st.floats(-90, 90, allow_nan=False),
        UUID: st.uuids().map(str),
    }
    return simple.get(kind)


def _texts(constraints: tuple[Any, ...]) -> SearchStrategy[str]:
    patterns = [p for p in (getattr(c, "pattern", None) for c in constraints) if isinstance(p, str)]
    if any(isinstance(c, AfterValidator) for c in constraints):
        # What a validator asks beyond the pattern is not known here, so texts known to be right are used.
        groups = (g for g in _KNOWN if all(re.search(p, text) for p in patterns for text in g))
        return st.sampled_from(next(groups, _KNOWN[0]))
    shape = next((p for p in patterns if not p.startswith("^[^")), None)
    if shape is None:
        return _WORDS
    return _shaped(shape)


@cache
def _shaped(pattern: str) -> SearchStrategy[str]:
    shaped = st.from_regex(r"\A" + pattern.removeprefix("^").removesuffix("$") + r"\Z", alphabet=_ASCII)
    return shaped.filter(lambda text: len(text) <= 35)
