"""The DCI civil registry mapping on samples with the oddities met in practice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from canonical_model.civil_event import CivilEvent
from canonical_model.errors import Refused
from mappings.engine import MappingStore

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "tests" / "samples" / "crvs"
OFFICIAL = ROOT.parent / "shared" / "standards" / "spdci" / "samples" / "crvs"
EVENT = MappingStore.load().get("dci.crvs_vital_event")


def sample(name: str) -> dict[str, Any]:
    return orjson.loads((SAMPLES / f"{name}.json").read_bytes())


def event(name: str) -> CivilEvent:
    return CivilEvent.model_validate_json(orjson.dumps(EVENT.to_canonical(sample(name))))


def test_a_birth_says_who_when_where_and_under_which_number() -> None:
    birth = event("birth")
    assert birth.event_type == "birth"
    assert str(birth.event_date) == str(birth.subject.birthdate) == "2026-02-03"
    assert birth.event_place is not None
    assert birth.event_place.latitude == 1.25
    assert birth.registration_number is not None
    assert birth.registration_number.value == "BRN-2026-0007"
    assert [name.display for name in birth.subject.names] == ["Wanda Iris Okonedo"]
    assert birth.subject.contact_points[0].value == "+256700555010"
    assert birth.subject.marital_status == "never_married"


def test_empty_texts_lists_and_objects_mean_no_value() -> None:
    birth = event("birth")
    assert birth.subject.death_date is None
    assert birth.subject.death_place is None
    assert birth.subject.marriage_dates == ()
    assert birth.subject.names[0].prefix is None
    assert birth.parent1_identifier is not None
    assert birth.parent2_identifier is None


def test_the_oddities_of_printed_examples_are_read() -> None:
    birth = event("birth_odd")
    assert birth.event_type == "birth"
    assert birth.registration_number is not None
    assert birth.registration_number.value == "90010"
    assert str(birth.subject.birthdate) == "2025-11-07"
    assert birth.subject.sex == "male"
    assert birth.subject.marital_status == "never_married"
    address = birth.subject.addresses[0]
    assert (address.address_line_1, address.locality, address.postal_code, address.country_code) == (
        "12 Harbor Road",
        "Portside",
        "10010",
        "PH",
    )


def test_the_standard_spelling_is_written_whatever_was_read() -> None:
    written = EVENT.to_dialect(EVENT.to_canonical(sample("birth_odd")))
    assert written["reg_event_type"] == "spdci-common:RegistryEventType:LiveBirth"
    assert written["version"] == "1.0.0"
    record = written["reg_records"]
    assert record["address"][0]["address_line_1"] == "12 Harbor Road"
    assert record["birth_date"] == "2025-11-07"
    assert record["marital_status"] == "S"
    assert "birth_place" not in record
    assert record["identifier"] == [{"identifier_type": "BRN", "identifier_value": "90010"}]


def test_a_death_takes_day_and_place_from_the_person() -> None:
    death = event("death")
    assert (death.event_type, str(death.event_date)) == ("death", "2026-01-15")
    assert death.event_place is not None
    assert death.event_place.address_line == "1 Hill Street"
    assert death.registration_number is not None
    assert death.registration_number.id_type == "DRN"
    assert death.subject.marital_status == "widowed"


def test_a_marriage_happened_on_the_last_of_the_marriage_dates() -> None:
    marriage = event("marriage")
    assert (marriage.event_type, str(marriage.event_date)) == ("marriage", "2026-03-14")
    assert len(marriage.subject.marriage_dates) == 2
    assert marriage.registration_number is not None
    assert marriage.registration_number.value == "MRN-2026-0042"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("LiveBirth", "birth"),
        ("live_birth", "birth"),
        ("BIRTH", "birth"),
        ("REGISTER", "birth"),
        ("spdci-common:RegistryEventType:LIVE_BIRTH", "birth"),
        ("Fetal Death", "fetal_death"),
        ("fetal_death", "fetal_death"),
        ("death", "death"),
        ("DIVORCE", "divorce"),
        ("x:y:Adoption", "adoption"),
    ],
)
def test_an_event_type_is_known_by_its_last_part_whatever_its_case(said: str, meant: str) -> None:
    document = sample("birth") | {"reg_event_type": said}
    assert EVENT.to_canonical(document)["event_type"] == meant


@pytest.mark.parametrize(
    ("name", "code", "pointer"),
    [
        ("malformed_date", "mapping-failed", "/reg_records/birth_date"),
        ("malformed_records", "mapping-failed", "/reg_records"),
        ("malformed_event", "mapping-code-unknown", "/reg_event_type"),
    ],
)
def test_a_malformed_document_is_refused_with_the_place_and_without_the_value(
    name: str, code: str, pointer: str
) -> None:
    with pytest.raises(Refused) as refused:
        EVENT.to_canonical(sample(name))
    assert (refused.value.code, refused.value.pointer) == (code, pointer)
    for secret in ("third of May", "Coronation"):
        assert secret not in str(refused.value)
    assert "dci.crvs_vital_event@1.0.0" in refused.value.detail


def test_an_unknown_code_names_its_list() -> None:
    with pytest.raises(Refused, match=r"dci\.vital_event_type"):
        EVENT.to_canonical(sample("malformed_event"))


def test_an_event_without_a_type_or_a_record_is_refused() -> None:
    for key in ("reg_event_type", "reg_records"):
        document = sample("birth") | {key: ""}
        with pytest.raises(Refused) as refused:
            EVENT.to_canonical(document)
        assert refused.value.pointer == f"/{key}"


def test_a_registration_number_that_is_not_among_the_identifiers_is_written_there() -> None:
    canonical = EVENT.to_canonical(sample("birth"))
    canonical["subject"]["identifiers"] = canonical["subject"]["identifiers"][:1]
    written = EVENT.to_dialect(canonical)["reg_records"]["identifier"]
    assert {"identifier_type": "BRN", "identifier_value": "BRN-2026-0007"} in written
    assert len(written) == 2


def test_the_source_document_is_left_as_it_was() -> None:
    document = sample("birth")
    canonical = EVENT.to_canonical(document)
    assert document == sample("birth")
    before = orjson.dumps(canonical)
    EVENT.to_dialect(canonical)
    assert orjson.dumps(canonical) == before


def test_the_official_samples_become_valid_events_and_come_back() -> None:
    if not OFFICIAL.is_dir():
        pytest.skip(f"the official samples are not at {OFFICIAL}")
    replies = sorted(OFFICIAL.glob("*res.json"))
    assert replies
    for reply in replies:
        data = orjson.loads(reply.read_bytes())["message"]["search_response"][0]["data"]
        document = {**data, "reg_event_type": "LiveBirth"}
        canonical = EVENT.to_canonical(document)
        CivilEvent.model_validate_json(orjson.dumps(canonical))
        assert EVENT.to_canonical(EVENT.to_dialect(canonical)) == canonical
