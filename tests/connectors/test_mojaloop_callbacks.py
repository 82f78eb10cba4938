import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from canonical_model.payment import PaymentInstruction
from connectors.mojaloop import checks
from connectors.mojaloop.callbacks import CallbackRefused, Reader
from connectors.mojaloop.formats import MAX_BODY, dumps, new_uuid
from connectors.mojaloop.fspiop import FspiopBodies
from connectors.mojaloop.model import Order, Party, PartyFound, Payer
from connectors.mojaloop.payees import PayeeUnknown, payee_of
from connectors.mojaloop.sandbox_http import PAYER, Fault, SchemeSandbox
from connectors.mojaloop.settings import MojaloopSettings
from connectors.mojaloop.signing import Verifier

SANDBOX = SchemeSandbox(fsps=("bluebank", "redmoney"))
SETTINGS = MojaloopSettings.model_validate(
    {**SANDBOX.settings(), "url": "http://127.0.0.1:1/switch", "token_url": None}
)
READER = Reader(SETTINGS, Verifier(SETTINGS.public_keys))
ID = new_uuid()
URI = f"/transfers/{ID}"
BODY = dumps({"transferState": "COMMITTED", "fulfilment": "L" * 43})


def call(uri=URI, body=BODY, source="bluebank", resource="transfers", method="PUT", **change):
    headers = SANDBOX.signed(method, uri, body, source, resource)
    headers |= change.pop("headers", {})
    return READER.read(
        change.get("method_seen", method), change.get("uri_seen", uri), headers, change.get("raw", body)
    )


def test_a_signed_callback_is_read():
    told = call()
    assert (told.resource, told.id, told.source, told.failed, told.proven) == (
        "transfers",
        ID,
        "bluebank",
        False,
        True,
    )
    assert call(uri=URI + "/error").failed
    assert call(method="PATCH").id == ID
    party = call(uri="/parties/MSISDN/%2B27713803912", resource="parties")
    assert party.id == "MSISDN/+27713803912"
    sub = call(uri="/parties/PERSONAL_ID/ZM-1/NATIONAL_ID_CARD/error", resource="parties")
    assert (sub.id, sub.failed) == ("PERSONAL_ID/ZM-1/NATIONAL_ID_CARD", True)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"raw": BODY.replace(b"L", b"M", 1)}, 400, "3105"),
        ({"uri_seen": f"/transfers/{new_uuid()}"}, 400, "3105"),
        ({"headers": {"FSPIOP-Signature": ""}}, 400, "3105"),
        ({"headers": {"FSPIOP-Source": "redmoney"}}, 400, "3105"),
        ({"headers": {"FSPIOP-Source": "stranger"}}, 400, "3105"),
        ({"headers": {"FSPIOP-Source": ""}}, 400, "3102"),
        ({"headers": {"FSPIOP-Destination": "someone"}}, 400, "3201"),
        ({"headers": {"Content-Type": "application/json"}}, 400, "3101"),
        (
            {"headers": {"Content-Type": "application/vnd.interoperability.transfers+json;version=2.0"}},
            406,
            "3001",
        ),
        ({"raw": b" " * (MAX_BODY + 1)}, 400, "3104"),
        ({"uri": "/transfers/1"}, 400, "3101"),
        ({"uri": "/settlements/1", "resource": "transfers"}, 404, "3002"),
        ({"uri": "/transfers/1/2/3"}, 404, "3002"),
        ({"uri": "/parties/MSISDN", "resource": "parties"}, 404, "3002"),
        ({"method": "DELETE"}, 405, "3000"),
        ({"body": b"{"}, 400, "3101"),
        ({"body": b"[]"}, 400, "3101"),
    ],
)
def test_a_callback_that_does_not_hold_is_answered_with_the_standards_code(change, status, code):
    with pytest.raises(CallbackRefused) as caught:
        call(**change)
    assert (caught.value.status, caught.value.code) == (status, code)
    answer = caught.value.body()["errorInformation"]
    assert answer["errorCode"] == code
    assert 1 <= len(answer["errorDescription"]) <= 128


def test_the_answer_to_another_version_names_the_one_spoken_here():
    with pytest.raises(CallbackRefused) as caught:
        call(headers={"Content-Type": "application/vnd.interoperability.transfers+json;version=2.0"})
    listed = caught.value.body()["errorInformation"]["extensionList"]["extension"]
    assert listed == [{"key": "1", "value": "1"}]


def test_party_callbacks_may_come_unsigned_where_the_scheme_does_so():
    lax = Reader(SETTINGS.model_copy(update={"verify": "not-parties"}), Verifier(SETTINGS.public_keys))
    headers = SANDBOX.signed("PUT", "/parties/MSISDN/1", BODY, "bluebank", "parties")
    del headers["FSPIOP-Signature"]
    assert not lax.read("PUT", "/parties/MSISDN/1", headers, BODY).proven
    with pytest.raises(CallbackRefused):
        lax.read(
            "PUT",
            URI,
            {**headers, "Content-Type": "application/vnd.interoperability.transfers+json;version=1.1"},
            BODY,
        )


