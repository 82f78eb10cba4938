"""Every example marked as such is executed or read by the code it is about."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import documents
import pytest
import yaml
from documents import Block

from adapters.http.security import load_partners
from canonical_model.cloudevents import STRUCTURED, parse_http, to_message
from canonical_model.types import check_data
from registry.attributes import Catalog
from registry.changes import load_policies
from registry.changes.kinds import CHANGE, TYPES
from registry.programs import ProgramTerms
from registry.programs.definition import check_rules
from registry.programs.terms import read
from registry.rules import compile_rule
from registry.settings import HubSettings
from routing.conditions import Condition
from routing.routes import parse_route

SECONDS = 60


def examples(language: str, word: str) -> pytest.MarkDecorator:
    found = documents.marked(language, word)
    return pytest.mark.parametrize("block", found, ids=[block.place for block in found])


@examples("yaml", "route")
def test_a_route_in_the_pages_is_one_the_hub_reads(block: Block) -> None:
    assert parse_route(block.text, block.place).reaches


@examples("yaml", "program")
def test_a_program_in_the_pages_is_one_the_hub_takes_with_its_rules(block: Block) -> None:
    catalog = Catalog()
    terms = read(ProgramTerms, yaml.safe_load(block.text), block.place)
    check_rules(
        terms,
        lambda text, *, target, result, as_of, program=None: compile_rule(
            text, catalog, target=target, result=result, as_of=as_of, program=program
        ),
    )


@examples("cel", "condition")
def test_a_condition_in_the_pages_compiles(block: Block) -> None:
    assert Condition(block.text.strip()).text


@examples("yaml", "partners")
def test_partners_in_the_pages_are_ones_the_hub_reads(block: Block, tmp_path: Path) -> None:
    (tmp_path / "partners.yaml").write_text(block.text, encoding="utf-8")
    assert len(load_partners(tmp_path)) >= 1


@examples("json", "change")
def test_a_change_in_the_pages_is_one_the_hub_reads(block: Block) -> None:
    assert CHANGE.validate_json(block.text).type in TYPES


@examples("yaml", "changes")
def test_policies_in_the_pages_are_ones_the_hub_reads(block: Block, tmp_path: Path) -> None:
    (tmp_path / "changes.yaml").write_text(block.text, encoding="utf-8")
    policies = load_policies(tmp_path)
    facts = {"type": "edit", "fields": ["language"], "attributes": [], "area": "", "maker": "user:ada"}
    assert policies.choose(facts).name == "language-only"


@examples("json", "message")
def test_a_message_in_the_pages_is_one_the_hub_takes(block: Block) -> None:
    message = to_message(parse_http({"content-type": STRUCTURED}, block.text.encode())[0])
    check_data(message.type, message.data)


@examples("toml", "settings")
def test_settings_in_the_pages_are_ones_the_hub_reads(block: Block) -> None:
    assert HubSettings(**tomllib.loads(block.text)).model_fields_set


@examples("python", "run")
def test_python_in_the_pages_runs(block: Block, tmp_path: Path) -> None:
    done = _run([sys.executable, "-c", block.text], tmp_path)
    assert done.returncode == 0, done.stderr


@examples("console", "run")
def test_commands_in_the_pages_run(block: Block, tmp_path: Path) -> None:
    commands = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
    assert commands, block.place
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "hub", f"{block.place}: only `hub` is run"
        done = _run([sys.executable, "-c", "from adapters.cli import main; main()", *words[1:]], tmp_path)
        assert done.returncode == 0, f"{block.place}: {command}\n{done.stdout}{done.stderr}"


def _run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    return subprocess.run(
        words, cwd=folder, env=inherited | {"PYTHONPATH": str(documents.ROOT)}, capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("language", ["yaml", "json", "toml"])
def test_every_block_of_data_is_at_least_well_formed(language: str) -> None:
    import json

    readers = {"yaml": lambda text: list(yaml.safe_load_all(text)), "json": json.loads, "toml": tomllib.loads}
    for block in documents.blocks():
        if block.language == language:
            try:
                readers[language](block.text)
            except (ValueError, yaml.YAMLError) as error:
                pytest.fail(f"{block.place}: {error}")


def test_there_is_something_to_run() -> None:
    for language, word in (("yaml", "route"), ("json", "message"), ("console", "run"), ("yaml", "partners")):
        assert documents.marked(language, word), (language, word)
