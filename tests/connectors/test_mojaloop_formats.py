import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonical_model.money import MINOR_UNIT_DIGITS
from connectors.mojaloop import errors, formats
from connectors.mojaloop.errors import Action

AMOUNT = re.compile(r"^([0]|([1-9][0-9]{0,17}))([.][0-9]{0,3}[1-9])?$")


@pytest.mark.parametrize(
    ("minor_units", "currency", "text"),
    [
        (10000, "USD", "100"),
        (10050, "USD", "100.5"),
        (50, "USD", "0.5"),
        (1, "JPY", "1"),
        (1234, "BHD", "1.234"),
        (10, "BHD", "0.01"),
        (100_000_000, "XOF", "100000000"),
    ],
)
def test_an_amount_is_written_without_trailing_zeros(minor_units, currency, text):
    assert formats.amount_text(minor_units, currency) == text
    assert formats.minor_units(text, currency) == minor_units


@given(st.integers(1, 2**53 - 1), st.sampled_from(sorted(MINOR_UNIT_DIGITS)))
def test_every_amount_fits_the_official_pattern_and_comes_back(minor_units, currency):
    text = formats.amount_text(minor_units, currency)
    assert AMOUNT.fullmatch(text)
    assert formats.minor_units(text, currency) == minor_units


@pytest.mark.parametrize(("minor_units", "currency"), [(0, "USD"), (-1, "USD"), (10**18, "JPY"), (1, "XAU")])
def test_an_amount_that_cannot_be_paid_is_not_written(minor_units, currency):
    with pytest.raises(ValueError, match=r"amount|currency|date|identifier"):
        formats.amount_text(minor_units, currency)


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("1.5", "JPY"),
        ("1.2345", "BHD"),
        ("100.00", "USD"),
        ("01", "USD"),
        (".5", "USD"),
        ("5.", "USD"),
        ("-1", "USD"),
        ("1e3", "USD"),
        ("1" * 19, "JPY"),
        (100, "USD"),
        ("1", "usd"),
        ("1", None),
        ("１", "USD"),
    ],
)
def test_an_amount_of_another_form_is_not_read(text, currency):
    with pytest.raises(ValueError, match=r"amount|currency|date|identifier"):
        formats.minor_units(text, currency)


def test_a_moment_has_exactly_three_digits_of_milliseconds():
    assert formats.moment_text(datetime(2026, 11, 22, 15, 0, 0, tzinfo=UTC)) == "2026-11-22T15:00:00.000Z"
    assert (
        formats.moment_text(datetime(2026, 11, 22, 15, 0, 0, 123999, tzinfo=UTC))
        == "2026-11-22T15:00:00.123Z"
    )
    for wrong in ("2026-11-22T15:00:00Z", "2026-11-22T15:00:00.123456Z", "2026-11-22T15:00:00.123", None):
        with pytest.raises(ValueError, match=r"amount|currency|date|identifier"):
            formats.parse_moment(wrong)
    assert formats.parse_moment("2026-11-22T17:00:00.000+02:00") == datetime(2026, 11, 22, 15, tzinfo=UTC)


def test_ids_have_the_form_the_version_demands():
    one_x = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
    assert all(one_x.fullmatch(formats.new_uuid()) for _ in range(100))
    assert all(re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", formats.new_ulid()) for _ in range(100))


def test_a_path_segment_keeps_the_plus_and_refuses_what_would_change_the_path():
    assert formats.path_part("+27713803912") == "+27713803912"
    assert formats.path_part("a b#ü") == "a%20b%23%C3%BC"
    for wrong in ("", "a/b", "a?b", "x" * 129):
        with pytest.raises(ValueError, match=r"amount|currency|date|identifier"):
            formats.path_part(wrong)


def test_every_code_of_the_standard_has_an_action_and_scheme_codes_follow_their_hundred():
    ranges = [
        (1000, 1001),
        (2000, 2005),
        (3000, 3003),
        (3100, 3107),
        (3200, 3210),
        (3300, 3303),
        (4000, 4001),
    ]
    ranges += [(4100, 4103), (5000, 5001), (5100, 5106)]
    listed = [code for first, last in ranges for code in range(first, last + 1)]
    listed = sorted([*listed, 4200, 4300, 4400, 5200, 5300, 5400, 6000])
    assert sorted(errors.CODES) == [str(code) for code in listed]
    assert errors.action_of("4001") is Action.SYSTEMIC
    assert errors.action_of("2004") is Action.ASK
    assert errors.action_of("5104") is Action.FINAL
    assert errors.action_of("5171") is Action.FINAL
    assert errors.action_of("4072") is Action.FINAL
    assert errors.action_of("9999") is Action.ASK
    assert "scheme" in errors.meaning_of("5171")


def test_json_is_sorted_compact_and_escapes_nothing_it_need_not():
    assert formats.dumps({"b": {"z": 1, "a": "é/€"}, "a": []}) == '{"a":[],"b":{"a":"é/€","z":1}}'.encode()
