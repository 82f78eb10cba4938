"""Why somebody is in or out, in words of their language, and what is unknown."""

from __future__ import annotations

import re
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from babel.messages.pofile import read_po
from services.rules import AS_OF, catalog

from registry.attributes import ValueType
from registry.rules import Event, Facts, Somebody, compile_rule
from registry.rules.facts import read_json
from registry.texts import LANGUAGES

LOCALES = Path(__file__).resolve().parents[2] / "registry" / "rules" / "locales"


def somebody(
    number: int, *, roles: tuple[str, ...] = (), areas: Any = None, events: Any = (), **known: Any
) -> Somebody:
    columns = {name: known.pop(name) for name in ("sex", "birthdate", "group_size") if name in known}
    return Somebody(UUID(int=number), columns, known, areas, tuple(events), frozenset(roles))


CHILD = somebody(2, birthdate=date(2021, 5, 1), sex="female", job="farmer", income=0)
ELDER = somebody(3, birthdate=date(1950, 5, 1), income=3000, roles=("head",))
HOME = somebody(
    1, income=4200, rooms=0, roof="thatch", areas=frozenset({"KE", "KE01"}),
    events=[Event("a", "survey", date(2025, 1, 1), None, {"income": 900})],
)  # fmt: skip
FACTS = Facts(HOME, "group", None, (CHILD, ELDER))


def told(text: str, language: str = "en", result: Any = "condition", facts: Facts = FACTS) -> str:
    rule = compile_rule(text, catalog(), target="group", result=result, as_of=AS_OF)
    return rule.explain(facts, [language]).sentence


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("r.income < 5000", "In, because Household income (4,200) is less than 5,000."),
        ("r.income >= 5000", "Out, because Household income (4,200) is less than 5,000."),
        ("!(r.income < 5000)", "Out, because Household income (4,200) is less than 5,000."),
        (
            "r.income < 5000 && members.exists(m, age_years(m.birthdate) < 5 && m.sex == 'female')",
            "In, because Household income (4,200) is less than 5,000; a member has age less than 5 and sex equal to female.",
        ),
        ("r.income > 1 && r.roof == 'tile'", "Out, because Roof (thatch) is not tile."),
        ("r.income > 1 || r.roof == 'tile'", "In, because Household income (4,200) is more than 1."),
        ("r.group_size > 3", "Out, because declared size is not known."),
        ("r.income / r.rooms > 3", "Out, because «r.income / r.rooms» cannot be calculated."),
        ("members.all(m, m.share > 0)", "Out, because share more than 0 is not known of every member."),
        ("members.count(m, m.job == 'farmer') > 1", "Out, because number of members with Job equal to Farmer (1) is not more than 1."),
        ("in_area('KE02')", "Out, because does not live in the area KE02."),
        ("members.exists(m, 'head' in m.roles)", "In, because a member has roles with head."),
        ("event('survey', within_days=365).income < 1000",
         "In, because income in the latest event survey from February 29, 2024 to February 28, 2025 (900) is less than 1,000."),
        ("has_event('attendance')", "Out, because there is no event attendance until February 28, 2025."),
        ("r.since == null", "In, because since is not recorded."),
        ("true", "In, because the rule says so for everybody."),
        ("r.income > 1 ? r.roof == 'thatch' : r.roof == 'tile'",
         "In, because Household income (4,200) is more than 1; Roof (thatch) is thatch."),
    ],
)  # fmt: skip
def test_the_parts_that_decided_are_named_with_their_values(text: str, said: str) -> None:
    assert told(text) == said


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("fr", "Retenu, car Revenu du ménage (4\u202f200) est inférieur à 5\u202f000 ; un membre a : Métier égal à Agriculteur."),
        ("es", "Dentro, porque Household income (4.200) es menor que 5.000; un miembro tiene Job igual a Farmer."),
        ("fr-CA", "Retenu, car Revenu du ménage"),
        ("sw", "In, because Household income (4,200) is less than 5,000;"),
    ],
)  # fmt: skip
def test_reasons_are_given_in_the_language_asked_for(language: str, said: str) -> None:
    assert told("r.income < 5000 && members.exists(m, m.job == 'farmer')", language).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "cap(members.count(m, age_years(m.birthdate) < 18) * 2000, 1500)",
            "1,500, because number of members with age less than 18 is 1.",
        ),
        (
            "r.roof == 'thatch' ? r.income : 0",
            "4,200, because Roof (thatch) is thatch; Household income is 4,200.",
        ),
        ("0 - r.income", "No amount, because «0 - r.income» (-4,200) is out of bounds."),
        ("r.group_size * 100", "No amount, because declared size is not known."),
    ],
)
def test_an_amount_is_told_with_what_it_was_made_from(text: str, said: str) -> None:
    assert told(text, result="amount") == said


