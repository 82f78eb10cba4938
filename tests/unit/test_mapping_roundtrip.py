"""What a mapping does not list as lost comes back unchanged, for every packaged mapping."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mappings.engine import Loss, LossReport, MappingStore, loss_report
from mappings.engine.model import models
from mappings.testing import assert_round_trip, canonical_documents

STORE = MappingStore.load()
NAMES = [header.reference for header in STORE.headers()]
REPORTS = {name: loss_report(STORE.get(name)) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
@settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_what_is_not_listed_as_lost_comes_back(name: str, data: st.DataObject) -> None:
    mapping = STORE.get(name)
    document = data.draw(canonical_documents(mapping.header.canonical))
    assume(_is_about_somebody(name, document))
    assert_round_trip(mapping, document, REPORTS[name])


@pytest.mark.parametrize("name", NAMES)
@settings(
    max_examples=20,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_a_trace_says_the_same_as_the_conversion_and_names_every_field(
    name: str, data: st.DataObject
) -> None:
    mapping = STORE.get(name)
    document = data.draw(canonical_documents(mapping.header.canonical))
    assume(_is_about_somebody(name, document))
    dialect = mapping.to_dialect(document)
    for direction, given_document in (("to_dialect", document), ("to_canonical", dialect)):
        output = mapping.convert(given_document, direction)
        trace = mapping.trace(given_document, direction)
        assert trace.output == output
        assert {origin.output for origin in trace.origins} == set(_pointers(output, ""))


@settings(
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(document=canonical_documents("CivilEvent"))
def test_the_made_documents_are_valid_canonical_events(document: dict[str, Any]) -> None:
    models()["CivilEvent"].model_validate(document)


@pytest.mark.parametrize("name", NAMES)
def test_a_packaged_mapping_names_only_fields_the_model_has(name: str) -> None:
    assert REPORTS[name].problems == ()


def test_the_round_trip_check_notices_a_loss_that_is_not_listed() -> None:
    mapping = STORE.get("dci.name")
    nothing_lost = LossReport("dci.name@1.0.0", (), ())
    with pytest.raises(AssertionError):
        assert_round_trip(mapping, {"family_name": "Doe", "language": "en"}, nothing_lost)


def test_a_lost_value_is_taken_out_of_the_expectation_and_the_others_stay() -> None:
    report = LossReport("x@1.0.0", (Loss("canonical", "kind", "codes", "", values=("a",)),), ())
    assert report.surviving({"kind": "a", "n": 1}) == {"n": 1}
    assert report.surviving({"kind": "b", "n": 1}) == {"kind": "b", "n": 1}


def _is_about_somebody(name: str, document: dict[str, Any]) -> bool:
    """An event whose person has nothing the registry could show is refused, so it is no case of a round trip."""
    return "subject" not in document or "subject" in REPORTS[name].surviving(document)


def _pointers(value: Any, above: str) -> list[str]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _pointers(item, f"{above}/{key}")]
    if isinstance(value, list):
        return [leaf for at, item in enumerate(value) for leaf in _pointers(item, f"{above}/{at}")]
    return [above]
