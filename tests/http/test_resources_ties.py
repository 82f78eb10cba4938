"""What ties registrants to each other and is known of them: seen only with both ends, never changed behind anybody's back."""

from __future__ import annotations

import base64
from typing import Any

import pytest

GUARDIAN = {
    "id": "guardian", "names": {"en": "guardian"}, "inverse_names": {"en": "ward"}, "source_kind": "individual",
}  # fmt: skip
SURVEY = {
    "id": "survey", "names": {"en": "Survey"}, "lasts_days": 365,
    "data_schema": {"type": "object", "properties": {"score": {"type": "integer"}}, "required": ["score"]},
}  # fmt: skip
Registry = Any


@pytest.fixture
async def two(registry: Registry) -> tuple[str, str]:
    """Somebody in the north and somebody in the south."""
    await registry.area("N")
    await registry.area("S")
    return await registry.person("1", "N"), await registry.person("2", "S")


async def test_a_membership_is_seen_by_whom_sees_group_and_member(
    registry: Registry, two: tuple[str, str]
) -> None:
    north, south = two
    body = {
        "kind": "group", "area_code": "N", "identifiers": [{"id_type": "HH", "value": "h1"}],
        "memberships": [{"person_id": north, "roles": ["head"]}, {"person_id": south}],
    }  # fmt: skip
    status, group, _ = await registry.call("POST", "/v1/registrants", body)
    assert status == 201, group
    _, page, _ = await registry.call("GET", f"/v1/memberships?group={group['id']}&active=true")
    assert {each["member"]: each["roles"] for each in page["items"]} == {north: ["head"], south: []}
    of_south = next(each["id"] for each in page["items"] if each["member"] == south)
    assert (await registry.call("GET", f"/v1/memberships?group={group['id']}&active=false"))[1]["items"] == []
    heads = (await registry.call("GET", f"/v1/memberships?role=head&member={north}"))[1]["items"]
    assert [each["group"] for each in heads] == [group["id"]]
    _, seen, _ = await registry.call("GET", f"/v1/memberships?group={group['id']}", by="north-office")
    assert [each["member"] for each in seen["items"]] == [north]
    status, refused, _ = await registry.call("GET", f"/v1/memberships/{of_south}", by="north-office")
    assert (status, refused["code"]) == (404, "membership-not-found")


async def test_a_relationship_is_made_once_ended_and_never_about_whom_one_does_not_see(
    registry: Registry, two: tuple[str, str]
) -> None:
    north, south = two
    assert (await registry.call("POST", "/v1/relationship-types", GUARDIAN))[0] == 201
    said = {"type": "guardian", "source": north, "destination": south, "start_date": "2024-01-01"}
    status, made, _ = await registry.call("POST", "/v1/relationships", said)
    assert (status, made["inverse_names"], made["active"]) == (201, {"en": "ward"}, True)
    again = await registry.call("POST", "/v1/relationships", said)
    assert again[1]["id"] == made["id"]
    for place, one in (("/destination", said), ("/source", {**said, "source": south, "destination": north})):
        status, refused, _ = await registry.call("POST", "/v1/relationships", one, by="north-office")
        assert (status, refused["code"]) == (404, "registrant-not-found")
        assert refused["errors"][0]["pointer"] == place
    path = f"/v1/relationships/{made['id']}"
    assert (await registry.call("GET", path, by="north-office"))[0] == 404
    assert (await registry.call("POST", f"{path}/$end", {}, by="north-office"))[0] == 404
    status, wrong, _ = await registry.call("POST", "/v1/relationships", {**said, "destination": north})
    assert (status, wrong["code"]) == (422, "relationship-invalid")
    assert (await registry.call("POST", f"{path}/$end", {"on": "2024-05-01"}))[0] == 200
    ended = (await registry.call("GET", path))[1]
    assert (ended["end_date"], ended["active"]) == ("2024-05-01", False)
    assert (await registry.call("GET", f"/v1/relationships?registrant={south}&active=true"))[1]["items"] == []
    deeds = [
        row[0]
        for row in await registry.pool.fetch(
            "SELECT action FROM audit_event WHERE object_id = $1", made["id"]
        )
    ]
    assert {"relationship.made", "relationship.ended"} <= set(deeds)  # fmt: skip


