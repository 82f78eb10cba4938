import pytest

from connectors.mojaloop import ilp
from connectors.mojaloop.flow import Flow, Means
from connectors.mojaloop.formats import b64_hash, new_ulid, new_uuid
from connectors.mojaloop.model import Item, Order, Party, Transferred
from connectors.mojaloop.sandbox_http import SchemeSandbox
from connectors.mojaloop.sandbox_wire import Wire
from connectors.mojaloop.settings import MojaloopSettings

PROOF = ilp.b64url(b"1" * 32)
CONDITION = b64_hash(b"1" * 32)


def flow(version="1.1"):
    raw = SchemeSandbox(version=version).settings() | {"url": "http://127.0.0.1:1", "token_url": None}
    return Flow(MojaloopSettings.model_validate(raw))


def told(version, body, *, failed=False):
    return flow(version).transfer_told(CONDITION, body, failed=failed)


@pytest.mark.parametrize("version", ["1.1", "2.0", "iso20022"])
def test_paid_is_committed_with_the_right_proof_and_nothing_else(version):
    wire = Wire(version, "payerfsp")
    assert told(version, wire.state("COMMITTED", PROOF)).means is Means.PAID
    wrong = told(version, wire.state("COMMITTED", ilp.b64url(b"2" * 32)))
    assert (wrong.means, wrong.reason) == (Means.REVIEW, "fulfilment-wrong")
    none = told(version, wire.state("COMMITTED", None))
    assert (none.means, none.reason) == (Means.REVIEW, "fulfilment-missing")
    assert told(version, wire.state("RESERVED", None)).means is Means.OPEN
    assert told(version, wire.state("RECEIVED", None)).means is Means.OPEN
    assert told(version, wire.state("ABORTED", None)).means is Means.FAILED
    assert told(version, {}).means is Means.OPEN


@pytest.mark.parametrize(
    ("code", "means"),
    [
        ("3208", Means.ABSENT),
        ("5104", Means.FAILED),
        ("3303", Means.FAILED),
        ("2004", Means.OPEN),
        ("2001", Means.OPEN),
        ("1001", Means.OPEN),
        ("4001", Means.SYSTEMIC),
        ("4400", Means.SYSTEMIC),
        ("3105", Means.SYSTEMIC),
        ("5199", Means.FAILED),
    ],
)
@pytest.mark.parametrize("version", ["1.1", "iso20022"])
def test_an_error_ends_a_sent_transfer_only_when_its_code_is_final(version, code, means):
    verdict = told(version, Wire(version, "payerfsp").error(code, "transfers"), failed=True)
    assert (verdict.means, verdict.reason) == (means, code)


def test_an_error_nobody_can_read_leaves_a_sent_transfer_open_and_a_look_up_failed():
    assert told("1.1", {"x": 1}, failed=True).means is Means.OPEN
    found = flow().party_told(Party("MSISDN", "1"), {"x": 1}, "bluebank", "USD", failed=True)
    assert found.means is Means.FAILED


def test_a_bulk_entry_is_judged_by_itself():
    assert flow().transfer_item(CONDITION, Item("a", None, None)).means is Means.OPEN
    assert flow().transfer_item(CONDITION, Item("a", None, "5104")).means is Means.FAILED
    paid = Item("a", Transferred("COMMITTED", PROOF, None), None)
    assert flow().transfer_item(CONDITION, paid).means is Means.PAID
    wrong = Item("a", Transferred("COMMITTED", PROOF[::-1], None), None)
    assert flow().transfer_item(CONDITION, wrong).means is Means.REVIEW


@pytest.mark.parametrize(("version", "new_id"), [("1.1", new_uuid), ("iso20022", new_ulid)])
def test_a_look_up_leads_to_a_quote_and_a_quote_to_a_transfer(version, new_id):
    found, wire = flow(version), Wire(version, "payerfsp")
    scheme = SchemeSandbox(version=version, fsps=("bluebank",)).scheme
    asked = Party("MSISDN", "+27713803912")
    verdict = found.party_told(
        asked, scheme.find(asked.type, asked.identifier, None), "bluebank", "USD", failed=False
    )
    assert (verdict.means, verdict.party.fsp) == (Means.GO, "bluebank")
    order = Order(new_id(), new_id(), verdict.party, 10150, "USD")
    raw = found.quote(order)
    answer = scheme.quote(wire.read_quote(wire.check_body(raw)), raw)
    quoted = found.quote_told(order, answer, failed=False)
    assert quoted.means is Means.GO
    raw = found.transfer(order, quoted.quoted)
    paid = scheme.transfer(wire.read_transfer(wire.check_body(raw)), raw)
    end = found.transfer_told(quoted.quoted.condition, scheme.told(paid, asked_for=False), failed=False)
    assert end.means is Means.PAID


def test_the_path_of_a_look_up_is_encoded():
    assert Flow.party_path(Party("MSISDN", "+27 71")) == "/parties/MSISDN/+27%2071"
    assert Flow.party_path(Party("PERSONAL_ID", "Z-1", "PASSPORT")) == "/parties/PERSONAL_ID/Z-1/PASSPORT"
