"""The official OpenAPI files of a standard, where they lie beside this checkout or above it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft4Validator

_ROOT = Path(__file__).resolve()


def document(name: str) -> dict[str, Any]:
    """Return an official description; skips the test where the folder is not there."""
    for parent in _ROOT.parents:
        found = parent / "shared" / "standards" / name
        if found.is_file():
            read: dict[str, Any] = yaml.safe_load(found.read_text("utf-8"))
            return read
    pytest.skip(f"the official file {name} does not lie beside this checkout")


def faults(description: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    """Return what an official schema finds wrong with a value."""
    validator = Draft4Validator({**schema, "components": description["components"]})
    return [f"{'/'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(value)]
