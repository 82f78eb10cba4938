"""Invented people for the benchmarks: names of several scripts, spread as unevenly as real ones are."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate
from typing import Final

# Heads of the lists are common names; the long tails are made of syllables, as rare names of a real country would be.
_CULTURES: Final = (
    (30, "Mary John Grace Peter Faith Joseph Esther James Mercy David Ruth Samuel Agnes Daniel Jane Paul Amina Moses",
     "Otieno Mwangi Wanjiru Okafor Barasa Mensah Kamau Banda Phiri Achieng Njoroge Adeyemi Okeke Chanda Kiprotich",
     "a be ka ki ko la lo ma mba mu na nde nga no nya o ra sha ti to wa wi ya zu", ""),
    (20, "Mohamed Ahmed Fatima Hassan Ali Aisha Ibrahim Omar Khadija Yusuf Zainab Abdullahi Maryam Hussein Halima",
     "Ali Hassan Mohamud Abdi Farah Osman Warsame Al-Hassan Abdulrahman Ismail Nur Jama El-Sayed Bin-Omar Saleh",
     "a ba da fa ha ja ka li ma na ra sa ta wa ya zi du mu nu bi", ""),
    (15, "محمد أحمد فاطمة علي حسن مريم عائشة عمر خديجة يوسف زينب إبراهيم عبدالله سارة خالد",
     "العلي الحسن المحمد الأحمد عبد‌الرحمن السيد منصور الخطيب حداد النجار صالح حمدان",
     "با دا را سا عا فا قا كا لا ما نا ها وا يا بي دي ري سي لي مي ني", ""),
    (15, "María José Juan Ana Luz Carlos Rosa Luis Carmen Jesús Maricel Jorge Ángel Elena Miguel Jean-Pierre",
     "Dela Cruz|Reyes|Santos|García|Hernández|Núñez|De la Rosa|Bautista|Mendoza|Peña|Villanueva|Del Rosario|O'Brien",
     "a ba bel ca co da do fa gar la lan man mo na no que ra ri ro san so ta var ve", ""),
    (10, "अमित प्रिया राम सीता राहुल सुनीता विजय अनीता कृष्णा लक्ष्मी संजय पूजा",
     "शर्मा कुमार देवी सिंह पटेल यादव गुप्ता दास राय नारायण", "अ क का की ग ज जा त ता द दी न ना प पा ब म मा र रा ल ला व वा स सा ह", ""),
    (5, "አበበ ተስፋዬ ሰላም ኃይለ ፀሐይ ብርሃን ገብረ መሐመድ አለሙ ሣራ", "ተስፋዬ አለሙ ከበደ ታደሰ ገብረመድህን በቀለ ወልዴ", "አ በ ገ ደ ለ መ ነ ረ ሰ ተ ወ ያ ዴ ቤ", ""),
    (3, "Александр Мария Иван Анна Дмитрий Елена Сергей Гульнара Мухаммад", "Иванов Петрова Юсупов Ким Абдуллаев Смирнова",
     "ба ва га да за ка ла ма на ра са та ша ев ин ов", ""),
    (2, "伟 芳 娜 敏 静 丽 强 磊 军 洋 小明 秀英", "王 李 张 刘 陈 杨 黄 赵 吴 周", "安 宝 春 德 恩 芬 国 海 佳 凯 兰 美 宁 平 奇", "joined"),
)  # fmt: skip
_TAIL_GIVEN: Final = 2_000
_TAIL_FAMILY: Final = 12_000
_FIRST_DAY: Final = date(1930, 1, 1)
_DAYS: Final = 34_500


@dataclass(frozen=True, slots=True)
class Somebody:
    """One invented person: a number, the name in parts, sex, birth date."""

    number: int
    name: dict[str, str]
    sex: str
    born: date


class _Culture:
    def __init__(self, chance: random.Random, given: str, family: str, syllables: str, joined: bool) -> None:
        parts = syllables.split()
        self.given = given.split() + _tail(chance, parts, _TAIL_GIVEN, joined)
        self.family = family.split("|" if "|" in family else None) + (
            _tail(chance, parts, _TAIL_FAMILY, joined) if not joined else []
        )
        self.joined = joined
        # Zipf with a flattened head: the most common given name is borne by about one in thirty.
        self.given_weights = list(accumulate(1 / (place + 6) for place in range(len(self.given))))
        self.family_weights = list(accumulate(1 / (place + 8) for place in range(len(self.family))))


def _tail(chance: random.Random, parts: list[str], count: int, joined: bool) -> list[str]:
    lengths = [1, 2] if joined else [2, 3, 3, 4]
    made = {"".join(chance.choices(parts, k=chance.choice(lengths))) for _ in range(count)}
    return sorted(each[0].upper() + each[1:] for each in made)


def crowd(count: int, seed: int = 1) -> Iterator[Somebody]:
    """Yield invented people numbered from 0, the same ones for the same seed."""
    chance = random.Random(seed)  # noqa: S311
    cultures = [
        _Culture(chance, given, family, syllables, bool(joined))
        for _, given, family, syllables, joined in _CULTURES
    ]
    shares = [share for share, *_ in _CULTURES]
    picked = chance.choices(range(len(cultures)), shares, k=count)
    for number, place in enumerate(picked):
        culture = cultures[place]
        given, addl = chance.choices(culture.given, cum_weights=culture.given_weights, k=2)
        family = chance.choices(culture.family, cum_weights=culture.family_weights)[0]
        kind = chance.random()
        if culture.joined:
            name = {"full_name": family + given}
        elif kind < 0.03:
            name = {"full_name": given}
        elif kind < 0.5:
            name = {"given_name": given, "addl_name": addl, "family_name": family}
        else:
            name = {"given_name": given, "family_name": family}
        born = _FIRST_DAY + timedelta(days=chance.randrange(_DAYS))
        yield Somebody(number, name, "female" if chance.random() < 0.5 else "male", born)
