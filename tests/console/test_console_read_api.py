"""The read side over HTTP: paging, confinement to one's own, refusals."""

from __future__ import annotations

from typing import Any

from aiohttp import ClientSession


def _auth(desk: Any, client: str = "civil", *scopes: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {desk.token(client, *scopes)}"}


async def _get(session: ClientSession, path: str, headers: dict[str, str], status: int = 200) -> Any:
    async with session.get(path, headers=headers) as answer:
        body = await answer.json()
        assert answer.status == status, body
        return body


async def _post(
    session: ClientSession, path: str, headers: dict[str, str], body: Any, status: int = 200
) -> Any:
    async with session.post(path, headers=headers, json=body) as answer:
        found = await answer.json()
        assert answer.status == status, found
        return found


async def test_the_link_header_leads_through_every_page(desk: Any) -> None:
    planted = [await desk.plant.message() for _ in range(5)]
    await desk.plant.message(partner="health")
    seen: list[str] = []
    path: str | None = "/v1/messages?limit=2&type=org.openspp.civil_event.registered.v1"
    async with desk.session() as session:
        while path:
            async with session.get(path, headers=_auth(desk)) as answer:
                seen += [item["id"] for item in (await answer.json())["items"]]
                link = answer.headers.get("Link")
            path = link.partition(">")[0][1:] if link else None
    assert seen == [str(id_) for id_ in reversed(planted)]


async def test_a_partner_reads_its_own_and_read_all_reads_everyones(desk: Any) -> None:
    theirs = await desk.plant.message(partner="health")
    await desk.plant.delivery(theirs, state="dead")
    held = "messages:read", "messages:read-all", "dead:read"
    async with desk.session() as session:
        assert (await _get(session, f"/v1/messages/{theirs}", _auth(desk), 404))[
            "code"
        ] == "message-not-found"
        assert (await _get(session, "/v1/messages", _auth(desk)))["items"] == []
        assert (await _get(session, "/v1/dead-letters", _auth(desk)))["items"] == []
        assert (await _get(session, f"/v1/messages/{theirs}", _auth(desk, "auditor", *held)))[
            "state"
        ] == "dead"
        assert len((await _get(session, "/v1/dead-letters", _auth(desk, "auditor", *held)))["items"]) == 1


async def test_a_partner_with_the_word_of_a_route_sees_its_deliveries_and_no_other_does(desk: Any) -> None:
    """The word counts where it stands both in `partners.yaml` and in the token."""
    word = "treasury.payments"
    theirs = await desk.plant.message(partner="payer")
    await desk.plant.delivery(theirs, route="payments", visible=[word])
    other = await desk.plant.message(partner="civil")
    await desk.plant.delivery(other, route="payments", visible=[word])
    async with desk.session() as session:
        seen = await _get(session, f"/v1/messages/{theirs}", _auth(desk, "payer", "messages:read", word))
        assert [one["route"] for one in seen["deliveries"]] == ["payments"]
        await _get(session, f"/v1/messages/{theirs}", _auth(desk, "payer", "messages:read"), 404)
        await _get(session, f"/v1/messages/{other}", _auth(desk, "civil", "messages:read", word), 404)


async def test_what_may_name_a_person_is_not_taken_in_an_address(desk: Any) -> None:
    wanted = await desk.plant.message(originid="their-7", correlationid="c-1")
    async with desk.session() as session:
        for name in ("subject", "originid", "correlationid", "nonsense"):
            problem = await _get(session, f"/v1/messages?{name}=x", _auth(desk), 400)
            assert problem["code"] == "query-parameter-unknown"
        for filter_ in ({"originid": "their-7"}, {"correlationid": "c-1"}):
            found = await _post(session, "/v1/messages/search", _auth(desk), {"filter": filter_})
            assert [item["id"] for item in found["items"]] == [str(wanted)]
        problem = await _post(session, "/v1/messages/search", _auth(desk), {"filter": {"name": "Amina"}}, 400)
        assert problem["code"] == "filter-unknown"
        assert "Amina" not in str(problem)
        assert (await _get(session, "/v1/messages?cursor=AAAA", _auth(desk), 400))["code"] == "cursor-invalid"


async def test_deeds_need_their_scope_and_happen_once(desk: Any) -> None:
    message = await desk.plant.message()
    dead = await desk.plant.delivery(message, state="dead")
    other = await desk.plant.delivery(await desk.plant.message(), state="dead")
    reader = _auth(desk, "civil", "messages:read", "dead:read")
    async with desk.session() as session:
        for path, body in (
            (f"/v1/messages/{message}/replay", {}),
            (f"/v1/dead-letters/{dead}/resend", {}),
            (f"/v1/dead-letters/{dead}/dismiss", {"reason": "x"}),
            ("/v1/replays", {"filter": {"state": "dead"}}),
        ):
            assert (await _post(session, path, reader, body, 403))["code"] == "scope-missing"
        dry = await _post(
            session, "/v1/replays", _auth(desk), {"filter": {"state": "dead"}, "dry_run": True, "rate": 5}
        )
        assert (dry["done"], len(dry["ids"])) == (2, 2)
        assert (await _post(session, f"/v1/messages/{message}/replay", _auth(desk), {}))["done"] == 1
        assert (await _post(session, f"/v1/dead-letters/{dead}/resend", _auth(desk), {}))["skipped"] == 1
        dismissed = await _post(
            session, f"/v1/dead-letters/{other}/dismiss", _auth(desk), {"reason": "by hand"}
        )
        assert dismissed["done"] == 1
        for path, body, code, status in (
            ("/v1/replays", {"filter": {}}, "filter-empty", 422),
            ("/v1/replays", {"filter": {"state": "dead"}, "rate": -1}, "request-invalid", 400),
            ("/v1/replays", {"filter": {"state": "dead"}, "surprise": 1}, "request-invalid", 400),
            (f"/v1/dead-letters/{message}/resend", {}, "delivery-not-found", 404),
            ("/v1/dead-letters/nonsense/resend", {}, "delivery-not-found", 404),
        ):
            assert (await _post(session, path, _auth(desk), body, status))["code"] == code


async def test_the_description_names_every_operation(desk: Any) -> None:
    async with desk.session() as session:
        document = await _get(session, "/openapi.json", _auth(desk))
    assert {"/v1/messages/{id}", "/v1/messages", "/v1/dead-letters", "/v1/replays"} <= set(document["paths"])
    assert set(document["paths"]["/v1/messages"]) >= {"get"}
