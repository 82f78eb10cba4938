"""The notify operation as JSON Schema, for the hub's own OpenAPI description."""

from __future__ import annotations

from typing import Any, Final

_TEXT: Final = {"type": "string"}
_INSTANT: Final = {"type": "string", "format": "date-time"}

NOTIFY: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["header", "message"],
    "properties": {
        "signature": _TEXT,
        "header": {
            "type": "object",
            "required": ["message_id", "message_ts", "action", "status"],
            "properties": {
                "version": {"type": "string", "default": "1.0.0"},
                "message_id": {"type": "string", "minLength": 1, "maxLength": 200},
                "message_ts": _INSTANT,
                "action": {"const": "notify"},
                "status": {"enum": ["rcvd", "pdng", "succ", "rjct"]},
                "total_count": {"type": "integer"},
                "sender_id": _TEXT,
                "receiver_id": _TEXT,
                "is_msg_encrypted": {"const": False},
                "meta": {"type": "object"},
            },
        },
        "message": {
            "type": "object",
            "required": ["transaction_id", "notify_event"],
            "properties": {
                "transaction_id": {"type": "string", "minLength": 1, "maxLength": 99},
                "notify_event": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 1000,
                    "items": {
                        "type": "object",
                        "required": ["reference_id", "timestamp", "data"],
                        "properties": {
                            "reference_id": {"type": "string", "minLength": 1, "maxLength": 200},
                            "timestamp": _INSTANT,
                            "locale": _TEXT,
                            "data": {
                                "type": "object",
                                "required": ["reg_record_type", "reg_records"],
                                "properties": {
                                    "version": _TEXT,
                                    "reg_type": _TEXT,
                                    "reg_event_type": _TEXT,
                                    "reg_record_type": _TEXT,
                                    "reg_records": {"type": ["object", "array"]},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}

ACK: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["message"],
    "properties": {
        "message": {
            "type": "object",
            "required": ["ack_status", "timestamp", "correlation_id"],
            "properties": {
                "ack_status": {"enum": ["ACK", "ERR"]},
                "timestamp": _INSTANT,
                "correlation_id": {"type": "string", "maxLength": 99},
                "error": {
                    "type": "object",
                    "properties": {"code": _TEXT, "message": {"type": "string", "maxLength": 999}},
                },
            },
        }
    },
}

ERRORS: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["errors"],
    "properties": {
        "errors": {
            "type": "array",
            "items": {"type": "object", "properties": {"code": _TEXT, "message": _TEXT}},
        }
    },
}

EXAMPLE: Final[dict[str, Any]] = {
    "signature": "",
    "header": {
        "version": "1.0.0",
        "message_id": "crvs-2026-000417",
        "message_ts": "2026-03-04T09:30:00Z",
        "action": "notify",
        "status": "succ",
        "sender_id": "civil-registry.example.org",
        "total_count": 1,
    },
    "message": {
        "transaction_id": "subscription-7",
        "notify_event": [
            {
                "reference_id": "1",
                "timestamp": "2026-03-04T09:29:00Z",
                "data": {
                    "version": "1.0.0",
                    "reg_type": "ns:org:RegistryType:Civil",
                    "reg_event_type": "spdci-common:RegistryEventType:LiveBirth",
                    "reg_record_type": "spdci-extensions-dci:Person",
                    "reg_records": {
                        "identifier": [{"identifier_type": "BRN", "identifier_value": "EX-0417"}],
                        "name": {"surname": "Example", "given_name": "Ada"},
                        "sex": "female",
                        "birth_date": "2026-03-01",
                    },
                },
            }
        ],
    },
}
