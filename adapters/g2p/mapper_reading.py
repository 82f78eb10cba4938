"""Mapper messages of G2P Connect, read item by item: what is wrong with one item refuses that item alone, by the official code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import orjson

from adapters.dci.envelope import MAX_ID, Reader, an_object, refuse
from adapters.g2p.disburse_profile import DisburseProfile
from adapters.g2p.disburse_reading import MAX_ITEMS, Envelope
from adapters.http.problems import RequestRefused

Verb = Literal["link", "update", "unlink", "resolve"]
VERBS: Final[tuple[Verb, ...]] = ("link", "update", "unlink", "resolve")
_PHONE: Final = re.compile(r"\+?[0-9 ()./-]{3,40}(;ext=[0-9]{1,10})?")
_NAME: Final = 200
_MORE: Final = 4096
"""Bytes of the additional information of one item."""
_NAME_CODE: Final = {"link": "rjct.name.invalid", "update": "rjct.beneficiary_name.invalid"}
OTHER: Final[Mapping[str, str]] = {
    "link": "rjct.other.error",
    "update": "rjct.reference_id.invalid",
    "unlink": "rjct.reference_id.invalid",
    "resolve": "rjct.id.invalid",
}
"""The code of what the official list of a verb has none of its own for; the message beside it says what is meant."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a message, or why it is refused."""

    reference_id: str
    code: str | None = None
    text: str | None = None
    id: str | None = field(default=None, repr=False)
    fa: str | None = field(default=None, repr=False)
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)
    details: bool = False


def read_items(read: Envelope, verb: Verb, profile: DisburseProfile, now: datetime) -> list[Item]:
    """Return the items of a message in their order; raises `RequestRefused` for what is no list of them."""
    name = f"{verb}_request"
    found = read.message.get(name)
    if not isinstance(found, list):
        refuse(f"/message/{name}", "the requests are a list")
    reader = Reader(profile.tolerant)
    seen: set[str] = set()
    items = []
    for number, one in enumerate(found):
        at = f"/message/{name}/{number}"
        item = an_object(one, at)
        reference = item.get("reference_id")
        if not isinstance(reference, str):
            refuse(f"{at}/reference_id", "rjct.reference_id.invalid: each request has a reference id")
        items.append(_item(item, reference, verb, reader, reference in seen, now))
        seen.add(reference)
    return items


def _item(
    item: Mapping[str, Any], reference: str, verb: Verb, reader: Reader, again: bool, now: datetime
) -> Item:
    if not 0 < len(reference) <= MAX_ID or not reference.isprintable():
        return Item(reference, "rjct.reference_id.invalid", f"an id has 1 to {MAX_ID} characters")
    if again:
        return Item(reference, "rjct.reference_id.duplicate", "the message has it twice")
    try:
        at = reader.instant(item.get("timestamp"), "/timestamp", now)
    except RequestRefused:
        at = None
    if at is None and not (reader.tolerant and not item.get("timestamp")):
        return Item(reference, "rjct.timestamp.invalid", "the request has a time with a zone")
    id_, fa = _text(item.get("id")), _text(item.get("fa"))
    if item.get("id") and id_ is None:
        return Item(reference, *_wrong(verb, "rjct.id.invalid", "the id is a text"))
    if item.get("fa") and fa is None:
        return Item(reference, *_wrong(verb, "rjct.fa.invalid", "the financial address is a text"))
    if id_ is None and not (verb == "resolve" and fa is not None):
        return Item(reference, *_wrong(verb, "rjct.id.invalid", "the request names no id"))
    if fa is None and verb in {"link", "update"}:
        return Item(reference, *_wrong(verb, "rjct.fa.invalid", "the request names no financial address"))
    scope = item.get("scope") or "yes_no"
    if verb == "resolve" and scope not in {"yes_no", "details"}:
        return Item(reference, "rjct.resolve_type.not_supported", "the scope is yes_no or details")
    more: dict[str, Any] = {}
    name = item.get("name")
    if name and verb in _NAME_CODE:
        if not isinstance(name, str) or len(name) > _NAME or not name.isprintable():
            return Item(reference, _NAME_CODE[verb], f"a name has 1 to {_NAME} characters")
        more["name"] = name
    phone = item.get("phone_number")
    if phone and verb in _NAME_CODE:
        if not isinstance(phone, str) or not _PHONE.fullmatch(phone):
            return Item(reference, *_wrong(verb, "rjct.mobile_number.invalid", "the phone number is none"))
        more["phone_number"] = phone
    info = item.get("additional_info")
    if info and verb in _NAME_CODE:
        listed = [info] if isinstance(info, dict) else info
        if not _is_info(listed):
            text = f"additional_info is a list of name and value of at most {_MORE} bytes"
            return Item(reference, OTHER[verb], text)
        more["additional_info"] = listed
    return Item(reference, None, None, id_, fa, more, scope == "details")


def _wrong(verb: Verb, code: str, text: str) -> tuple[str, str]:
    """Return a code of the verb's official list: update and unlink know neither ids nor addresses."""
    known = verb == "link" or (verb == "resolve" and code != "rjct.mobile_number.invalid")
    return (code if known else OTHER[verb], text)


def _text(value: Any) -> str | None:
    return value.strip() if isinstance(value, str) and 0 < len(value.strip()) <= 200 else None


def _is_info(value: Any) -> bool:
    if not isinstance(value, list) or len(orjson.dumps(value)) > _MORE:
        return False
    return all(isinstance(one, dict) and isinstance(one.get("name"), str) and "value" in one for one in value)


def read_status(read: Envelope) -> dict[str, Any]:
    """Return what a status request asks for; raises `RequestRefused` with the place of a fault."""
    at = "/message/txnstatus_request"
    asked = an_object(read.message.get("txnstatus_request"), at)
    reference = asked.get("reference_id")
    if not isinstance(reference, str) or not 0 < len(reference) <= MAX_ID:
        refuse(f"{at}/reference_id", "rjct.reference_id.invalid: the request has a reference id")
    verb = str(asked.get("txn_type", "")).removeprefix("on-")
    if verb not in VERBS:
        refuse(f"{at}/txn_type", "the type is link, update, unlink or resolve")
    kind, value = asked.get("attribute_type"), asked.get("attribute_value")
    if kind not in {"transaction_id", "reference_id_list", "correlation_id"}:
        refuse(f"{at}/attribute_type", "the attribute is transaction_id, reference_id_list or correlation_id")
    many = kind == "reference_id_list"
    values = value if many else [value]
    if not isinstance(values, list) or not 0 < len(values) <= MAX_ITEMS:
        refuse(f"{at}/attribute_value", f"the references are a list of 1 to {MAX_ITEMS} texts")
    if not all(isinstance(each, str) and 0 < len(each) <= MAX_ID for each in values):
        refuse(f"{at}/attribute_value", f"each value is a text of 1 to {MAX_ID} characters")
    return {"verb": verb, "kind": kind, "value": value}
