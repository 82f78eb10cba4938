"""How well a registrant's names and birth date fit what was searched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from rapidfuzz.fuzz import token_set_ratio, token_sort_ratio

from registry.people.spelling import lines

_BORN: Final = 0.1
"""The part of the score that the birth date decides, where one was given."""
_BEGUN: Final = 88.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A searched name in the forms it is compared in, and the birth date that was said with it."""

    written: str
    latin: str
    born: date | None

    @classmethod
    def of(cls, text: str, born: date | None = None) -> Wanted:
        """Prepare a searched text."""
        return cls(*lines(text), born)

    def score(self, names: Iterable[Mapping[str, str]], birthdate: date | None) -> float:
        """Return 0 to 100: the best of all names, in the original script or in Latin letters, order of words not counting.

        A name that is said in part (`Fatima` of `Fatima Hassan`) stands below one that is said whole.
        """
        best = max((self._near(text) for name in names for text in texts(name)), default=0.0)
        if self.born is None:
            return best
        return best * (1 - _BORN) + 100 * _BORN * closeness(self.born, birthdate)

    def _near(self, text: str) -> float:
        written, latin = lines(text)
        near = _compared(self.latin, latin)
        if written == latin and self.written == self.latin:
            return near
        return max(near, _compared(self.written, written))


def _compared(one: str, other: str) -> float:
    """Return 0 to 100; what was typed is beginnings of the name's words: at least `_BEGUN`."""
    if not one or not other:
        return 0.0
    near = 0.6 * token_sort_ratio(one, other) + 0.4 * token_set_ratio(one, other)
    there = other.split()
    if near < _BEGUN and all(any(word.startswith(each) for word in there) for each in one.split()):
        near = _BEGUN + (100 - _BEGUN) * 0.5 * len(one) / max(len(one), len(other))
    return float(near)


def texts(name: Mapping[str, str]) -> list[str]:
    """Return the ways one name is written out: as it stands, and with the maiden in place of the family name."""
    given = [name[part] for part in ("given_name", "addl_name") if name.get(part)]
    family, maiden, full = name.get("family_name"), name.get("maiden_name"), name.get("full_name")
    found = [full] if full else [" ".join([*given, family] if family else given)]
    if maiden:
        found.append(" ".join([*given, maiden]))
    return found


def closeness(born: date, birthdate: date | None) -> float:
    """Return 1 for the same day, 0.5 for day and month swapped or at most a year apart, else 0."""
    if birthdate is None:
        return 0.0
    if born == birthdate:
        return 1.0
    swapped = (born.year, born.month, born.day) == (birthdate.year, birthdate.day, birthdate.month)
    return 0.5 if swapped or abs((born - birthdate).days) <= 366 else 0.0
