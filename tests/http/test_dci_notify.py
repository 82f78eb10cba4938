"""Vital events over DCI: accepted whole or refused in the standard's own words."""

from __future__ import annotations

import base64
import copy
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jsonschema import Draft4Validator

from adapters.dci.signature import digest_of
from adapters.http.security import Partner, Scope, SigningKey, hash_secret

PATH = "/dci/crvs/v1.0.0/registry/notify"
SPEC = Path(__file__).resolve().parents[3] / "shared/standards/spdci/openapi/crvs_api_v1.0.0.yaml"


def now(**shift: float) -> str:
    return (datetime.now(UTC) + timedelta(**shift)).isoformat()


def record(**changes: Any) -> dict[str, Any]:
    return {
        "identifier": [{"identifier_type": "BRN", "identifier_value": "EX-0417"}],
        "name": {"surname": "Planted", "given_name": "Amina"},
        "sex": "female",
        "birth_date": "2026-03-01",
        **changes,
    }


def notification(message_id: str = "m-1", events: int = 1, **header: Any) -> dict[str, Any]:
    return {
        "signature": "",
        "header": {
            "version": "1.0.0",
            "message_id": message_id,
            "message_ts": now(),
            "action": "notify",
            "status": "succ",
            "sender_id": "civil-registry.example.org",
            "total_count": events,
            "is_msg_encrypted": False,
            **header,
        },
        "message": {
            "transaction_id": "t-1",
            "notify_event": [
                {
                    "reference_id": str(number + 1),
                    "timestamp": "2026-03-04T09:29:00Z",
                    "data": {
                        "version": "1.0.0",
                        "reg_type": "ns:org:RegistryType:Civil",
                        "reg_event_type": "spdci-common:RegistryEventType:LiveBirth",
                        "reg_record_type": "spdci-extensions-dci:Person",
                        "reg_records": record(),
                    },
                }
                for number in range(events)
            ],
        },
    }


def response_schema(status: str) -> Draft4Validator | None:
    if not SPEC.exists():
        return None
    document = yaml.safe_load(SPEC.read_text("utf-8"))
    responses = document["paths"]["/registry/notify"]["post"]["responses"]
    name = responses.get(status, responses["default"])["$ref"].rpartition("/")[2]
    schema = document["components"]["responses"][name]["content"]["application/json"]["schema"]
    return Draft4Validator({**schema, "components": document["components"]})


def conforms(status: int, body: dict[str, Any]) -> None:
    validator = response_schema(str(status))
    if validator is not None:
        assert [error.message for error in validator.iter_errors(body)] == []


async def send(
    hub: Any, body: Any, client: str = "civil-registry", **headers: str
) -> tuple[int, dict[str, Any]]:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    answer = await hub.client.post(
        PATH, data=raw, headers={**hub.auth(client), "Content-Type": "application/json", **headers}
    )
    assert answer.content_type == "application/json"
    reply = await answer.json()
    conforms(answer.status, reply)
    assert "Planted" not in await answer.text()
    return answer.status, reply


def error_of(reply: dict[str, Any]) -> dict[str, str]:
    assert reply["message"]["ack_status"] == "ERR"
    found: dict[str, str] = reply["message"]["error"]
    return found


def test_the_official_description_is_at_hand() -> None:
    if not SPEC.exists():
        pytest.skip(
            "the official DCI files do not lie beside this checkout; answers were checked by form only"
        )
    assert response_schema("default") is not None


async def test_a_notification_is_stored_before_it_is_acknowledged(hub: Any) -> None:
    status, reply = await send(hub, notification(events=3))
    assert (status, reply["message"]["ack_status"]) == (200, "ACK")
    assert set(reply["message"]) == {"ack_status", "timestamp", "correlation_id"}
    assert await hub.stored() == 3


