"""Dialect profiles: how a system of the Payment Hub EE family spells headers, paths, methods and fields, read from data."""

from __future__ import annotations

import base64
import secrets
import tomllib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

NAMES: Final = ("payment_hub_ee", "govstack")


@dataclass(frozen=True, slots=True)
class Dialect:
    """One profile of `dialects.toml`; lengths are characters."""

    name: str
    callback_header: str
    program_header: str
    institution_header: str
    type_in: str
    json_amount: str
    batch_path: str
    correlation_length: int
    request_length: int
    note_length: int
    callback_length: int
    mapper_request_length: int
    payee_identity_length: int
    mapper_register: tuple[str, str]
    mapper_update: tuple[str, str]
    mapper_add_modality: tuple[str, str]
    mapper_change_modality: tuple[str, str]
    mapper_callback: str
    voucher_callback: str
    voucher_status: str
    voucher_redeemed: tuple[str, ...]
    voucher_headers: tuple[str, ...]
    mapper_fields: Mapping[str, str]
    lifecycle_fields: Mapping[str, str]
    redeem_fields: Mapping[str, str]

    def correlation_id(self) -> str:
        """Return a new id of a batch or a single payment, as long as the dialect allows."""
        return new_id(self.correlation_length)

    def request_id(self) -> str:
        """Return a new id of one payment in a file, as long as the dialect allows."""
        return new_id(self.request_length)


def new_id(length: int) -> str:
    """Return a UUID where there is room for its 36 characters, else that many random characters (at least 50 bits from 10)."""
    if length >= 36:
        return str(uuid.uuid4())
    return base64.b32encode(secrets.token_bytes(32)).decode().lower()[:length]


def digits(length: int) -> str:
    """Return a random number of so many digits as text, not starting with zero."""
    return str(secrets.randbelow(9 * 10 ** (length - 1)) + 10 ** (length - 1))


@cache
def dialect(name: str) -> Dialect:
    """Return the profile of this name; raises `KeyError`."""
    text = Path(__file__).with_name("dialects.toml").read_text(encoding="utf-8")
    found: dict[str, Any] = {"name": name}
    for key, value in tomllib.loads(text)[name].items():
        found[key] = tuple(value) if isinstance(value, list) else value
    return Dialect(**found)


def renamed(body: Any, names: Mapping[str, str]) -> Any:
    """Return a body with its keys as a dialect has them."""
    if isinstance(body, dict):
        return {names.get(key, key): renamed(value, names) for key, value in body.items()}
    return [renamed(one, names) for one in body] if isinstance(body, list) else body
