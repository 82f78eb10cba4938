"""`hub rules`: try a rule before a programme uses it: is it right, whom does it take, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn
from uuid import UUID

import asyncpg
import typer

from adapters.cli.output import ERR, OUT, print_json, report
from adapters.cli.store import actor, on_database
from canonical_model.errors import ConfigError, Refused
from registry.attributes import Catalog, load_catalog, load_file, parse
from registry.programs.definition import get as get_program
from registry.rules import (
    Explanation,
    Part,
    Preview,
    Rule,
    RuleRefused,
    check_areas,
    compile_rule,
    load_facts,
    preview,
    record_look,
)

app = typer.Typer(help="Check, preview and explain rules.", no_args_is_help=True, rich_markup_mode=None)


class Target(StrEnum):
    """Whom a rule is about."""

    INDIVIDUAL = "individual"
    GROUP = "group"


class ResultKind(StrEnum):
    """What a rule results in."""

    CONDITION = "condition"
    AMOUNT = "amount"
    INTEGER = "integer"


Text = Annotated[
    str | None,
    typer.Argument(metavar="[RULE]", help="The rule, in quotes; or give --file.", show_default=False),
]
File = Annotated[Path | None, typer.Option("--file", help="Read the rule from a file.")]
TargetOption = Annotated[Target, typer.Option("--target", help="Whom the rule is about.")]
ResultOption = Annotated[ResultKind, typer.Option("--result", help="What the rule results in.")]
Program = Annotated[
    str | None,
    typer.Option("--program", help="Code of the programme whose own attributes the rule may read."),
]
AsOf = Annotated[
    datetime | None,
    typer.Option(
        "--as-of", formats=["%Y-%m-%d"], help="The day the rule is asked about; today when left out."
    ),
]
Attributes = Annotated[
    list[Path] | None,
    typer.Option(
        "--attributes", help="Check against these schemas instead of the database's; may be repeated."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def _text(text: str | None, file: Path | None) -> str:
    if (text is None) == (file is None):
        raise typer.BadParameter("Give the rule in quotes, or --file, not both and not neither.")
    if text is not None:
        return text
    assert file is not None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} cannot be read as text ({type(error).__name__}).",
            code="config-invalid",
            remedy="Give a text file in UTF-8 that holds one rule.",
        ) from None


def _day(as_of: datetime | None) -> date:
    return as_of.date() if as_of else datetime.now(UTC).date()


def _refused(error: RuleRefused, as_json: bool) -> NoReturn:
    if as_json:
        print_json({"ok": False, **error.as_dict()})
    else:
        ERR.print(error.marked, markup=False)
        report(error)
    raise typer.Exit(1) from None


@app.command("check")
def check_command(
    rule: Text = None,
    file: File = None,
    target: TargetOption = Target.INDIVIDUAL,
    result: ResultOption = ResultKind.CONDITION,
    program: Program = None,
    attributes: Attributes = None,
    show_sql: Annotated[bool, typer.Option("--sql", help="Show the statement it becomes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether a rule is right: names, codes and types, with the place marked where it is not.

    Example: hub rules check "age_years(r.birthdate) >= 60" --target individual
    """

    async def work(pool: asyncpg.Pool, _url: str) -> Rule:
        async with pool.acquire() as connection:
            found = compile_(await load_catalog(connection))
            await check_areas(connection, found)
            return found

    text = _text(rule, file)

    def compile_(catalog: Catalog) -> Rule:
        return compile_rule(
            text, catalog, target=target.value, result=result.value, as_of=_day(None), program=program
        )

    try:
        if attributes:
            found = compile_(Catalog.of(parse(load_file(one)) for one in attributes))
        else:
            found = on_database(work)
    except RuleRefused as error:
        _refused(error, as_json)
    sql, _ = found.sql()
    used = sorted(f"{kind}.{name}" for kind, name in found.used)
    if as_json:
        print_json({"ok": True, "target": target, "result": result, "reads": used, "sql": sql})
        return
    reads = f" It reads {', '.join(used)}." if used else ""
    OUT.print(f"The rule is right: a {result.value} about the {target.value}.{reads}", markup=False)
    if show_sql:
        OUT.print(sql, markup=False)