async def test_an_event_becomes_a_canonical_message(hub: Any) -> None:
    seen: list[Any] = []
    accept_all = hub.services.intake.accept_all

    async def watched(items: Any, **rest: Any) -> Any:
        seen.extend(message for message, _ in items)
        return await accept_all(items, **rest)

    hub.services.intake.accept_all = watched
    await send(hub, notification())
    (message,) = seen
    assert (message.type, message.source) == ("org.openspp.civil_event.registered.v1", "civil-registry")
    assert (message.originid, message.correlationid) == ("m-1/1", "t-1")
    assert message.subject.endswith(":EX-0417")
    assert message.data["event_type"] == "birth"
    assert message.time == datetime(2026, 3, 4, 9, 29, tzinfo=UTC)


async def test_a_repeat_gets_the_same_acknowledgement(hub: Any) -> None:
    first = await send(hub, notification(events=2))
    again = await send(hub, notification(events=2, message_ts=now(seconds=1)))
    assert again[1]["message"]["correlation_id"] == first[1]["message"]["correlation_id"]
    assert again[0] == 200
    assert await hub.stored() == 2


async def test_a_message_id_reused_for_other_events_is_refused_whole(hub: Any) -> None:
    await send(hub, notification())
    other = notification(events=2)
    status, reply = await send(hub, other)
    assert (status, error_of(reply)["code"]) == (400, "err.request.bad")
    assert await hub.stored() == 1


async def test_one_event_that_cannot_be_understood_refuses_the_whole_message(hub: Any) -> None:
    body = notification(events=3)
    body["message"]["notify_event"][2]["data"]["reg_event_type"] = "Coronation"
    status, reply = await send(hub, body)
    assert (status, error_of(reply)["code"]) == (400, "err.request.bad")
    assert "/message/notify_event/2/data/reg_event_type" in error_of(reply)["message"]
    assert await hub.stored() == 0


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "code", "place"),
    [
        (lambda b: b.pop("header"), "err.request.bad", "/header"),
        (lambda b: b.pop("message"), "err.request.bad", "/message"),
        (lambda b: b["header"].pop("message_id"), "err.request.bad", "/header/message_id"),
        (lambda b: b["header"].update(message_id=""), "err.request.bad", "/header/message_id"),
        (lambda b: b["header"].update(message_id=7), "err.request.bad", "/header/message_id"),
        (lambda b: b["header"].update(action="search"), "err.request.bad", "/header/action"),
        (lambda b: b["header"].update(version="2.0.0"), "err.version.not_supported", "/header/version"),
        (lambda b: b["header"].pop("message_ts"), "err.request.bad", "/header/message_ts"),
        (lambda b: b["header"].update(message_ts="2026-03-04T09:30:00"), "err.request.bad", "/header/message_ts"),
        (lambda b: b["header"].update(message_ts=now(hours=2)), "err.request.bad", "/header/message_ts"),
        (lambda b: b["header"].update(message_ts=now(days=-90)), "err.request.bad", "/header/message_ts"),
        (lambda b: b["header"].update(status="done"), "err.request.bad", "/header/status"),
        (lambda b: b["header"].update(total_count=2), "err.request.bad", "/header/total_count"),
        (lambda b: b["header"].update(total_count="1"), "err.request.bad", "/header/total_count"),
        (lambda b: b["header"].update(is_msg_encrypted=True), "err.encryption.invalid", "/message"),
        (lambda b: b["header"].update(meta=""), "err.request.bad", "/header/meta"),
        (lambda b: b["message"].update(transaction_id="x" * 100), "err.request.bad", "/message/transaction_id"),
        (lambda b: b["message"].update(notify_event=[]), "err.request.bad", "/message/notify_event"),
        (lambda b: b["message"].update(notify_event={}), "err.request.bad", "/message/notify_event"),
        (lambda b: b["message"]["notify_event"][0].pop("reference_id"), "err.request.bad", "/notify_event/0/reference_id"),
        (lambda b: b["message"]["notify_event"][0].update(timestamp="yesterday"), "err.request.bad", "/0/timestamp"),
        (lambda b: b["message"]["notify_event"][0]["data"].pop("reg_records"), "err.request.bad", "/0/data/reg_records"),
        (lambda b: b["message"]["notify_event"][0]["data"].update(reg_type="ns:org:RegistryType:Social"), "err.request.bad", "/0/data/reg_type"),
        (lambda b: b["message"]["notify_event"][0]["data"]["reg_records"].update(sex="Planted"), "err.request.bad", "/0/data/reg_records"),
        (lambda b: b["message"]["notify_event"][0]["data"]["reg_records"].update(birth_date="Planted"), "err.request.bad", "/0/data/reg_records"),
    ],
)  # fmt: skip
async def test_a_wrong_envelope_is_refused_at_its_place(
    hub: Any, change: Change, code: str, place: str
) -> None:
    body = notification()
    change(body)
    status, reply = await send(hub, body)
    assert (status, error_of(reply)["code"]) == (400, code)
    assert f"{place}" in error_of(reply)["message"]
    assert await hub.stored() == 0


