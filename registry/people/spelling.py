"""Names as they are compared: folded, cut into words, written in Latin letters, and reduced to how they sound."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import jellyfish
from anyascii import anyascii

WORDS_LIMIT: Final = 16
"""Words of one text that are looked at; a longer text is no name."""

_HYPHENS: Final = dict.fromkeys((0x2D, 0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2015, 0x2212, 0x05BE), "-")
_APOSTROPHES: Final = dict.fromkeys(
    (0x27, 0x60, 0xB4, 0x2018, 0x2019, 0x201B, 0x2032, 0x2BB, 0x2BC, 0x2BD, 0x2BE, 0x2BF, 0x2C8, 0xA78C), None
)
# Marks that writers leave out at will: Latin, Greek and Cyrillic accents, Arabic and Hebrew vowel points, tatweel. The
# vowel signs of Indic scripts are marks too and stay: without them the names are other names.
_MARKS: Final = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed\u1ab0-\u1aff"
    "\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
)
# One letter, several spellings: alef maqsura and Farsi yeh, teh marbuta, keheh; final sigma is folded by Unicode itself.
_LETTERS: Final = {0x0649: 0x064A, 0x06CC: 0x064A, 0x0629: 0x0647, 0x06C1: 0x0647, 0x06A9: 0x0643}
_FOLD: Final = _HYPHENS | _APOSTROPHES | _LETTERS
_PLAIN: Final = str.maketrans(
    {chr(each): " " for each in range(128) if not chr(each).isalnum() and chr(each) not in "-'`"}
    | {"'": None, "`": None}
)
_LEFT_OUT: Final = (
    "al el ul ibn bin ben bint binti bt bte wa de la las los le du des del della di da do dos das e y van von der den"
    " ter ten zu af av wld ould mint بن ابن بنت ال"
)
_WRITTEN_TOGETHER: Final = "abd abdul abdel abdal abdoul abdou abu abou umm mac mc عبد ابو ام"
_PARTICLES: Final = frozenset(_LEFT_OUT.split())
_JOINERS: Final = frozenset(_WRITTEN_TOGETHER.split())
_JOINED: Final = _PARTICLES | _JOINERS
_SILENT: Final = str.maketrans({**dict.fromkeys("AEIOUHWY 0123456789"), "0": "T", "X": "S"})
_NOT_LATIN: Final = re.compile("[^a-z0-9]+")
_ARTICLE: Final = "\u0627\u0644"
_HAN_OR_HANGUL: Final = re.compile("[\u3400-\u9fff\uac00-\ud7a3\U00020000-\U0003ffff]{2,4}")


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a name: as written (folded), in Latin letters, and joined with the words it may be written with."""

    written: str
    latin: str
    joined: tuple[str, ...] = ()
    optional: bool = False
    """A particle such as `de` or `bin`: some write it, some do not."""


def fold(text: str) -> str:
    """Return a text in NFKC and folded case without accents, invisible marks, apostrophes and signs; hyphens stay."""
    if text.isascii():
        return text.lower().translate(_PLAIN)
    bare = _MARKS.sub("", unicodedata.normalize("NFKD", text.casefold())).casefold()
    kept = []
    for each in unicodedata.normalize("NFC", bare).translate(_FOLD):
        category = unicodedata.category(each)
        if each == "-" or category[0] in "LMN":
            kept.append(each)
        elif category != "Cf":  # right-to-left and zero-width marks vanish, other signs part words
            kept.append(" ")
    return "".join(kept)


def latin(word: str) -> str:
    """Return a folded word in the letters a to z and digits, transliterated where it is in another script."""
    return word if word.isascii() else _NOT_LATIN.sub("", anyascii(word).lower())


@lru_cache(maxsize=32768)
def sound(word: str) -> str:
    """Return how a Latin word sounds: Metaphone without vowels and half-vowels, which scripts and clerks leave out."""
    return jellyfish.metaphone(word).translate(_SILENT)


def words(text: str) -> list[Word]:
    """Return the words of a name in order, at most `WORDS_LIMIT`; particles are words that a search may leave out."""
    runs: list[list[str]] = []
    glued = False
    for chunk in fold(text).split():
        for place, part in enumerate(each for each in chunk.split("-") if each):
            for number, cut in enumerate(_cut(part)):
                if runs and (glued or place or number):
                    runs[-1].append(cut)
                else:
                    runs.append([cut])
                glued = cut in _PARTICLES or cut in _JOINERS
    found = []
    for run in runs:
        joined = _both("".join(run)) if len(run) > 1 else ()
        for place, written in enumerate(run):
            optional = written in _PARTICLES and place < len(run) - 1
            found.append(Word(written, latin(written), joined, optional))
    return found[:WORDS_LIMIT]


def plain_words(text: str) -> Sequence[str] | None:
    """Return the words of a name in Latin letters none of which may be written otherwise or left out; None for others."""
    if not text.isascii() or "-" in text:
        return None
    found = text.lower().translate(_PLAIN).split()
    return found[:WORDS_LIMIT] if _JOINED.isdisjoint(found) else None


def lines(text: str) -> tuple[str, str]:
    """Return a name as written and in Latin letters, both folded, words that may be joined in one; for comparing names."""
    written: dict[str, str] = {}
    for word in words(text):
        whole = word.joined[0] if word.joined else word.written
        if whole not in written:
            written[whole] = word.joined[-1] if word.joined else word.latin
    return " ".join(written), " ".join(written.values())


def _cut(part: str) -> tuple[str, ...]:
    """Part what is written without a space: Chinese and Korean family and given name, the Arabic article and its name."""
    if part.isascii():
        return (part,)
    if part.startswith(_ARTICLE) and len(part) > 4:
        return _ARTICLE, part[2:]
    return (part[0], part[1:]) if _HAN_OR_HANGUL.fullmatch(part) else (part,)


def _both(written: str) -> tuple[str, ...]:
    spelled = latin(written)
    return (written,) if spelled in {written, ""} else (written, spelled)
