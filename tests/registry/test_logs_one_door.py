"""Every log line of the hub is an event with named fields: no module hands text to `logging` itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = ("adapters", "connectors", "routing", "registry", "mappings", "canonical_model")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


@pytest.mark.parametrize("floor", FLOORS)
def test_no_module_logs_past_the_allow_list(floor: str) -> None:
    found = []
    for path in sorted((ROOT / floor).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LEVELS
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id.lower().strip("_") in {"log", "logger", "logging"}
            ):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []
