from dataclasses import replace
from datetime import UTC, datetime

import pytest

from connectors.mojaloop import ilp
from connectors.mojaloop.formats import new_ulid, new_uuid
from connectors.mojaloop.fspiop import FspiopBodies
from connectors.mojaloop.iso20022 import IsoBodies
from connectors.mojaloop.model import BodyInvalid, Order, Party, Payer, Quoted
from connectors.mojaloop.sandbox_scheme import Scheme
from connectors.mojaloop.sandbox_wire import Wire
from tests.connectors.mojaloop_files import problems, schema_of, validator

EXPIRY = "2036-01-01T00:00:00.000Z"
PAYER = Payer(
    Party("BUSINESS", "MIN", "CHILD-GRANT", "payerfsp"),
    "Ministry",
    "RECEIVE",
    "TRANSFER",
    "BUSINESS",
    "SOCIAL_BENEFIT",
    "123",
)
PAYEES = [
    Party("MSISDN", "+27713803912", None, "payeefsp"),
    Party("PERSONAL_ID", "ZM-4411-7723", "NATIONAL_ID_CARD", "payeefsp"),
    Party("IBAN", "DE75512108001245126199", None, "payeefsp"),
    Party("ALIAS", "amina@scheme", None, "payeefsp"),
]
TERMS = Quoted(10150, "USD", 10150, None, datetime(2036, 1, 1, tzinfo=UTC), "AYICoQ", "L" * 43)


def order(payee=PAYEES[0], new_id=new_uuid):
    return Order(new_id(), new_id(), payee, 10150, "USD", "Child grant 2026-11", "Amina Okello")


@pytest.mark.parametrize("version", ["1.1", "2.0"])
@pytest.mark.parametrize("payee", PAYEES, ids=lambda p: p.type)
def test_fspiop_bodies_hold_the_official_schemas(version, payee):
    bodies, found = FspiopBodies(), order(payee)
    made = {
        "/quotes": bodies.quote(found, PAYER, EXPIRY),
        "/transfers": bodies.transfer(found, TERMS, PAYER, EXPIRY),
        "/bulkQuotes": bodies.bulk_quote(
            new_uuid(), [bodies.quote_item(o, PAYER) for o in (found, order())], PAYER, EXPIRY
        ),
        "/bulkTransfers": bodies.bulk_transfer(
            new_uuid(), new_uuid(), "payeefsp", [bodies.transfer_item(found, TERMS)], PAYER, EXPIRY
        ),
    }
    for path, body in made.items():
        assert problems(schema_of(version, path, "post"), body) == []


@pytest.mark.parametrize("payee", PAYEES, ids=lambda p: p.type)
def test_iso_20022_bodies_hold_the_official_schemas(payee):
    found = order(payee, new_ulid)
    assert problems(schema_of("iso20022", "/quotes", "post"), IsoBodies().quote(found, PAYER, EXPIRY)) == []
    body = IsoBodies().transfer(found, TERMS, PAYER, EXPIRY)
    # The schema calls the packet hexBinary; what its own examples and the reference put there is base64url.
    assert problems(schema_of("iso20022", "/transfers", "post"), body) == []


def test_the_validator_refuses_what_the_standard_refuses():
    body = FspiopBodies().quote(order(), PAYER, EXPIRY)
    for wrong in (
        {"amount": {"currency": "USD", "amount": "101.50"}},
        {"quoteId": new_ulid()},
        {"amountType": "X"},
    ):
        assert problems(schema_of("1.1", "/quotes", "post"), body | wrong)


@pytest.mark.parametrize("version", ["1.1", "2.0", "iso20022"])
def test_what_the_sandbox_answers_holds_the_schemas_and_is_read_back(version):
    iso = version == "iso20022"
    bodies, wire = (IsoBodies() if iso else FspiopBodies()), Wire(version, "payerfsp")
    scheme = Scheme(wire, ("payeefsp",), fee=50)
    found = order(PAYEES[1], bodies.new_id)
    party = scheme.find(found.payee.type, found.payee.identifier, found.payee.sub)
    path = "/parties/{Type}/{ID}"
    assert problems(schema_of(version, path, "put"), party) == []
    assert bodies.read_party(party).party == found.payee
    asked = wire.read_quote(bodies.quote(found, PAYER, EXPIRY))
    answer = scheme.quote(asked, b"quote")
    assert problems(schema_of(version, "/quotes/{ID}", "put"), answer) == []
    terms = bodies.read_quote(answer)
    assert (terms.amount, terms.receive, terms.currency) == (10200, 10150, "USD")
    assert ilp.read(terms.packet).amount == 10200
    paid = scheme.transfer(wire.read_transfer(bodies.transfer(found, terms, PAYER, EXPIRY)), b"transfer")
    told = scheme.told(paid, asked_for=False)
    assert problems(schema_of(version, "/transfers/{ID}", "put"), told) == []
    state = bodies.read_transfer(told)
    assert state.state == "COMMITTED"
    assert ilp.fulfils(state.fulfilment, terms.condition)
    for resource in ("parties", "quotes", "transfers"):
        assert bodies.read_error(wire.error("5103", resource)) == "5103"
        paths = {"parties": path, "quotes": "/quotes/{ID}", "transfers": "/transfers/{ID}"}
        assert (
            problems(schema_of(version, paths[resource] + "/error", "put"), wire.error("5103", resource))
            == []
        )


def test_members_the_hub_does_not_know_are_passed_over():
    body = {"transferState": "COMMITTED", "fulfilment": "L" * 43, "randomMember": {"x": [1]}}
    assert FspiopBodies().read_transfer(body).state == "COMMITTED"


@pytest.mark.parametrize(
    "body",
    [None, [], {}, {"transferState": "PAID"}, {"transferState": 1}, "COMMITTED"],
)
def test_a_state_nobody_knows_is_refused(body):
    for bodies in (FspiopBodies(), IsoBodies()):
        with pytest.raises(BodyInvalid):
            bodies.read_transfer(body)


def test_a_bulk_answer_is_read_item_by_item():
    body = {
        "bulkTransferState": "COMPLETED",
        "individualTransferResults": [
            {"transferId": "b", "errorInformation": {"errorCode": "5104", "errorDescription": "no"}},
            {"transferId": "a", "fulfilment": "L" * 43},
            {"transferId": "c"},
        ],
    }
    state, items = FspiopBodies().read_bulk_transfer(body)
    assert state == "COMPLETED"
    assert [(item.id, item.error, item.answer is not None) for item in items] == [
        ("b", "5104", False),
        ("a", None, True),
        ("c", None, False),
    ]
    assert FspiopBodies().read_bulk_quote({"expiration": EXPIRY}) == []


def test_a_phone_number_with_and_without_its_plus_is_the_same_person():
    payee = PAYEES[0]
    assert payee.same_person(replace(payee, identifier="27713803912"))
    assert not payee.same_person(replace(payee, identifier="27713803913"))
    assert not PAYEES[2].same_person(replace(PAYEES[2], type="ALIAS"))


def test_an_error_body_of_ours_holds_the_schema():
    assert validator("1.1", "ErrorInformationObject").is_valid(
        {"errorInformation": {"errorCode": "3105", "errorDescription": "x"}}
    )
