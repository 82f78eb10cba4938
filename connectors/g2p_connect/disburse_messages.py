"""Messages of disburse as the hub writes them, and what it reads of answers and callbacks; no input or output."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from canonical_model.money import Money
from canonical_model.payment import PaymentInstruction
from connectors.errors import ConfigError, Refused
from connectors.g2p_connect.disburse_addresses import address_of
from connectors.g2p_connect.disburse_settings import DisburseSettings
from connectors.payments import amounts
from registry.signing import SigningKey, VerifyKey, decode, keys_of_set

_CODE: Final = re.compile(r"(?:rjct|succ|err)[a-z._]{1,60}")
_AMOUNT: Final = re.compile(r"[0-9]{1,13}\.[0-9]{1,2}", re.ASCII)
NOT_KNOWN: Final = frozenset({"rjct.reference_id.invalid", "rjct_srch_reference_id.not_found"})
"""Codes by which a status says that a reference is not known; the official list of disburse has none of its own."""


@dataclass(frozen=True, slots=True)
class Told:
    """One entry of `disbursements_status`; `amount` None where it says none or one that cannot be read."""

    reference_id: str
    status: str
    code: str | None = None
    amount: str | None = None
    currency: str | None = None
    at: datetime | None = None


def disbursement_of(order: PaymentInstruction, settings: DisburseSettings) -> dict[str, Any]:
    """Return a payment as one disbursement.

    Raises `Refused`: `amount-unpayable`, `payee-unaddressed` when it names nobody by a financial address, `order-expired`.
    """
    amounts.check(order.amount)
    if order.expires_at is not None and order.expires_at <= datetime.now(UTC):
        raise Refused(
            "An order came too late to be paid.",
            code="order-expired",
            remedy="Pay the person with a new order, if it is still due.",
        )
    payer = None if order.payer_account is None else address_of(order.payer_account)
    item: dict[str, Any] = {
        "reference_id": order.payment_id,
        "payer_fa": payer or settings.payer_fa,
        "payee_fa": _payee(order, settings),
        "amount": amount_text(order.amount),
        "currency_code": order.amount.currency,
    }
    if order.payee_name is not None:
        item["payee_name"] = order.payee_name.display
    if order.note:
        item["note"] = order.note[:99]
    if order.purpose:
        item["purpose"] = order.purpose[:99]
    return item


def known_by_mapper(address: str, settings: DisburseSettings) -> bool:
    """Say whether an address is an id of `payee_ids`, which the mapper of the target resolves, and not an account."""
    kind, _, rest = address.lower().partition(":")
    form = f"{kind}@{rest.rpartition('@')[2]}"
    return settings.mapper is not None and form in {one.lower() for one in settings.payee_ids.values()}


def amount_text(money: Money) -> str:
    """Return an amount as the standard has it, with one or two decimals always; raises `Refused` (`amount-unpayable`)."""
    text = money.decimal()
    if "." not in text:
        text = f"{text}.00"
    whole, _, fraction = text.partition(".")
    fraction = fraction if len(fraction) <= 2 else fraction.rstrip("0").ljust(1, "0")
    text = f"{whole}.{fraction}"
    if not _AMOUNT.fullmatch(text):
        raise Refused(
            "An amount cannot be written with two decimals and 13 digits. Nothing was sent.",
            code="amount-unpayable",
            remedy="Pay amounts of at most two decimals through this target.",
        )
    return text


def _payee(order: PaymentInstruction, settings: DisburseSettings) -> str:
    if order.payee_account is not None:
        address = address_of(order.payee_account)
        if address is not None:
            return address
    else:
        known = {str(one.id_type): one.value for one in order.payee.identifiers}
        for id_type, form in settings.payee_ids.items():
            if id_type in known:
                kind, _, provider = form.partition("@")
                return f"{kind}:{known[id_type]}@{provider}"
    raise Refused(
        "A payee has neither an account with its provider nor an identifier this target addresses.",
        code="payee-unaddressed",
        remedy="Give the payee an account with its provider, or set payee_ids for this target.",
    )


class Envelopes:
    """Writes messages of the hub, signed where the target has a key, and checks those of the other system."""

    def __init__(self, settings: DisburseSettings) -> None:
        self._settings = settings
        self._keys: dict[str, VerifyKey] = keys_of_set(settings.peer_jwks) if settings.peer_jwks else {}
        self._key: SigningKey | None = None
        if settings.signing_key is not None:
            pem = settings.signing_key.get_secret_value().encode()
            try:
                self._key = SigningKey.from_pem(pem, "signing_key of the target")
            except ConfigError:
                raise ConfigError(
                    "signing_key of a G2P Connect target is no P-256 private key in PEM.",
                    code="config-invalid",
                    remedy="Make one with: openssl ecparam -name prime256v1 -genkey -noout -out signing.pem",
                ) from None

    def order(self, message_id: str, transaction_id: str, items: Sequence[Mapping[str, Any]]) -> bytes:
        """Return the bytes of an order; they are stored and, after a time-out, sent again as they are."""
        message = {"transaction_id": transaction_id, "disbursements": list(items)}
        return self._bytes("disburse", message_id, len(items), message, callback="on-disburse")

    def question(self, message_id: str, transaction_id: str, references: Sequence[str]) -> bytes:
        """Return the bytes of a question about references of one transaction."""
        asked = {
            "reference_id": message_id,
            "txn_type": "disburse",
            "attribute_type": "reference_id_list",
            "attribute_value": list(references),
        }
        message = {"transaction_id": transaction_id, "txnstatus_request": asked}
        return self._bytes("status", message_id, 1, message)

    def about(
        self, action: str, message_id: str, count: int, message: Mapping[str, Any], callback: str | None
    ) -> bytes:
        """Return the bytes of a message to the account mapper; `callback` ends the address its answer goes to."""
        return self._bytes(action, message_id, count, message, callback)

    def _bytes(
        self,
        action: str,
        message_id: str,
        count: int,
        message: Mapping[str, Any],
        callback: str | None = None,
    ) -> bytes:
        s = self._settings
        header: dict[str, Any] = {
            "version": "1.0.0",
            "message_id": message_id,
            "message_ts": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "action": action,
            "sender_id": s.sender_id,
            "total_count": count,
            "is_msg_encrypted": False,
        }
        if s.receiver_id is not None:
            header["receiver_id"] = s.receiver_id
        if callback is not None and s.callback_url is not None:
            header["sender_uri"] = f"{s.callback_url}/{callback}"
        body: dict[str, Any] = {"header": header, "message": message}
        signature = "" if self._key is None else self._key.sign(orjson.dumps(body), typ="JWS")
        return orjson.dumps({"signature": signature, **body})

    def believed(self, body: Mapping[str, Any]) -> bool:
        """Say whether a message is signed, as compact JWS over itself without the signature, by a key of the other system."""
        signature = body.get("signature")
        if not self._keys or not isinstance(signature, str) or signature.count(".") != 2:
            return False
        try:
            head, payload = (orjson.loads(decode(part)) for part in signature.split(".")[:2])
            key = self._keys.get(head["kid"]) if "kid" in head else next(iter(self._keys.values()))
            algorithm = head["alg"]
        except (ValueError, TypeError, KeyError):
            return False
        if key is None or "crit" in head or not isinstance(algorithm, str):
            return False
        signed = {name: value for name, value in body.items() if name != "signature"}
        return key.verify(signature, algorithm) and payload == signed


def entries_of(message: Any) -> list[Told]:
    """Return the entries of a DisburseResponse, or of the one within a status; of two for one reference the first counts.

    A reference said to be two different things is left out: nobody may act on it.
    """
    if isinstance(message, dict) and isinstance(message.get("txnstatus_response"), dict):
        message = message["txnstatus_response"].get("txn_status")
    listed = message.get("disbursements_status") if isinstance(message, dict) else None
    found: dict[str, Told] = {}
    twice: set[str] = set()
    for one in listed if isinstance(listed, list) else ():
        told = _entry(one)
        if told is None:
            continue
        if found.setdefault(told.reference_id, told) != told:
            twice.add(told.reference_id)
    return [told for told in found.values() if told.reference_id not in twice]


def _entry(one: Any) -> Told | None:
    if not isinstance(one, dict):
        return None
    reference, status = one.get("reference_id"), one.get("status")
    if not isinstance(reference, str) or status not in {"rcvd", "pdng", "succ", "rjct"}:
        return None
    code, amount, currency = (one.get(name) for name in ("status_reason_code", "amount", "currency_code"))
    return Told(
        reference,
        status,
        code if isinstance(code, str) and _CODE.fullmatch(code) else None,
        amount if isinstance(amount, str) else None if amount is None else "",
        currency if isinstance(currency, str) else None,
        _moment(one.get("timestamp")),
    )


def as_ordered(told: Told, money: Money) -> bool:
    """Say whether an entry names the ordered amount and currency, or none."""
    if told.currency is not None and told.currency != money.currency:
        return False
    if told.amount is None:
        return True
    whole, _, fraction = told.amount.partition(".")
    try:
        paid = Money.parse(told.amount if fraction.strip("0") else whole, money.currency)
    except ValueError:
        return False
    return paid == money


def _moment(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except (ValueError, TypeError):
        return None
    # A clock far ahead says nothing of when it was paid.
    return found if found.tzinfo is not None and found <= datetime.now(UTC) + timedelta(hours=1) else None
