"""The messages of GovStack Payments as JSON Schema, for the hub's own OpenAPI description."""

from __future__ import annotations

from typing import Any, Final


def _text(most: int, least: int = 1) -> dict[str, Any]:
    return {"type": "string", "minLength": least, "maxLength": most}


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "maxItems": 1000, "items": item}


_PARTY: Final = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["key", "value"],
        "properties": {"key": _text(50), "value": _text(100)},
    },
}
BULK: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["RequestID", "SourceBBID", "BatchID", "CreditInstructions"],
    "properties": {
        "RequestID": _text(50),
        "SourceBBID": _text(50),
        "BatchID": _text(50),
        "CreditInstructions": _list(
            {
                "type": "object",
                "required": ["InstructionID", "PayeeFunctionalID", "Amount", "Currency"],
                "properties": {
                    "InstructionID": _text(50),
                    "PayeeFunctionalID": _text(50),
                    "Amount": {"type": "number"},
                    "Currency": _text(3, 3),
                    "Narration": {"type": ["string", "null"], "maxLength": 50},
                },
            }
        ),
    },
}
BATCH: Final[dict[str, Any]] = _list(
    {
        "type": "object",
        "required": ["requestId", "creditParty", "debitParty", "paymentMode", "amount", "currency"],
        "properties": {
            "requestId": _text(50),
            "creditParty": _PARTY,
            "debitParty": _PARTY,
            "paymentMode": _text(20),
            "amount": {"type": "number"},
            "currency": _text(3, 3),
            "descriptionText": {"type": "string", "maxLength": 50},
        },
    }
)
BATCH_ANSWER: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["batchId"],
    "properties": {"batchId": _text(50)},
}


def _beneficiaries(id_name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["RequestID", "Beneficiaries"],
        "properties": {
            "RequestID": _text(50),
            "SourceBBID": _text(50),
            "Beneficiaries": _list(
                {
                    "type": "object",
                    "required": [id_name, "PaymentModality", "FinancialAddress"],
                    "properties": {
                        id_name: _text(50),
                        "PaymentModality": {"enum": ["00", "01", "02", "03", "04"]},
                        "FinancialAddress": _text(200),
                    },
                }
            ),
        },
    }


BENEFICIARIES: Final[dict[str, Any]] = _beneficiaries("PayeeFunctionalID")
BENEFICIARIES_8: Final[dict[str, Any]] = _beneficiaries("payeeIdentity")
ANSWER: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        name: {"type": "string"}
        for name in (
            "ResponseCode", "ResponseDescription", "RequestID", "responseCode", "responseDescription", "requestID",
        )
    },
}  # fmt: skip

_HEAD: Final = {"RequestID": "REQ000000001", "SourceBBID": "SOCIALWELFAR"}
_BULK: Final = {
    **_HEAD,
    "BatchID": "BATCH2026001",
    "CreditInstructions": [
        {
            "InstructionID": "INSTR20260000001",
            "PayeeFunctionalID": "FUNC0000000000000001",
            "Amount": 1250.5,
            "Currency": "PHP",
            "Narration": "Relief March 2026",
        }
    ],
}
_WHERE: Final = {"PaymentModality": "00", "FinancialAddress": "12345@national-bank"}
EXAMPLES: Final[dict[str, Any]] = {
    "Validate": _BULK,
    "Bulk": _BULK,
    "Batch": [
        {
            "requestId": "INSTR20260000001",
            "creditParty": [{"key": "msisdn", "value": "2547000001"}],
            "debitParty": [{"key": "accountNumber", "value": "9000001"}],
            "paymentMode": "mobile",
            "amount": 1250.5,
            "currency": "PHP",
            "descriptionText": "Relief March 2026",
        }
    ],
    "Register": {**_HEAD, "Beneficiaries": [{"PayeeFunctionalID": "FUNC0000000000000001", **_WHERE}]},
    "Update": {**_HEAD, "Beneficiaries": [{"PayeeFunctionalID": "FUNC0000000000000001", **_WHERE}]},
    "Register8": {
        "RequestID": "REQ000000001",
        "Beneficiaries": [{"payeeIdentity": "FUNC0000000000000001", **_WHERE}],
    },
    "Update8": {
        "RequestID": "REQ000000001",
        "Beneficiaries": [{"payeeIdentity": "FUNC0000000000000001", **_WHERE}],
    },
}
