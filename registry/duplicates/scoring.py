"""How alike two people are: a score from 0 to 100 and the reasons for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

from rapidfuzz import fuzz

_FAMILIAR: Final = 92.0
_SIMILAR: Final = 80.0


class Reason(StrEnum):
    """Why two registrants may be one; shown to who decides, in the order of weight."""

    NAME_SAME = "name-same"
    NAME_SIMILAR = "name-similar"
    BIRTHDATE_SAME = "birthdate-same"
    BIRTHDATE_SWAPPED = "birthdate-swapped"
    BIRTHDATE_NEAR = "birthdate-near"
    CONTACT_SHARED = "contact-shared"
    AREA_SAME = "area-same"
    SEX_DIFFERENT = "sex-different"
    BIRTHDATE_DIFFERENT = "birthdate-different"
    GROUP_SHARED = "group-shared"


@dataclass(frozen=True, slots=True)
class Traits:
    """What two registrants are compared by; `names` are folded to one script, `contacts` are keyed tokens."""

    names: Sequence[str]
    birthdate: date | None
    birthdate_not_exact: bool
    sex: str | None
    area_id: int | None
    contacts: Collection[int]
    groups: Collection[object] = ()


@dataclass(frozen=True, slots=True)
class Likeness:
    """A score and what it rests on."""

    score: float
    reasons: tuple[Reason, ...]


def compare(one: Traits, other: Traits) -> Likeness:
    """Return how alike two registrants are.

    Names carry 60 of 100, whatever their order; the birth date 30 (15 where day and month are swapped or an estimate is a
    year or less away), a shared contact point or account 15, the same area 5. A different sex costs 15, birth dates that
    are certain and years apart cost 40. Two members of one group who share a contact point get nothing for it, since a
    household has one telephone.
    """
    likeness = max(
        (fuzz.token_sort_ratio(mine, theirs) for mine in one.names for theirs in other.names), default=0.0
    )
    reasons: list[Reason] = []
    score = 0.6 * max(likeness - 40.0, 0.0) * (100.0 / 60.0)
    if likeness >= _FAMILIAR:
        reasons.append(Reason.NAME_SAME)
    elif likeness >= _SIMILAR:
        reasons.append(Reason.NAME_SIMILAR)
    added, why = _birthdates(one, other)
    score += added
    if why is not None:
        reasons.append(why)
    together = not set(one.groups).isdisjoint(other.groups)
    if together:
        reasons.append(Reason.GROUP_SHARED)
    if not together and not set(one.contacts).isdisjoint(other.contacts):
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
    return (10.0, Reason.BIRTHDATE_NEAR) if apart <= 31 else (0.0, None)
