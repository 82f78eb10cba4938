"""What a package lists as public exists, is sorted, and is listed once."""

from __future__ import annotations

import ast
import importlib

import documents
import pytest

PACKAGES = sorted(
    name.removesuffix("/__init__.py").replace("/", ".")
    for name in documents.sources()
    if name.endswith("/__init__.py")
)
LISTED = [
    name
    for name in PACKAGES
    if any(
        isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        for node in documents.sources()[name.replace(".", "/") + "/__init__.py"].body
    )
]


@pytest.mark.parametrize("name", LISTED)
def test_every_public_name_is_there_and_listed_once(name: str) -> None:
    module = importlib.import_module(name)
    names = list(module.__all__)
    assert len(names) == len(set(names))
    for public in names:
        assert hasattr(module, public), f"{name}.{public}"


@pytest.mark.parametrize("name", LISTED)
def test_a_package_offers_no_more_than_it_lists(name: str) -> None:
    tree = documents.sources()[name.replace(".", "/") + "/__init__.py"]
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in documents.FLOORS
        for alias in node.names
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert sorted(imported - used - set(importlib.import_module(name).__all__)) == []