PAYEE = Party("MSISDN", "+27713803912", None, "bluebank")


def quoted(*faults, fee=0, settings=SETTINGS):
    scheme = SchemeSandbox(fsps=("bluebank",), fee=fee).scheme
    scheme.every |= set(faults)
    order = Order(new_uuid(), new_uuid(), PAYEE, 10150, "USD")
    payer = Payer(Party("BUSINESS", "MIN", None, PAYER), None, settings.amount_type, "TRANSFER", "BUSINESS")
    body = FspiopBodies().quote(order, payer, "2036-01-01T00:00:00.000Z")
    return order, FspiopBodies().read_quote(scheme.quote(scheme.wire.read_quote(body), b"x"))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.QUOTE_OTHER_PAYEE, "quote-payee"),
        (Fault.QUOTE_OTHER_AMOUNT, "quote-amount"),
        (Fault.QUOTE_DEAR, "quote-cost"),
        (Fault.QUOTE_OTHER_CURRENCY, "quote-currency"),
        (Fault.QUOTE_EXPIRED, "quote-expired"),
        (None, None),
    ],
)
def test_a_quote_that_is_not_what_was_asked_for_is_not_used(fault, reason):
    order, terms = quoted(*([fault] if fault else []))
    assert checks.quote_fault(SETTINGS, order, terms) == reason


def test_a_fee_is_taken_up_to_the_limit_on_the_side_that_bears_it():
    order, terms = quoted(fee=50)
    assert checks.quote_fault(SETTINGS, order, terms) == "quote-cost"
    assert checks.quote_fault(SETTINGS.model_copy(update={"fee_limit": 50}), order, terms) is None
    send = SETTINGS.model_copy(update={"amount_type": "SEND"})
    order, terms = quoted(fee=50, settings=send)
    assert checks.quote_fault(send, order, terms) == "quote-arrives"
    assert checks.quote_fault(send.model_copy(update={"fee_limit_percent": 0.5}), order, terms) is None


def test_terms_of_another_quote_or_transaction_are_not_used():
    order, terms = quoted()
    assert checks.quote_fault(SETTINGS, replace(order, quote_id=new_uuid()), terms) == "quote-ids"
    assert checks.quote_fault(SETTINGS, replace(order, transaction_id=new_uuid()), terms) == "quote-ids"
    assert checks.quote_fault(SETTINGS, order, replace(terms, packet="AAAA")) == "quote-packet"
    late = datetime(2999, 1, 1, tzinfo=UTC)
    assert checks.quote_fault(SETTINGS, order, terms, late) == "quote-expired"


def test_a_party_answer_for_somebody_else_or_without_the_currency_is_not_used():
    assert (
        checks.party_fault(PAYEE, PartyFound(replace(PAYEE, identifier="27713803912"), None), "USD") is None
    )
    assert (
        checks.party_fault(PAYEE, PartyFound(replace(PAYEE, identifier="1"), None), "USD") == "party-differs"
    )
    assert checks.party_fault(PAYEE, PartyFound(PAYEE, None, ("KES",)), "USD") == "party-currency"


def instruction(**change):
    return PaymentInstruction.model_validate(
        {
            "payment_id": "P-1",
            "payee": {"identifiers": [{"id_type": "NID", "value": "ZM-4411-7723"}]},
            "amount": {"minor_units": 100, "currency": "USD"},
        }
        | change
    )


def account(**change):
    return {"payee_account": {"kind": "mobile_money", "account_number": "+27 71 380 3912"} | change}


def test_the_payee_is_the_account_or_the_first_identifier_a_type_is_set_for():
    assert payee_of(instruction(**account()), {}) == Party("MSISDN", "+27713803912")
    assert payee_of(instruction(**account(id_type="iban", account_number="DE 75")), {}) == Party(
        "IBAN", "DE75"
    )
    types = {"NID": "PERSONAL_ID/NATIONAL_ID_CARD"}
    assert payee_of(instruction(), types) == Party("PERSONAL_ID", "ZM-4411-7723", "NATIONAL_ID_CARD")
    for order, reason in [
        (instruction(), "payee-not-addressable"),
        (instruction(**account(kind="card")), "payee-account-kind"),
        (instruction(**account(id_type="SWIFT")), "payee-id-type"),
        (instruction(**account(account_number="1/2")), "payee-identifier-invalid"),
    ]:
        with pytest.raises(PayeeUnknown, match=reason):
            payee_of(order, {})


async def test_nothing_keeps_the_sandbox_from_stopping():
    sandbox = SchemeSandbox()
    await sandbox.start()
    await asyncio.gather(sandbox.stop(), sandbox.stop())