@app.command("preview")
def preview_command(
    rule: Text = None,
    file: File = None,
    target: TargetOption = Target.INDIVIDUAL,
    result: ResultOption = ResultKind.CONDITION,
    program: Program = None,
    as_of: AsOf = None,
    sample: Annotated[
        int, typer.Option(min=0, max=1000, help="Show the ids of so many of those it takes.")
    ] = 0,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds it may take.")] = 60,
    as_json: AsJson = False,
) -> None:
    """Count whom a rule would take today, and with --result amount how much it would give; nothing is changed.

    Example: hub rules preview "members.count(m, age_years(m.birthdate) < 5) >= 2" --target group
    """
    text = _text(rule, file)

    async def work(pool: asyncpg.Pool, _url: str) -> Preview:
        async with pool.acquire() as connection:
            found = compile_rule(
                text, await load_catalog(connection), target=target.value, result=result.value, as_of=_day(as_of),
                program=program,
            )  # fmt: skip
            return await preview(connection, found, sample=sample, seconds=timeout)

    try:
        found = on_database(work)
    except RuleRefused as error:
        _refused(error, as_json)
    if as_json:
        print_json({"target": target, "result": result, **asdict(found)})
        return
    OUT.print(
        f"{found.matched:,} of {found.registrants:,} active {target.value}s; of {found.unknown:,} something is not known.",
        markup=False,
    )
    if found.total is not None:
        OUT.print(f"Together {found.total:,} in minor units of the currency.", markup=False)
    for one in found.sample:
        OUT.print(f"  {one}", markup=False)
    OUT.print(f"({found.seconds:.2f} s)", markup=False)


@app.command("explain")
def explain_command(
    registrant: Annotated[
        UUID, typer.Argument(metavar="REGISTRANT_ID", help="The hub's id of the registrant.")
    ],
    rule: Annotated[
        str | None, typer.Option("--rule", help="The rule, in quotes; or --file, or only --program.")
    ] = None,
    file: File = None,
    result: ResultOption = ResultKind.CONDITION,
    program: Program = None,
    as_of: AsOf = None,
    language: Annotated[str, typer.Option("--language", help="en, fr, es or ar.")] = "en",
    tree: Annotated[bool, typer.Option("--tree", help="Show every part of the rule with its value.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say why one registrant is in or out, or gets an amount, in words of their language.

    Without a rule it is the eligibility rule of --program that is explained.

    Example: hub rules explain 01890a5d-ac96-774b-bcce-b302099a8057 --rule "r.income < 5000" --language fr
    """
    given = None if rule is None and file is None and program is not None else _text(rule, file)

    async def work(pool: asyncpg.Pool, _url: str) -> Explanation:
        async with pool.acquire() as connection:
            day = _day(as_of)
            facts = await load_facts(connection, registrant, day)
            text = given
            if text is None:
                assert program is not None
                found = await get_program(connection, program)
                if found.target_type.value != facts.kind:
                    raise Refused(
                        f"Program {found.code} is about {found.target_type.value}s, and registrant {registrant} is none.",
                        code="resource-not-found",
                        remedy="Name the household of the person, or a member of the household.",
                    )
                text = found.eligibility
            compiled = compile_rule(
                text, await load_catalog(connection), target=facts.kind, result=result.value, as_of=day, program=program
            )  # fmt: skip
            await check_areas(connection, compiled)
            # The trail has the look before the caller has the values.
            await record_look(connection, facts, actor(), program)
            return compiled.explain(facts, [language])

    try:
        found = on_database(work)
    except RuleRefused as error:
        _refused(error, as_json)
    if as_json:
        print_json({"registrant": registrant, **found.as_dict()})
        return
    OUT.print(found.sentence, markup=False)
    if tree:
        _show([found.tree], 0)


def _show(parts: Sequence[Part], depth: int) -> None:
    for one in parts:
        who = f"{one.member}: " if one.member else ""
        OUT.print(f"{'  ' * depth}- {who}{one.says}   [{one.text}]", markup=False)
        _show(one.parts, depth + 1)
