"""The console without a browser: who gets in, what forms do, and that no page names a person."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from adapters.console.rendering import LANGUAGE_NAMES, catalog
from adapters.console.session import COOKIE, Signer

PLANTED = ("Amina Planted", "amina.planted@example.org", "771234567")


async def test_without_a_session_every_page_leads_to_the_sign_in_page(desk: Any) -> None:
    async with desk.session() as session:
        for path in ("/console", "/console/dead", "/console/messages/0197c0de-0000-7000-8000-000000000000"):
            async with session.get(path, allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (303, "/console/login")
        async with session.get("/console/events") as answer:
            assert answer.status == 401
        for path in (
            "/console/dead/x/resend",
            "/console/dead/x/dismiss",
            "/console/messages/x/replay",
            "/console/find",
        ):
            async with session.post(path, data={"reason": "x"}) as answer:
                assert answer.status == 401


async def test_a_link_signs_in_once_and_its_cookie_is_strict(desk: Any) -> None:
    code = desk.console.signer.link_code()
    async with desk.session() as session:
        async with session.post("/console/login", data={"code": code}, allow_redirects=False) as answer:
            cookie = answer.headers["Set-Cookie"]
            assert answer.status == 303
        for word in ("HttpOnly", "SameSite=Strict", "Max-Age=28800", "Path=/console"):
            assert word in cookie
        async with session.get("/console") as answer:
            assert answer.status == 200
    async with desk.session() as other, other.post("/console/login", data={"code": code}) as answer:
        assert answer.status == 403
        assert "link-invalid" in await answer.text()


async def test_a_token_signs_in_only_with_the_console_scope_and_an_altered_cookie_is_nobodys(
    desk: Any,
) -> None:
    async with desk.session() as session:
        for token in ("nonsense", desk.token("civil", "messages:read"), desk.token("stranger")):
            async with session.post("/console/login", data={"token": token}) as answer:
                assert answer.status == 403
        async with session.post("/console/login", data={"token": desk.token()}) as answer:
            assert answer.status == 200
    good = desk.console.signer.start("a", None, None)
    assert desk.console.signer.session(good) is not None
    assert desk.console.signer.session(good[:-3] + "AAA") is None
    assert desk.console.signer.session(desk.console.signer.start("a", None, None, -1)) is None
    assert desk.console.signer.session(desk.console.signer.link_code()) is None


async def test_a_form_of_another_session_or_another_site_does_nothing(desk: Any) -> None:
    dead = await desk.plant.delivery(await desk.plant.message(), state="dead")
    other = desk.console.signer.form_token(
        desk.console.signer.session(desk.console.signer.start("x", None, None))
    )
    async with desk.session() as session:
        token = await desk.signed_in(session)
        for fields, headers in (
            ({}, {}),
            ({"csrf": other}, {}),
            ({"csrf": token}, {"Origin": "https://evil.example"}),
            ({"csrf": token}, {"Sec-Fetch-Site": "cross-site"}),
        ):
            async with session.post(
                f"/console/dead/{dead}/resend", data={**fields, "reason": "x"}, headers=headers
            ) as answer:
                assert answer.status == 403
                assert "form-expired" in await answer.text()
        assert await desk.pool.fetchval("SELECT count(*) FROM delivery") == 1
        async with session.post(f"/console/dead/{dead}/resend", data={"csrf": token}) as answer:
            assert answer.status == 200
            assert "Sent again" in await answer.text()
        async with session.post(f"/console/dead/{dead}/resend", data={"csrf": token}) as answer:
            assert "dealt with already" in await answer.text()
    assert await desk.pool.fetchval("SELECT count(*) FROM delivery") == 2
    assert (
        await desk.pool.fetchval("SELECT actor FROM audit_event WHERE action = 'delivery.replay'")
        == "console:operator"
    )


async def test_no_page_and_no_answer_holds_planted_personal_data(desk: Any) -> None:
    name, mail, phone = PLANTED
    message = await desk.plant.message(
        subject=name, originid=phone, correlationid=mail, body=f"{name} {mail} {phone}".encode()
    )
    delivery = await desk.plant.delivery(
        message, state="dead", code="outcome-unknown", reason="No answer came."
    )
    exchange = {
        "method": "POST",
        "address": f"https://t.example/p?name={name}",
        "status": "503",
        "body": phone,
        "headers": {"To": mail},
    }
    await desk.plant.attempt(delivery, message, 1, outcome="unknown", exchanges=[exchange])
    seen = []
    async with desk.session() as session:
        token = await desk.signed_in(session)
        for path in ("/console", "/console?state=dead", "/console/dead", f"/console/messages/{message}"):
            async with session.get(path) as answer:
                assert answer.status == 200, path
                seen.append(await answer.text())
        async with session.post("/console/find", data={"csrf": token, "subject": name}) as answer:
            seen.append(await answer.text())
            assert str(message) in seen[-1]
        auth = {"Authorization": f"Bearer {desk.token()}"}
        for path in ("/v1/messages", f"/v1/messages/{message}", "/v1/dead-letters"):
            async with session.get(path, headers=auth) as answer:
                assert answer.status == 200
                seen.append(await answer.text())
        async with session.post(
            "/v1/messages/search", headers=auth, json={"filter": {"subject": name}}
        ) as answer:
            seen.append(await answer.text())
            assert str(message) in seen[-1]
    for text in seen:
        assert str(message) in text
        assert not [value for value in PLANTED if value in text]


async def test_every_page_forbids_inline_code_and_is_marked_up_for_everybody(desk: Any) -> None:
    message = await desk.plant.message()
    await desk.plant.delivery(message, state="dead", code="<script>", reason="<script>alert(1)</script>")
    async with desk.session() as session:
        await desk.signed_in(session)
        for path in (
            "/console",
            "/console/dead",
            f"/console/messages/{message}",
            "/console/messages/nothing",
        ):
            async with session.get(path, headers={"Accept-Language": "ar"}) as answer:
                text = await answer.text()
                policy = answer.headers["Content-Security-Policy"]
            assert "script-src 'self'" in policy
            assert "unsafe" not in policy
            assert 'lang="ar" dir="rtl"' in text
            assert "<script>" not in text
            assert not re.search(r"<[^>]+\son\w+=|\sstyle=", text)
            assert text.count("<h1") == 1
            for landmark in ("<main", "<header", "<footer", 'class="skip"', 'aria-live="polite"'):
                assert landmark in text
            assert text.count("<table") == text.count("<caption")


async def test_a_partner_sees_only_its_own_and_no_flows(desk: Any) -> None:
    theirs = await desk.plant.message(partner="health")
    await desk.plant.delivery(theirs, state="dead")
    async with desk.session() as session:
        async with session.post("/console/login", data={"token": desk.token()}) as answer:
            assert str(theirs) not in await answer.text()
        async with session.get(f"/console/messages/{theirs}") as answer:
            assert answer.status == 404
        async with session.get("/console/dead") as answer:
            assert str(theirs) not in await answer.text()


async def test_the_stream_says_that_something_changed_and_is_bounded(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk.session() as session:
        await desk.signed_in(session)
        async with asyncio.timeout(45), session.get("/console/events") as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            await asyncio.sleep(0.5)
            await desk.plant.delivery(await desk.plant.message())
            async for line in answer.content:
                if line == b"event: changed\n":
                    break
            monkeypatch.setattr("adapters.console.live.SUBSCRIBERS", 1)
            async with session.get("/console/events") as refused:
                assert (refused.status, "console-busy" in await refused.text()) == (503, True)


def test_every_text_of_the_pages_is_translated() -> None:
    from importlib import resources

    texts: set[str] = set()
    for template in resources.files("adapters.console").joinpath("templates").iterdir():
        texts |= {
            one or two
            for one, two in re.findall(r"""_\((?:"([^"]+)"|'([^']+)')\)""", template.read_text("utf-8"))
        }
    assert len(texts) > 60
    for language in LANGUAGE_NAMES:
        if language != "en":
            assert sorted(texts - set(catalog(language))) == [], language


def test_keys_of_two_hubs_differ() -> None:
    from registry.vault import BlindIndex

    cookie = Signer(BlindIndex(b"a" * 32)).start("operator", None, None)
    assert Signer(BlindIndex(b"b" * 32)).session(cookie) is None
    assert COOKIE == "hub_session"
