"""Programs over HTTP: from terms to reconciled payments by two partners, none seeing or deciding what is not theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from services.programs import World

from adapters.http.app import build_app
from adapters.http.security import Partner, Scope
from adapters.rest.resources import extension
from canonical_model.message import uuid7

SECRET = "scrypt$1024$8$1$AAAAAAAAAAAAAAAAAAAAAA$" + "A" * 43
TERMS: dict[str, Any] = {
    "code": "cash", "names": {"en": "Cash for all"}, "target_type": "individual", "currency": "KES", "fund": "main",
    "eligibility": "true", "benefit": {"kind": "cash", "amounts": [{"amount": "5000"}]},
}  # fmt: skip
DAYS = {"start": "2026-01-01", "end": "2026-01-31"}


def partner(name: str, **rest: Any) -> Partner:
    return Partner.model_validate(
        {"name": name, "clients": [{"id": name, "secret": SECRET}], "scopes": list(Scope), **rest}
    )


MORE = (
    partner("office", roles=["approver"]),
    partner("treasury", roles=["approver", "finance"]),
    partner("clerk"),
    partner("other-program", programs=["food"]),
    partner("north-office", areas=["N"]),
    partner("looker", scopes=["cycles:read"]),
)


class Api:
    """A world of programs and a served hub over it."""

    def __init__(self, world: World, served: Any) -> None:
        self.world, self.served = world, served

    async def call(
        self, method: str, path: str, body: Any = None, *, by: str = "office", **headers: str
    ) -> tuple[int, Any, Any]:
        sent = {**self.served.auth(by), **{name.replace("_", "-"): value for name, value in headers.items()}}
        data = None
        if body is not None:
            data = orjson.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        answer = await self.served.client.request(method, path, data=data, headers=sent)
        raw = await answer.read()
        return answer.status, orjson.loads(raw) if raw else None, answer.headers

    async def done(self, answer: tuple[int, Any, Any]) -> Any:
        """Return what a job came to, run here."""
        status, body, headers = answer
        assert status == 202, body
        assert headers["Location"] == f"/v1/jobs/{body['id']}"
        return await self.world.drive(UUID(body["id"]))

    async def funded(self) -> None:
        assert (
            await self.call("POST", "/v1/funds", {"code": "main", "names": {"en": "Main"}, "currency": "KES"})
        )[0] == 201
        money = {"amount": "100000.00", "currency": "KES", "once": "slip-1"}
        assert (await self.call("POST", "/v1/funds/main/$deposit", money))[1]["available"] == 10_000_000

    async def opened(self, people: int = 3) -> str:
        """Return a prepared cycle of a funded program."""
        await self.funded()
        self.people = await self.world.persons(people)
        assert (await self.call("POST", "/v1/programs", TERMS))[0] == 201
        assert (await self.call("POST", "/v1/programs/cash/$activate"))[1]["state"] == "active"
        await self.done(await self.call("POST", "/v1/programs/cash/$enroll"))
        job = await self.done(await self.call("POST", "/v1/programs/cash/$open-cycle", DAYS))
        cycle = str(job.params["cycle"])
        await self.done(await self.call("POST", f"/v1/cycles/{cycle}/$prepare"))
        return cycle

    async def approved(self, people: int = 3) -> str:
        cycle = await self.opened(people)
        await self.done(await self.call("POST", f"/v1/cycles/{cycle}/$submit"))
        status, body, headers = await self.call("POST", f"/v1/cycles/{cycle}/$approve", {}, by="treasury")
        assert (status, body["state"]) == (200, "approved"), body
        assert headers["Location"] == f"/v1/jobs/{body['job']}"
        await self.world.drive(UUID(body["job"]))
        return cycle


@pytest.fixture
async def api(serve_with: Any, database_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with World(database_url, tmp_path) as world:
        served = await serve_with(world.intake, pool=world.pool, more=MORE)
        settings = served.services.settings
        served.services.extra = [extension(world.pool, world.vault, settings, world.people, world.programs)]
        await served.client.close()
        served.client = TestClient(TestServer(build_app(served.services)))
        await served.client.start_server()
        yield Api(world, served)
        await served.client.close()


async def test_a_program_goes_from_its_terms_to_reconciled_payments(api: Api) -> None:
    cycle = await api.approved()
    await api.done(await api.call("POST", f"/v1/cycles/{cycle}/$distribute"))
    _, found, _ = await api.call("GET", f"/v1/payment-batches?cycle={cycle}")
    (batch,) = found["items"]
    assert (batch["payments"], batch["ordered"], batch["unknown"]) == (3, 15_000, 15_000)
    _, page, _ = await api.call("GET", f"/v1/payments?batch={batch['id']}&limit=2")
    assert len(page["items"]) == 2
    assert page["next"]
    _, rest, _ = await api.call("GET", f"/v1/payments?batch={batch['id']}&limit=2&cursor={page['next']}")
    payments = [*page["items"], *rest["items"]]
    assert {one["registrant"] for one in payments} == {str(one) for one in api.people}
    status, where, _ = await api.call("GET", f"/v1/payments/{payments[0]['id']}/$where")
    assert (status, where["message"]["type"]) == (200, "org.openspp.payment.batch_instructed.v1")
    assert where["message"]["deliveries"]
    for one in payments[:2]:
        await api.world.say(UUID(one["id"]), "paid")
    settled = {"ids": [payments[2]["id"]], "status": "failed", "note": "list of the bank"}
    assert (await api.call("POST", "/v1/payments/$settle", settled))[1] == {"settled": 1, "unchanged": 0}
    _, account, _ = await api.call("GET", f"/v1/cycles/{cycle}/$reconcile")
    sums = ("ordered", "paid", "failed", "unknown", "cancelled", "balanced")
    assert [account[name] for name in sums] == [15_000, 10_000, 5_000, 0, 0, True]
    _, fund, _ = await api.call("GET", "/v1/funds/main")
    assert (fund["paid"], fund["spent"], fund["balanced"]) == (10_000, 10_000, True)
    await api.done(await api.call("POST", f"/v1/cycles/{cycle}/$end"))
    assert (await api.call("GET", f"/v1/cycles/{cycle}"))[1]["state"] == "ended"
    deeds = {
        row[0]
        for row in await api.world.pool.fetch("SELECT actor FROM audit_event WHERE action = 'cycle.approve'")
    }
    assert deeds == {"treasury"}


async def test_who_made_a_cycle_cannot_approve_it_and_roles_come_from_the_record(api: Api) -> None:
    cycle = await api.opened()
    await api.done(await api.call("POST", f"/v1/cycles/{cycle}/$submit"))
    approve = f"/v1/cycles/{cycle}/$approve"
    status, body, _ = await api.call("POST", approve, {})
    assert (status, body["code"]) == (403, "approval-own")
    status, body, _ = await api.call("POST", approve, {}, by="clerk")
    assert (status, body["code"]) == (403, "approval-role")
    status, body, _ = await api.call(
        "POST", approve, {"roles": ["approver"], "actor": "treasury"}, by="clerk"
    )
    assert (status, body["code"]) == (400, "request-invalid")
    status, body, _ = await api.call("POST", approve, {}, by="looker")
    assert (status, body["code"]) == (403, "scope-missing")
    assert (await api.call("POST", approve, {}, by="treasury"))[1]["done"] == 1
    assert (await api.call("POST", approve, {}, by="treasury"))[1]["repeated"]
    _, given, _ = await api.call("GET", f"/v1/cycles/{cycle}/$approvals")
    assert [(one["actor"], one["role"]) for one in given["items"]] == [("treasury", "approver")]


async def test_a_decision_over_another_version_is_refused(api: Api) -> None:
    cycle = await api.opened()
    _, _, headers = await api.call("GET", f"/v1/cycles/{cycle}")
    seen = headers["ETag"]
    await api.done(await api.call("POST", f"/v1/cycles/{cycle}/$submit", If_Match=seen))
    status, body, headers = await api.call(
        "POST", f"/v1/cycles/{cycle}/$approve", {}, by="treasury", If_Match=seen
    )
    assert (status, body["code"]) == (412, "precondition-failed")
    status, _, _ = await api.call(
        "POST", f"/v1/cycles/{cycle}/$approve", {}, by="treasury", If_Match=headers["ETag"]
    )
    assert status == 200


async def test_a_repeated_deposit_moves_money_once(api: Api) -> None:
    await api.funded()
    more = {"amount": "10.50", "currency": "KES"}
    path = "/v1/funds/main/$deposit"
    _, first, _ = await api.call("POST", path, more, Idempotency_Key="k1")
    status, again, headers = await api.call("POST", path, more, Idempotency_Key="k1")
    assert (status, again, headers["Idempotency-Replayed"]) == (200, first, "true")
    assert (await api.call("GET", "/v1/funds/main"))[1]["deposited"] == 10_001_050
    status, body, _ = await api.call("POST", path, {**more, "amount": "11.00"}, Idempotency_Key="k1")
    assert (status, body["code"]) == (409, "idempotency-key-reused")
    status, body, _ = await api.call(
        "POST", "/v1/funds/main/$withdraw", {"amount": "999999.00", "currency": "KES"}
    )
    assert (status, body["code"]) == (409, "fund-overdrawn")
    status, body, _ = await api.call("POST", path, {"amount": "1.005", "currency": "KES"})
    assert (status, body["code"]) == (422, "amount-invalid")
    _, entries, _ = await api.call("GET", "/v1/fund-entries?fund=main&kind=deposit")
    assert [one["amount"] for one in entries["items"]] == [1050, 10_000_000]


async def test_terms_are_checked_kept_and_changed_by_their_version(api: Api) -> None:
    await api.funded()
    assert (await api.call("POST", "/v1/programs/$check", TERMS))[1] == {"ok": True}
    assert (await api.call("GET", "/v1/programs"))[1]["items"] == []
    assert (await api.call("POST", "/v1/programs", {**TERMS, "target_type": "camel"}))[1]["errors"][0][
        "pointer"
    ] == "/target_type"
    _, made, headers = await api.call("POST", "/v1/programs", TERMS)
    assert (made["state"], headers["ETag"], headers["Location"]) == ("draft", '"1"', "/v1/programs/cash")
    assert (await api.call("POST", "/v1/programs", TERMS))[1]["code"] == "resource-exists"
    names = {"names": {"fr": "Pour tous"}}
    status, body, headers = await api.call("PATCH", "/v1/programs/cash", names, If_Match='"1"')
    assert (status, body["names"]["fr"], headers["ETag"]) == (200, "Pour tous", '"2"')
    status, body, _ = await api.call("PATCH", "/v1/programs/cash", names, If_Match='"1"')
    assert (status, body["code"]) == (412, "precondition-failed")
    status, body, _ = await api.call("PATCH", "/v1/programs/cash", {"fund": "none"}, If_Match='"2"')
    assert (status, body["code"]) == (404, "fund-not-found")
    status, body, _ = await api.call("GET", "/v1/programs?colour=blue")
    assert (status, body["code"]) == (400, "query-parameter-unknown")


async def test_programs_and_people_of_others_are_as_if_they_were_not_there(api: Api) -> None:
    cycle = await api.approved()
    other: dict[str, Any] = {"by": "other-program"}
    for path in ("/v1/programs/cash", f"/v1/cycles/{cycle}", "/v1/funds/main"):
        assert (await api.call("GET", path, **other))[0] == 404
    for path in (
        "/v1/programs",
        "/v1/cycles",
        "/v1/payments",
        "/v1/disputes",
        f"/v1/entitlements?cycle={cycle}",
    ):
        assert (await api.call("GET", path, **other))[1]["items"] == []
    assert (await api.call("POST", f"/v1/cycles/{cycle}/$cancel", **other))[1]["code"] == "cycle-not-found"
    await api.world.pool.execute(
        "INSERT INTO area (id, code, path, level, names) VALUES (1, 'N', '{1}', 0, '{\"en\": \"North\"}')"
    )
    await api.world.pool.execute("UPDATE registrant SET area_id = 1 WHERE id = $1", api.people[0])
    _, page, _ = await api.call("GET", f"/v1/entitlements?cycle={cycle}", by="north-office")
    assert [one["registrant"] for one in page["items"]] == [str(api.people[0])]
    _, whole, _ = await api.call("GET", f"/v1/entitlements?cycle={cycle}")
    ids = [one["id"] for one in whole["items"]]
    hold = {"ids": ids, "reason": "complaint"}
    _, held, _ = await api.call("POST", "/v1/entitlements/$hold", hold, by="north-office")
    assert held == {"held": 1, "pulled": 0, "unchanged": 2, "late": 0}
    far = next(one["id"] for one in whole["items"] if one["registrant"] != str(api.people[0]))
    answers = [
        (await api.call("GET", f"/v1/entitlements/{each}", by="north-office"))[1]
        for each in (far, str(uuid7()))
    ]
    for each in answers:
        each.pop("instance")
    assert answers[0] == answers[1]
    pause = {"registrants": [str(one) for one in api.people], "reason": "moved-away"}
    _, moved, _ = await api.call("POST", "/v1/programs/cash/$pause-enrollments", pause, by="north-office")
    assert moved == {"paused": 1, "unchanged": 2}
    status, body, _ = await api.call("GET", "/v1/enrollments")
    assert (status, body["code"]) == (400, "query-parameter-invalid")
    _, page, _ = await api.call("GET", "/v1/enrollments?program=cash&state=paused")
    assert [one["id"] for one in page["items"]] == [str(api.people[0])]
    _, past, _ = await api.call("GET", f"/v1/enrollment-states?program=cash&registrant={api.people[0]}")
    assert [one["state"] for one in past["items"]] == ["enrolled", "paused"]
    seen = await api.world.pool.fetchval(
        "SELECT count(*) FROM audit_event WHERE object_type = 'registrant' AND actor = 'north-office' "
        "AND action = 'registrant.read' AND object_id = $1",
        str(api.people[0]),
    )
    assert seen == 1


async def test_more_money_is_asked_for_by_one_and_agreed_to_by_another(api: Api) -> None:
    cycle = await api.approved()
    _, whole, _ = await api.call("GET", f"/v1/entitlements?cycle={cycle}")
    path = f"/v1/entitlements/{whole['items'][0]['id']}/$top-up"
    status, made, headers = await api.call("POST", path, {"amount": 700, "reason": "flood"}, by="clerk")
    assert (status, headers["Location"]) == (201, f"/v1/top-ups/{made['id']}")
    status, body, _ = await api.call("POST", f"/v1/top-ups/{made['id']}/$agree", by="clerk")
    assert (status, body["code"]) == (403, "approval-own")
    assert (await api.call("POST", f"/v1/top-ups/{made['id']}/$agree"))[1]["agreed"] is True
    assert (await api.call("GET", f"/v1/entitlements/{whole['items'][0]['id']}"))[1]["topped"] == 700
    assert (await api.call("GET", "/v1/top-ups?open=true"))[1]["items"] == []


async def test_a_disputed_result_waits_for_a_decision(api: Api) -> None:
    cycle = await api.approved(1)
    await api.done(await api.call("POST", f"/v1/cycles/{cycle}/$distribute"))
    (payment,) = (await api.call("GET", f"/v1/payments?cycle={cycle}"))[1]["items"]
    await api.world.say(UUID(payment["id"]), "paid")
    await api.world.say(UUID(payment["id"]), "failed")
    (dispute,) = (await api.call("GET", "/v1/disputes?open=true"))[1]["items"]
    assert (dispute["payment"], dispute["kind"]) == (payment["id"], "contradicts")
    path = f"/v1/disputes/{dispute['id']}"
    _, ruled, _ = await api.call("POST", f"{path}/$dismiss", {"note": "statement of the bank"})
    assert (ruled["decision"], ruled["decided_by"]) == ("dismissed", "office")
    status, body, _ = await api.call("POST", f"{path}/$accept", {"note": "no"})
    assert (status, body["code"]) == (409, "dispute-decided")
    back = {"note": "cash returned", "amount": "20.00"}
    _, returned, _ = await api.call("POST", f"/v1/payments/{payment['id']}/$return", back)
    assert (returned["returned"], returned["paid"]) == (2000, 5000)


async def test_a_voucher_is_taken_once(api: Api) -> None:
    await api.funded()
    await api.world.persons(2)
    food = {
        **TERMS,
        "code": "food",
        "benefit": {"kind": "voucher", "amounts": [{"amount": "900"}], "valid_days": 3650},
    }
    assert (await api.call("POST", "/v1/programs", food))[0] == 201
    await api.call("POST", "/v1/programs/food/$activate")
    await api.done(await api.call("POST", "/v1/programs/food/$enroll"))
    job = await api.done(await api.call("POST", "/v1/programs/food/$open-cycle", DAYS))
    cycle = f"/v1/cycles/{job.params['cycle']}"
    await api.done(await api.call("POST", f"{cycle}/$prepare"))
    await api.done(await api.call("POST", f"{cycle}/$submit"))
    _, body, _ = await api.call("POST", f"{cycle}/$approve", {}, by="treasury")
    await api.world.drive(UUID(body["job"]))
    await api.done(await api.call("POST", f"{cycle}/$distribute"))
    _, page, _ = await api.call("GET", f"{cycle}/$vouchers?limit=1")
    assert page["next"] == page["items"][0]["number"]
    code = {"code": page["items"][0]["code"]}
    assert (await api.call("POST", f"{cycle}/$redeem", code))[1]["redeemed"] is True
    assert (await api.call("POST", f"{cycle}/$redeem", code))[1]["redeemed"] is False
    status, body, _ = await api.call("POST", f"{cycle}/$redeem", {"code": "0A1B"})
    assert (status, body["code"]) == (422, "voucher-invalid")
    (other,) = (await api.call("GET", f"{cycle}/$vouchers?after={page['next']}"))[1]["items"]
    status, body, _ = await api.call("POST", f"{cycle}/$redeem", {"code": other["code"]}, by="north-office")
    assert (status, body["code"]) == (404, "entitlement-not-found")
    assert len((await api.call("GET", f"{cycle}/$vouchers"))[1]["items"]) == 1
