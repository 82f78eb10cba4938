"""Every rule and every schema of the pages is read by the hub, and every rule runs as a statement."""

from __future__ import annotations

from datetime import date
from typing import Any, Final

import asyncpg
import documents
import pytest
import yaml
from documents import Block

from registry.attributes import Catalog, parse
from registry.rules import Rule, compile_rule, preview
from registry.rules.functions import AGGREGATES, EVENTS, FUNCTIONS, METHODS, OTHERS, WINDOWS

AS_OF: Final = date(2026, 1, 31)
SCHEMAS: Final = documents.marked("yaml", "attributes")
KINDS: Final[dict[str, tuple[Any, Any]]] = {
    "individual": ("individual", "condition"),
    "group": ("group", "condition"),
    "amount": ("group", "amount"),
}
RULES: Final = [
    (word, line, f"{block.place} {line}")
    for word in KINDS
    for block in documents.marked("cel", word)
    for line in block.text.splitlines()
    if line.strip()
]


def catalog() -> Catalog:
    return Catalog.of(
        parse(yaml.safe_load(one.text), 1) for one in SCHEMAS if one.place.startswith("docs/rules.md")
    )


def rule_of(word: str, text: str) -> Rule:
    target, result = KINDS[word]
    return compile_rule(text, catalog(), target=target, result=result, as_of=AS_OF)


@pytest.mark.parametrize("block", SCHEMAS, ids=[block.place for block in SCHEMAS])
def test_a_schema_of_attributes_in_the_pages_is_one_the_hub_takes(block: Block) -> None:
    assert parse(yaml.safe_load(block.text)).attributes


@pytest.mark.parametrize(("word", "text"), [rule[:2] for rule in RULES], ids=[rule[2] for rule in RULES])
def test_a_rule_in_the_pages_compiles(word: str, text: str) -> None:
    assert rule_of(word, text).sql()[0]


async def test_every_rule_of_the_pages_runs_as_a_statement(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "INSERT INTO area (id, code, parent_id, path, level, names) VALUES "
            "(1, 'KE', NULL, '{1}', 0, '{}'), (2, 'KE01', 1, '{1,2}', 1, '{}'), (3, 'KE02', 1, '{1,3}', 1, '{}')"
        )
        for word, text, _ in RULES:
            rule = rule_of(word, text)
            assert (await preview(connection, rule)).registrants == 0
            sql, arguments = rule.sql()
            assert await connection.fetch(f"SELECT {sql} FROM registrant r", *arguments) == []
    finally:
        await connection.close()


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS, *AGGREGATES, *EVENTS, *WINDOWS, *OTHERS])
def test_every_function_is_in_the_page(name: str) -> None:
    assert name in documents.page("rules.md")


def test_there_are_rules_to_run() -> None:
    assert {word for word, _, _ in RULES} == set(KINDS)
    assert len(SCHEMAS) >= 5
