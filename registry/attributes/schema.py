"""The schema of one subject's attributes: read from a file, held to what the hub can keep in clear, and explained."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import yaml

from canonical_model.base import Privacy
from canonical_model.errors import ConfigError
from registry.attributes.attribute import Attribute, ValueType, Vocabulary
from registry.attributes.builtin import BUILT_IN, COLLECTION_DATE
from registry.attributes.privacy import misplaced

MAX_BYTES: Final = 1_000_000
LARGEST: Final = 10**15
"""The largest whole number or amount an attribute may have, either side of nought."""
LONGEST: Final = 200
"""The longest text where the schema names no `maxLength`."""

Document = Mapping[str, Any]


def _is_number(rule: Document) -> bool:
    return rule["type"] in {"integer", "number"}


def _is_text(rule: Document) -> bool:
    return rule["type"] == "string" and "format" not in rule


_GOES_WITH: Final[Mapping[str, Callable[[Document], bool]]] = {
    "minimum": _is_number,
    "maximum": _is_number,
    "format": lambda rule: rule["type"] == "string",
    **dict.fromkeys(("enum", "maxLength", "x-labels", "x-vocabulary"), _is_text),
}
"""The keys that only some types have."""


@dataclass(frozen=True)
class Subject:
    """The attributes of individuals, of groups, of a programme's registrants or of an event, in one version."""

    name: str
    """`individual`, `group`, `program:CODE` or `event:TYPE`."""
    version: int
    document: Document
    attributes: Mapping[str, Attribute]
    registrant: str | None
    """The kind of registrant it belongs to; None for an event, which both may have."""
    vocabularies: Mapping[str, Vocabulary] = field(default_factory=dict)
    """The code lists its attributes name, as they were when it was read."""

    @cached_property
    def validator(self) -> jsonschema_rs.Draft202012Validator:
        """The compiled check of one record, with the bounds every value has."""
        properties = {
            name: _bounded(rule, self.vocabularies) for name, rule in self.document["properties"].items()
        }
        return jsonschema_rs.Draft202012Validator(
            {
                "type": "object",
                "properties": properties,
                "required": list(self.document.get("required", ())),
                "additionalProperties": False,
            },
            validate_formats=True,
        )


