"""The quick check of data: a compiled JSON Schema that passes only what the canonical model surely takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import jsonschema_rs

from canonical_model.base import CanonicalModel
from canonical_model.money import MINOR_UNIT_DIGITS

Schema = Mapping[str, Any] | bool
_Kind = Callable[[Any, dict[str, Schema]], Schema]
_NOTHING: Final = False
"""The schema no value fits: what cannot be said in JSON Schema is left to the model."""
_WHOLE: Final = "x-whole"
_FINITE: Final = 1e308
_CLASSES: Final = re.compile(r"\\[dDwWsSbBpP]")
_ODD: Final = re.compile(r"[^A-Za-z0-9]+")
_CONFIG: Final = frozenset(
    {
        "extra_fields_behavior",
        "frozen",
        "hide_input_in_errors",
        "ser_json_timedelta",
        "str_strip_whitespace",
        "title",
    }
)
"""The settings of models this knows of; another one may ask for more."""
# The model strips text before it looks at it; text with nothing to strip is the same before and after. The characters
# are Unicode's White_Space, written out since `\s` means less in the dialect of JSON Schema.
_SPACE: Final = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_UNSTRIPPED: Final = f"^([^{_SPACE}]|[^{_SPACE}][\\s\\S]*[^{_SPACE}])$"
# Years beyond these and 29 February are left to the calendar of the model.
_YEAR: Final = "(19|20)[0-9]{2}"
_MONTH: Final = "(0[1-9]|1[0-2])"
_DAY: Final = (
    "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
)
_CLOCK: Final = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?"
_ZONE: Final = "(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])"
_DATE: Final = f"^{_YEAR}-{_DAY}$"
_TIMESTAMP: Final = f"^{_YEAR}-{_DAY}T{_CLOCK}{_ZONE}$"
_PARTIAL_DATE: Final = f"^{_YEAR}(-{_MONTH}|-{_DAY})?$"
_UUID: Final = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_LANGUAGE: Final = "^[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2})?$"
_PHONE: Final = "^\\+[1-9][0-9]{6,14}$"
_EMAIL: Final = "^[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(\\.[A-Za-z0-9-]{1,63})+$"


def _text(pattern: str) -> Schema:
    return {"type": "string", "pattern": pattern}


def _given(name: str, schema: Schema) -> Schema:
    return {"required": [name], "properties": {name: schema}}


_TEXT: Final[Schema] = {"type": "string"}
_SOME: Final[Schema] = {"type": "array", "minItems": 1}
_ABSENT: Final[Schema] = {"type": "null"}
_POSITIVE: Final = _given("minor_units", {"minimum": 1})


def _json_value(levels: int) -> Schema:
    """Return the schema of JSON values nested so deep; a Python value that is none, or too large for JSON, is left out."""
    # A pattern, even an empty one, makes the text be read, and what is no Unicode is found.
    text: Schema = {"type": "string", "pattern": ""}
    number: Schema = {"type": "number", "minimum": -(2**63), "maximum": 2**64 - 1}
    simple: list[Schema] = [text, number, {"type": ["boolean", "null"]}]
    if not levels:
        return {"anyOf": simple}
    inner = _json_value(levels - 1)
    nested: list[Schema] = [
        {"type": "array", "items": inner},
        {"type": "object", "propertyNames": {"pattern": ""}, "additionalProperties": inner},
    ]
    return {"anyOf": [*simple, *nested]}


RULES: Final[Mapping[str, Schema]] = {
    "canonical_model.dates._parse": _text(_PARTIAL_DATE),
    "canonical_model.localized._canonical_tag": _text(_LANGUAGE),
    "canonical_model.money._known": {"enum": sorted(MINOR_UNIT_DIGITS)},
    "canonical_model.names.PersonName._says_a_name": {
        "anyOf": [_given(name, _TEXT) for name in ("family_name", "given_name", "full_name")]
    },
    "canonical_model.contact.ContactPoint._fits_its_kind": {
        "if": _given("kind", {"const": "email"}),
        "then": {"properties": {"value": _text(_EMAIL)}},
        "else": {"properties": {"value": _text(_PHONE)}},
    },
    "canonical_model.registrant.RegistrantRef._names_someone": {
        "anyOf": [_given("registrant_id", _TEXT), _given("identifiers", _SOME)]
    },
    "canonical_model.household.Membership._names_one_person_in_order": {
        "anyOf": [_given("person_id", _TEXT), _given("identifiers", _SOME)],
        "properties": {"roles": {"uniqueItems": True}, "ended_date": _ABSENT},
    },
    "canonical_model.payment.PaymentInstruction._pays_something": _given("amount", _POSITIVE),
    "canonical_model.payment.PaymentBatch._pays_something": _given("total", _POSITIVE),
    "canonical_model.notice.Notice._has_one_text_and_a_fitting_address": {
        "oneOf": [_given("template", _TEXT), _given("body", {"type": "object"})],
        "if": _given("channel", {"const": "email"}),
        "then": _given("to", _given("kind", {"const": "email"})),
        "else": _given("to", _given("kind", {"enum": ["phone", "mobile"]})),
    },
    "canonical_model.verification.VerificationRequest._carries_what_its_kind_needs": {
        "if": _given("kind", {"const": "demographic"}),
        "then": {"anyOf": [_given(name, {"not": _ABSENT}) for name in ("name", "birthdate", "sex")]},
        "else": {"properties": {"proof": {"not": _ABSENT}}, "required": ["proof"]},
    },
}
"""What each Python function of the models asks for, or something stricter; a function that is not here fits nothing."""


class _Whole:
    """The keyword that tells 5 from 5.0, which JSON Schema takes for the same."""

    def __init__(self, parent: Any, value: Any, path: Any) -> None:
        """Take no options."""

    def validate(self, instance: object) -> None:
        """Refuse what the reader of the JSON made no whole number of."""
        if type(instance) is not int:
            raise ValueError("not a whole number")


def screen_of(model: type[CanonicalModel]) -> Callable[[Any], bool] | None:
    """Return a function that says True only of JSON values the model takes, None for a model it can say nothing of.

    False means nothing yet: the model itself decides, and words the refusal. It may raise `ValueError` or `TypeError` for
    values that are not JSON.
    """
    definitions: dict[str, Schema] = {}
    root = _translate(model.__pydantic_core_schema__, definitions)
    if root is _NOTHING:
        return None
    return jsonschema_rs.Draft202012Validator(
        {"allOf": [root], "$defs": definitions},
        keywords={_WHOLE: _Whole},
        pattern_options=jsonschema_rs.RegexOptions(),
        validate_formats=False,
    ).is_valid


def _translate(schema: Any, definitions: dict[str, Schema]) -> Schema:
    """Return a JSON Schema that takes nothing this core schema of pydantic refuses (strict mode, read from JSON).

    A kind or an option that is not known here becomes the schema that takes nothing.
    """
    options = frozenset(schema) - {"type", "ref", "metadata", "serialization"}
    kind = _KINDS.get(schema["type"])
    if kind is None or not options <= kind[0]:
        return _NOTHING
    return kind[1](schema, definitions)


def _limits(schema: Any, **names: str) -> dict[str, Any]:
    return {theirs: schema[ours] for ours, theirs in names.items() if schema.get(ours) is not None}


def _of_text(schema: Any, definitions: dict[str, Schema]) -> Schema:
    made = {"type": "string", **_limits(schema, min_length="minLength", max_length="maxLength")}
    pattern = schema.get("pattern")
    if pattern is None:
        return made if len(made) == 1 else {**made, "pattern": _UNSTRIPPED}
    if not isinstance(pattern, str) or _CLASSES.search(pattern):
        return _NOTHING  # what \\d, \\w and \\s take differs from dialect to dialect
    return {**made, "pattern": pattern, "allOf": [{"pattern": _UNSTRIPPED}]}


def _of_number(schema: Any, definitions: dict[str, Schema]) -> Schema:
    made = _limits(schema, ge="minimum", le="maximum", gt="exclusiveMinimum", lt="exclusiveMaximum")
    if schema["type"] == "int":
        return {"type": "integer", _WHOLE: True, **made}
    return {"type": "number", "minimum": -_FINITE, "maximum": _FINITE, **made}


def _of_list(schema: Any, definitions: dict[str, Schema]) -> Schema:
    if len(schema["items_schema"]) != 1 or schema.get("variadic_item_index") != 0:
        return _NOTHING
    limits = _limits(schema, min_length="minItems", max_length="maxItems")
    return {"type": "array", "items": _translate(schema["items_schema"][0], definitions), **limits}


def _of_map(schema: Any, definitions: dict[str, Schema]) -> Schema:
    return {
        "type": "object",
        "propertyNames": _translate(schema.get("keys_schema", {"type": "str"}), definitions),
        "additionalProperties": _translate(schema.get("values_schema", {"type": "any"}), definitions),
        **_limits(schema, min_length="minProperties", max_length="maxProperties"),
    }


def _of_fields(schema: Any, definitions: dict[str, Schema]) -> Schema:
    fields = schema["fields"]
    if schema.get("computed_fields") or any("validation_alias" in field for field in fields.values()):
        return _NOTHING
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name, field in fields.items() if field["schema"]["type"] != "default"],
        "properties": {name: _translate(field["schema"], definitions) for name, field in fields.items()},
    }


def _of_model(schema: Any, definitions: dict[str, Schema]) -> Schema:
    if schema.get("custom_init") or schema.get("root_model") or not set(schema["config"]) <= _CONFIG:
        return _NOTHING
    return _translate(schema["schema"], definitions)


def _of_rule(schema: Any, definitions: dict[str, Schema]) -> Schema:
    called = schema["function"]
    function = called["function"]
    rule = RULES.get(f"{function.__module__}.{function.__qualname__}", _NOTHING)
    inner = _translate(schema["schema"], definitions)
    if called["type"] != "no-info" or rule is _NOTHING or inner is _NOTHING:
        return _NOTHING
    return {"allOf": [inner, rule]}


def _of_definitions(schema: Any, definitions: dict[str, Schema]) -> Schema:
    for one in schema["definitions"]:
        definitions[_name(one["ref"])] = _translate(one, definitions)
    return _translate(schema["schema"], definitions)


def _of_optional(schema: Any, definitions: dict[str, Schema]) -> Schema:
    return {"anyOf": [_translate(schema["schema"], definitions), _ABSENT]}


def _of_instant(schema: Any, definitions: dict[str, Schema]) -> Schema:
    return _text(_TIMESTAMP) if schema.get("tz_constraint") == "aware" else _NOTHING


def _name(reference: str) -> str:
    return _ODD.sub("-", reference)


def _inner(name: str) -> _Kind:
    return lambda schema, definitions: _translate(schema[name], definitions)


def _fixed(made: Schema) -> _Kind:
    return lambda schema, definitions: made


_LENGTHS: Final = frozenset({"min_length", "max_length"})
_KINDS: Final[Mapping[str, tuple[frozenset[str], _Kind]]] = {
    "any": (frozenset(), _fixed(_json_value(3))),
    "bool": (frozenset({"strict"}), _fixed({"type": "boolean"})),
    "date": (frozenset({"strict"}), _fixed(_text(_DATE))),
    "datetime": (frozenset({"strict", "tz_constraint", "microseconds_precision"}), _of_instant),
    "default": (
        frozenset({"schema", "default", "default_factory", "default_factory_takes_data", "copy_default"}),
        _inner("schema"),
    ),
    "definition-ref": (
        frozenset({"schema_ref"}),
        lambda schema, definitions: {"$ref": f"#/$defs/{_name(schema['schema_ref'])}"},
    ),
    "definitions": (frozenset({"schema", "definitions"}), _of_definitions),
    "dict": (frozenset({"strict", "keys_schema", "values_schema"}) | _LENGTHS, _of_map),
    "enum": (
        frozenset({"strict", "cls", "members", "sub_type"}),
        lambda schema, definitions: {"enum": [one.value for one in schema["members"]]},
    ),
    "float": (frozenset({"strict", "allow_inf_nan", "ge", "le", "gt", "lt"}), _of_number),
    "function-after": (frozenset({"function", "schema"}), _of_rule),
    "int": (frozenset({"strict", "ge", "le", "gt", "lt"}), _of_number),
    "json-or-python": (frozenset({"json_schema", "python_schema"}), _inner("json_schema")),
    "model": (frozenset({"cls", "config", "custom_init", "root_model", "schema"}), _of_model),
    "model-fields": (frozenset({"fields", "model_name", "computed_fields"}), _of_fields),
    "nullable": (frozenset({"strict", "schema"}), _of_optional),
    "str": (frozenset({"strict", "pattern"}) | _LENGTHS, _of_text),
    "tuple": (frozenset({"strict", "items_schema", "variadic_item_index"}) | _LENGTHS, _of_list),
    "uuid": (frozenset({"strict"}), _fixed(_text(_UUID))),
}
"""Of each kind of core schema the options that are understood, and the translation."""
