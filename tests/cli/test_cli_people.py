"""`hub people` and `hub areas` on a real database: what they print, and that names need a purpose."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from adapters.cli.areas import app as areas_app
from adapters.cli.audit import app as audit_app
from adapters.cli.imports import app as import_app
from adapters.cli.people import app
from adapters.hub import Hub
from canonical_model.errors import Refused
from registry.settings import load_settings

PLANTED = ("Zuleika", "PLANT-77", "+23276555123")
FILE = "code,name,level,parent,name_fr\nXX01,Eastern,1,XX,Est\nXX,Xland,0,,Xlande\n"


def hub(application: Any, *words: str, given: str = "") -> str:
    result = CliRunner().invoke(application, list(words), input=given)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def ids(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The ids of a person and their household, registered in an area."""
    monkeypatch.setenv("HUB_DATABASE_URL", database_url)
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "areas.csv").write_text(FILE, encoding="utf-8")
    hub(areas_app, "import", str(tmp_path / "areas.csv"))

    async def register() -> tuple[str, str]:
        opened = Hub(load_settings())
        await opened.open(deliver=False)
        try:
            person = {
                "identifiers": [{"id_type": "UIN", "value": PLANTED[1]}],
                "names": [{"given_name": PLANTED[0], "family_name": "Marker"}],
                "contact_points": [{"kind": "mobile", "value": PLANTED[2]}],
                "birthdate": "1990",
                "sex": "female",
                "area_code": "XX01",
            }
            one = await opened.people.upsert(person, source="urn:desk", actor="user:ann")
            await opened.people.upsert(
                {"person_id": str(one.id), "names": [{"full_name": "Zuleika Changed"}]},
                source="urn:desk",
                actor="user:bob",
            )
            home = await opened.people.upsert_group(
                {
                    "identifiers": [{"id_type": "HH", "value": "H1"}],
                    "memberships": [{"person_id": str(one.id), "roles": ["head"]}],
                },
                source="urn:desk",
                actor="user:ann",
            )
        finally:
            await opened.close()
        return str(one.id), str(home.id)

    return asyncio.run(register())


def test_people_are_listed_shown_and_found_without_any_identity_data(ids: tuple[str, str]) -> None:
    person, home = ids
    outputs = [
        hub(app, "list"),
        hub(app, "list", "--area", "XX", "--sex", "female", "--json"),
        hub(app, "show", person),
        hub(app, "show", home, "--json"),
        hub(app, "find", "--type", "UIN", given=f"{PLANTED[1]}\n"),
        hub(app, "history", person),
    ]
    assert person in outputs[0]
    assert home in outputs[0]
    assert [each["id"] for each in orjson.loads(outputs[1])["people"]] == [person]
    assert "about 1990-01-01" in outputs[0]
    assert home in outputs[2]
    shown = orjson.loads(outputs[3])
    assert [(each["member_id"], each["roles"], each["active"]) for each in shown["members"]] == [
        (person, ["head"], True)
    ]
    assert outputs[4].startswith(person)
    assert "user:bob" in outputs[5]
    assert "names" in outputs[5]
    for output in outputs:
        assert not [each for each in PLANTED if each in output]
    page = orjson.loads(hub(app, "list", "--limit", "1", "--json"))
    rest = orjson.loads(hub(app, "list", "--limit", "1", "--cursor", page["cursor"], "--json"))
    assert [page["people"][0]["id"], rest["people"][0]["id"], rest["cursor"]] == [home, person, None]


def test_identity_data_is_shown_for_a_purpose_and_the_trail_knows_who_asked(ids: tuple[str, str]) -> None:
    person, _ = ids
    assert CliRunner().invoke(app, ["reveal", person]).exit_code == 2
    data = orjson.loads(hub(app, "reveal", person, "--purpose", "complaint 12", "--json"))
    assert data["names"] == [{"full_name": "Zuleika Changed"}]
    told = orjson.loads(hub(app, "history", person, "--purpose", "complaint 12", "--json"))["versions"]
    assert told[0]["changes"]["names"][0] == [{"given_name": "Zuleika", "family_name": "Marker"}]
    found = orjson.loads(
        hub(app, "find", "--name", "-", "--purpose", "complaint 12", "--json", given="zuleika\n")
    )
    assert [each["id"] for each in found["candidates"]] == [person]
    from adapters.cli.audit import app as audit_app

    trail = hub(audit_app, "list", "--json")
    assert trail.count("complaint 12") == 3


