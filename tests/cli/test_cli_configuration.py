"""`hub routes`, `hub partner`, `hub token`, `hub errors`: what they read, what they say, how they end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.http.security import OwnIssuer, SigningKey, TokenVerifier, verify_secret

BIRTH = {
    "specversion": "1.0",
    "id": "reg-1",
    "source": "somebody",
    "type": "org.openspp.civil_event.registered.v1",
    "data": {
        "event_type": "marriage",
        "subject": {"identifiers": [{"id_type": "BRN", "value": "B-1"}]},
    },
}


def test_a_folder_without_faults_passes_the_check(hub: Any, config: Path) -> None:
    ran = hub("routes", "check", "--json")
    assert (ran.code, ran.json) == (0, {"routes": 6, "ok": True, "problems": []})


def test_the_check_names_every_wrong_file_and_not_only_the_first(hub: Any, config: Path) -> None:
    (config / "routes" / "a.yaml").write_text("route: a\nwhen: {type: x}\nto: nowhere\n")
    (config / "routes" / "b.yaml").write_text(
        "route: b\nwhen: {type: x, condition: 'nam == 1'}\nto: registry\n"
    )
    (config / "routes" / "c.yaml").write_text(
        "route: c\nwhen: {type: x}\nto: registry\nmap: no.such.mapping\n"
    )
    (config / "routes" / "d.yaml").write_text("route: a\nwhen: {type: x}\nto: registry\nsurprise: 1\n")
    ran = hub("routes", "check", "--json")
    assert ran.code == 2
    text = "\n".join(one["detail"] for one in ran.json["problems"])
    for part in ("nowhere", "nam", "no.such.mapping", "surprise"):
        assert part in text
    assert {one["code"] for one in ran.json["problems"]} == {
        "target-unknown",
        "route-invalid",
        "mapping-not-found",
    }


@pytest.mark.parametrize(
    ("route", "said"),
    [
        (
            "when: {type: org.openspp.civil_evnt.registered.v1}\nto: registry",
            ("civil_evnt", "Did you mean org.openspp.civil_event.registered.v1?"),
        ),
        (
            "when: {type: [org.openspp.person.*, 'com.else.*']}\nto: registry",
            ("com.else.*", "docs/canonical-model.md"),
        ),
        (
            "when: {type: org.openspp.payment.*}\nto: registry\ncopies: true",
            ("org.openspp.payment.instructed.v1", "the connector takes org.openspp.person.upserted.v1"),
        ),
        (
            "when: {type: 'org.openspp.*', condition: \"kind == 'payment.result'\"}\nto: registry",
            (),
        ),
    ],
)
def test_a_route_of_types_nobody_sends_or_takes_is_refused(
    hub: Any, config: Path, route: str, said: tuple[str, ...]
) -> None:
    (config / "routes" / "a.yaml").write_text(f"route: a\n{route}\n")
    ran = hub("routes", "check", "--json")
    assert ran.code == (2 if said else 0)
    assert {one["code"] for one in ran.json["problems"]} == ({"route-invalid"} if said else set())
    text = "\n".join(f"{one['detail']} {one['remedy']}" for one in ran.json["problems"])
    for part in said:
        assert part in text
    if said:
        started = hub(
            "serve", "--config", str(config), "--data", str(config.parent), "--port", "0", "--role", "worker"
        )
        assert started.code == 2, started.out + started.err
        assert said[0] in started.err


def test_explain_says_of_each_route_why_or_why_not(hub: Any, config: Path, folder: Path) -> None:
    (folder / "m.json").write_bytes(orjson.dumps(BIRTH))
    ran = hub("routes", "explain", "m.json", "--partner", "civil-registry", "--json")
    assert ran.code == 0
    assert ran.json["source"] == "civil-registry"
    verdicts = {one["route"]: one for one in ran.json["verdicts"]}
    assert verdicts["civil-events-to-registry"]["matched"]
    assert not verdicts["civil-events-to-office"]["matched"]
    assert "is false" in verdicts["civil-events-to-office"]["why"]


def test_explain_of_a_wrong_message_names_the_place_and_no_value(
    hub: Any, config: Path, folder: Path
) -> None:
    (folder / "m.json").write_bytes(orjson.dumps({**BIRTH, "data": {"event_type": "Wanda Okonedo"}}))
    ran = hub("routes", "explain", "m.json", "--json")
    assert ran.code == 1
    assert orjson.loads(ran.err)["code"] == "message-data-invalid"
    assert "Okonedo" not in ran.err + ran.out


def test_partners_are_listed_without_their_secrets(hub: Any, config: Path) -> None:
    ran = hub("partner", "list")
    assert ran.code == 0
    assert "civil-registry" in ran.out
    assert "scrypt" not in ran.out


def test_a_new_secret_fits_its_hash(hub: Any) -> None:
    found = hub("partner", "secret", "--json").json
    assert verify_secret(found["secret"], found["hash"])


def test_a_secret_in_clear_is_refused_and_not_repeated(hub: Any, config: Path) -> None:
    (config / "partners.yaml").write_text("partners: [{name: a, clients: [{id: a, secret: in-clear-12345}]}]")
    ran = hub("partner", "check")
    assert ran.code == 2
    assert "partners-invalid" in ran.err
    assert "in-clear-12345" not in ran.err


async def test_a_token_signed_here_is_one_the_hub_accepts(config: Path, folder: Path, hub: Any) -> None:
    import asyncio

    ran = await asyncio.to_thread(
        hub, "token", "civil-registry", "--scope", "messages:write", "--ttl", "60", "--json"
    )
    key = SigningKey.load(None, folder / ".hub")
    claims = await TokenVerifier([OwnIssuer.of("http://127.0.0.1:8080", "openspp-hub", key)]).verify(
        ran.json["access_token"]
    )
    assert (claims.client_id, claims.scopes, ran.json["expires_in"]) == (
        "civil-registry",
        {"messages:write"},
        60,
    )


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("nobody",), 2, "partner-unknown"),
        (("civil-registry", "--scope", "dead:write"), 1, "scope-missing"),
        (("civil-registry", "--url", "http://hub.example"), 2, "tls-required"),
        (("civil-registry", "--url", "http://127.0.0.1:1"), 3, "hub-unavailable"),
    ],
)
def test_a_token_is_not_given(
    hub: Any, config: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, error: str
) -> None:
    monkeypatch.setenv("HUB_CLIENT_SECRET", "a-secret-nobody-must-see")
    ran = hub("token", *words, "--json")
    assert (ran.code, orjson.loads(ran.err)["code"]) == (code, error)
    assert "a-secret-nobody-must-see" not in ran.err


def test_the_page_of_an_error_is_shown_and_a_slip_is_answered_with_a_guess(hub: Any) -> None:
    assert hub("errors", "route-invalid").out.startswith("# route-invalid")
    ran = hub("errors", "route-invalyd")
    assert ran.code == 1
    assert "route-invalid" in ran.err
    listed = hub("errors", "--json").json["errors"]
    assert all(one["summary"] for one in listed)
