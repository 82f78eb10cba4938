"""Every error code has a page, every page belongs to a code, and all pages answer the same four questions."""

from __future__ import annotations

import re

import documents
import pytest

from adapters.http import error_pages

HEADINGS = ["What happened", "Why", "What the hub did", "What you can do"]
MADE_AT_RUN_TIME = {
    "civil-event-invalid": ("registry/people/store.py", "-invalid"),
    "household-invalid": ("registry/people/store.py", "-invalid"),
    "person-invalid": ("registry/people/store.py", "-invalid"),
}
"""Codes put together from parts, which no scan can see: where, and the part that must still stand there."""
NO_ERROR = {"type-not-expected"}
"""Answers of sandboxes, which stand for outside systems and have codes of their own."""


def _codes() -> dict[str, set[str]]:
    found = {code: places for code, places in documents.codes_in_source().items() if code not in NO_ERROR}
    return found | {code: {place} for code, (place, _) in MADE_AT_RUN_TIME.items()}


def _pages() -> set[str]:
    return {path.stem for path in (documents.DOCS / "errors").glob("*.md")}


def test_the_scan_sees_every_way_a_code_is_named() -> None:
    found = documents.codes_in_source()
    # code=, default_code, the catalog, a loop of declare(), a helper's positional argument, one branch of a choice
    for code in (
        "route-invalid",
        "token-invalid",
        "no-route",
        "dci-action-invalid",
        "secret-missing",
        "route-condition-failed",
    ):
        assert code in found, code


def test_every_code_of_the_source_has_a_page() -> None:
    missing = {code: sorted(places)[0] for code, places in _codes().items() if code not in _pages()}
    assert not missing, "\n".join(
        f"docs/errors/{code}.md is missing ({place})" for code, place in sorted(missing.items())
    )


def test_every_page_belongs_to_a_code() -> None:
    assert sorted(_pages() - set(_codes())) == []


def test_codes_made_at_run_time_are_still_made_there() -> None:
    for place, part in MADE_AT_RUN_TIME.values():
        assert part in (documents.ROOT / place).read_text(encoding="utf-8")


@pytest.mark.parametrize("code", sorted(_pages()))
def test_a_page_answers_four_questions(code: str) -> None:
    text = (documents.DOCS / "errors" / f"{code}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {code}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert len(text.splitlines()) <= 30
    for part in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]:
        assert part.strip(), f"an empty part in {code}"
    assert error_pages.summary(code)


def test_remedies_name_only_commands_that_exist() -> None:
    from adapters.cli import COMMANDS, GROUPS

    known = {*COMMANDS, *GROUPS}
    for name, text in documents.pages().items():
        for command in re.findall(r"`hub ([a-z]+)[ `]", text):
            assert command in known, f"{name} names `hub {command}`"
