from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from connectors.contract import Manifest
from connectors.email import EmailSettings, MailTemplate
from connectors.testing import PROPERTIES, Mode
from connectors.webhook import WebhookSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "connectors.md").read_text()
EXAMPLE = ROOT / "docs" / "examples" / "hub-connector-acme"


@pytest.mark.parametrize("model", [Manifest, WebhookSettings, EmailSettings, MailTemplate])
def test_every_field_of_the_manifest_and_the_settings_is_in_the_docs(model: type[Manifest]) -> None:
    missing = [name for name in model.model_fields if f"| `{name}` |" not in PAGE]
    assert not missing


@pytest.mark.parametrize("found", PROPERTIES, ids=lambda p: p.name)
def test_every_property_of_the_kit_is_in_the_docs(found: object) -> None:
    name = getattr(found, "name", "")
    assert f"`{name}`" in PAGE
    assert f'<a id="{name.replace("_", "-")}">' in PAGE


def test_every_switch_of_a_sandbox_is_in_the_docs() -> None:
    assert not [mode for mode in Mode if f"| `{mode.value}` |" not in PAGE]


def test_every_error_code_of_the_connectors_has_a_page() -> None:
    codes = set()
    for path in (ROOT / "connectors").rglob("*.py"):
        if "registry" not in path.parts:
            text = path.read_text()
            codes |= set(re.findall(r'code="([a-z][a-z0-9-]+)"', text))
            codes |= set(re.findall(r'_refuse\(message, "([a-z][a-z0-9-]+)"', text))
            codes |= set(re.findall(r'"(secret-[a-z]+|config-invalid)"', text))
    assert len(codes) > 25
    missing = [code for code in sorted(codes) if not (ROOT / "docs" / "errors" / f"{code}.md").is_file()]
    assert not missing


def _own_lines(path: Path) -> int:
    """Count lines of code: no blank lines, docstrings, comments or imports."""
    tree = ast.parse(path.read_text())
    skipped: set[int] = set()
    for node in ast.walk(tree):
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if text or isinstance(node, (ast.Import, ast.ImportFrom)):
            skipped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = path.read_text().splitlines()
    return sum(
        1
        for number, line in enumerate(lines, 1)
        if number not in skipped and line.strip() and not line.lstrip().startswith("#")
    )


def test_the_example_has_fewer_than_a_hundred_lines_of_its_own() -> None:
    package = EXAMPLE / "hub_connector_acme"
    assert sum(_own_lines(package / f"{name}.py") for name in ("settings", "client", "connector")) < 100


def test_the_guarantee_about_links_in_the_docs_holds() -> None:
    for name in ("connectors.md", "connect-webhook.md"):
        text = (ROOT / "docs" / name).read_text()
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (ROOT / "docs" / link).exists(), link
