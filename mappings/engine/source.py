"""YAML files read with the line of every place, so that an error can name file, line and key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import orjson
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry, Resource

from canonical_model.errors import ConfigError

MAX_BYTES = 1_000_000
_REMEDY = "Correct the file at that line; `hub mapping check FILE` shows the next problem."
Place = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """A safe loader that reads dates, versions and words such as `no` as the text they are."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("null", r"^(?:null|~|)$", ["n", "~", ""]),
    ("int", r"^-?(?:0|[1-9][0-9]*)$", "-0123456789"),
    ("float", r"^-?(?:0|[1-9][0-9]*)\.[0-9]+$", "-0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def invalid(file: str, line: int, key: str, reason: str) -> ConfigError:
    """Return the error of one place of a mapping or code list file."""
    where = f"{file}, line {line}" + (f", {key}" if key else "")
    return ConfigError(f"{where}: {reason}.", code="mapping-file-invalid", remedy=_REMEDY)


@dataclass(slots=True)
class SourceFile:
    """A parsed YAML file: its content and the line (from 1) of every place in it."""

    name: str
    content: Any = None
    lines: dict[Place, int] = field(default_factory=dict)

    def line(self, place: Place) -> int:
        """Return the line of a place, or of the nearest place above it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def error(self, place: Place, reason: str) -> ConfigError:
        """Return the error of a place of this file."""
        return invalid(self.name, self.line(place), key_of(place), reason)


def key_of(place: Place) -> str:
    """Say a place as an author reads it: `pairs[3].codes`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_yaml(name: str, data: bytes) -> SourceFile:
    """Parse YAML of one document; refuses aliases and repeated keys. Raises ConfigError `mapping-file-invalid`."""
    if len(data) > MAX_BYTES:
        raise invalid(name, 1, "", f"the file is larger than {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8")
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent):
                raise invalid(
                    name, _line(event.start_mark), "", "anchors and aliases are not used in mapping files"
                )
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            source = SourceFile(name)
            source.content = _build(loader, node, (), source) if node is not None else None
        finally:
            loader.dispose()
    except UnicodeDecodeError:
        raise invalid(name, 1, "", "the file is not UTF-8 text") from None
    except yaml.MarkedYAMLError as wrong:
        line = wrong.problem_mark.line + 1 if wrong.problem_mark else 1
        raise invalid(name, line, "", f"not YAML: {wrong.problem}") from None
    except yaml.YAMLError:
        raise invalid(name, 1, "", "not YAML: a character that may not be there") from None
    return source


def _line(mark: Any) -> int:
    return mark.line + 1 if mark is not None else 1


def _build(loader: _Loader, node: yaml.Node, place: Place, source: SourceFile) -> Any:
    source.lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            if not isinstance(key, str):
                raise invalid(source.name, line, key_of(place), "a key must be a word")
            if key in made:
                raise invalid(source.name, line, key_of((*place, key)), "the key stands here twice")
            made[key] = _build(loader, value_node, (*place, key), source)
            source.lines[(*place, key)] = line
        return made
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, item, (*place, at), source) for at, item in enumerate(node.value)]
    return loader.construct_object(node)


@lru_cache(maxsize=4)
def validator(schema_name: str) -> Draft202012Validator:
    """Return the validator of `mapping.schema.json` or `code_list.schema.json`, which lie beside this module."""
    here: Traversable = files("mappings.engine")
    loaded = {
        n: orjson.loads((here / n).read_bytes()) for n in ("mapping.schema.json", "code_list.schema.json")
    }
    resources = [(body["$id"], Resource.from_contents(body)) for body in loaded.values()]
    registry: Registry[Any] = Registry().with_resources(resources)
    return Draft202012Validator(loaded[schema_name], registry=registry)


def check_schema(source: SourceFile, schema_name: str) -> None:
    """Hold a file to its JSON Schema; raises ConfigError naming file, line and key of the most telling problem."""
    problem = best_match(validator(schema_name).iter_errors(source.content))
    if problem is not None:
        raise source.error(tuple(problem.absolute_path), _sentence(problem))


def _sentence(problem: ValidationError) -> str:
    kind = problem.validator
    wanted: Any = problem.validator_value
    if kind == "additionalProperties" and isinstance(problem.instance, dict):
        known = problem.schema.get("properties", {}) if isinstance(problem.schema, dict) else {}
        strange = ", ".join(f"'{key}'" for key in problem.instance if key not in known)
        return f"{strange} is not known here; known: {', '.join(sorted(known))}"
    if kind == "required":
        return problem.message.replace(" is a required property", " is missing")
    if kind == "enum":
        return f"must be one of {', '.join(map(str, wanted))}"
    if kind == "pattern":
        return f"does not have the form {wanted}"
    if kind == "type":
        return f"must be a {wanted if isinstance(wanted, str) else ' or '.join(wanted)}"
    if kind in ("minItems", "minProperties", "minLength"):
        return "is empty or too short"
    if kind in ("oneOf", "anyOf", "not"):
        return "these keys do not go together; docs/mappings.md lists the kinds of pair"
    return problem.message[:200]
