"""Search tokens: who is found by which spelling, and that nobody reads a name from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonical_model.account import Account
from canonical_model.contact import ContactPoint
from canonical_model.names import PersonName
from registry.people.spelling import fold, plain_words, words
from registry.people.tokens import TOKENS_LIMIT, contact_tokens, name_tokens, sought
from registry.vault import BlindIndex

BLIND = BlindIndex(b"k" * 32)


def exact(query: str, *names: str | PersonName) -> bool:
    tokens = set(name_tokens(BLIND, names))
    asked = [each for each in sought(BLIND, query) if not each.optional]
    return bool(asked) and all(tokens & set(each.exact) for each in asked)


def loose(query: str, *names: str | PersonName) -> bool:
    tokens = set(name_tokens(BLIND, names))
    asked = [each for each in sought(BLIND, query) if not each.optional]
    return bool(asked) and all(tokens & set(each.loose) for each in asked)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("Cruz Juan", "Juan de la Cruz"),  # order does not count
        ("juan cruz", "Juan de la Cruz"),
        ("Juan Delacruz", "Juan de la Cruz"),
        ("Juan de la Cruz", "Juan Delacruz"),
        ("SUHARTO", "Suharto"),  # a mononym
        ("Jean Pierre", "Jean-Pierre"),
        ("Jeanpierre", "Jean-Pierre"),
        ("Jean\u2010Pierre", "Jeanpierre"),
        ("OBrien", "O\u2019Brien"),
        ("O'Brien", "O\u2018BRIEN"),
        ("Nguyen Van Minh", "Nguyễn Văn Minh"),
        ("Strasse", "Straße"),
        ("İstanbul", "istanbul"),
        ("Lukasz", "Łukasz"),
        ("Fatima\u200f \u202eAli", "\ufeffFati\u200dma Ali"),  # invisible marks
        ("Ａｎｎａ", "Anna"),  # full width
        ("محمد", "مُحَمَّد"),  # vowel points
        ("احمد", "أحمد"),
        ("فاطمه", "فاطمة"),
        ("حسن", "الحسن"),
        ("Алена", "Алёна"),
        ("Wang Xiaoming", "王小明"),
        ("王小明", "王小明"),
        ("小明", "王小明"),
        ("Gim Minsu", "김민수"),
        ("Ivanova", "Иванова"),
        ("tesfaye", "ተስፋዬ"),
        ("Abdulrahman", "Abdul Rahman"),
        ("Abdul Rahman", "Abdulrahman"),
        ("नारायण", "नारायण शर्मा"),
    ],
)
def test_a_name_is_found_whole_by_another_way_of_writing_it(query: str, name: str) -> None:
    assert exact(query, name)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("Mohammed Ali", "محمد علي"),
        ("محمد", "Muhammad"),
        ("Mohamed Aly", "Mohammed Ali"),
        ("Youssef", "يوسف"),
        ("Khadija", "خديجة"),
        ("Krishna", "कृष्णा"),
        ("कृष्णा", "Krishna"),
        ("Abdulrahman", "عبد الرحمن"),
        ("Abd al-Rahman", "Abdulrahman"),
        ("Catherine", "Katherine"),
        ("Aleksander", "Александр"),
        ("Abebe Tesfaye", "ተስፋዬ አበበ"),
        ("Fat", "Fatima"),  # beginnings
        ("Fatim", "Fatimah"),
        ("Moh Ali", "Ali Mohammed"),
    ],
)
def test_a_name_is_found_by_sound_by_transliteration_and_by_its_beginning(query: str, name: str) -> None:
    assert loose(query, name)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("Fatima", "Amina"),
        ("Mohammed", "Tariq"),
        ("Juan Perez", "Juan Garcia"),
        ("Fb", "Fatima"),
        ("李华", "王小明"),
    ],
)
def test_another_name_is_not_found(query: str, name: str) -> None:
    assert not loose(query, name)


def test_former_and_additional_names_are_found_and_titles_are_not() -> None:
    name = PersonName(
        family_name="Okafor", given_name="Ada", addl_name="Ngozi", maiden_name="Eze", prefix="Chief"
    )
    assert all(exact(each, name) for each in ("Okafor Ada", "Ngozi", "Eze"))
    assert not loose("Chief", name)


def test_a_name_that_is_a_particle_is_found() -> None:
    assert exact("Ben", "Ben Carter")
    assert exact("Van", "Nguyen Van")
    assert sought(BLIND, "Ben Carter")[0].optional


def test_tokens_differ_by_key_and_by_use() -> None:
    other = BlindIndex(b"o" * 32)
    assert not set(name_tokens(BLIND, ["Suharto"])) & set(name_tokens(other, ["Suharto"]))
    assert BLIND.token("name whole", "ada") != BLIND.token("name sound", "ada")


@given(st.lists(st.text(max_size=60), max_size=5))
def test_any_text_gives_sorted_signed_unique_and_bounded_tokens(names: list[str]) -> None:
    found = name_tokens(BLIND, names)
    assert found == sorted(set(found))
    assert len(found) <= TOKENS_LIMIT
    assert all(-(2**63) <= each < 2**63 for each in found)
    assert all(fold(word.written) == word.written for name in names for word in words(name))


def test_a_text_of_many_words_is_bounded() -> None:
    assert len(name_tokens(BLIND, [" ".join(f"name{number}abc" for number in range(9000))])) <= TOKENS_LIMIT


def test_contacts_are_found_by_equal_values_of_one_kind() -> None:
    phone = ContactPoint(kind="mobile", value="+254700123456")
    mail = ContactPoint(kind="email", value="Ada@Example.org")
    account = Account(kind="bank", provider="KCB", account_number="12 34")
    found = contact_tokens(BLIND, [phone, mail], [account])
    assert found == sorted(set(found))
    assert len(found) == 3
    assert contact_tokens(BLIND, [ContactPoint(kind="phone", value="+254700123456")])[0] in found
    assert contact_tokens(BLIND, [ContactPoint(kind="email", value="ada@example.ORG")])[0] in found
    assert (
        contact_tokens(BLIND, [], [Account(kind="bank", provider="KCB", account_number="1234")])[0] in found
    )
    assert (
        contact_tokens(BLIND, [], [Account(kind="bank", provider="Equity", account_number="1234")])[0]
        not in found
    )


@pytest.mark.parametrize(
    "text", ["Ama", "O'Neil  Mary", "JOHN  smith 2", "Dr. Ama, Kofi", "a b " * 20, "d`Arc (Jo)", "", "_x_ z"]
)
def test_plain_names_have_the_words_that_any_name_has(text: str) -> None:
    found = words(text)
    assert plain_words(text) == [word.written for word in found]
    assert all(word.latin == word.written and not word.joined and not word.optional for word in found)


@pytest.mark.parametrize("text", ["Maria de la Cruz", "Abd Rahman", "Anne-Marie", "José", "bin Ali"])
def test_names_with_words_that_may_be_joined_or_left_out_are_not_plain(text: str) -> None:
    assert plain_words(text) is None
