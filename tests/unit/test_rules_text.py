"""What a rule may say, and where and why the hub refuses what it may not."""

from __future__ import annotations

from typing import Any

import pytest
from services.rules import AS_OF, catalog

from registry.rules import Rule, RuleRefused, compile_rule


def compiled(text: str, target: Any = "group", result: Any = "condition") -> Rule:
    return compile_rule(text, catalog(), target=target, result=result, as_of=AS_OF)


def refused(text: str, target: Any = "group", result: Any = "condition") -> RuleRefused:
    with pytest.raises(RuleRefused) as caught:
        compiled(text, target, result)
    return caught.value


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("age_years(r.birthdate) >= 18", "individual"),
        ("r.income < 5000", "group"),
        ("members.exists(m, age_years(m.birthdate) < 5)", "group"),
        ("members.count(m, m.sex == 'female') >= 3", "group"),
        ("members.sum(m, m.income, m.disabled) < 100 && members.avg(m, m.income) > 1", "group"),
        ("members.min(m, m.birthdate) < date('1960-01-01')", "group"),
        ("event('survey', within_days=365).income < 5000", "individual"),
        ("event('survey', within_months=6).poor && has_event('attendance')", "group"),
        ("events_count('attendance', period='2024') >= 10", "individual"),
        ("household.dependency_ratio > 0.5 && household.income != null", "individual"),
        ("in_area('KE01') || household.in_area('KE02')", "individual"),
        ("r.job in ['farmer', 'trader'] && !has(r.since)", "individual"),
        ("r.remark.startsWith('a') || r.remark.matches('^[A-Z]{2}\\\\d+$')", "individual"),
        ("size(members) > 4 ? r.income < 9000 : r.income < 5000 // a comment = here", "group"),
        ("members.exists(m, 'head' in m.roles && m.gender == 'female')", "group"),
        ("today() - r.since > 365 && r.since + 30 <= today()", "group"),
        ("r.remark == 'it''s' || r.remark == \"=\"".replace("''", "\\'"), "group"),
        ("r\n  .income\n  < 5000", "group"),
    ],
)
def test_the_dialect_of_openspp_compiles(text: str, target: str) -> None:
    assert compiled(text, target).text == text


