"""The file a programme office begins with: invented households of several scripts, with the mistakes such files have."""

from __future__ import annotations

import csv
import random
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from adapters.cli.bench.crowd import Somebody, crowd

HEADER: Final = (
    "Household ID", "Relation to head", "UIN", "Given name", "Other names", "Family name", "Full name", "Gender",
    "Date of birth", "Phone", "Wallet",
)  # fmt: skip
WRONG_DATES: Final = ("1987-02-30", "2019-13-04", "31.04.2011", "2O15-06-01", "1958-17-17")
DUPLICATES: Final = 6
_BIRTHDATE: Final = HEADER.index("Date of birth")
_UIN: Final = HEADER.index("UIN")
_WALLET: Final = HEADER.index("Wallet")


@dataclass(slots=True)
class Crowd:
    """The rows of the file, and what is known to be wrong with them: the demonstration's own books."""

    rows: list[list[str]] = field(default_factory=list, repr=False)
    households: int = 0
    dates: dict[str, str] = field(default_factory=dict, repr=False)
    """The right date of birth of each row that has a wrong one, by UIN."""
    twice: list[tuple[str, str]] = field(default_factory=list, repr=False)
    """UINs under which one person stands in the file twice."""
    twins: tuple[str, str] | None = None
    """UINs of two children born on one day, who are two people."""
    mourned: list[str] = field(default_factory=list, repr=False)
    """The row of a head whose household has a small child, and who dies before the payment."""

    def wallets(self, *, heads: bool = False) -> list[str]:
        """Return the wallets of all people or of heads, each once; the twins share one with a brother or sister."""
        return list(dict.fromkeys(row[_WALLET] for row in self.rows if not heads or row[1] == "head"))

    def write(self, path: Path) -> None:
        """Write the file, readable by its owner alone."""
        path.touch(mode=0o600)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(HEADER)
            writer.writerows(self.rows)

    def mend(self, path: Path, mended: Path) -> int:
        """Do what a clerk does with the file of problems: look the right dates up; return how many rows there were."""
        mended.touch(mode=0o600)
        with (
            path.open(encoding="utf-8-sig", newline="") as file,
            mended.open("w", encoding="utf-8", newline="") as out,
        ):
            reader = csv.DictReader(file)
            writer = csv.DictWriter(out, reader.fieldnames or ())
            writer.writeheader()
            rows = list(reader)
            for row in rows:
                row["Date of birth"] = self.dates[row["UIN"]]
            writer.writerows(rows)
        return len(rows)


class _Town:
    def __init__(self, people: int, today: date, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - invented people, the same every time
        self.today = today
        self.made = Crowd()
        self._by_script: dict[str, list[Somebody]] = defaultdict(list)
        self._waiting = list(crowd(people, seed))
        for one in self._waiting:
            self._by_script[_script(one)].append(one)
        self._number = 0

    def household(self, most: int) -> None:
        """Add a household of at most so many members."""
        chance, today = self.chance, self.today
        head = self._waiting[self._number]
        self.made.households += 1
        code = f"HH{self.made.households:05d}"
        phone = f"+254700{self.made.households:06d}"
        age = chance.choice((24, 28, 31, 33, 36, 39, 42, 47, 52, 58, 66, 71, 78))
        self._row(code, "head", head, head, _born(chance, today, age), phone)
        head_row = self.made.rows[-1]
        left = min(most, chance.choice((1, 2, 3, 4, 4, 5, 5, 6, 7, 8))) - 1
        if left and chance.random() < 0.75:
            self._row(code, "spouse", self._like(head), head, _born(chance, today, max(19, age - 3)), phone)
            left -= 1
        if left > 2 and chance.random() < 0.15:
            self._row(code, "relative", self._like(head), head, _born(chance, today, age + 26), phone)
            left -= 1
        youngest = 99
        for _ in range(left):
            young = chance.randint(0, min(19, max(0, age - 20)))
            youngest = min(youngest, young)
            self._row(code, "child", self._like(head), head, _born(chance, today, young), phone)
        if youngest < 5 and not self.made.mourned and age < 60 and head.name.get("family_name"):
            self.made.mourned = head_row

    def _like(self, head: Somebody) -> Somebody:
        return self.chance.choice(self._by_script[_script(head)])

    def _row(self, code: str, role: str, one: Somebody, head: Somebody, born: date, phone: str) -> None:
        self._number += 1
        name = one.name
        family = head.name.get("family_name", "") if role != "relative" else name.get("family_name", "")
        given, other = name.get("given_name", ""), name.get("addl_name", "")
        whole = "" if given and family else name.get("full_name") or given
        parts = ["", "", ""] if whole else [given, other, family]
        wallet = f"W{self._number:07d}"
        self.made.rows.append(
            [code, role, f"88{self._number:07d}", *parts, whole, one.sex, born.isoformat(), phone, wallet]
        )


def invent(people: int, today: date, *, seed: int = 11) -> Crowd:
    """Return a file of so many rows; `today` is the day ages are counted from."""
    town = _Town(people, today, seed)
    made = town.made
    planted = DUPLICATES + 2
    while len(made.rows) < people - planted:
        town.household(people - planted - len(made.rows))
    children = [row for row in made.rows if row[1] == "child" and row[3] and len(row[3]) > 5]
    picked = town.chance.sample(children, DUPLICATES + 1)
    for number, row in enumerate(picked[:DUPLICATES]):
        again = [*row]
        again[_UIN] = f"99{number:07d}"
        again[3] = row[3] if number % 2 else row[3] + row[3][-1]  # one letter too many, as hands write it
        made.rows.append(again)
        made.twice.append((row[_UIN], again[_UIN]))
    row = picked[-1]
    for number, given in enumerate(("Rosamund", "Rosalind")):
        made.rows.append([row[0], "child", f"98{number:07d}", given, "", "Ashgrove", "", "female", *row[8:]])
    made.twins = (made.rows[-2][_UIN], made.rows[-1][_UIN])
    spared = {made.mourned[_UIN], *(uin for pair in made.twice for uin in pair), *made.twins}
    plain = [row for row in made.rows if row[_UIN] not in spared and row[1] != "head"]
    for row, wrong in zip(town.chance.sample(plain, len(WRONG_DATES)), WRONG_DATES, strict=True):
        made.dates[row[_UIN]] = row[_BIRTHDATE]
        row[_BIRTHDATE] = wrong
    return made


def _born(chance: random.Random, today: date, age: int) -> date:
    return today - timedelta(days=int(age * 365.2425) + chance.randint(1, 360))


def _script(one: Somebody) -> str:
    text = next(iter(one.name.values()))
    return unicodedata.name(text[0], "LATIN").partition(" ")[0]
