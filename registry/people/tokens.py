"""Keyed search tokens: 64 bits of a keyed hash of what people search by, so that the database matches what it cannot read.

A name gives, for each of its words: the word itself (as written, and in Latin letters), how it sounds, and its first
three and five letters where it is longer. A word of eight letters costs four tokens, a name some ten to twelve.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final

from canonical_model.account import Account
from canonical_model.contact import ContactKind, ContactPoint
from canonical_model.household import Household
from canonical_model.names import PersonName
from canonical_model.person import Person
from registry.people.identity import normalise
from registry.people.spelling import Word, plain_words, sound, words
from registry.vault import BlindIndex

PREFIXES: Final = (3, 5)
"""Lengths of the beginnings that are found; two letters would lead to a tenth of all people."""
TOKENS_LIMIT: Final = 512
_PARTS: Final = 32768
_WHOLE: Final = "name whole"
_SOUND: Final = "name sound"
_START: Final = "name start"


@dataclass(frozen=True, slots=True)
class Sought:
    """What one word of a search may be found by."""

    exact: tuple[int, ...]
    """Tokens of the word itself, or of it joined with its neighbours."""
    loose: tuple[int, ...]
    """Those, and the tokens of its sound and its beginning."""
    optional: bool


def name_tokens(blind: BlindIndex, names: Iterable[PersonName | str]) -> list[int]:
    """Return the tokens of a person's names or a group's name, signed 64-bit, sorted and unique, at most `TOKENS_LIMIT`.

    Titles and suffixes are left out; former and maiden names are found too.
    """
    found: set[int] = set()
    for name in names:
        if isinstance(name, str):
            found.update(_part_tokens(blind, name))
            continue
        for part in (name.family_name, name.given_name, name.addl_name, name.full_name, name.maiden_name):
            if part:
                found.update(_part_tokens(blind, part))
    kept = sorted(found)
    return kept if len(kept) <= TOKENS_LIMIT else kept[:TOKENS_LIMIT]


def facets_of(birthdate: date | None, area_id: int | None) -> list[int]:
    """Return what a search by name is narrowed by: the year of birth, and the area's id as a negative number."""
    return [*([birthdate.year] if birthdate else ()), *([-area_id] if area_id else ())]


def contact_tokens(
    blind: BlindIndex, contact_points: Iterable[ContactPoint], accounts: Iterable[Account] = ()
) -> list[int]:
    """Return the tokens of phone numbers (E.164), e-mail addresses (lower case) and account numbers with their provider."""
    found = {
        email_token(blind, each.value) if each.kind is ContactKind.EMAIL else blind.token("phone", each.value)
        for each in contact_points
    }
    found.update(account_token(blind, each.provider, each.account_number) for each in accounts)
    return sorted(found)


def registrant_tokens(blind: BlindIndex, said: Person | Household) -> tuple[list[int], list[int]]:
    """Return the tokens a person or group is found by: of the names, and of contact points and accounts."""
    if isinstance(said, Person):
        return name_tokens(blind, said.names), contact_tokens(blind, said.contact_points, said.accounts)
    return name_tokens(blind, (said.name,) if said.name else ()), contact_tokens(blind, said.contact_points)


def phone_token(blind: BlindIndex, number: str) -> int:
    """Return the token of a phone number in E.164 form."""
    return blind.token("phone", number)


def email_token(blind: BlindIndex, address: str) -> int:
    """Return the token of an e-mail address; case does not count."""
    return blind.token("email", address.strip().casefold())


def account_token(blind: BlindIndex, provider: str | None, number: str) -> int:
    """Return the token of an account number at a provider; spaces and case do not count."""
    return blind.token("account", f"{provider or ''}\x00{normalise(number)}")


def sought(blind: BlindIndex, text: str) -> Sequence[Sought]:
    """Return what each word of a searched name may be found by, in order."""
    return [_sought(blind, word) for word in words(text)]


def _sought(blind: BlindIndex, word: Word) -> Sought:
    exact = [blind.token(_WHOLE, each) for each in _spellings(word)]
    loose = list(exact)
    keys = {sound(word.latin), *(sound(each) for each in word.joined if each.isascii())} - {""}
    loose += [blind.token(_SOUND, key) for key in keys]
    for each in {word.written, word.latin}:
        lengths = [length for length in PREFIXES if len(each) >= length]
        if lengths:
            loose.append(blind.token(_START, each[: lengths[-1]]))
    return Sought(tuple(dict.fromkeys(exact)), tuple(dict.fromkeys(loose)), word.optional)


def _spellings(word: Word) -> tuple[str, ...]:
    return tuple(each for each in dict.fromkeys((word.written, word.latin, *word.joined)) if each)


@lru_cache(maxsize=_PARTS)
def _part_tokens(blind: BlindIndex, text: str) -> tuple[int, ...]:
    """Return the tokens of one part of a name; parts repeat from person to person, so most are found here."""
    plain = plain_words(text)
    if plain is not None:
        # Each word by itself: words repeat from person to person more than whole names do.
        return tuple({token for word in plain for token in _word_tokens(blind, word, word, False)})
    found: dict[int, None] = {}
    joined: set[tuple[str, ...]] = set()
    for word in words(text):
        found.update(dict.fromkeys(_word_tokens(blind, word.written, word.latin, word.optional)))
        joined.add(word.joined)
    for spellings in joined - {()}:
        found.update(dict.fromkeys(blind.token(_WHOLE, each) for each in spellings))
        key = sound(spellings[-1]) if spellings[-1].isascii() else ""
        if key:
            found[blind.token(_SOUND, key)] = None
    return tuple(found)


@lru_cache(maxsize=_PARTS)
def _word_tokens(blind: BlindIndex, written: str, spelled: str, optional: bool) -> tuple[int, ...]:
    forms = (written,) if spelled in {written, ""} else (written, spelled)
    found = [blind.token(_WHOLE, each) for each in forms]
    if optional:
        return tuple(found)
    key = sound(spelled)
    if key:
        found.append(blind.token(_SOUND, key))
    found += [
        blind.token(_START, each[:length]) for each in forms for length in PREFIXES if len(each) > length
    ]
    return tuple(found)
