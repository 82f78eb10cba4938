"""Walking canonical models: the models nested in a field and the privacy class of a field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic.fields import FieldInfo

from canonical_model.base import CanonicalModel, Privacy


def nested_model(annotation: Any) -> type[CanonicalModel] | None:
    """Return the canonical model an annotation holds, alone, optional or in a tuple; None when it holds none."""
    if isinstance(annotation, type) and issubclass(annotation, CanonicalModel):
        return annotation
    for inner in get_args(annotation):
        found = nested_model(inner)
        if found is not None:
            return found
    return None


def privacy_of(field: FieldInfo) -> Privacy | None:
    """Return the privacy class a field was declared with, None when it has none."""
    extra = field.json_schema_extra
    value = extra.get("privacy") if isinstance(extra, dict) else None
    return Privacy(value) if isinstance(value, str) else None


def models_in(root: type[CanonicalModel]) -> Iterator[type[CanonicalModel]]:
    """Yield a model and every model nested in it, each once."""
    seen: set[type[CanonicalModel]] = set()
    waiting = [root]
    while waiting:
        model = waiting.pop()
        if model in seen:
            continue
        seen.add(model)
        yield model
        for field in model.model_fields.values():
            nested = nested_model(field.annotation)
            if nested is not None:
                waiting.append(nested)
