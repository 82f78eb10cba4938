"""The wheel is the whole hub: what the source tree serves from files, an installed hub serves too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("adapters", "canonical_model", "connectors", "deploy", "mappings", "registry", "routing")
LEFT_OUT = {"__pycache__", "secrets", ".env"}
PLANTED = ("deploy/compose/.env", "deploy/compose/secrets/kek", "adapters/.hub/keys/operator.secret")


def _run(*words: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    if path is not None:
        env["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    for name in (*PACKAGES, "docs"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tree / name)
    for name in PLANTED:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("secret")
    pip = ("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder))
    built = _run(*pip, str(tree), cwd=folder)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip = ("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target))
    ran = _run(*pip, str(wheel), cwd=target)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return target


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file()
        and not LEFT_OUT.intersection(path.relative_to(ROOT).parts)
        and path.suffix != ".pyc"
    }
    assert len(wanted) > 150
    assert sorted(wanted - inside) == []
    for suffix in (
        ".po",
        ".html",
        ".css",
        ".js",
        ".yaml",
        ".schema.json",
        "record.json",
        "manifest.toml",
        ".tmpl",
        ".sql",
    ):
        assert any(name.endswith(suffix) for name in inside), suffix


def test_every_page_of_an_error_is_in_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    pages = sorted(path.name for path in (ROOT / "docs" / "errors").glob("*.md"))
    assert len(pages) > 100
    assert [name for name in pages if f"adapters/http/errors/{name}" not in inside] == []


def test_nothing_else_is_in_the_wheel(wheel: Path) -> None:
    """No tests, no settings of a developer's machine, no secrets of a compose folder."""
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert [name for name in PLANTED if name in zipfile.ZipFile(wheel).namelist()] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--version",), "openspp-hub "),
        (("mapping", "list"), "dci.crvs"),
        (("errors", "message-id-reused"), "What happened"),
        (("connector", "list"), "registry"),
        (("schemas", "export", "schemas"), ""),
    ],
)
def test_an_installed_hub_needs_no_source_tree(
    installed: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    ran = _run("-m", "adapters.cli", *words, cwd=tmp_path, path=installed)
    assert ran.returncode == 0, ran.stderr
    assert said in ran.stdout


def test_what_runs_is_what_was_installed(installed: Path, tmp_path: Path) -> None:
    program = (
        "import adapters.http.error_pages as e, registry.storage.migrate as m, importlib.metadata as i;"
        "print(e.folder(), m.head(), i.distribution('openspp-hub').locate_file(''))"
    )
    ran = _run("-c", program, cwd=tmp_path, path=installed)
    assert ran.returncode == 0, ran.stderr
    folder, head, place = ran.stdout.split()
    assert folder == str(installed / "adapters" / "http" / "errors")
    assert head
    assert place == str(installed)
