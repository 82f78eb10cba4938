"""JSON Schema 2020-12 of every canonical model and message type, and the tables of the documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import CoreSchema

from canonical_model.base import CanonicalModel
from canonical_model.contact import Area
from canonical_model.message import SPECVERSION, TYPE_PREFIX, Message
from canonical_model.types import MESSAGE_TYPES, model_of
from canonical_model.walk import models_in, nested_model, privacy_of

SCHEMA_BASE: Final = "https://schemas.openspp.org/hub/v1/"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class _Generator(GenerateJsonSchema):
    """Writes the privacy class as `x-privacy` and leaves out the titles pydantic makes of field names."""

    schema_dialect = DIALECT

    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> dict[str, Any]:
        made: dict[str, Any] = _tidy(super().generate(schema, mode))
        return made

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def all_models() -> list[type[CanonicalModel]]:
    """Return every model a message type carries, the models nested in them, and `Area`, by name."""
    roots: list[type[CanonicalModel]] = [*MESSAGE_TYPES.values(), Area]
    found = {model for root in roots for model in models_in(root)}
    return sorted(found, key=lambda model: model.__name__)


def schema_of(model: type[CanonicalModel]) -> dict[str, Any]:
    """Return the JSON Schema of a model, complete in itself, with its `$id` and `x-privacy` on every classed field."""
    body = model.model_json_schema(schema_generator=_Generator)
    return {
        "$schema": DIALECT,
        "$id": f"{SCHEMA_BASE}{model.__name__}.json",
        **_without(body, "$schema", "$id"),
    }


def envelope_name(message_type: str) -> str:
    """Return the schema name of a message type: `CivilEventRegisteredV1Message` of `org.openspp.civil_event.registered.v1`."""
    words = message_type[len(TYPE_PREFIX) :].replace(".", "_").split("_")
    return "".join(word.capitalize() for word in words) + "Message"


def schema_for(message_type: str) -> dict[str, Any]:
    """Return the JSON Schema of the CloudEvents envelope of a message type with its data.

    Raises `Refused` (`message-type-unknown`).
    """
    model = model_of(message_type)
    name = envelope_name(message_type)
    # The envelope's optional attributes are absent, never null, on the wire; ids of a partner are text of any form.
    attributes: dict[str, Any] = {
        "specversion": {"const": SPECVERSION},
        "id": {"type": "string", "minLength": 1, "maxLength": 500},
        "type": {"const": message_type},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
    }
    for attribute in (
        "source",
        "subject",
        "dataschema",
        "traceparent",
        "correlationid",
        "causationid",
        "originid",
    ):
        limits = {
            key: value for rule in Message.model_fields[attribute].metadata for key, value in _limits(rule)
        }
        attributes[attribute] = {"type": "string", **limits}
    body = schema_of(model)
    nested = body.pop("$defs", {})
    definitions = {model.__name__: _without(body, "$schema", "$id"), **nested}
    return {
        "$schema": DIALECT,
        "$id": f"{SCHEMA_BASE}{name}.json",
        "title": name,
        "description": f"The message {message_type} in the JSON event format of CloudEvents 1.0.",
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {**attributes, "data": {"$ref": f"#/$defs/{model.__name__}"}},
        "additionalProperties": {"type": ["string", "boolean", "integer"]},
        "$defs": dict(sorted(definitions.items())),
    }


def export(directory: Path) -> list[Path]:
    """Write one schema file per model and per message type into a directory, which is made; return their paths.

    The same models always give the same bytes. Files of other names in the directory are left alone.
    """
    directory.mkdir(parents=True, exist_ok=True)
    schemas = [schema_of(model) for model in all_models()]
    schemas += [schema_for(message_type) for message_type in sorted(MESSAGE_TYPES)]
    paths: list[Path] = []
    for schema in schemas:
        path = directory / schema["$id"].removeprefix(SCHEMA_BASE)
        path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        paths.append(path)
    return sorted(paths)


def markdown_tables() -> str:
    """Return the tables of docs/canonical-model.md: message types, then the fields of every model."""
    lines = ["## Message types", "", "| type | data |", "|---|---|"]
    for name, model in sorted(MESSAGE_TYPES.items()):
        lines.append(f"| `{name}` | [{model.__name__}](#{model.__name__.lower()}) |")
    lines += ["", "## Models"]
    for model in all_models():
        lines += [
            "",
            f"### {model.__name__}",
            "",
            (model.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " "),
        ]
        lines += ["", "| field | required | privacy | meaning |", "|---|---|---|---|"]
        lines += _rows(model)
    return "\n".join(lines) + "\n"


def _rows(model: type[CanonicalModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        nested = nested_model(field.annotation)
        privacy = privacy_of(field)
        said = privacy.value if privacy and nested is None else "by field"
        meaning = f"[{nested.__name__}](#{nested.__name__.lower()})" if nested else ""
        if field.description:
            meaning = f"{meaning}. {field.description}" if meaning else field.description
        yield f"| `{name}` | {'yes' if field.is_required() else ''} | {said} | {meaning} |"


def _limits(rule: Any) -> Iterator[tuple[str, Any]]:
    for ours, theirs in (("min_length", "minLength"), ("max_length", "maxLength"), ("pattern", "pattern")):
        value = getattr(rule, ours, None)
        if value is not None:
            yield theirs, value


def _without(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in names}


def _tidy(node: Any) -> Any:
    """Rename `privacy` to `x-privacy` where it is an annotation; a property may still be called `privacy`."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidy: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "$defs", "patternProperties"):
            tidy[key] = {name: _tidy(inner) for name, inner in value.items()}
        elif key in ("default", "const", "enum", "examples"):
            tidy[key] = value
        elif key == "privacy" and isinstance(value, str):
            tidy["x-privacy"] = value
        else:
            tidy[key] = _tidy(value)
    return tidy
