from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.errors import ConfigError
from connectors.template import write_package

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "hub-connector-acme"
CLI = "from adapters.cli.connector import app; app()"


def hub_connector(*words: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = dict(os.environ) | ({"PYTHONPATH": str(path)} if path else {})
    return subprocess.run(
        [sys.executable, "-c", CLI, *words],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_a_new_connector_passes_its_check_at_once_without_being_installed(tmp_path: Path) -> None:
    made = hub_connector("new", "north-gate", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    checked = hub_connector("check", "north-gate", "--json", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    found = json.loads(checked.stdout)
    assert found["holds"]
    assert {outcome["result"] for outcome in found["properties"]} == {"held"}


def test_a_failing_property_is_printed_with_expectation_and_page(tmp_path: Path) -> None:
    write_package("acme", tmp_path)
    readme = tmp_path / "acme" / "hub_connector_acme" / "README.md"
    readme.write_text(readme.read_text().replace("## Limits", "## Bounds"))
    checked = hub_connector("check", "acme", cwd=tmp_path)
    assert checked.returncode == 1
    assert "FAIL bronze   the documentation is there" in checked.stdout
    assert "Expected: the sections" in checked.stdout
    assert "docs/connectors.md#the-documentation-is-there" in checked.stdout


def test_the_new_packages_own_tests_pass(tmp_path: Path) -> None:
    write_package("acme", tmp_path)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path / "acme",
        env=dict(os.environ) | {"PYTHONPATH": str(tmp_path / "acme")},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert "24 passed" in run.stdout


def test_the_example_is_what_the_command_writes(tmp_path: Path) -> None:
    for written in write_package("acme", tmp_path):
        inside = written.relative_to(tmp_path / "acme")
        assert (EXAMPLE / inside).read_text() == written.read_text(), inside


def test_an_installed_third_party_package_is_found_listed_and_checked(tmp_path: Path) -> None:
    target = tmp_path / "site"
    source = tmp_path / "source"
    write_package("acme", source)
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index",
         "--disable-pip-version-check", "--target", str(target), str(source / "acme")],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert installed.returncode == 0, installed.stderr
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    listed = json.loads(hub_connector("list", "--json", cwd=elsewhere, path=target).stdout)
    assert "acme" in [one["name"] for one in listed["connectors"]]
    checked = hub_connector("check", "acme", cwd=elsewhere, path=target)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    write_package("acme", tmp_path)
    with pytest.raises(ConfigError) as caught:
        write_package("acme", tmp_path)
    assert caught.value.code == "folder-not-empty"


@pytest.mark.parametrize("name", ["Acme", "../x", "a_b", "", "-a", "a" * 41])
def test_a_name_that_is_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        write_package(name, tmp_path)
    assert caught.value.code == "connector-name-invalid"
    assert not list(tmp_path.iterdir())
