"""`hub changes` and `hub duplicates` on a real database: what staff type and read, from a file to a merge and back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from adapters.cli import changes as changes_cli
from adapters.cli import duplicates as duplicates_cli
from adapters.hub import Hub
from canonical_model.errors import ConfigError, Refused
from registry.settings import load_settings

ID = "00000000-0000-0000-0000-000000000001"


def run(application: Any, *words: str, given: str = "") -> str:
    result = CliRunner().invoke(application, list(words), input=given)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def changes(*words: str, given: str = "") -> Any:
    return orjson.loads(run(changes_cli.app, *words, "--json", given=given))


def duplicates(*words: str) -> Any:
    return orjson.loads(run(duplicates_cli.app, *words, "--json"))


@pytest.fixture
def ids(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two registrations of one person."""
    monkeypatch.setenv("HUB_DATABASE_URL", database_url)
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")

    async def register() -> tuple[str, str]:
        hub = Hub(load_settings())
        await hub.open(deliver=False)
        try:
            made = [
                (
                    await hub.people.upsert(
                        {
                            "identifiers": [{"id_type": "NID", "value": value}],
                            "names": [{"full_name": "Zuleika Planted"}],
                            "birthdate": "1990-02-01",
                        },
                        source="test",
                    )
                ).id
                for value in ("1", "2")
            ]
        finally:
            await hub.close()
        return str(made[0]), str(made[1])

    return asyncio.run(register())


def as_other(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for module in (changes_cli, duplicates_cli):
        monkeypatch.setattr(module, "actor", lambda: f"user:{name}")


def test_a_change_goes_from_a_file_to_the_registry_and_back(
    ids: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "change.json"
    file.write_bytes(orjson.dumps({"type": "edit", "registrant": ids[0], "set": {"occupation": "weaver"}}))
    as_other(monkeypatch, "maker")
    dry = run(changes_cli.app, "submit", str(file), "--dry-run")
    assert "one-other-person" in dry
    assert changes("list") == {"changes": [], "cursor": None}
    asked = changes("submit", str(file), "--base", f"{ids[0]}=1")
    assert (asked["state"], asked["waits_for"]) == ("pending", "approver")
    assert [one["id"] for one in changes("list", "--registrant", ids[0])["changes"]] == [asked["id"]]
    with pytest.raises(Refused) as caught:
        changes("agree", asked["id"], "--role", "approver")
    assert caught.value.code == "change-maker-checks"
    as_other(monkeypatch, "checker")
    seen = changes("preview", asked["id"], "--purpose", "check")
    assert seen["differences"] == [
        {"registrant": ids[0], "name": "occupation", "before": None, "after": "weaver"}
    ]
    assert "weaver" in run(changes_cli.app, "preview", asked["id"], "--purpose", "check")
    assert changes("agree", asked["id"], "--role", "approver")["state"] == "applied"
    shown = run(changes_cli.app, "show", asked["id"])
    assert "user:checker agreed as approver" in shown
    assert "weaver" not in shown
    back = changes("undo", asked["id"])
    as_other(monkeypatch, "maker")
    assert changes("refuse", back["id"], "--role", "approver", "--reason", "right-as-it-is")["reason"] == (
        "right-as-it-is"
    )


def test_a_change_of_ones_own_is_kept_as_a_draft_handed_in_and_cancelled(ids: tuple[str, str]) -> None:
    text = orjson.dumps({"type": "exit", "registrant": ids[0], "reason": "moved"}).decode()
    asked = changes("submit", "-", "--draft", "--id", ID, given=text)
    assert (asked["id"], asked["state"]) == (ID, "draft")
    assert changes("hand-in", ID)["state"] == "pending"
    assert changes("cancel", ID)["state"] == "cancelled"
    assert [one["id"] for one in changes("list", "--state", "cancelled")["changes"]] == [ID]
    assert changes("apply") == {"applied": 0}


def test_a_duplicate_is_found_shown_and_merged_by_two_people(
    ids: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_other(monkeypatch, "maker")
    assert "1 would be to be looked at" in run(duplicates_cli.app, "find", "--dry-run")
    found = duplicates("find")
    assert (found["state"], found["found"], found["registrants"]) == ("done", 1, 2)
    (pair,) = duplicates("list")["duplicates"]
    assert {pair["first"], pair["second"]} == set(ids)
    assert "names" not in pair
    assert "Planted" not in run(duplicates_cli.app, "list")
    assert run(duplicates_cli.app, "list", "--purpose", "review").count("Zuleika Planted") == 2
    decided = duplicates("decide", *ids, "duplicate", "--survivor", ids[1])
    as_other(monkeypatch, "checker")
    assert changes("agree", decided["request_id"], "--role", "approver")["state"] == "applied"
    assert duplicates("list", "--state", "duplicate")["duplicates"][0]["request_state"] == "applied"
    assert duplicates("find")["found"] == 0


def test_what_is_typed_wrong_is_refused_in_words(ids: tuple[str, str], tmp_path: Path) -> None:
    for words, code in (
        (("show", "x"), "change-not-found"),
        (("submit", str(tmp_path / "none.json")), "change-invalid"),
        (("list", "--state", "x"), "filter-invalid"),
    ):
        with pytest.raises(Refused) as caught:
            changes(*words)
        assert caught.value.code == code
    with pytest.raises(Refused) as caught:
        changes("submit", "-", given="[]")
    assert caught.value.code == "change-invalid"
    with pytest.raises(Refused) as caught:
        duplicates("list", "--cursor", "x")
    assert caught.value.code == "cursor-invalid"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policies: [{name: a, steps: [{role: b}], wen: x}]", "policy 1, wen"),
        ("policies: [{name: a, types: [edt], steps: []}]", "edt is no type"),
        ("policies: [{name: a, when: 'kind == 1', steps: []}]", "names kind"),
        ("policies: [{name: a, steps: []}, {name: a, steps: []}]", "one name"),
        ("other: []", "no list"),
        ("a: [", "cannot be read"),
    ],
)
def test_wrong_policies_stop_the_hub_and_say_where(
    ids: tuple[str, str], tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "config").mkdir(exist_ok=True)
    (tmp_path / "config" / "changes.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        changes("list")
    assert caught.value.code == "changes-invalid"
    assert said in caught.value.detail