@pytest.mark.parametrize("raw", [b"{", b"[]", b"null", b"[" * 90 + b"]" * 90, b'{"header": "\\ud800"}'])
async def test_a_body_that_is_no_envelope_is_an_err(hub: Any, raw: bytes) -> None:
    status, reply = await send(hub, raw)
    assert (status, error_of(reply)["code"]) == (400, "err.request.bad")


async def test_a_tolerated_partner_may_send_what_the_official_samples_hold(hub: Any) -> None:
    body = notification(total_count="1", meta="", status=None)
    body["message"].update(transaction_id="", notify_event=body["message"]["notify_event"][0])
    body["message"]["notify_event"].update(reference_id="", timestamp="", locale="en")
    assert (await send(hub, copy.deepcopy(body)))[0] == 400
    status, reply = await send(hub, body, "tolerated")
    assert (status, reply["message"]["ack_status"]) == (200, "ACK")


async def test_transport_refusals_use_the_standards_own_body(hub: Any) -> None:
    answer = await hub.client.post(PATH, json=notification())
    body = await answer.json()
    assert (answer.status, body["errors"][0]["code"]) == (401, "err.request.unauthorized")
    conforms(401, body)
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="openspp-hub"'
    status, body = await send(hub, notification(), "reader")
    assert (status, body["errors"][0]["code"]) == (403, "err.request.forbidden")
    for _ in range(3):
        status, body = await send(hub, b"{}", "slow-lane")
    assert (status, error_of(body)["code"]) == (429, "err.request.too_many_requests")


async def test_a_notification_costs_as_many_messages_as_it_has_events(serve: Any) -> None:
    partner = Partner.model_validate(
        {
            "name": "ten",
            "clients": [{"id": "ten"}],
            "scopes": list(Scope),
            "dialect": {"name": "dci"},
            "rate": {"per_second": 0.1, "burst": 10},
        }
    )
    hub = await serve(more=(partner,))
    assert (await send(hub, notification(events=8), "ten"))[0] == 200
    answer = await hub.client.post(PATH, json=notification("m-2", events=8), headers=hub.auth("ten"))
    body = await answer.json()
    assert (answer.status, error_of(body)["code"]) == (429, "err.request.too_many_requests")
    conforms(429, body)
    assert 65 <= int(answer.headers["Retry-After"]) <= 70
    assert answer.headers["RateLimit"].startswith('"partner";r=0')
    assert await hub.stored() == 8


async def test_files_are_refused_in_so_many_words(hub: Any) -> None:
    answer = await hub.client.post(
        PATH,
        data={"action": "notify"},
        headers={**hub.auth(), "Content-Type": "multipart/form-data; boundary=x"},
    )
    body = await answer.json()
    assert (answer.status, error_of(body)["code"]) == (415, "err.request.bad")
    assert "application/json" in error_of(body)["message"]
    page = (Path(__file__).parents[2] / "docs/dci.md").read_text(encoding="utf-8")
    assert "`multipart/form-data`" in page.partition("## Files")[2].partition("415")[0]


async def test_the_message_of_an_error_speaks_the_language_asked_for(hub: Any) -> None:
    _, reply = await send(hub, b"{}", **{"Accept-Language": "fr"})
    assert error_of(reply)["message"].startswith("L'enveloppe DCI")


