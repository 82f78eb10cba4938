"""The leaves of a canonical model: paths, enumerations and which of them are lists."""

from __future__ import annotations

import pkgutil
import types
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from importlib import import_module
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

import canonical_model
from canonical_model.base import CanonicalModel


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value of a model: its keys from the root, the keys that hold lists, its enumeration values, if any."""

    keys: tuple[str, ...]
    lists: frozenset[tuple[str, ...]]
    values: tuple[str, ...] = ()
    required: bool = False


@lru_cache(maxsize=1)
def models() -> dict[str, type[CanonicalModel]]:
    """Return every canonical model class by name."""
    found: dict[str, type[CanonicalModel]] = {}
    for module in pkgutil.iter_modules(canonical_model.__path__):
        for name, value in vars(import_module(f"canonical_model.{module.name}")).items():
            if isinstance(value, type) and issubclass(value, CanonicalModel) and not name.startswith("_"):
                found[value.__name__] = value
    return found


def unwrapped(annotation: Any) -> tuple[Any, bool]:
    """Return the type inside Annotated, Optional and a homogeneous tuple or list, and whether it was a list."""
    many = False
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, types.UnionType):
            inner = [each for each in get_args(annotation) if each is not type(None)]
            if len(inner) != 1:
                return annotation, many
            annotation = inner[0]
        elif origin in (tuple, list, frozenset, set):
            many = True
            annotation = get_args(annotation)[0]
        else:
            return annotation, many


def leaves(model: type[BaseModel]) -> list[Leaf]:
    """Return the leaves of a model; a model inside itself is followed once and then is a leaf of its own."""
    return _leaves(model, (), frozenset(), (model,))


def _leaves(
    model: type[BaseModel],
    above: tuple[str, ...],
    lists: frozenset[tuple[str, ...]],
    inside: tuple[type[BaseModel], ...],
) -> list[Leaf]:
    found: list[Leaf] = []
    for name, field in model.model_fields.items():
        keys = (*above, name)
        kind, many = unwrapped(field.annotation)
        here = lists | {keys} if many else lists
        if isinstance(kind, type) and issubclass(kind, BaseModel) and inside.count(kind) < 2:
            found += _leaves(kind, keys, here, (*inside, kind))
        else:
            values = (
                tuple(str(v.value) for v in kind) if isinstance(kind, type) and issubclass(kind, Enum) else ()
            )
            found.append(Leaf(keys, here, values, field.is_required()))
    return found