@pytest.mark.parametrize(
    ("text", "code", "column", "length", "said"),
    [
        ("r.income < '5000'", "rule-type-mismatch", 1, 17, "`r.income` is a whole number and `'5000'` is a text"),
        ("r.since > '2020-01-01'", "rule-type-mismatch", 1, 22, "is a date and"),
        ("true && r.income", "rule-type-mismatch", 9, 8, "`&&` needs conditions, and `r.income` is a whole number"),
        ("r.roof + 1 > 2", "rule-type-mismatch", 1, 6, "`+` needs numbers, and `r.roof` is a text"),
        ("r.income", "rule-type-mismatch", 1, 8, "a condition is asked for"),
        ("r.share % 2 == 0", "rule-type-mismatch", 1, 11, "`%` needs whole numbers"),
        ("members", "rule-type-mismatch", 1, 7, "`members` alone has no value"),
        ("event('survey') > 1", "rule-type-mismatch", 1, 15, "alone has no value"),
        ("r.incom < 5000", "rule-name-unknown", 3, 5, "a group has no attribute `incom`"),
        ("true && income < 5", "rule-name-unknown", 9, 6, "`income` is not known here"),
        ("r.roof == 'tatch'", "rule-name-unknown", 11, 7, "`tatch` is none of the codes of `r.roof`"),
        ("members.exists(m, 'chief' in m.roles)", "rule-name-unknown", 19, 7, "none of the codes"),
        ("members.some(m, true)", "rule-name-unknown", 1, 21, "members have no `some`"),
        ("agee(r.since) > 3", "rule-name-unknown", 1, 13, "there is no function `agee`"),
        ("has_event('survei')", "rule-name-unknown", 11, 8, "no event `survei` is declared"),
        ("event('survey', within=3).income > 1", "rule-name-unknown", 24, 1, "has no argument `within`"),
        ("members.map(m, m.income) > 1", "rule-not-compilable", 1, 24, "members have no `map`"),
        ("members[0].income > 1", "rule-not-compilable", 1, 10, "an index is not part of the dialect"),
        (
            "members.exists(m, members.count(n, true) > 1)", "rule-not-compilable", 19, 22,
            "members cannot be counted inside a count of members",
        ),
        ("r.remark.matches('(?=a)')", "rule-not-compilable", 18, 7, "`?` repeats nothing"),
        ("r.remark.matches(r.roof)", "rule-not-compilable", 18, 6, "a pattern is written in quotes"),
        ("r.remark in [r.roof]", "rule-not-compilable", 14, 6, "a list holds only written values"),
        ("r.income = 5", "rule-invalid", 10, 1, "`=` stands only behind the name of an argument"),
        ("r.income < 5 and true", "rule-invalid", 14, 3, "`and` is not an operator"),
        ("r.roof == 'a", "rule-invalid", 11, 1, "this quote is never closed"),
        ("(r.income < 5", "rule-invalid", 14, 1, "the rule ends too early"),
        ("r.since == date('2025-02-29')", "rule-invalid", 17, 12, "this is no date"),
        ("events_count('survey', period='May') > 1", "rule-invalid", 31, 5, "this is no period"),
        ("r.income > 1e400", "rule-invalid", 12, 5, "the number is beyond"),
        ("", "rule-invalid", 1, 1, "the rule is empty"),
        ("r.income > 1\x00", "rule-invalid", 13, 1, "a control character stands here"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_refused_with_its_place(
    text: str, code: str, column: int, length: int, said: str
) -> None:
    error = refused(text)
    assert (error.code, error.line, error.column) == (code, 1, column)
    assert said in error.detail
    assert error.marked.splitlines()[-1] == " " * (column - 1) + "^" * error.length
    assert error.length == length


def test_the_place_is_right_on_a_later_line_behind_named_arguments() -> None:
    error = refused("has_event('survey', within_days=30)\n  && r.incom < 5")
    assert (error.line, error.column, error.length) == (2, 8, 5)
    assert error.marked == "  && r.incom < 5\n       ^^^^^"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("r.incom < 5", "Did you mean `income`?"),
        ("income < 5", "Write `r.income`."),
        ("r.roof == 'tatch'", "Did you mean `thatch`?"),
        ("r.since > '2020-01-01'", "A date is written `date('2026-01-31')`."),
        ("members.map(m, m.income) > 1", "Put the condition into the aggregate"),
        ("r.since + 1", "Compare it with something."),
        ("members.filter(m, true) > 1", "Put the condition into the aggregate"),
    ],
)
def test_the_remedy_says_what_was_probably_meant(text: str, meant: str) -> None:
    assert meant in (refused(text).remedy or "")


@pytest.mark.parametrize(
    "text",
    [
        "r.income > 1" + " && r.income > 1" * 400,
        "r.income in [" + "1," * 3000 + "1]",
        "(" * 100 + "true" + ")" * 100,
        "!" * 100 + "true",
        "1" + "+1" * 100 + " > 0",
        "-" * 3000 + "1 > 0",
    ],
)
def test_a_rule_too_long_or_too_deep_is_refused_at_once(text: str) -> None:
    assert refused(text).code == "rule-too-large"


def test_a_long_list_of_codes_is_no_deep_rule() -> None:
    assert compiled(f"r.rooms in [{','.join(map(str, range(700)))}]").sql()[1] == [tuple(range(700))]


@pytest.mark.parametrize(
    "text",
    [
        "r.remark == '\\'; DROP TABLE registrant; --'",
        "r.remark.contains('$1') || r.remark == \"') OR true --\"",
        "in_area('x\\') OR 1=1 --')",
        "members.exists(m, m.remark == '\\\\\\'); SELECT 1')",
    ],
)
def test_no_text_of_a_rule_gets_into_the_statement(text: str) -> None:
    rule = compiled(text)
    statement = " ".join((rule.sql()[0], rule.joined().expression, rule.joined().tables))
    assert not [word for word in ("DROP", "OR true", "1=1", "SELECT 1") if word in statement]


def test_nesting_does_not_multiply_the_statement() -> None:
    text = "r.income"
    for _ in range(8):
        text = f"round({text} / 3 > 1 ? cap(r.rooms, 2) : abs(r.income))"
    assert len(compiled(f"{text} > 1").sql()[0]) < 20_000


@pytest.mark.parametrize("result", ["amount", "integer"])
def test_an_amount_is_a_whole_number(result: str) -> None:
    assert refused("r.income > 1", result=result).code == "rule-type-mismatch"
    error = refused("r.income * 0.1", result=result)
    assert "Wrap it in `round(…)`" in (error.remedy or "")
    assert compiled("round(r.income * 0.1)", result=result).result == result


def test_a_rule_knows_what_it_reads() -> None:
    rule = compiled(
        "household.income > 1 && r.job == 'farmer' && in_area('KE') && has_event('survey') && members.all(m, m.disabled)",
        "individual",
    )
    assert rule.used == {("group", "income"), ("individual", "job"), ("individual", "disabled")}
    assert (rule.areas, rule.events) == ({"KE"}, {"survey"})


def test_attributes_of_another_programme_are_not_known() -> None:
    from registry.attributes import Catalog, parse

    school = {
        "x-subject": "program:SCHOOL", "x-registrant": "individual", "type": "object",
        "properties": {"grade": {"type": "integer"}},
    }  # fmt: skip
    own = Catalog.of([parse(school)])
    assert compile_rule("r.grade > 3", own, target="individual", as_of=AS_OF, program="SCHOOL")
    with pytest.raises(RuleRefused, match="has no attribute `grade`"):
        compile_rule("r.grade > 3", own, target="individual", as_of=AS_OF, program="CASH")
