"""The messages of disburse as JSON Schema, for the hub's own OpenAPI description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_TEXT: Final = {"type": "string"}
_INSTANT: Final = {"type": "string", "format": "date-time"}
_ID: Final = {"type": "string", "minLength": 1, "maxLength": 200}
_ADDRESS: Final = {"type": "string", "description": "type:id@provider", "maxLength": 200}
_AMOUNT: Final = {"type": "string", "pattern": r"^\d{1,13}\.\d{1,2}$"}
_CURRENCY: Final = {"type": "string", "pattern": "^[A-Z]{3}$"}


def _request(actions: Sequence[str], members: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["header", "message"],
        "properties": {
            "signature": _TEXT,
            "header": {
                "type": "object",
                "required": ["message_id", "message_ts", "action", "sender_id", "total_count"],
                "properties": {
                    "version": {"type": "string", "default": "1.0.0"},
                    "message_id": _ID,
                    "message_ts": _INSTANT,
                    "action": {"enum": list(actions)},
                    "sender_id": _TEXT,
                    "sender_uri": {"type": "string", "format": "uri"},
                    "receiver_id": _TEXT,
                    "total_count": {"type": "integer"},
                    "is_msg_encrypted": {"const": False},
                    "meta": {"type": "object"},
                },
            },
            "message": {
                "type": "object",
                "required": ["transaction_id", *members],
                "properties": {
                    "transaction_id": {"type": "string", "minLength": 1, "maxLength": 99},
                    **members,
                },
            },
        },
    }


_ORDER: Final = {
    "type": "object",
    "required": ["reference_id", "payer_fa", "payee_fa", "amount"],
    "properties": {
        "reference_id": _ID,
        "payer_fa": _ADDRESS,
        "payee_fa": _ADDRESS,
        "amount": _AMOUNT,
        "scheduled_timestamp": _INSTANT,
        "payer_name": _TEXT,
        "payee_name": _TEXT,
        "note": {"type": "string", "maxLength": 99},
        "purpose": {"type": "string", "maxLength": 99},
        "instruction": {"type": "string", "maxLength": 999},
        "currency_code": _CURRENCY,
        "locale": _TEXT,
        "meta": {"type": "object"},
    },
}
_CRITERION: Final = {
    "type": "object",
    "required": ["reference_id", "request_type", "attribute_type", "attribute_value"],
    "properties": {
        "reference_id": _ID,
        "timestamp": _INSTANT,
        "request_type": {"const": "disburse"},
        "attribute_type": {"enum": ["payer_fa", "payee_fa"]},
        "attribute_value": _ADDRESS,
        "locale": _TEXT,
    },
}
_STATUS: Final = {
    "type": "object",
    "required": ["reference_id", "txn_type", "attribute_type", "attribute_value"],
    "properties": {
        "reference_id": _ID,
        "txn_type": {"const": "disburse"},
        "attribute_type": {"enum": ["transaction_id", "reference_id_list", "correlation_id"]},
        "attribute_value": {"anyOf": [_TEXT, {"type": "array", "items": _ID, "maxItems": 1000}]},
        "locale": _TEXT,
    },
}
_MANY: Final = {"minItems": 1, "maxItems": 1000}
REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "disburse": _request(["disburse"], {"disbursements": {"type": "array", "items": _ORDER, **_MANY}}),
    "search": _request(["search"], {"search_criteria": {"type": "array", "items": _CRITERION, **_MANY}}),
    "status": _request(["status"], {"txnstatus_request": _STATUS}),
}

ANSWER: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["header", "message"],
    "properties": {
        "signature": _TEXT,
        "header": {
            "type": "object",
            "required": ["message_id", "message_ts", "action", "status"],
            "properties": {
                "message_id": _ID,
                "message_ts": _INSTANT,
                "action": _TEXT,
                "status": {"enum": ["rcvd", "pdng", "succ", "rjct"]},
                "total_count": {"type": "integer"},
                "completed_count": {"type": "integer"},
            },
        },
        "message": {"type": "object"},
    },
}


def _example(action: str, count: int, message: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "signature": "",
        "header": {
            "version": "1.0.0",
            "message_id": f"{action}-2026-0001",
            "message_ts": "2026-03-04T09:30:00Z",
            "action": action,
            "sender_id": "ministry.example.org",
            "sender_uri": "https://ministry.example.org/g2p/callback",
            "total_count": count,
        },
        "message": {"transaction_id": "relief-2026-03", **message},
    }


EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "disburse": _example(
        "disburse",
        1,
        {
            "disbursements": [
                {
                    "reference_id": "relief-2026-03-000001",
                    "payer_fa": "account:9000001@treasury",
                    "payee_fa": "account:12345@national-bank",
                    "amount": "1250.00",
                    "currency_code": "PHP",
                    "payee_name": "Ada Example",
                    "note": "Relief March 2026",
                }
            ]
        },
    ),
    "search": _example(
        "search",
        1,
        {
            "search_criteria": [
                {
                    "reference_id": "s-1",
                    "request_type": "disburse",
                    "attribute_type": "payee_fa",
                    "attribute_value": "account:12345@national-bank",
                }
            ]
        },
    ),
    "status": _example(
        "status",
        1,
        {
            "txnstatus_request": {
                "reference_id": "q-1",
                "txn_type": "disburse",
                "attribute_type": "transaction_id",
                "attribute_value": "relief-2026-03",
            }
        },
    ),
}
