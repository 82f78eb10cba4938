"""Registrants over REST: made once, changed only as seen, and never outside of what the writer may see."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

NATIONAL = "urn:gov:xx:national-id"
Registry = Any
MERGE = {"Content_Type": "application/merge-patch+json"}
ROOT = "/v1/registrants"


def national(value: str) -> dict[str, str]:
    return {"id_type": "national", "namespace": NATIONAL, "value": value}


def somebody(number: str, **rest: Any) -> dict[str, Any]:
    return {
        "kind": "individual",
        "identifiers": [national(number)],
        "names": [{"family_name": "Planted", "given_name": "Amina"}],
        "sex": "female",
        "birthdate": "1990-04-01",
        **rest,
    }


async def _identity(registry: Registry, id_: str) -> dict[str, Any]:
    status, body, _ = await registry.call("GET", f"{ROOT}/{id_}/identity?purpose=check")
    assert status == 200, body
    return dict(body)


async def test_an_individual_is_made_and_changed_by_its_versions(registry: Registry) -> None:
    call = registry.call
    await registry.area("N")
    status, made, headers = await call(
        "POST",
        f"{ROOT}?purpose=enrolment",
        somebody("1", area_code="N", attributes={"a": 1, "b": 2}, contact_points=[{"kind": "mobile", "value": "+23276555123"}]),
    )  # fmt: skip
    assert (status, headers["ETag"], headers["Location"]) == (201, '"1"', f"{ROOT}/{made['id']}"), made
    assert (made["sex"], made["birthdate"], made["area_code"]) == ("female", "1990-04-01", "N")
    path = headers["Location"]
    assert (await call("PATCH", path, {"sex": "male"}, **MERGE))[1]["code"] == "precondition-required"
    assert (await call("PATCH", path, {"sex": "male"}, If_Match='"9"', **MERGE))[0] == 412
    change = {"sex": None, "attributes": {"a": None, "c": 3}, "names": [{"full_name": "Amina Barasa"}]}
    status, body, headers = await call("PATCH", path, change, If_Match='"1"', **MERGE)
    assert (status, body["sex"], body["birthdate"], headers["ETag"]) == (200, None, "1990-04-01", '"2"')
    whole = await _identity(registry, made["id"])
    assert whole["attributes"] == {"b": 2, "c": 3}
    assert [one["full_name"] for one in whole["names"]] == ["Amina Barasa"]
    status, body, headers = await call("PUT", path, somebody("2", names=[]), If_Match='"2"')
    assert (status, body["area_code"], body["sex"], headers["ETag"]) == (200, None, "female", '"3"'), body
    whole = await _identity(registry, made["id"])
    assert {one["value"]: one.get("status") for one in whole["identifiers"]} == {"1": "invalid", "2": None}
    assert "names" not in whole or whole["names"] == []
    assert whole.get("contact_points", []) == []
    assert whole["attributes"] == {}
    # What was withdrawn is free again, and the same PUT once more changes nothing.
    assert (await call("POST", ROOT, somebody("1")))[0] == 201
    assert (await call("PUT", path, somebody("2", names=[]), If_Match='"3"'))[2]["ETag"] == '"3"'
    trail = await registry.pool.fetch(
        "SELECT action, details->>'purpose' AS why FROM audit_event WHERE object_id = $1 "
        "AND action IN ('registrant.create', 'registrant.patch', 'registrant.replace') "
        "AND NOT coalesce(details, '{}') ? 'digest' ORDER BY id",
        made["id"],
    )
    assert [tuple(row) for row in trail] == [
        ("registrant.create", "enrolment"),
        ("registrant.patch", None),
        ("registrant.replace", None),
        ("registrant.replace", None),
    ]


async def test_an_identifier_has_one_owner_however_it_is_sent(registry: Registry) -> None:
    call = registry.call
    done = await asyncio.gather(*(call("POST", ROOT, somebody("7")) for _ in range(12)))
    assert sorted(status for status, _, _ in done) == [201] + [409] * 11
    assert {body["code"] for status, body, _ in done if status == 409} == {"identifier-taken"}
    status, other, _ = await call("POST", ROOT, somebody("8"))
    change = {"identifiers": [national("7")]}
    status, body, _ = await call("PATCH", f"{ROOT}/{other['id']}", change, If_Match='"1"', **MERGE)
    assert (status, body["code"], body["errors"][0]["pointer"]) == (409, "identifier-taken", "/identifiers")
    assert await registry.pool.fetchval("SELECT count(*) FROM registrant") == 2


async def test_creates_at_one_time_share_a_transaction_and_each_has_its_own_answer(
    registry: Registry,
) -> None:
    bodies = [somebody(f"A{number}") for number in range(30)]
    bodies[5]["area_code"] = "nowhere"
    done = await asyncio.gather(*(registry.call("POST", ROOT, body) for body in bodies))
    assert [status for status, _, _ in done].count(201) == 29
    assert (done[5][0], done[5][1]["errors"][0]["pointer"]) == (400, "/area_code")
    assert len({body["id"] for status, body, _ in done if status == 201}) == 29
    transactions = await registry.pool.fetchval("SELECT count(DISTINCT xmin::text) FROM registrant")
    assert transactions < 15


async def test_wrong_bodies_get_a_pointer_to_each_place(registry: Registry) -> None:
    call = registry.call
    for body, places in (
        (somebody("1", birthdate="soon", sex="x"), {"/birthdate", "/sex"}),
        (somebody("1", group_size=4, memberships=[]), {"/group_size", "/memberships"}),
        ({"kind": "robot"}, {"/kind"}),
        (somebody("1", contact_points=[{"kind": "mobile", "value": "12"}]), {"/contact_points/0/value"}),
        (somebody("1", area_code="nowhere"), {"/area_code"}),
        (somebody("1", Amina="Planted"), {""}),
    ):
        status, answer, _ = await call("POST", ROOT, body)
        assert status in (400, 422), answer
        assert {one["pointer"] for one in answer["errors"]} == places
        assert "Planted" not in orjson.dumps(answer).decode()
    assert await registry.pool.fetchval("SELECT count(*) FROM registrant") == 0


async def test_a_confined_partner_writes_within_its_areas_only(registry: Registry) -> None:
    call = registry.call
    for code, parent in (("N", None), ("N1", "N"), ("S", None)):
        await registry.area(code, parent)
    by = {"by": "north-office"}
    assert (await call("POST", ROOT, somebody("1", area_code="S"), **by))[1]["code"] == "out-of-sight"
    assert (await call("POST", ROOT, somebody("1"), **by))[1]["code"] == "out-of-sight"
    status, mine, _ = await call("POST", ROOT, somebody("1", area_code="N1"), **by)
    assert status == 201
    path = f"{ROOT}/{mine['id']}"
    for area in ("S", None):
        status, body, _ = await call("PATCH", path, {"area_code": area}, If_Match='"1"', **by, **MERGE)
        assert (status, body["code"]) == (403, "out-of-sight")
    assert (await call("PATCH", path, {"area_code": "N"}, If_Match='"1"', **by, **MERGE))[0] == 200
    south = await registry.person("2", "S")
    hidden = await call("PATCH", f"{ROOT}/{south}", {"sex": "male"}, If_Match='"1"', **by, **MERGE)
    absent = await call("PATCH", f"{ROOT}/{'0' * 8}-0000-7000-8000-{'0' * 12}", {"sex": "male"}, If_Match='"1"', **by, **MERGE)  # fmt: skip
    for answer in (hidden, absent):
        answer[1].pop("instance")
    assert hidden[:2] == absent[:2]
    assert hidden[1]["code"] == "registrant-not-found"
    group = {
        "kind": "group",
        "area_code": "N",
        "memberships": [{"person_id": mine["id"]}, {"person_id": south}],
    }
    status, body, _ = await call("POST", ROOT, group, **by)
    assert (body["code"], body["errors"][0]["pointer"]) == ("member-unknown", "/memberships/1")
    group["memberships"] = [{"identifiers": [national("2")]}]
    assert (await call("POST", ROOT, group, **by))[1]["code"] == "member-unknown"
    group["memberships"] = [{"person_id": mine["id"], "roles": ["head"]}]
    status, body, _ = await call("POST", ROOT, group, **by)
    assert (status, body["kind"], body["group_kind"]) == (201, "group", "household")
    assert (await call("POST", ROOT, somebody("5", area_code="N"), by="enrolled-only"))[0] == 403
    assert (await call("POST", ROOT, somebody("5", area_code="N"), by="onlooker"))[1][
        "code"
    ] == "scope-missing"


async def test_a_repeat_with_the_same_key_makes_nobody_twice(registry: Registry) -> None:
    body = somebody("1", identifiers=[])
    first = await registry.call("POST", ROOT, body, Idempotency_Key="k1")
    again = await registry.call("POST", ROOT, body, Idempotency_Key="k1")
    assert (first[0], again[0], again[1]) == (201, 201, first[1])
    assert again[2]["Idempotency-Replayed"] == "true"
    assert await registry.pool.fetchval("SELECT count(*) FROM registrant") == 1


async def test_a_batch_and_lines_take_registrants(registry: Registry) -> None:
    parts = [{"method": "POST", "path": ROOT, "body": somebody(number)} for number in ("1", "2", "1")]
    _, body, _ = await registry.call("POST", "/v1/$batch", {"operations": parts})
    assert [one["status"] for one in body["results"]] == [201, 201, 409]
    lines = b"\n".join(orjson.dumps(somebody(number)) for number in ("2", "3"))
    _, raw, _ = await registry.call("POST", ROOT, lines, Content_Type="application/x-ndjson")
    assert [orjson.loads(line)["status"] for line in raw.splitlines()] == [409, 201]
    parts = [{"method": "POST", "path": ROOT, "body": somebody(number)} for number in ("8", "1")]
    _status, body, _ = await registry.call("POST", "/v1/$batch", {"atomic": True, "operations": parts})
    assert [one["status"] for one in body["results"]] == [424, 409]
    assert await registry.pool.fetchval("SELECT count(*) FROM registrant") == 3