def test_wrong_words_are_refused_by_name(ids: tuple[str, str]) -> None:
    for words, code in (
        (("show", "Zuleika"), "registrant-unknown"),
        (("show", "0192f3a0-7c1e-7b55-9a5e-1f2e3d4c5b6a"), "registrant-unknown"),
        (("list", "--sex", "Zuleika"), "filter-invalid"),
        (("list", "--area", "YY"), "area-unknown"),
        (("list", "--cursor", "abc"), "cursor-invalid"),
        (("find",), "search-invalid"),
        (("find", "--name", "Zuleika"), "purpose-missing"),
    ):
        with pytest.raises(Refused) as caught:
            hub(app, *words)
        assert caught.value.code == code
        assert "Zuleika" not in str(caught.value)


def test_areas_are_imported_listed_and_moved(ids: tuple[str, str], tmp_path: Path) -> None:
    assert hub(areas_app, "list", "--language", "fr").splitlines() == ["XX  Xlande", "  XX01  Est"]
    (tmp_path / "more.csv").write_text("code,name,parent\nXX02,Northern,XX\n", encoding="utf-8")
    dry = orjson.loads(hub(areas_app, "import", str(tmp_path / "more.csv"), "--dry-run", "--json"))
    assert dry == {"created": 1, "changed": 0, "moved": 0, "unchanged": 2, "dry_run": True}
    assert "1 areas made" in hub(areas_app, "import", str(tmp_path / "more.csv"))
    assert "1 of them moved" in hub(areas_app, "move", "XX01", "--to", "XX02")
    listed = orjson.loads(hub(areas_app, "list", "--in", "XX02", "--json"))["areas"]
    assert [(each["code"], each["level"]) for each in listed] == [("XX01", 2), ("XX02", 1)]


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_what_was_exported_can_be_imported_again_and_changes_nothing(
    ids: tuple[str, str], tmp_path: Path, ending: str
) -> None:
    place = tmp_path / f"people.{ending}"
    said = orjson.loads(hub(app, "export", str(place), "--purpose", "audit 7", "--json"))
    assert said["registrants"] == 1
    assert place.stat().st_mode & 0o077 == 0
    done = hub(import_app, "run", str(place), "--mapping", said["mapping"], "--source", "urn:desk", "--json")
    told = orjson.loads(done)
    assert (told["created"], told["updated"], told["untaken"], told["state"]) == (0, 1, 0, "done")
    shown = orjson.loads(hub(app, "reveal", ids[0], "--purpose", "a look", "--json"))
    assert shown["names"][0]["full_name"] == "Zuleika Changed"
    assert [one["value"] for one in shown["contact_points"]] == [PLANTED[2]]
    members = orjson.loads(hub(app, "show", ids[1], "--json"))["members"]
    assert [one["roles"] for one in members] == [["head"]]


def test_an_export_names_everybody_in_the_trail_and_never_writes_over_a_file(
    ids: tuple[str, str], tmp_path: Path
) -> None:
    place = tmp_path / "people.ndjson"
    hub(app, "export", str(place), "--purpose", "audit 7")
    (line,) = map(orjson.loads, place.read_bytes().splitlines())
    assert (line["id"], line["data"]["identifiers"][0]["value"]) == (ids[0], PLANTED[1])
    seen = orjson.loads(hub(audit_app, "who", ids[0], "--json"))
    assert "audit 7" in str(seen)
    with pytest.raises(Refused) as refused:
        hub(app, "export", str(place), "--purpose", "audit 7")
    assert refused.value.code == "file-not-written"
    with pytest.raises(Refused) as refused:
        hub(app, "export", str(tmp_path / "other.ndjson"), "--purpose", " ")
    assert refused.value.code == "purpose-missing"
    assert not (tmp_path / "other.ndjson").exists()
