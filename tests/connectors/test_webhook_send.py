from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from canonical_model.message import Message, new_traceparent
from connectors.contract import Repeat
from connectors.errors import ConfigError, HubError, Refused, Unavailable, Unknown
from connectors.http import Reply
from connectors.runtime import ConnectorRuntime, OpenTarget, TargetConfig
from connectors.testing.sandbox import Mode
from connectors.webhook import WebhookConnector
from connectors.webhook.client import problem_code
from connectors.webhook.sandbox import WebhookSandbox


def message(**kwargs: Any) -> Message:
    return Message(
        source="/registry",
        type="org.openspp.civil_event.registered.v1",
        subject="person/1",
        traceparent=new_traceparent(),
        data={"name": "Amina Yusuf"},
        **kwargs,
    )


def soon(after: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + after


class Rig:
    def __init__(self, sandbox: WebhookSandbox) -> None:
        self.sandbox = sandbox
        self.runtime: ConnectorRuntime | None = None

    async def target(self, **settings: Any) -> OpenTarget:
        connector = WebhookConnector(
            WebhookConnector.settings_model.model_validate(self.sandbox.settings() | settings)
        )
        self.runtime = ConnectorRuntime([], connectors={})
        opened = OpenTarget(TargetConfig("t", "webhook", timeout=3), connector)
        self.runtime._targets["t"] = opened
        await self.runtime.open()
        return opened


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig(WebhookSandbox())
    await made.sandbox.start()
    yield made
    if made.runtime:
        await made.runtime.close()
    await made.sandbox.stop()


async def test_a_structured_event_arrives_signed_and_gives_a_receipt(rig: Rig) -> None:
    target = await rig.target(reference_header="X-Reference")
    sent = message()
    receipt = await target.send(sent, soon())
    (seen,) = rig.sandbox.received
    body = orjson.loads(seen.body)
    assert body["id"] == str(sent.id) == seen.id
    assert body["data"] == {"name": "Amina Yusuf"}
    assert receipt.reference == "ref-1"
    (exchange,) = receipt.exchanges
    assert exchange.status == "202"
    assert exchange.address == f"http://127.0.0.1:{rig.sandbox.port}/events"


async def test_a_binary_event_has_attributes_in_headers_but_no_subject(rig: Rig) -> None:
    target = await rig.target(mode="binary")
    sent = message(correlationid="a é")
    await target.send(sent, soon())
    (seen,) = rig.sandbox.received
    assert orjson.loads(seen.body) == {"name": "Amina Yusuf"}
    assert seen.headers["ce-type"] == sent.type
    assert seen.headers["ce-correlationid"] == "a %C3%A9"
    assert "person/1" not in str(seen.headers)


@pytest.mark.parametrize("signing", ["es256", "none"])
async def test_other_ways_to_prove_the_sender_are_accepted(signing: str) -> None:
    rig = Rig(WebhookSandbox(signing=signing))
    await rig.sandbox.start()
    target = await rig.target()
    await target.send(message(), soon())
    assert len(rig.sandbox.received) == 1
    assert rig.runtime
    await rig.runtime.close()
    await rig.sandbox.stop()


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (408, Unavailable, "target-unavailable"),
        (425, Unavailable, "target-unavailable"),
        (429, Unavailable, "target-unavailable"),
        (500, Unavailable, "target-unavailable"),
        (502, Unavailable, "target-unavailable"),
        (503, Unavailable, "target-unavailable"),
        (504, Unavailable, "target-unavailable"),
        (522, Unavailable, "target-unavailable"),
        (400, Refused, "target-refused"),
        (409, Refused, "target-refused"),
        (410, Refused, "target-refused"),
        (501, Refused, "target-refused"),
        (302, Refused, "target-redirected"),
        (307, Refused, "target-redirected"),
    ],
)
async def test_a_status_becomes_the_right_action(
    rig: Rig, status: int, kind: type[HubError], code: str
) -> None:
    target = await rig.target()
    rig.sandbox.switch(Mode.STATUS, status=status)
    with pytest.raises(kind) as caught:
        await target.send(message(), soon())
    assert caught.value.code == code
    assert "Amina" not in str(caught.value)


async def test_what_leaves_the_outcome_open_is_unknown_when_repeats_are_not_recognised(rig: Rig) -> None:
    target = await rig.target(recognises_repeats=False)
    assert target.repeat is Repeat.NEVER
    for status, kind in ((502, Unknown), (500, Unknown), (503, Unavailable), (501, Refused)):
        rig.sandbox.switch(Mode.STATUS, status=status)
        with pytest.raises(kind):
            await target.send(message(), soon())