async def test_a_type_is_declared_changed_by_its_version_and_switched_off(registry: Registry) -> None:
    status, _, headers = await registry.call("POST", "/v1/relationship-types", GUARDIAN)
    assert status == 201
    assert (await registry.call("POST", "/v1/relationship-types", GUARDIAN))[1]["code"] == "resource-exists"
    off = {**GUARDIAN, "active": False}
    match = {"If_Match": headers["ETag"]}
    assert (await registry.call("PUT", "/v1/relationship-types/guardian", off, **match))[1]["active"] is False
    status, body, _ = await registry.call("PUT", "/v1/relationship-types/guardian", off, **match)
    assert (status, body["code"]) == (412, "precondition-failed")


async def test_a_fact_fits_its_type_and_is_only_ever_followed_by_another(
    registry: Registry, two: tuple[str, str]
) -> None:
    north, south = two
    fact = {"registrant": north, "type": "survey", "collected_on": "2026-03-01", "data": {"score": 3}}
    status, body, _ = await registry.call("POST", "/v1/facts", fact)
    assert (status, body["code"]) == (422, "event-type-unknown")
    status, made, _ = await registry.call("POST", "/v1/fact-types", SURVEY)
    assert (status, made["data_schema"]) == (201, SURVEY["data_schema"])
    status, body, _ = await registry.call("POST", "/v1/facts", {**fact, "data": {"score": "three"}})
    assert (status, body["code"], body["errors"][0]["pointer"]) == (422, "event-data-invalid", "/data/score")
    status, made, _ = await registry.call("POST", "/v1/facts", fact, by="north-office")
    assert (status, made["expires_on"], made["source"]) == (201, "2027-03-01", "north-office")
    elsewhere = await registry.call("POST", "/v1/facts", {**fact, "registrant": south}, by="north-office")
    assert (elsewhere[0], elsewhere[1]["code"]) == (404, "registrant-not-found")
    assert (await registry.call("PUT", f"/v1/facts/{made['id']}", fact, If_Match="*"))[0] == 405
    path = f"/v1/facts?registrant={north}&collected_from=2026-02-01&_sort=-collected_on"
    assert [each["data"] for each in (await registry.call("GET", path))[1]["items"]] == [{"score": 3}]


async def test_a_document_is_opened_for_a_purpose_that_the_audit_trail_has(
    registry: Registry, two: tuple[str, str]
) -> None:
    north, south = two
    content = base64.b64encode(b"%PDF planted").decode()
    entry = {
        "registrant": north,
        "kind": "birth_certificate",
        "media_type": "application/pdf",
        "content": content,
    }
    status, body, _ = await registry.call("POST", "/v1/documents", {**entry, "content": "no base64!"})
    assert (status, body["errors"][0]["pointer"]) == (400, "/content")
    status, made, _ = await registry.call("POST", "/v1/documents", entry)
    assert (status, made["size"]) == (201, 12)
    assert "content" not in made
    path = f"/v1/documents/{made['id']}"
    assert (await registry.call("POST", f"{path}/$open", {}))[0] == 400
    status, opened, _ = await registry.call("POST", f"{path}/$open", {"purpose": "appeal"}, by="north-office")
    assert (status, opened["content"], opened["media_type"]) == (200, content, "application/pdf")
    told = await registry.pool.fetchval(
        "SELECT details->>'purpose' FROM audit_event WHERE action = 'document.opened' AND object_id = $1",
        made["id"],
    )
    assert told == "appeal"
    status, body, _ = await registry.call("POST", f"{path}/$open", {"purpose": "x"}, by="onlooker")
    assert status == 403
    other = (await registry.call("POST", "/v1/documents", {**entry, "registrant": south}))[1]["id"]
    assert (await registry.call("POST", f"/v1/documents/{other}/$open", {"purpose": "x"}, by="north-office"))[
        0
    ] == 404
    assert (await registry.call("DELETE", path, If_Match="*"))[0] == 204
    status, body, _ = await registry.call("POST", f"{path}/$open", {"purpose": "appeal"})
    assert (status, body["code"]) == (404, "document-not-found")
    assert (await registry.call("GET", path))[1]["removed_at"] is not None