def test_a_cap_cuts_and_never_lifts() -> None:
    for income, expected in ((100, 100), (1500, 1500), (9000, 1500), (None, None)):
        rule = compile_rule("cap(r.income, 1500)", catalog(), target="group", result="amount", as_of=AS_OF)
        assert rule.evaluate(Facts(somebody(1, income=income), "group")) == expected


def test_the_tree_shows_every_member_with_its_id() -> None:
    rule = compile_rule("members.exists(m, m.income > 100)", catalog(), target="group", as_of=AS_OF)
    tree = rule.explain(FACTS).tree
    assert [(one.member, one.value) for one in tree.parts] == [(CHILD.id, "no"), (ELDER.id, "yes")]
    assert tree.parts[1].says == "Income (3,000) is more than 100"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("r.group_size > 3 && false", False), ("r.group_size > 3 || true", True), ("r.group_size > 3 && true", None),
        ("!(r.group_size > 3)", None), ("r.group_size == null", True), ("has(r.group_size)", False),
        ("members.exists(m, m.share > 0)", None), ("members.exists(m, m.income > 100 || m.share > 0)", True),
        ("members.all(m, m.share > 0 || m.income >= 0)", True), ("members.all(m, m.income > 100)", False),
        ("members.count(m, m.share > 0) == 0", True), ("members.sum(m, m.share) == 0", True),
        ("members.avg(m, m.share) == 0", None), ("members.max(m, m.income) == 3000", True),
        ("r.income / 0 == 1", None), ("r.income % 0 == 1", None), ("7 / 2 == 3 && -7 / 2 == -3", True),
        ("7 % -2 == 1 && -7 % 2 == -1", True), ("1.0 / 3 == 0.333333333333", True), ("round(2.5) + round(-2.5) == 0", True),
        ("r.income * 1000000000000000 * 1000000000000000 > 1", True), ("date('9999-12-31') + 1 == null", True),
    ],
)  # fmt: skip
def test_unknown_is_neither_true_nor_false(text: str, value: bool | None) -> None:
    rule = compile_rule(text, catalog(), target="group", as_of=AS_OF)
    assert rule.steps(FACTS).value is value
    assert rule.evaluate(FACTS) is (value is True)


@pytest.mark.parametrize(
    ("born", "as_of", "age"),
    [
        ("2000-02-29", "2018-02-28", 17), ("2000-02-29", "2018-03-01", 18), ("2000-02-29", "2020-02-29", 20),
        ("2000-12-31", "2018-12-31", 18), ("2019-01-01", "2018-06-01", 0), ("2019-07-01", "2018-06-01", -1),
    ],
)  # fmt: skip
def test_an_age_is_in_full_years(born: str, as_of: str, age: int) -> None:
    rule = compile_rule(
        "age_years(r.birthdate)",
        catalog(),
        target="individual",
        result="integer",
        as_of=date.fromisoformat(as_of),
    )
    assert rule.evaluate(Facts(somebody(1, birthdate=date.fromisoformat(born)), "individual")) == age


def test_a_value_of_a_wrong_form_is_unknown() -> None:
    assert read_json(ValueType.INTEGER, "5") is None
    assert read_json(ValueType.INTEGER, True) is None
    assert read_json(ValueType.INTEGER, 5.5) is None
    assert read_json(ValueType.NUMBER, 10**16) is None
    assert read_json(ValueType.DATE, "2023-02-29") is None
    assert read_json(ValueType.BOOLEAN, 1) is None


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_every_sentence_is_translated_with_the_same_gaps(language: str) -> None:
    sources = [
        (LOCALES.parent / name).read_text(encoding="utf-8") for name in ("wording.py", "explanation.py")
    ]
    catalog_ = read_po(BytesIO((LOCALES / f"{language}.po").read_bytes()), locale=language)
    known = {str(one.id): str(one.string) for one in catalog_ if one.id}
    said = {text for source in sources for text in re.findall(r'say\(\s*"([^"]+)"', source)}
    said |= {
        text
        for source in sources
        for text in re.findall(r'"([^"]*\{[a-z]+\}[^"]*)"', source)
        if "self." not in text
    }
    assert not {text for text in said - set(known) if text != "«{text}»"}
    for text, there in known.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", there)), text