def signing_partner(name: str, style: str, policy: str, key: dict[str, Any]) -> Partner:
    return Partner.model_validate(
        {
            "name": name,
            "clients": [{"id": name, "secret": hash_secret("x", cost=1024)}],
            "scopes": list(Scope),
            "dialect": {
                "name": "dci",
                "options": {
                    "sender_id": "civil-registry.example.org",
                    "signature": {"style": style, "policy": policy, "jwks": {"keys": [key]}},
                },
            },
        }
    )


def dci_signature(body: dict[str, Any], key: Ed25519PrivateKey, kid: str, **changes: Any) -> str:
    created = int(time.time()) + int(changes.get("age", 0))
    digest = digest_of(body["header"], body["message"])
    text = f"(created): {created}\n(expires): {created + 300}\ndigest: {digest}"
    mark = base64.b64encode(key.sign(text.encode())).decode()
    sender = changes.get("sender", "civil-registry.example.org")
    return (
        f'Signature: namespace="dci", kidId="{sender}|{kid}|ed25519", algorithm="ed25519", created="{created}", '
        f'expires="{created + 300}", headers="(created) (expires) digest", signature="{mark}"'
    )


async def test_an_ed25519_signature_of_the_dci_form_is_checked(serve: Any) -> None:
    key = Ed25519PrivateKey.generate()
    x = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).rstrip(b"=").decode()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k1", "use": "sig"}
    hub = await serve(more=(signing_partner("signer", "dci-http", "required", jwk),))
    body = notification("signed-1")
    assert error_of((await send(hub, body, "signer"))[1])["code"] == "err.signature.missing"
    good = dci_signature(body, key, "k1")
    wrong = [
        "unsigned-stub",
        dci_signature(body, Ed25519PrivateKey.generate(), "k1"),
        dci_signature(body, key, "k2"),
        dci_signature(body, key, "k1", age=-900),
        dci_signature(body, key, "k1", age=900),
        dci_signature(body, key, "k1", sender="another.example"),
        good.replace('algorithm="ed25519"', 'algorithm="none"'),
    ]
    for signature in wrong:
        _, reply = await send(hub, {**body, "signature": signature}, "signer")
        assert error_of(reply)["code"] == "err.signature.invalid", signature
    changed = copy.deepcopy(body)
    changed["message"]["notify_event"][0]["data"]["reg_records"]["sex"] = "male"
    assert (
        error_of((await send(hub, {**changed, "signature": good}, "signer"))[1])["code"]
        == "err.signature.invalid"
    )
    assert await hub.stored() == 0
    assert (await send(hub, json.dumps({**body, "signature": good}, indent=2).encode(), "signer"))[0] == 200


async def test_a_compact_jws_must_carry_what_was_sent(serve: Any) -> None:
    key = SigningKey.generate()
    hub = await serve(more=(signing_partner("signer", "jws-compact", "optional", dict(key.public)),))
    body = notification("jws-1")
    plain = {name: part for name, part in body.items() if name != "signature"}
    good = key.sign(orjson.dumps(plain), typ="JWT")
    other = key.sign(orjson.dumps({**plain, "message": {}}), typ="JWT")
    for signature in (other, SigningKey.generate().sign(orjson.dumps(plain)), good[:-6] + "AAAAAA", "a.b.c"):
        _, reply = await send(hub, {**body, "signature": signature}, "signer")
        assert error_of(reply)["code"] == "err.signature.invalid"
    assert (await send(hub, {**body, "signature": good}, "signer"))[0] == 200
    assert (await send(hub, notification("jws-2"), "signer"))[0] == 200


async def test_a_message_of_another_sender_is_refused(serve: Any) -> None:
    key = SigningKey.generate()
    hub = await serve(more=(signing_partner("signer", "jws-compact", "optional", dict(key.public)),))
    _, reply = await send(hub, notification(sender_id="another.example"), "signer")
    assert error_of(reply)["code"] == "err.sender_id.invalid"
