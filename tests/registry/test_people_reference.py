"""Areas, vocabularies, types of identifiers, relationships, documents and facts of a day."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import documents
import pytest
import yaml

from canonical_model.errors import Refused
from canonical_model.message import uuid7
from registry.imports.areas import read_areas
from registry.objects import FileObjectStore
from registry.people import PeopleFilter, PeopleStore
from registry.people.areas import AreaRow, Areas
from registry.people.documents import Documents
from registry.people.events import Events
from registry.people.reference import apply_reference, read_reference, stored_reference
from registry.people.relationships import Relationships
from registry.people.standards import COUNTRIES, CURRENCIES, LANGUAGES, SEXES
from registry.people.vocabularies import Vocabularies
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import KeyEncryptionKey, Vault

TODAY = datetime.now(UTC).date()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(HubSettings(), url=database_url, size=4)
    await ensure(opened, "month")
    yield opened
    await opened.close()


@pytest.fixture
def vault(pool: asyncpg.Pool, tmp_path: Path) -> Vault:
    return Vault(pool, KeyEncryptionKey.load(HubSettings(data_dir=tmp_path)))


@pytest.fixture
def people(pool: asyncpg.Pool, vault: Vault) -> PeopleStore:
    return PeopleStore(pool, vault, vault.blind)


async def someone(people: PeopleStore, value: str, kind: str = "UIN", **more: Any) -> UUID:
    data = {"identifiers": [{"id_type": kind, "value": value}], **more}
    put = people.upsert_group if kind == "HH" else people.upsert
    done = await put(data, source="urn:test")
    assert done.id is not None
    return done.id


def code(caught: pytest.ExceptionInfo[Refused]) -> str:
    return caught.value.code


FILE = """code,name,level,parent,kind,altnames,name_fr
XX,Xland,0,,country,,Xlande
XX0101,Kissi,2,XX01,district,,
XX01,Eastern,1,XX,province,East; Orient,Est
XX02,Northern,1,XX,province,,Nord
XX0102,Koindu,2,XX01,district,,
"""


async def test_a_file_of_areas_becomes_a_tree_whatever_the_order_of_its_rows(
    pool: asyncpg.Pool, tmp_path: Path
) -> None:
    path = tmp_path / "areas.csv"
    path.write_text(FILE, encoding="utf-8-sig")
    areas = Areas(pool)
    planned = await areas.put(read_areas(path), dry_run=True)
    assert (planned.created, await areas.list()) == (5, [])
    done = await areas.put(read_areas(path))
    assert (done.created, done.changed) == (5, 0)
    again = await areas.put(read_areas(path))
    assert (again.created, again.changed, again.unchanged) == (0, 0, 5)
    east = await areas.get("XX01")
    assert east is not None
    assert (east.level, east.parent_code, east.names, east.alt_names) == (
        1, "XX", {"en": "Eastern", "fr": "Est"}, ("East", "Orient"),
    )  # fmt: skip
    assert [each.code for each in await areas.list(within="XX01")] == ["XX01", "XX0101", "XX0102"]
    assert [each.code for each in await areas.list(level=1, after="XX01")] == ["XX02"]
    with pytest.raises(Refused) as caught:
        await areas.list(within="YY")
    assert code(caught) == "area-unknown"


async def test_an_area_moves_with_everything_in_it_and_never_into_itself(
    pool: asyncpg.Pool, tmp_path: Path
) -> None:
    path = tmp_path / "areas.csv"
    path.write_text(FILE + "XX010101,Foya,3,XX0101,chiefdom,,\n", encoding="utf-8")
    areas = Areas(pool)
    await areas.put(read_areas(path))
    moved = await areas.move("XX0101", "XX02")
    assert (moved.changed, moved.moved) == (2, 1)
    foya = await areas.get("XX010101")
    north = await areas.get("XX02")
    assert foya is not None
    assert north is not None
    assert north.id in foya.path
    assert set(await areas.subtree("XX02")) == {each.id for each in await areas.list(within="XX02")}
    assert len(await areas.subtree("XX02")) == 3
    raised = await areas.move("XX0101", None)
    assert (raised.changed, raised.moved) == (2, 1)
    assert await areas.get("XX0101") is not None
    for parent, wanted in (("XX010101", "areas-invalid"), ("YY", "area-unknown")):
        with pytest.raises(Refused) as caught:
            await areas.move("XX0101", parent)
        assert code(caught) == wanted


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([AreaRow("A", {"en": "A"}, "B", row=2), AreaRow("B", {"en": "B"}, "A", row=3)], "in itself"),
        ([AreaRow("A", {"en": "A"}, "Z", row=2)], "row 2 has a parent 'Z'"),
        (
            [AreaRow("A", {"en": "A"}, row=2), AreaRow("A", {"en": "B"}, row=3)],
            "row 3 has the code 'A' a second",
        ),
        ([AreaRow("A", {}, row=2)], "row 2 has no name"),
        ([AreaRow("A", {"en": "A"}, level=3, row=2)], "row 2 has level 3"),
    ],
)
async def test_a_tree_that_cannot_be_is_refused_whole_with_its_rows(
    pool: asyncpg.Pool, rows: list[AreaRow], problem: str
) -> None:
    with pytest.raises(Refused) as caught:
        await Areas(pool).put([AreaRow("OK", {"en": "Fine"}), *rows])
    assert code(caught) == "areas-invalid"
    assert problem in caught.value.detail
    assert await pool.fetchval("SELECT count(*) FROM area") == 0


async def test_the_code_lists_of_iso_are_there_in_four_languages(pool: asyncpg.Pool) -> None:
    lists = Vocabularies(pool)
    sizes = {each.namespace: each.codes for each in await lists.list()}
    assert sizes[COUNTRIES] >= 249
    assert sizes[CURRENCIES] >= 150
    assert sizes[LANGUAGES] >= 7000
    assert sizes[SEXES] == 4
    sierra = await lists.code(COUNTRIES, "SL")
    swahili = await lists.code(LANGUAGES, "swa")
    female = await lists.code(SEXES, "2")
    assert sierra is not None
    assert swahili is not None
    assert female is not None
    assert (sierra.display("fr"), sierra.display("ar"), sierra.display("sw")) == (
        "Sierra Leone", "سيراليون", "Sierra Leone",
    )  # fmt: skip
    assert swahili.names["fr"] == "swahili"
    assert female.display("es") == "Femenino"
    assert await lists.refresh() == sum(sizes.values())


async def test_a_countrys_own_list_keeps_the_codes_old_records_have(pool: asyncpg.Pool) -> None:
    lists = Vocabularies(pool)
    urn = "urn:gov:xx:vocab:shelter"
    await lists.put(
        urn, {"en": "Shelter"}, {"tent": {"en": "Tent"}, "house": {"en": "House", "fr": "Maison"}}
    )
    await lists.put(urn, {"en": "Shelter"}, {"house": {"en": "House"}, "hut": {"en": "Hut"}})
    assert [(each.code, each.active) for each in await lists.codes(urn)] == [
        ("house", True), ("hut", True), ("tent", False),
    ]  # fmt: skip
    with pytest.raises(Refused) as caught:
        await lists.put(SEXES, {"en": "Mine"}, {})
    assert code(caught) == "vocabulary-standard"
    with pytest.raises(Refused) as caught:
        await lists.put("shelter", {"en": "Mine"}, {})
    assert code(caught) == "vocabulary-invalid"


async def test_an_identifier_that_breaks_the_rule_of_its_type_is_refused_without_being_repeated(
    people: PeopleStore,
) -> None:
    await people.identifier_types.put(
        {
            "type": "NID",
            "names": {"en": "National id"},
            "kind": "individual",
            "pattern": r"\d{9}",
            "check_digit": "luhn",
        }
    )
    await someone(people, "123 456 782", "NID")
    for value, why in (
        ("12345678", "has another form"),
        ("123456789", "check digit"),
        ("1" * 70, "another form"),
    ):
        with pytest.raises(Refused) as caught:
            await someone(people, value, "NID")
        assert code(caught) == "identifier-invalid"
        assert why in caught.value.detail
        assert value not in str(caught.value)
    with pytest.raises(Refused) as caught:
        await people.upsert_group(
            {"identifiers": [{"id_type": "NID", "value": "123456790"}]}, source="urn:test"
        )
    assert "identifies an individual" in caught.value.detail
    # One that its issuer holds invalid is kept as it is; a closed type takes no new ones and keeps the old.
    await someone(
        people,
        "1",
        identifiers=[{"id_type": "UIN", "value": "1"}, {"id_type": "NID", "value": "x", "status": "invalid"}],
    )
    await people.identifier_types.put({"type": "NID", "names": {"en": "National id"}, "active": False})
    await someone(people, "123456782", "NID")
    with pytest.raises(Refused):
        await someone(people, "123456790", "NID")


@pytest.mark.parametrize(
    ("algorithm", "good", "bad"),
    [("luhn", "79927398713", "79927398710"), ("verhoeff", "2363", "2364"), ("damm", "5724", "5727"), ("mod_97_10", "12345676", "12345667")],
)  # fmt: skip
async def test_check_digits_are_those_of_their_algorithms(
    people: PeopleStore, algorithm: str, good: str, bad: str
) -> None:
    await people.identifier_types.put({"type": "CARD", "names": {"en": "Card"}, "check_digit": algorithm})
    await someone(people, good, "CARD")
    with pytest.raises(Refused):
        await someone(people, bad, "CARD")


async def test_a_relationship_is_seen_from_both_sides_and_holds_until_it_is_ended(
    people: PeopleStore, pool: asyncpg.Pool
) -> None:
    a, b = await someone(people, "1"), await someone(people, "2")
    links = Relationships(pool)
    await links.put_type(
        {
            "code": "guardian",
            "names": {"en": "Guardian"},
            "inverse_names": {"en": "Ward"},
            "destination_kind": "individual",
        }
    )
    both = {"en": "Neighbour"}
    await links.put_type({"code": "neighbour", "names": both, "inverse_names": both, "bidirectional": True})
    made = await links.relate("guardian", a, b, source="urn:desk", actor="user:ann")
    assert await links.relate("guardian", a, b, source="urn:desk", actor="user:ann") == made
    near = await links.relate("neighbour", a, b, source="urn:desk", actor="user:ann")
    assert await links.relate("neighbour", b, a, source="urn:desk", actor="user:ann") == near
    assert [(each.other_id, each.display()) for each in await links.of(a)] == [
        (b, "Guardian"),
        (b, "Neighbour"),
    ]
    assert [(each.other_id, each.display()) for each in await links.of(b)] == [(a, "Ward"), (a, "Neighbour")]
    assert await links.end(made, actor="user:ann")
    assert not await links.end(made, actor="user:ann")
    assert [each.type for each in await links.of(b)] == ["neighbour"]
    assert [each.active for each in await links.of(b, past=True)] == [False, True]
    assert len(await links.of(b, TODAY - timedelta(days=1))) == 2
    home = await someone(people, "H", "HH")
    for kind, source, destination, wanted in (
        ("guardian", a, a, "relationship-invalid"),
        ("guardian", a, home, "relationship-invalid"),
        ("cousin", a, b, "relationship-invalid"),
        ("guardian", a, uuid7(), "registrant-unknown"),
    ):
        with pytest.raises(Refused) as caught:
            await links.relate(kind, source, destination, source="urn:desk", actor="user:ann")
        assert code(caught) == wanted


async def test_a_document_lies_sealed_outside_the_database_and_opens_with_a_purpose(
    people: PeopleStore, pool: asyncpg.Pool, vault: Vault, tmp_path: Path
) -> None:
    a = await someone(people, "1")
    objects = FileObjectStore(tmp_path / "objects")
    documents = Documents(pool, vault, objects)
    body = b"%PDF planted content"
    said = {
        "kind": "birth_certificate",
        "media_type": "application/pdf",
        "source": "urn:desk",
        "actor": "user:ann",
    }
    kept = await documents.put(a, body, **said)
    assert (await documents.put(a, body, **said)).id == kept.id
    assert (kept.size, kept.media_type) == (len(body), "application/pdf")
    stored = [each.read_bytes() for each in (tmp_path / "objects").rglob("*") if each.is_file()]
    assert len(stored) == 1
    assert b"planted" not in stored[0]
    opened = await documents.open(kept.id, "complaint 4", "officer-1")
    assert opened is not None
    assert opened[1] == body
    with pytest.raises(Refused):
        await documents.open(kept.id, "", "officer-1")
    assert await documents.remove(kept.id, actor="user:ann")
    assert await documents.open(kept.id, "complaint 4", "officer-1") is None
    assert (await documents.of(a), len(await documents.of(a, removed=True))) == ([], 1)
    assert not [each for each in (tmp_path / "objects").rglob("*") if each.is_file()]
    trail = await pool.fetch(
        "SELECT action, outcome FROM audit_event WHERE object_type = 'document' ORDER BY id"
    )
    assert [tuple(row) for row in trail] == [
        ("document.kept", "ok"), ("document.opened", "ok"), ("document.removed", "ok"), ("document.opened", "absent"),
    ]  # fmt: skip
    for wrong in ({"kind": "Birth"}, {"media_type": "pdf"}):
        with pytest.raises(Refused) as caught:
            await documents.put(a, body, **(said | wrong))
        assert code(caught) == "document-invalid"
    with pytest.raises(Refused) as caught:
        await documents.put(uuid7(), body, **said)
    assert code(caught) == "registrant-unknown"
    await objects.close()


async def test_a_fact_of_a_day_has_a_type_and_fits_its_schema(
    people: PeopleStore, pool: asyncpg.Pool
) -> None:
    a = await someone(people, "1")
    events = Events(pool)
    schema = {
        "type": "object",
        "properties": {"income": {"type": "integer", "minimum": 0}},
        "additionalProperties": False,
    }
    await events.put_type({"type": "survey", "names": {"en": "Survey"}, "schema": schema, "lasts_days": 365})
    one = uuid7()
    for _ in range(2):
        await events.record_event_fact(
            a, "survey", date(2026, 1, 2), {"income": 400}, source="urn:kobo", id=one
        )
    await events.record_event_fact(
        a, "survey", date(2026, 3, 2), {}, source="urn:kobo", expires_on=date(2026, 4, 1)
    )
    assert [(each.collected_on, each.expires_on, each.data) for each in await events.of(a)] == [
        (date(2026, 3, 2), date(2026, 4, 1), {}),
        (date(2026, 1, 2), date(2027, 1, 2), {"income": 400}),
    ]
    for type_, data, who, wanted in (
        ("survey", {"income": "planted"}, a, "event-data-invalid"),
        ("survey", {"planted": 1}, a, "event-data-invalid"),
        ("visit", {}, a, "event-type-unknown"),
        ("survey", {}, uuid7(), "registrant-unknown"),
    ):
        with pytest.raises(Refused) as caught:
            await events.record_event_fact(who, type_, date(2026, 1, 2), data, source="urn:kobo")
        assert code(caught) == wanted
        assert "planted" not in str(caught.value)
    for wrong in ({"type": "integre"}, {"$ref": "http://127.0.0.1:9/x.json"}):
        with pytest.raises(Refused) as caught:
            await events.put_type({"type": "bad", "names": {"en": "Bad"}, "schema": wrong})
        assert code(caught) == "event-type-invalid"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await pool.execute("UPDATE registrant_event SET data = '{}'")


@pytest.mark.parametrize(
    "block", documents.marked("yaml", "reference"), ids=lambda block: str(getattr(block, "place", ""))
)
async def test_reference_data_in_the_pages_is_taken_and_told_again(
    pool: asyncpg.Pool, block: documents.Block
) -> None:
    reference = read_reference(yaml.safe_load(block.text))
    counts = await apply_reference(pool, reference)
    assert sum(counts.values()) >= 4
    told = dict(await stored_reference(pool))
    assert told.pop("standard_vocabularies")[SEXES] == 4
    assert read_reference(told) == reference


async def test_wrong_reference_data_is_refused_at_its_place(pool: asyncpg.Pool) -> None:
    for document, place in (
        (
            {"identifier_types": [{"type": "NID", "names": {"en": "N"}, "pattern": "("}]},
            "/identifier_types/0/pattern",
        ),
        (
            {"vocabularies": [{"namespace": "x", "names": {"en": "N"}, "codes": {}}]},
            "/vocabularies/0/namespace",
        ),
        ({"others": []}, "/others"),
        ([], "/"),
    ):
        with pytest.raises(Refused) as caught:
            read_reference(document)
        assert (code(caught), caught.value.pointer) == ("reference-invalid", place)


def test_an_unknown_filter_is_refused_and_never_ignored() -> None:
    with pytest.raises(Refused) as caught:
        PeopleFilter.read({"sex": "male", "Planted": "x"})
    assert code(caught) == "filter-unknown"
    assert "Planted" not in str(caught.value)


async def test_a_list_keeps_to_area_birth_group_and_status(people: PeopleStore, pool: asyncpg.Pool) -> None:
    await Areas(pool).put(
        [AreaRow("A", {"en": "A"}), AreaRow("A1", {"en": "A1"}, "A"), AreaRow("B", {"en": "B"})]
    )
    old = await someone(people, "1", area_code="A1", birthdate="1950-01-01")
    young = await someone(people, "2", area_code="B", birthdate="2010-01-01", status="inactive")
    home = await people.upsert_group(
        {"identifiers": [{"id_type": "HH", "value": "H"}], "memberships": [{"person_id": str(young)}]},
        source="urn:test",
    )

    async def found(**given: str) -> set[UUID]:
        page = await people.list(PeopleFilter.read(given))
        return {each.id for each in page.items}

    assert await found() == {old, young, home.id}
    assert await found(area="A") == {old}
    assert await found(born_from="2000-01-01") == {young}
    assert await found(born_until="1950-01-01", kind="individual") == {old}
    assert await found(group=str(home.id)) == {young}
    assert await found(status="inactive") == {young}
    assert await found(updated_since="2999-01-01") == set()
    await pool.execute("UPDATE registrant SET status = 'merged', merged_into = $1 WHERE id = $2", old, young)
    assert young not in await found()
    assert await found(status="merged") == {young}
    # Whoever names the merged one, by its id, writes to the one it became.
    done = await people.upsert({"person_id": str(young), "sex": "male"}, source="urn:test")
    assert done.id == old
