"""Payment files: cut so that nothing a deployment does to them loses a payment, a note or a cent."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.errors import Refused
from connectors.payment_hub_ee.batches import (
    COLUMNS,
    WIDE,
    Limits,
    Shape,
    joined,
    multipart,
    plain_amount,
    plan,
    restored,
    row,
    safe_field,
    safe_note,
    stored,
)
from connectors.payment_hub_ee.model import Order
from connectors.payment_hub_ee.signing import part_text

SHAPE = Shape("csv", "ACCOUNT_ID", "900100")
LIMITS = Limits(100_000, 500, 5)


def order(number: int, *, mode: str = "closedloop", payee: str | None = None, amount: str = "850") -> Order:
    return Order(f"r-{number}", mode, "MSISDN", payee or f"2547{number:08d}", amount, "KES", "Cycle 2026-11")


def content(orders: list[Order], shape: Shape = SHAPE) -> bytes:
    return joined((row(place, one, shape) for place, one in enumerate(orders)), shape)


def test_a_narrow_file_is_byte_for_byte_the_sample() -> None:
    sample = Path(__file__).parents[1] / "samples/payment_hub_ee/batch-closedloop-3.csv"
    text = sample.read_text().strip()
    rows = list(csv.DictReader(io.StringIO(text)))
    orders = [
        Order(
            r["request_id"], r["payment_mode"], r["payee_identifier_type"], r["payee_identifier"], r["amount"],
            r["currency"], r["note"],
        )
        for r in rows
    ]  # fmt: skip
    assert content(orders, Shape("csv", "ACCOUNT_ID", "900100", wide=False)).decode() == text


def test_a_wide_file_begins_with_the_ten_columns_and_has_the_commas_the_row_check_counts() -> None:
    lines = content([order(1)]).decode().split("\n")
    assert lines[0].split(",")[:10] == list(COLUMNS)
    assert lines[0].split(",") == list(WIDE)
    assert lines[1].count(",") == len(WIDE) - 1


def test_rows_the_server_takes_for_one_payment_are_in_different_files() -> None:
    twins = [order(1, payee="254700000020"), order(2, payee="254700000020"), order(3)]
    files = plan(twins, LIMITS, SHAPE)
    assert [[one.request_id for one in file] for file in files] == [["r-1", "r-3"], ["r-2"]]


def test_each_mode_has_files_of_its_own() -> None:
    files = plan([order(1), order(2, mode="gsma"), order(3, mode="CLOSEDLOOP")], LIMITS, SHAPE)
    assert [[one.request_id for one in file] for file in files] == [["r-1", "r-3"], ["r-2"]]


def test_amounts_with_decimals_are_in_files_too_small_to_be_split() -> None:
    files = plan([order(n, amount="10.5" if n % 2 else "10") for n in range(40)], LIMITS, SHAPE)
    for file in files:
        assert len(file) <= 5 or all("." not in one.amount for one in file)


amounts = st.sampled_from(["1", "20", "20.5", "850"])
drawn = st.lists(
    st.tuples(st.integers(0, 5), amounts, st.sampled_from(["closedloop", "gsma", "GSMA"])), max_size=60
)


@given(drawn, st.integers(1, 9), st.integers(1200, 3000), st.integers(0, 4), st.booleans())
def test_every_order_is_in_one_file_within_all_limits(
    rows: list[tuple[int, str, str]], most: int, size: int, split: int, wide: bool
) -> None:
    orders = [order(n, payee=str(payee), amount=a, mode=m) for n, (payee, a, m) in enumerate(rows)]
    shape = Shape("csv", "ACCOUNT_ID", "900100", wide)
    files = plan(orders, Limits(size, most, split), shape)
    assert sorted(one.request_id for file in files for one in file) == sorted(o.request_id for o in orders)
    for file in files:
        assert 0 < len(file) <= most
        assert len(content(file, shape)) <= size
        assert len({one.twin_key for one in file}) == len(file)
        assert len({one.mode.lower() for one in file}) == 1
        assert not split or len(file) <= split or all("." not in one.amount for one in file)


def test_a_file_is_made_again_from_what_the_ledger_kept_in_any_order() -> None:
    orders = [order(n) for n in range(12)]
    kept = [stored(place, row(place, one, SHAPE)) for place, one in enumerate(orders)]
    assert joined(restored(reversed(kept)), SHAPE) == content(orders)


def test_what_is_signed_is_what_the_server_reads_of_the_upload() -> None:
    text = content([order(1), order(2)])
    kind, body = multipart(text, "hub-1.csv", "b0")
    assert kind == "multipart/form-data; boundary=b0"
    assert b'name="data"; filename="hub-1.csv"' in body
    assert part_text(text.decode()) == text.decode()


def test_a_json_batch_has_amounts_as_text_or_as_number() -> None:
    shape = Shape("json", "ACCOUNT_ID", "900100")
    [one] = json.loads(content([order(1)], shape))
    assert one["amount"] == "850"
    assert one["creditParty"] == [{"key": "msisdn", "value": "254700000001"}]
    assert one["debitParty"] == [{"key": "accountnumber", "value": "900100"}]
    [one] = json.loads(content([order(1, amount="850.5")], Shape("json", amount_as_number=True)))
    assert one["amount"] == 850.5
    assert one["debitParty"] == []


@pytest.mark.parametrize("value", ["", "1,2", 'a"b', "a\nb", "a\r", " 1", "\x00", "a\u2028b"])
def test_an_account_no_file_can_carry_is_refused(value: str) -> None:
    with pytest.raises(Refused) as caught:
        safe_field(value)
    assert caught.value.code == "payee-unwritable"
    assert not value or value not in str(caught.value)


def test_a_note_loses_what_would_break_a_row_and_keeps_the_rest() -> None:
    assert safe_note('Aid, "spring"\r\n2026', 50) == "Aid spring 2026"
    assert safe_note("é" * 80, 50) == "é" * 50
    assert safe_note(None, 50) == ""


@pytest.mark.parametrize(
    ("text", "plain"), [("850.00", "850"), ("850.50", "850.5"), ("1000", "1000"), ("0.05", "0.05")]
)
def test_an_amount_has_no_zeros_that_say_nothing(text: str, plain: str) -> None:
    assert plain_amount(text) == plain
