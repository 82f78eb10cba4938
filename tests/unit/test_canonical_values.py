"""Dates, money, text in languages, phone numbers: the small values everything else is made of."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from canonical_model import (
    Identifier,
    Money,
    PartialDate,
    PersonName,
    best_text,
    normalize_language,
    normalize_phone,
)
from canonical_model.dates import Precision
from canonical_model.localized import LocalizedText
from canonical_model.message import uuid7
from canonical_model.money import MINOR_UNIT_DIGITS

DAYS = st.dates()
PARTIAL = DAYS.flatmap(
    lambda day: st.sampled_from(
        [PartialDate(day.year), PartialDate(day.year, day.month), PartialDate(day.year, day.month, day.day)]
    )
)


@given(PARTIAL)
def test_a_partial_date_reads_back_as_written(value: PartialDate) -> None:
    assert PartialDate.parse(str(value)) == value
    adapter = TypeAdapter(PartialDate)
    assert adapter.validate_json(adapter.dump_json(value), strict=True) == value
    assert adapter.validate_python(value) is value
    assert adapter.validate_python(str(value)) == value


@given(PARTIAL)
def test_first_and_last_are_the_whole_span_and_no_more(value: PartialDate) -> None:
    text = str(value)
    assert value.first.isoformat().startswith(text)
    assert value.last.isoformat().startswith(text)
    if value.first > date.min:
        assert not (value.first - timedelta(days=1)).isoformat().startswith(text)
    if value.last < date.max:
        assert not (value.last + timedelta(days=1)).isoformat().startswith(text)


@given(PARTIAL, PARTIAL)
def test_before_is_said_only_when_it_is_certain(one: PartialDate, other: PartialDate) -> None:
    said = one.is_before(other)
    if said is True:
        assert one.last < other.first
        assert other.is_before(one) is False
        assert not one.overlaps(other)
    if said is False:
        assert one.first >= other.last
    if said is None:
        assert one.overlaps(other)
    assert one.overlaps(other) == other.overlaps(one)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "24",
        "2024-13",
        "2024-00",
        "2023-02-29",
        "2024-2-3",
        "2024-02-03T00:00",
        "0000",
        " 2024",
        "2024\n",
        "２０２４",
    ],
)
def test_what_is_no_partial_date_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not ") as caught:
        PartialDate.parse(text)
    assert not text.strip() or text not in str(caught.value)


def test_a_partial_date_knows_its_precision_and_has_no_order() -> None:
    assert [PartialDate.parse(t).precision for t in ("2024", "2024-05", "2024-05-06")] == list(Precision)
    assert PartialDate.parse("2024") != PartialDate.parse("2024-01-01")
    with pytest.raises(TypeError):
        assert PartialDate.parse("2023") < PartialDate.parse("2024")  # type: ignore[operator]
    with pytest.raises(ValueError, match="month"):
        PartialDate(2024, day=3)
    assert PartialDate.from_date(date(2024, 2, 29)).age_on(date(2025, 2, 28)) == (0, 0)
    assert PartialDate.parse("2000").age_on(date(2018, 6, 1)) == (17, 18)
    assert PartialDate.parse("2024").is_before(date(2024, 1, 1)) is False


@given(st.sampled_from(sorted(MINOR_UNIT_DIGITS)), st.integers(-(2**53) + 1, 2**53 - 1))
def test_money_is_exact_to_the_last_minor_unit(currency: str, units: int) -> None:
    money = Money(minor_units=units, currency=currency)
    assert Money.parse(money.decimal(), currency) == money
    assert Decimal(money.decimal()) == Decimal(units).scaleb(-MINOR_UNIT_DIGITS[currency])
    assert Money.model_validate_json(money.model_dump_json(), strict=True) == money


@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        ("1.5", "JPY"),
        ("1.2345", "BHD"),
        ("1.230", "USD"),
        ("1e3", "USD"),
        ("1,000.00", "USD"),
        ("", "USD"),
        (".5", "USD"),
        ("5.", "USD"),
        ("+5", "USD"),
        ("NaN", "USD"),
        ("١", "USD"),
        ("1", "XAU"),
        ("1", "usd"),
        ("999999999999999999", "USD"),
    ],
)
def test_an_amount_that_cannot_be_held_exactly_is_refused(amount: str, currency: str) -> None:
    with pytest.raises(ValueError, match=r"decimal|currency|large"):
        Money.parse(amount, currency)


def test_amounts_are_read_by_the_digits_of_their_currency() -> None:
    assert Money.parse("1250.5", "PHP").minor_units == 125050
    assert Money.parse("1.234", "BHD").minor_units == 1234
    assert Money.parse("-7", "JPY").minor_units == -7
    assert Money.parse("0.05", "PHP").decimal() == "0.05"
    assert Money.parse("1.0001", "UYW").minor_units == 10001


def test_money_of_two_currencies_is_never_added() -> None:
    peso, yen = Money.parse("1.10", "PHP"), Money.parse("1", "JPY")
    assert (peso + peso - peso) == peso
    with pytest.raises(ValueError, match="cannot add"):
        peso + yen
    with pytest.raises(TypeError):
        peso + 1  # type: ignore[operator]


def test_money_takes_no_float_and_no_text() -> None:
    for units in (1.0, "1", True):
        with pytest.raises(ValidationError):
            Money.model_validate({"minor_units": units, "currency": "PHP"})


def test_every_currency_stands_once_and_the_odd_ones_are_right() -> None:
    assert 160 < len(MINOR_UNIT_DIGITS) < 180
    assert {c: MINOR_UNIT_DIGITS[c] for c in ("JPY", "PHP", "KWD", "CLF", "MGA", "UGX", "ISK", "IQD")} == {
        "JPY": 0, "PHP": 2, "KWD": 3, "CLF": 4, "MGA": 2, "UGX": 0, "ISK": 0, "IQD": 3,
    }  # fmt: skip


def test_the_best_text_is_found_by_falling_back_through_the_tag() -> None:
    text = {"en": "Hello", "fr": "Bonjour", "zh-Hant": "您好"}
    assert best_text(text, ["fr-CA"]) == "Bonjour"
    assert best_text(text, ["zh-hant-TW"]) == "您好"
    assert best_text(text, ["de"]) == "Hello"
    assert best_text({"ar": "أهلا", "fr": "Bonjour"}, ["de"]) == "أهلا"
    assert best_text(text, ["fr-x-odd"]) == "Bonjour"
    with pytest.raises(ValueError, match="at least one"):
        best_text({}, ["en"])


def test_language_tags_stand_in_their_recommended_case() -> None:
    assert normalize_language("ZH-hant-tw") == "zh-Hant-TW"
    assert normalize_language("en-x-AB") == "en-x-ab"
    for tag in ("", "e", "en_US", "en-", "en-toolongsub", "../x"):
        with pytest.raises(ValueError, match="BCP 47"):
            normalize_language(tag)
    with pytest.raises(ValidationError):
        TypeAdapter(LocalizedText).validate_python({"EN": "x"})
    with pytest.raises(ValidationError):
        TypeAdapter(LocalizedText).validate_python({})


def test_phone_numbers_lose_their_ornament_and_need_a_country() -> None:
    assert normalize_phone("+1 (425) 555-1212") == "+14255551212"
    assert normalize_phone("0063 917.123.4567") == "+639171234567"
    for text in ("0917 123 4567", "+0917123456", "+63917abc4567", "+1234567890123456", ""):
        with pytest.raises(ValueError, match="international") as caught:
            normalize_phone(text)
        assert not text or text not in str(caught.value)


def test_names_and_identifiers_read_as_openspp_writes_them() -> None:
    assert PersonName(full_name="Sukarno").display == "Sukarno"
    assert PersonName(family_name="Reyes", given_name="Ana", addl_name="Cruz").display == "Ana Cruz Reyes"
    number = Identifier(id_type="NID", value="PH-1", namespace="urn:gov:ph:psa:national-id")
    assert number.qualified == "urn:gov:ph:psa:national-id|PH-1"


def test_ids_made_one_after_the_other_keep_their_order() -> None:
    ids = [uuid7() for _ in range(10_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
