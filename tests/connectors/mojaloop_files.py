"""The official Mojaloop files, where the folder with the standards lies beside the repository."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
FOLDERS = [parent / "shared" / "standards" / "mojaloop" for parent in REPOSITORY.parents]
SPECIFICATIONS = {
    "1.1": "fspiop/fspiop-v1.1-openapi3.yaml",
    "2.0": "fspiop/fspiop-rest-v2.0-openapi3-snippets.yaml",
    "iso20022": "fspiop/fspiop-rest-v2.0-ISO20022-openapi3-snippets.yaml",
    "adapter": "sdk-scheme-adapter/sdk-scheme-adapter-outbound-v2_1_0-openapi3-snippets.yaml",
    "backend": "sdk-scheme-adapter/sdk-scheme-adapter-backend-v2_1_0-openapi3-snippets.yaml",
}


def standard(name: str) -> Path:
    for folder in FOLDERS:
        if (folder / name).is_file():
            return folder / name
    pytest.skip("the folder shared/standards with the official files is not beside the repository")


def vectors() -> dict[str, Any]:
    return json.loads(standard("samples/vectors.json").read_text())


@cache
def _document(version: str, path: Path) -> dict[str, Any]:
    document = _usable(yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    schemas = document["components"]["schemas"]
    for entry in _composed(schemas):
        # Closed schemas in one `allOf` forbid each other's members, so that nothing at all would fit.
        schemas[entry.rpartition("/")[2]].pop("additionalProperties", None)
    return document


def _composed(node: Any) -> set[str]:
    """Return the references in lists of items that are to fit several schemas at once."""
    if isinstance(node, list):
        return set().union(*map(_composed, node)) if node else set()
    if not isinstance(node, dict):
        return set()
    found = set().union(*map(_composed, node.values())) if node else set()
    items = node.get("items")
    several = items.get("allOf", ()) if isinstance(items, dict) else ()
    return found | {part["$ref"] for part in several if "$ref" in part}


def _usable(node: Any) -> Any:
    """Drop `additionalProperties: false` where the members stand in `anyOf` alone: read strictly it forbids them all."""
    if isinstance(node, list):
        return [_usable(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    found = {key: _usable(value) for key, value in node.items() if key not in {"example", "examples"}}
    if found.get("additionalProperties") is False and "anyOf" in found and "properties" not in found:
        del found["additionalProperties"]
    if isinstance(found.get("minimum"), str):
        # The adapter's file says "1s" for a number of seconds once.
        del found["minimum"]
    return found


@cache
def validator(version: str, schema: str) -> Any:
    document = _document(version, standard(SPECIFICATIONS[version]))
    assert schema in document["components"]["schemas"]
    return jsonschema_rs.Draft4Validator(
        {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
    )


def schema_of(version: str, path: str, method: str) -> Any:
    """Return a validator for the body of one operation."""
    document = _document(version, standard(SPECIFICATIONS[version]))
    body = document["paths"][path][method]["requestBody"]
    while "$ref" in body:
        body = document["components"]["requestBodies"][body["$ref"].rpartition("/")[2]]
    schema = body["content"]["application/json"]["schema"]
    return jsonschema_rs.Draft4Validator({**schema, "components": document["components"]})


def problems(validated_by: Any, body: Any) -> list[str]:
    return [f"{list(error.instance_path)}: {error.message}" for error in validated_by.iter_errors(body)]
