"""The OpenAPI 3.1 description, made from the same declarations as the routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from adapters.http.catalog import CATALOG
from adapters.http.operations import Answer, Operation, Schema
from adapters.http.problems import MEDIA_TYPE
from adapters.rest.models import EVENT_SCHEMA, AcceptedReply, BatchReply, ItemReply, Problem

_REF: Final = "#/components/schemas/{model}"
_ALWAYS: Final = ("not-acceptable", "query-parameter-unknown", "internal-defect")
_GUARDED: Final = (
    "token-missing",
    "token-invalid",
    "token-expired",
    "partner-unknown",
    "scope-missing",
    "rate-limited",
)
_SHARED: Final = (AcceptedReply, BatchReply, ItemReply, Problem)


def describe(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of these operations."""
    listed = list(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in listed:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "OpenSPP Hub",
            "version": _version(),
            "description": "An interoperability hub for social protection. Problems follow RFC 9457.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in sorted({operation.tag for operation in listed})],
        "paths": paths,
        "components": {
            "schemas": _schemas(listed),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
    }


def _version() -> str:
    try:
        return version("openspp-hub")
    except PackageNotFoundError:
        return "0"


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "security": _security(operation),
        "responses": _responses(operation),
    }
    if operation.description:
        described["description"] = operation.description
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in operation.parameters
    ]
    if operation.query is not None:
        parameters += _query(operation.query)
    parameters += [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in operation.headers.items()
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.requests:
        content = {media: {"schema": _ref(schema)} for media, schema in operation.requests.items()}
        if operation.example is not None:
            next(iter(content.values()))["example"] = operation.example
        described["requestBody"] = {"required": True, "content": content}
    return described


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    if not operation.guarded:
        return []
    return [{"bearer": [] if operation.scope is None else [operation.scope.value]}]


def _query(model: type[BaseModel]) -> list[dict[str, Any]]:
    schema = model.model_json_schema(ref_template=_REF)
    required = set(schema.get("required", ()))
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _inlined(part, schema)}
        for name, part in schema.get("properties", {}).items()
    ]


def _inlined(part: Any, schema: Mapping[str, Any]) -> Any:
    """Put definitions where they are used, since query models are no components."""
    if isinstance(part, dict):
        if "$ref" in part:
            return _inlined(schema["$defs"][part["$ref"].rpartition("/")[2]], schema)
        return {name: _inlined(one, schema) for name, one in part.items()}
    return [_inlined(one, schema) for one in part] if isinstance(part, list) else part


def _responses(operation: Operation) -> dict[str, Any]:
    responses = {str(status): _answer(answer) for status, answer in sorted(operation.answers.items())}
    if operation.render is not None:
        # Refusals of a standard's own form are among its answers.
        return responses
    codes = (*operation.problems, *_ALWAYS, *(_GUARDED if operation.guarded else ()))
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(CATALOG[code].status, []).append(code)
    for status, found in sorted(by_status.items()):
        text = "; ".join(f"{CATALOG[code].title} (`{code}`)" for code in found)
        refusal = {"schema": {"$ref": _REF.format(model="Problem")}}
        known = responses.setdefault(str(status), {"description": text, "content": {}})
        known["content"][MEDIA_TYPE] = refusal
    return responses


def _answer(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    if answer.content:
        described["content"] = {media: {"schema": _ref(schema)} for media, schema in answer.content.items()}
        if answer.example is not None:
            next(iter(described["content"].values()))["example"] = answer.example
    if answer.headers:
        described["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()
        }
    return described


def _ref(schema: Schema) -> Mapping[str, Any]:
    if isinstance(schema, type):
        return {"$ref": _REF.format(model=schema.__name__)}
    return {"$ref": _REF.format(model="Event")} if schema is EVENT_SCHEMA else schema


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    models: dict[str, type[BaseModel]] = {model.__name__: model for model in _SHARED}
    for operation in operations:
        used = [*operation.requests.values()]
        for answer in operation.answers.values():
            used += answer.content.values()
        models.update({one.__name__: one for one in used if isinstance(one, type)})
    _, definitions = models_json_schema(
        [(model, "serialization") for model in models.values()], ref_template=_REF
    )
    return {"Event": EVENT_SCHEMA, **definitions.get("$defs", {})}
