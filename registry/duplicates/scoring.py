"""How alike two people are: a score from 0 to 100 and the reasons for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

from rapidfuzz.fuzz import ratio, token_set_ratio

from registry.people.ranking import texts
from registry.people.spelling import lines, sound

_FAMILIAR: Final = 92.0
_SIMILAR: Final = 80.0
_SOUNDS_SAME: Final = 90.0
"""Likeness of two names that sound the same and are written in two scripts."""


class Reason(StrEnum):
    """Why two registrants may be one, or not; shown to who decides."""

    NAME_SAME = "name-same"
    NAME_SIMILAR = "name-similar"
    BIRTHDATE_SAME = "birthdate-same"
    BIRTHDATE_SWAPPED = "birthdate-swapped"
    BIRTHDATE_NEAR = "birthdate-near"
    IDENTIFIER_SHARED = "identifier-shared"
    CONTACT_SHARED = "contact-shared"
    AREA_SAME = "area-same"
    SEX_DIFFERENT = "sex-different"
    BIRTHDATE_DIFFERENT = "birthdate-different"
    GROUP_SHARED = "group-shared"


@dataclass(frozen=True, slots=True)
class Spelled:
    """A name as it is compared: its words in Latin letters and by sound, each sorted, and whether it was written in Latin."""

    latin: str
    sounds: str
    plain: bool


@dataclass(frozen=True, slots=True)
class Traits:
    """What two registrants are compared by; contacts and identifiers are keyed."""

    names: Sequence[Spelled]
    birthdate: date | None
    birthdate_not_exact: bool
    sex: str | None
    area_id: int | None
    contacts: Collection[int] = frozenset()
    identifiers: Collection[bytes] = frozenset()
    groups: Collection[object] = frozenset()


@dataclass(frozen=True, slots=True)
class Likeness:
    """A score and what it rests on."""

    score: float
    reasons: tuple[Reason, ...]


def spelled(name: Mapping[str, str]) -> list[Spelled]:
    """Return the ways a name is compared in: as it stands, and with the maiden name."""
    found = []
    for text in texts(name):
        written, latin = lines(text)
        words = sorted(latin.split())
        sounds = " ".join(sorted(filter(None, map(sound, words))))
        found.append(Spelled(" ".join(words), sounds, written == latin))
    return found


def compare(one: Traits, other: Traits) -> Likeness:
    """Return how alike two registrants are.

    Names carry 60 of 100, whatever their order; the birth date 30 (15 where day and month are swapped, an estimate is a
    year or less away, or a certain one a month or less), an identifier both had 30, a shared contact point or account 15, the same
    area 5. A different sex costs 15, birth dates that are certain and more than two years apart cost 40. Two members of
    one group who share a contact point get nothing for it, since a household has one telephone.
    """
    likeness = max((_near(mine, theirs) for mine in one.names for theirs in other.names), default=0.0)
    reasons: list[Reason] = []
    score = max(likeness - 40.0, 0.0)
    if likeness >= _FAMILIAR:
        reasons.append(Reason.NAME_SAME)
    elif likeness >= _SIMILAR:
        reasons.append(Reason.NAME_SIMILAR)
    added, why = _birthdates(one, other)
    score += added
    if why is not None:
        reasons.append(why)
    if not _apart(one.identifiers, other.identifiers):
        score += 30.0
        reasons.append(Reason.IDENTIFIER_SHARED)
    together = not _apart(one.groups, other.groups)
    if together:
        reasons.append(Reason.GROUP_SHARED)
    elif not _apart(one.contacts, other.contacts):
        score += 15.0
        reasons.append(Reason.CONTACT_SHARED)
    if one.area_id is not None and one.area_id == other.area_id:
        score += 5.0
        reasons.append(Reason.AREA_SAME)
    known = {"male", "female"}
    if one.sex in known and other.sex in known and one.sex != other.sex:
        score -= 15.0
        reasons.append(Reason.SEX_DIFFERENT)
    return Likeness(round(min(max(score, 0.0), 100.0), 1), tuple(reasons))


def _apart(mine: Collection[object], theirs: Collection[object]) -> bool:
    return not mine or not theirs or set(mine).isdisjoint(theirs)


def _near(mine: Spelled, theirs: Spelled) -> float:
    if not mine.latin or not theirs.latin:
        return 0.0
    near = ratio(mine.latin, theirs.latin)
    if 50.0 < near < _FAMILIAR:
        near = 0.6 * near + 0.4 * token_set_ratio(mine.latin, theirs.latin)
    # In one script a sound leaves too much out: twins are often called so. Between two it is all there is.
    if mine.plain is not theirs.plain and mine.sounds and mine.sounds == theirs.sounds:
        near = max(near, _SOUNDS_SAME)
    return near


def _birthdates(one: Traits, other: Traits) -> tuple[float, Reason | None]:
    mine, theirs = one.birthdate, other.birthdate
    if mine is None or theirs is None:
        return 0.0, None
    if mine == theirs:
        return 30.0, Reason.BIRTHDATE_SAME
    if mine.year == theirs.year and (mine.month, mine.day) == (theirs.day, theirs.month):
        return 15.0, Reason.BIRTHDATE_SWAPPED
    apart = abs((mine - theirs).days)
    if one.birthdate_not_exact or other.birthdate_not_exact:
        return (15.0, Reason.BIRTHDATE_NEAR) if apart <= 366 else (0.0, None)
    if apart > 730:
        return -40.0, Reason.BIRTHDATE_DIFFERENT
    # Nobody has two children within a month but twins, who are not called the same.
    return (15.0, Reason.BIRTHDATE_NEAR) if apart <= 31 else (0.0, None)