def load_file(path: Path) -> Document:
    """Read a schema from a YAML or JSON file; raises `ConfigError` `attribute-schema-invalid`."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _wrong(f"{path} is larger than {MAX_BYTES:,} bytes.")
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _wrong(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise _wrong(f"{path} is not UTF-8.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _wrong(f"{path}{place}: not YAML or JSON.") from None
    if not isinstance(found, dict):
        raise _wrong(f"{path} does not hold one object.")
    return found


def vocabularies_of(document: Document) -> set[str]:
    """Return the code lists a schema leaves its codes to: `x-vocabulary` without an `enum` of its own."""
    rules = document["properties"].values()
    return {rule["x-vocabulary"] for rule in rules if "x-vocabulary" in rule and "enum" not in rule}


def parse(
    document: Document, version: int = 0, vocabularies: Mapping[str, Vocabulary] | None = None
) -> Subject:
    """Return the subject a schema declares; raises `ConfigError` `attribute-schema-invalid` with every place that is wrong.

    Without `vocabularies` the codes of a code list are not known, and any text passes for one.
    """
    problems = list(_problems(document))
    if problems:
        shown = "; ".join(problems[:10])
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise _wrong(f"The schema is wrong: {shown}{more}.")
    name = str(document["x-subject"])
    required = set(document.get("required", ()))
    attributes = {
        key: _attribute(key, rule, key in required, vocabularies or {})
        for key, rule in document["properties"].items()
    }
    if name.startswith("event:"):
        registrant = None
        attributes |= {COLLECTION_DATE.name: COLLECTION_DATE}
    else:
        registrant = document.get("x-registrant") if name.startswith("program:") else name
    return Subject(name, version, document, attributes, registrant, vocabularies or {})


def _attribute(
    name: str, rule: Document, required: bool, vocabularies: Mapping[str, Vocabulary]
) -> Attribute:
    kind = ValueType.TEXT if rule["type"] == "string" else ValueType(rule["type"])
    if rule.get("format") == "date":
        kind = ValueType.DATE
    titles = {"en": rule["title"]} if "title" in rule else {}
    codes = tuple(rule["enum"]) if "enum" in rule else None
    known = vocabularies.get(rule.get("x-vocabulary", ""))
    if codes is None and known is not None:
        codes = tuple(known.labels)
    return Attribute(
        name=name,
        type=kind,
        privacy=Privacy(rule.get("x-privacy", Privacy.PERSONAL)),
        titles=titles | rule.get("x-titles", {}),
        codes=codes,
        labels={**(known.labels if known else {}), **rule.get("x-labels", {})},
        vocabulary=rule.get("x-vocabulary"),
        rule=bool(rule.get("x-rule", False)),
        required=required,
    )


def _bounded(rule: Document, vocabularies: Mapping[str, Vocabulary]) -> dict[str, Any]:
    """Return the JSON Schema of one value with the bounds that keep arithmetic over it within bounds."""
    kept = {key: value for key, value in rule.items() if not key.startswith("x-")}
    known = vocabularies.get(rule.get("x-vocabulary", ""))
    if "enum" not in rule and known is not None:
        return kept | {"enum": sorted(known.active)}
    if rule["type"] in {"integer", "number"}:
        kept["minimum"] = max(rule.get("minimum", -LARGEST), -LARGEST)
        kept["maximum"] = min(rule.get("maximum", LARGEST), LARGEST)
    elif rule["type"] == "string" and "enum" not in rule:
        kept["maxLength"] = rule.get("maxLength", LONGEST)
        if "format" not in rule:
            # PostgreSQL keeps no NUL, and other control characters break files of rows.
            kept["pattern"] = "^[^\\x00-\\x1f\\x7f]*$"
    return kept


@cache
def _authoring() -> Any:
    from jsonschema import Draft202012Validator

    source = resources.files("registry.attributes").joinpath("schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(source))


def _problems(document: Document) -> Iterator[str]:
    found = sorted(_authoring().iter_errors(document), key=lambda error: list(map(str, error.absolute_path)))
    yield from (_sentence(error) for error in found)
    if found:
        return
    subject, properties = document["x-subject"], document["properties"]
    if subject.startswith("program:") != ("x-registrant" in document):
        yield "/x-registrant: a programme's schema says `individual` or `group` here, others do not have it"
    for name in document.get("required", ()):
        if name not in properties:
            yield f"/required: `{name}` is not one of the properties"
    for name, rule in properties.items():
        yield from _problems_of(subject, document.get("x-registrant", subject), name, rule)


def _problems_of(subject: str, kind: str, name: str, rule: Document) -> Iterator[str]:
    place = f"/properties/{name}"
    for key in rule:
        if key in _GOES_WITH and not _GOES_WITH[key](rule):
            yield f"{place}/{key}: does not go with this type"
    if name in BUILT_IN.get(kind, {}) or name in {"roles", COLLECTION_DATE.name, "id", "members"}:
        yield f"{place}: the hub has `{name}` already, without a declaration"
    for key in ("minimum", "maximum"):
        if not abs(rule.get(key, 0)) <= LARGEST:  # not a number is beyond it too
            yield f"{place}/{key}: beyond {LARGEST:,}"
    if rule.get("minimum", -LARGEST) > rule.get("maximum", LARGEST):
        yield f"{place}/minimum: larger than the maximum"
    for code in rule.get("x-labels", {}):
        if code not in rule["enum"]:
            yield f"{place}/x-labels: `{code}` is not one of the codes in enum"
    if rule.get("x-rule") and subject.startswith("event:"):
        yield f"{place}/x-rule: events are found by their own index; take it away"
    hint = misplaced(name, rule)
    if hint:
        yield f"{place}: {hint}"


def _sentence(error: Any) -> str:
    place = "/" + "/".join(map(str, error.absolute_path))
    if error.validator == "additionalProperties" and isinstance(error.schema, dict):
        known = list(error.schema["properties"])
        extra = [str(key) for key in error.instance if key not in known]
        near = get_close_matches(extra[0], known, 1)
        hint = f"; did you mean `{near[0]}`?" if near else f"; it may have {', '.join(known)}"
        return f"{place}: `{extra[0]}` is not known here{hint}"
    if error.validator == "required":
        missing = re.findall(r"'([^']+)'", error.message)
        return f"{place}: `{missing[0] if missing else '?'}` is missing"
    if error.validator == "enum":
        return f"{place}: must be one of {', '.join(map(str, error.validator_value))}"
    if error.validator == "pattern" and list(error.absolute_schema_path)[-2:-1] == ["propertyNames"]:
        return (
            f"{place}: `{error.instance}` is no name: small letters, digits and underscores, a letter first"
        )
    return f"{place}: {str(error.message)[:200]}"


def _wrong(detail: str) -> ConfigError:
    return ConfigError(
        f"{detail} Nothing was stored.",
        code="attribute-schema-invalid",
        remedy="Correct the places named; docs/attributes.md shows every key.",
    )