async def test_retry_after_is_taken_over_and_capped(rig: Rig) -> None:
    target = await rig.target(retry_after_limit=60)
    for asked, kept in ((7, 7.0), (86400, 60.0)):
        rig.sandbox.switch(Mode.STATUS, status=429, retry_after=asked)
        with pytest.raises(Unavailable) as caught:
            await target.send(message(), soon())
        assert caught.value.retry_after == kept


async def test_a_refusal_shows_the_code_of_the_problem_and_nothing_else(rig: Rig) -> None:
    target = await rig.target()
    rig.sandbox.switch(Mode.REFUSE)
    with pytest.raises(Refused, match="type-not-expected"):
        await target.send(message(), soon())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"title": "duplicate of maria garcia"}, None),
        ({"title": "maria-garcia"}, None),
        ({"code": "duplicate of maria garcia", "title": "x-y"}, None),
        ({"code": "record-19840317"}, None),
        ({"code": "a" * 41}, None),
        ({"code": "a-b-c-d-e-f-g"}, None),
        ({"type": "about:blank", "title": "maria-garcia"}, None),
        ({"type": "https://example.org/errors?who=maria"}, None),
        ({"code": "duplicate_record.v2"}, "duplicate_record.v2"),
        ({"type": "https://example.org/errors/duplicate-record"}, "duplicate-record"),
        ({"code": "maria"}, None),
        ({"type": "urn:problem:type-not-expected"}, "type-not-expected"),
        ({"code": "Not A Code", "type": "urn:problem:long-gone"}, "long-gone"),
    ],
)
def test_only_what_has_the_shape_of_a_code_is_kept_of_a_remote_problem(
    body: dict[str, str], code: str | None
) -> None:
    headers = CIMultiDictProxy(CIMultiDict({"Content-Type": "application/problem+json"}))
    assert problem_code(Reply(422, headers, orjson.dumps(body), False, 0.0)) == code


async def test_a_conflict_is_a_receipt_when_the_operator_says_it_means_a_repeat(rig: Rig) -> None:
    target = await rig.target(conflict_is_repeat=True)
    rig.sandbox.switch(Mode.STATUS, status=409)
    receipt = await target.send(message(), soon())
    assert receipt.exchanges[0].notes["repeat"]


@pytest.mark.parametrize("mode", [Mode.CLOSE_AFTER_BODY, Mode.GARBAGE, Mode.HANG])
async def test_no_answer_after_the_body_is_unknown_and_sent_once(rig: Rig, mode: Mode) -> None:
    target = await rig.target()
    await target.send(
        message(), soon()
    )  # so that a kept connection is reused, where a client might silently repeat
    rig.sandbox.switch(mode)
    with pytest.raises(Unknown) as caught:
        await target.send(message(), soon(0.3))
    assert caught.value.code == "outcome-unknown"
    assert len(rig.sandbox.received) == 2


async def test_a_target_that_is_gone_is_unavailable_not_unknown(rig: Rig) -> None:
    target = await rig.target()
    await rig.sandbox.stop()
    # The kept connection may still look open to the first send, whose outcome is then honestly unknown.
    with pytest.raises((Unavailable, Unknown)):
        await target.send(message(), soon())
    with pytest.raises(Unavailable):
        await target.send(message(), soon())


async def test_a_wrong_secret_is_refused_by_the_receiver(rig: Rig) -> None:
    target = await rig.target(secrets=["another-secret-of-24-chars-or-more"])
    with pytest.raises(Refused, match="signature-invalid"):
        await target.send(message(), soon())


async def test_both_secrets_sign_while_keys_are_changed(rig: Rig) -> None:
    from connectors.webhook.sandbox import SECRET

    target = await rig.target(secrets=["the-new-secret-of-24-chars-or-more", SECRET])
    await target.send(message(), soon())
    assert rig.sandbox.received[0].headers["webhook-signature"].count("v1,") == 2


async def test_a_name_that_leads_to_a_private_address_is_refused_at_open(rig: Rig) -> None:
    with pytest.raises(ConfigError) as caught:
        await rig.target(
            url=f"https://localhost:{rig.sandbox.port}/events",
            allow_private_networks=[],
            allow_plain_http=True,
        )
    assert caught.value.code == "address-not-allowed"
    assert rig.sandbox.received == []


async def test_an_oversized_reply_is_cut_and_the_message_still_counts(unused_tcp_port: int) -> None:
    from aiohttp import web

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=b"x" * 1_000_000)

    runner = web.AppRunner(web.Application())
    runner.app.router.add_route("*", "/", handle)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    rig = Rig(WebhookSandbox())
    target = await rig.target(url=f"http://127.0.0.1:{unused_tcp_port}/")
    (exchange,) = (await target.send(message(), soon())).exchanges
    assert exchange.reply_bytes == 65536
    assert rig.runtime
    await rig.runtime.close()
    await runner.cleanup()
