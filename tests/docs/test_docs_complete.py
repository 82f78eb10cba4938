"""Whatever the code offers is found in the pages: settings, commands, metrics, route options, manifest fields, scopes."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from typing import get_args

import documents
import pytest
from pydantic import BaseModel

from adapters.cli import COMMANDS, GROUPS
from adapters.http.security.partners import Client, Partner, Rate, Scope
from connectors.contract import Manifest
from registry.settings import HubSettings
from routing.routes import RouteFile

PARTS = [(page, mark) for page, parts in documents.generated().items() for mark in parts]


@pytest.mark.parametrize(("page", "mark"), PARTS)
def test_what_is_written_from_the_code_is_up_to_date(page: str, mark: str) -> None:
    written = documents.between(documents.page(page), mark)
    assert written == documents.generated()[page][mark].strip(), (
        f"run `make docs`: docs/{page} is out of date"
    )


@pytest.mark.parametrize("name", list(HubSettings.model_fields))
def test_every_setting_is_described(name: str) -> None:
    assert f"| `HUB_{name.upper()}` | `{name}` |" in documents.page("settings.md")
    assert HubSettings.model_fields[name].description


@pytest.mark.parametrize("name", [*GROUPS, *COMMANDS])
def test_every_command_named_at_the_root_exists_and_is_described(name: str) -> None:
    module = {**GROUPS, **COMMANDS}[name][0]
    assert importlib.util.find_spec(module) is not None, f"{module} is named in adapters.cli and is not there"
    assert f"### hub {name}" in documents.page("cli.md")


@pytest.mark.parametrize("words", list(documents.commands()))
def test_every_command_says_what_it_does_and_what_its_options_mean(words: str) -> None:
    command = documents.commands()[words]
    assert command.help, words
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"hub {words}: {parameter.name} has no help"


def _fields(model: type[BaseModel], before: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield before + name
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _fields(part, f"{before}{name}.")


@pytest.mark.parametrize("option", list(_fields(RouteFile)))
def test_every_option_of_a_route_is_described(option: str) -> None:
    text = documents.page("routes.md")
    last = option.rpartition(".")[2]
    assert f"`{option}`" in text or f"`{last}`" in text or f"`{option}." in text, option


@pytest.mark.parametrize("option", list(_fields(RouteFile)))
def test_every_option_of_a_route_stands_in_an_example(option: str) -> None:
    import yaml

    examples = [yaml.safe_load(block.text) for block in documents.marked("yaml", "route")]
    if option == "check":
        return  # an option without effect needs no example
    assert any(_has(example, option.split(".")) for example in examples), option


def _has(value: object, path: list[str]) -> bool:
    for number, key in enumerate(path):
        if isinstance(value, list):
            return any(_has(one, path[number:]) for one in value)
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True


@pytest.mark.parametrize("name", [*Partner.model_fields, *Client.model_fields, *Rate.model_fields])
def test_every_key_of_a_partner_is_described(name: str) -> None:
    text = documents.page("partners.md")
    assert (
        any(f"{mark}{name}`" in text for mark in ("`", "[].", "rate."))
        or f"`{name}." in text
        or f"`{name}[]" in text
    ), name


@pytest.mark.parametrize("scope", list(Scope))
def test_every_scope_is_described(scope: Scope) -> None:
    assert f"| `{scope}` |" in documents.page("partners.md")


@pytest.mark.parametrize("name", list(Manifest.model_fields))
def test_every_field_of_a_manifest_is_described(name: str) -> None:
    assert f"`{name}`" in documents.page("connectors.md") or f"\n{name} = " in documents.page("connectors.md")


def test_every_key_of_the_demos_account_is_described() -> None:
    from dataclasses import fields

    from adapters.cli.demo.run import Account

    text = documents.page("cli.md")
    assert [one.name for one in fields(Account) if f"`{one.name}`" not in text] == []


def test_every_make_target_named_in_the_pages_exists() -> None:
    targets = set(
        re.findall(r"^([a-z-]+):", (documents.ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    for name, text in documents.pages().items():
        for target in re.findall(r"^make ([a-z-]+)$|`make ([a-z-]+)", text, re.MULTILINE):
            assert (target[0] or target[1]) in targets, f"{name}: make {target}"


def test_the_pages_of_the_errors_are_part_of_the_wheel() -> None:
    project = tomllib.loads((documents.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"].get("force-include", {})
    assert included.get("docs/errors") == "adapters/http/errors"
