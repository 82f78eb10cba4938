"""The console's pages of payments: what is where, what waits, what to do, and that nobody is named."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest
from services.planted_payments import NAMED, entered, moved

from canonical_model.message import uuid7
from connectors.payments.contract import FAILED, PAID, REVIEW, SENT, UNKNOWN


async def test_the_list_shows_each_batch_to_the_cent_and_what_waits(desk: Any) -> None:
    ids = await entered(desk.books, 1, 2, 3, 4)
    await moved(desk.books, ids["P-1"], (SENT, None), (PAID, None))
    await moved(desk.books, ids["P-2"], (SENT, None), (FAILED, "5104"))
    await moved(desk.books, ids["P-3"], (SENT, None), (UNKNOWN, "unanswered"))
    await moved(desk.books, ids["P-4"], (SENT, None), (REVIEW, "amount-differs"))
    async with desk.session() as session:
        await desk.signed_in(session)
        async with session.get("/console/payments?cycle=C-1") as answer:
            text = await answer.text()
            assert answer.status == 200, text
        for shown in ("40.10 KES", "10.01 KES", "10.02 KES", "20.07 KES", "0.00 KES", "amount-differs"):
            assert shown in text, shown
        assert ids["P-4"] in text
        assert ids["P-3"] not in text
        async with session.get("/console/payments?waits=unknown&target=mojaloop") as answer:
            text = await answer.text()
        assert ids["P-3"] in text
        assert ids["P-4"] not in text
        async with session.get("/console/payments?target=elsewhere") as answer:
            assert "B-1" not in await answer.text()


async def test_the_list_of_batches_and_of_a_batch_lead_through_every_row_once(desk: Any) -> None:
    ids = await entered(desk.books, *range(60))
    for number in range(2, 32):
        await entered(desk.books, 1000 + number, batch=f"B-{number}")
    async with desk.session() as session:
        await desk.signed_in(session)
        for path, expected in (
            ("/console/payments", 31),
            (f"/console/payments/batches/{await desk.pool.fetchval('SELECT id FROM transfer_batch ORDER BY id LIMIT 1')}", 60),
        ):  # fmt: skip
            seen: list[str] = []
            following: str | None = path
            while following is not None:
                async with session.get(following) as answer:
                    text = await answer.text()
                part = "batches/" if path == "/console/payments" else ""
                seen += [
                    piece.split('"')[0]
                    for piece in text.split(f'<th scope="row"><a href="/console/payments/{part}')[1:]
                ]
                found = text.split('class="more" rel="next" href="')
                following = unescape(found[1].split('"')[0]) if len(found) > 1 else None
            assert len(seen) == len(set(seen)) == expected
            if expected == 60:
                assert set(seen) == set(ids.values())


async def test_a_payment_shows_attempts_steps_message_and_what_to_do(desk: Any) -> None:
    ids = await entered(desk.books, 1, 2)
    await moved(desk.books, ids["P-1"], (SENT, None), (UNKNOWN, "unanswered"), fee=25)
    message = await desk.plant.message(
        type_="org.openspp.payment.instructed.v1", correlationid="P-1", partner="civil"
    )
    of_batch = await desk.plant.message(
        type_="org.openspp.payment.batch_instructed.v1", subject="B-1", partner="civil"
    )
    async with desk.session() as session:
        await desk.signed_in(session)
        async with session.get(f"/console/payments/{ids['P-1']}") as answer:
            text = unescape(await answer.text())
        for shown in (
            "mojaloop", "10.01 KES", "0.25 KES", "R-99", "unanswered", "B-1", f"/console/messages/{message}",
            f"/console/messages/{of_batch}", "hub payments review decide --target mojaloop -- P-1 DECISION",
        ):  # fmt: skip
            assert shown in text, shown
        assert text.count('<span class="state sent">') == 1
        await desk.pool.execute("UPDATE transfer_batch SET state = 'stopped', reason = '4001'")
        async with session.get(f"/console/payments/{ids['P-2']}") as answer:
            assert "hub payments resume --target mojaloop --batch B-1" in unescape(await answer.text())
        for path in (
            "/console/payments/nonsense",
            f"/console/payments/{uuid7()}",
            f"/console/payments/batches/{uuid7()}",
        ):
            async with session.get(path) as answer:
                assert (answer.status, "payment-not-found" in await answer.text()) == (404, True)


async def test_the_search_leads_to_what_has_the_id_and_never_puts_another_into_an_address(desk: Any) -> None:
    ids = await entered(desk.books, 1)
    batch = await desk.pool.fetchval("SELECT id FROM transfer_batch")
    async with desk.session() as session:
        token = await desk.signed_in(session)
        for text, address in (
            ("P-1", f"/console/payments/{ids['P-1']}"),
            ("B-1", f"/console/payments/batches/{batch}"),
            ("C-1", "/console/payments?cycle=C-1"),
        ):
            data = {"csrf": token, "find": f" {text} "}
            async with session.post("/console/payments/find", data=data, allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (303, address)
        for text in (NAMED[0], "a\x00b", "x" * 5000, ""):
            data = {"csrf": token, "find": text}
            async with session.post("/console/payments/find", data=data, allow_redirects=False) as answer:
                page = await answer.text()
                assert answer.status == 200
                assert "No payment, batch or cycle has this id." in page
                assert not text or text not in page
        async with session.post("/console/payments/find", data={"find": "P-1"}) as answer:
            assert answer.status == 403


@pytest.mark.parametrize(
    ("client", "code"), [("civil", "scope-missing"), ("county", "partner-confined"), ("finance", None)]
)
async def test_only_who_may_read_all_payments_sees_them(desk: Any, client: str, code: str | None) -> None:
    ids = await entered(desk.books, 1)
    scopes = ["console:read"] if client == "civil" else ["console:read", "payments:read"]
    async with desk.session() as session:
        async with session.post("/console/login", data={"token": desk.token(client, *scopes)}) as answer:
            assert ('href="/console/payments"' in await answer.text()) == (client != "civil")
        batch = await desk.pool.fetchval("SELECT id FROM transfer_batch")
        for path in (
            "/console/payments",
            f"/console/payments/{ids['P-1']}",
            f"/console/payments/batches/{batch}",
        ):
            async with session.get(path) as answer:
                text = await answer.text()
            assert answer.status == (200 if code is None else 403)
            assert ("B-1" in text) == (code is None)
            assert code is None or code in text


async def test_no_page_of_payments_names_a_person_or_has_inline_code(desk: Any) -> None:
    ids = await entered(desk.books, 1)
    await moved(desk.books, ids["P-1"], (SENT, None), (REVIEW, "amount-differs"))
    batch = await desk.pool.fetchval("SELECT id FROM transfer_batch")
    async with desk.session() as session:
        await desk.signed_in(session)
        for path in (
            "/console/payments?cycle=C-1",
            f"/console/payments/batches/{batch}",
            f"/console/payments/{ids['P-1']}",
        ):
            async with session.get(path, headers={"Accept-Language": "ar"}) as answer:
                text = await answer.text()
                assert answer.status == 200, text
                assert "unsafe" not in answer.headers["Content-Security-Policy"]
            assert not [name for name in NAMED if name in text]
            assert 'lang="ar" dir="rtl"' in text
            assert " style=" not in text
            assert text.count("<h1") == 1
            assert text.count("<table") == text.count("<caption") > 0
