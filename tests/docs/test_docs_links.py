"""Links lead somewhere, pages the code names exist, and nothing in the tree speaks of one machine."""

from __future__ import annotations

import re
from pathlib import Path

import documents
import pytest

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```\s*$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"docs/[a-z-]+(?:/[a-z-]+)*\.md")
PACKAGE_HOSTS = (
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "npmjs" + ".org",
    "proxy.golang" + ".org",
    "registry.npm" + "js",
)
MACHINE_PATHS = re.compile(r"(?:^|[^A-Za-z0-9_./~-])/(?:work|farm|root|home/[a-z]+|Users/[A-Za-z]+)/")
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".json",
    ".lock",
    ".sh",
    ".sql",
    ".mako",
    ".html",
    ".css",
    ".js",
    ".service",
    ".po",
    "",
}


def _anchors(text: str) -> set[str]:
    found = set(re.findall(r'<a id="([^"]+)"', text))
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        found.add(plain.replace(" ", "-"))
    return found


@pytest.mark.parametrize("name", list(documents.pages()))
def test_every_link_leads_somewhere(name: str) -> None:
    folder = (documents.ROOT / name).parent
    for match in LINK.finditer(FENCE.sub("", documents.pages()[name])):
        link = match[1] or match[2]
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (folder / place).resolve() if place else documents.ROOT / name
        assert target.exists(), f"{name}: {link} leads nowhere"
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target.read_text(encoding="utf-8")), (
                f"{name}: {link} has no such heading"
            )


def test_every_page_the_code_names_is_there() -> None:
    missing = [
        f"{path.relative_to(documents.ROOT)}: {page}"
        for floor in documents.FLOORS
        for path in (documents.ROOT / floor).rglob("*.py")
        for page in NAMED.findall(path.read_text(encoding="utf-8"))
        if not (documents.ROOT / page).is_file()
    ]
    assert missing == []


def test_every_page_is_reached_from_the_index() -> None:
    reached, waiting = set(), [documents.DOCS / "index.md", documents.ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in reached or not path.is_file():
            continue
        reached.add(path)
        for match in LINK.finditer(path.read_text(encoding="utf-8")):
            place = (match[1] or match[2]).partition("#")[0]
            if place.endswith(".md") and not re.match(r"[a-z]+:", place):
                waiting.append((path.parent / place).resolve())
    lost = set(documents.DOCS.glob("*.md")) - reached
    assert sorted(path.name for path in lost) == []


def _texts() -> list[tuple[Path, str]]:
    found = []
    for path in documents.tracked():
        if path.suffix in TEXT and not path.is_symlink():
            found.append((path, path.read_text(encoding="utf-8", errors="replace")))
    return found


def test_no_tracked_file_names_a_host_of_packages_or_a_path_of_one_machine() -> None:
    texts = _texts()
    if not texts:
        pytest.skip("not a git checkout, so there is no list of tracked files")
    wrong = []
    for path, text in texts:
        wrong += [f"{path.relative_to(documents.ROOT)}: {host}" for host in PACKAGE_HOSTS if host in text]
        if found := MACHINE_PATHS.search(text):
            wrong.append(f"{path.relative_to(documents.ROOT)}: {found[0].strip()}")
    assert wrong == []
