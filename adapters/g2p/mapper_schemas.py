"""The messages of the mapper as JSON Schema, for the hub's own OpenAPI description."""

from __future__ import annotations

from typing import Any, Final

from adapters.g2p.disburse_schemas import _ADDRESS, _ID, _INSTANT, _MANY, _STATUS, _TEXT, _example, _request

_INFO: Final = {
    "type": "array",
    "maxItems": 100,
    "items": {"type": "object", "required": ["name", "value"], "properties": {"name": _TEXT}},
}
_BASE: Final = {"reference_id": _ID, "timestamp": _INSTANT, "id": _ADDRESS, "fa": _ADDRESS}
_LINK: Final = {
    "type": "object",
    "required": ["reference_id", "timestamp", "id", "fa"],
    "properties": {**_BASE, "name": _TEXT, "phone_number": _TEXT, "additional_info": _INFO, "locale": _TEXT},
}
_UNLINK: Final = {
    "type": "object",
    "required": ["reference_id", "timestamp", "id"],
    "properties": {**_BASE, "additional_info": _INFO, "locale": _TEXT},
}
_RESOLVE: Final = {
    "type": "object",
    "required": ["reference_id", "timestamp"],
    "properties": {
        **_BASE,
        "name": _TEXT,
        "scope": {"enum": ["yes_no", "details"], "default": "yes_no"},
        "additional_info": _INFO,
        "locale": _TEXT,
    },
}
_ASKED: Final = {
    **_STATUS,
    "properties": {**_STATUS["properties"], "txn_type": {"enum": ["link", "resolve", "update", "unlink"]}},  # type: ignore[dict-item]
}


def _items(verb: str, item: dict[str, Any]) -> dict[str, Any]:
    return _request([verb], {f"{verb}_request": {"type": "array", "items": item, **_MANY}})


REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "link": _items("link", _LINK),
    "update": _items("update", _LINK),
    "unlink": _items("unlink", _UNLINK),
    "resolve": _items("resolve", _RESOLVE),
    "status": _request(["txn-status", "status"], {"txnstatus_request": _ASKED}),
}

_AT: Final = "2026-03-04T09:30:00Z"
_PAIR: Final = {"id": "vid:54321@nid", "fa": "account:12345@national-bank"}
EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    **{
        verb: _example(
            verb, 1, {f"{verb}_request": [{"reference_id": f"{verb}-1", "timestamp": _AT, **_PAIR}]}
        )
        for verb in ("link", "update", "unlink")
    },
    "resolve": _example(
        "resolve",
        1,
        {
            "resolve_request": [
                {"reference_id": "resolve-1", "timestamp": _AT, "id": "vid:54321@nid", "scope": "details"}
            ]
        },
    ),
    "status": _example(
        "txn-status",
        1,
        {
            "txnstatus_request": {
                "reference_id": "q-1",
                "txn_type": "link",
                "attribute_type": "reference_id_list",
                "attribute_value": ["link-1"],
            }
        },
    ),
}
