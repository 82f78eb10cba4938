from __future__ import annotations

import asyncio
import email
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email import policy
from email.message import EmailMessage
from typing import Any

import aiosmtplib
import pytest
from pydantic import ValidationError

from canonical_model.message import Message
from canonical_model.notice import NoticeResult
from connectors.email import EmailConnector, EmailSettings
from connectors.email.client import map_failure
from connectors.email.sandbox import EmailSandbox
from connectors.errors import ConfigError, HubError, Refused, Unavailable, Unknown
from connectors.runtime import ConnectorRuntime, OpenTarget, TargetConfig
from connectors.testing.sandbox import Mode


def notice(**data: Any) -> Message:
    base = {
        "notice_id": "n-1",
        "channel": "email",
        "to": {"kind": "email", "value": "amina@home.example"},
        "title": {"en": "Your payment", "fr": "Votre paiement"},
        "body": {"en": "It was sent. ሰላም", "fr": "Il est parti."},
    }
    return Message(source="/programs", type="org.openspp.notice.requested.v1", data=base | data)


def event(**data: Any) -> Message:
    return Message(source="/crvs", type="org.openspp.civil_event.registered.v1", data=data)


def soon(after: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + after


class Rig:
    def __init__(self) -> None:
        self.sandbox = EmailSandbox()
        self.runtime = ConnectorRuntime([], connectors={})

    async def target(self, **settings: Any) -> OpenTarget:
        made = EmailConnector(EmailSettings.model_validate(self.sandbox.settings() | settings))
        opened = OpenTarget(TargetConfig("mail", "email", timeout=3), made)
        self.runtime._targets["mail"] = opened
        await self.runtime.open()
        return opened

    def mail(self) -> EmailMessage:
        found = email.message_from_bytes(self.sandbox.received[-1].body, policy=policy.default)
        assert isinstance(found, EmailMessage)
        return found


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    await made.sandbox.start()
    yield made
    await made.runtime.close()
    await made.sandbox.stop()


async def test_a_notice_arrives_in_its_language_and_gives_a_result(rig: Rig) -> None:
    target = await rig.target()
    sent = notice(language="fr")
    receipt = await target.send(sent, soon())
    mail = rig.mail()
    assert mail["To"] == "amina@home.example"
    assert mail["Subject"] == "Votre paiement"
    assert mail["Message-ID"] == f"<{sent.id}@registry.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert rig.sandbox.senders == [f"bounce+{sent.id.hex}@registry.example"]
    (produced,) = receipt.produced
    result = NoticeResult.model_validate(produced.data, strict=False)
    assert (result.notice_id, result.status.value) == ("n-1", "accepted")
    assert result.gateway_reference == receipt.reference == "0000000001"
    assert "amina" not in repr(receipt)


async def test_text_in_any_script_survives(rig: Rig) -> None:
    target = await rig.target()
    await target.send(notice(title={"en": "ክፍያ"}), soon())
    assert rig.mail()["Subject"] == "ክፍያ"
    assert "ሰላም" in rig.mail().get_content()


async def test_delivery_reports_are_asked_for_where_the_relay_offers_them(rig: Rig) -> None:
    target = await rig.target()
    sent = notice()
    await target.send(sent, soon())
    mail_options, rcpt_options = rig.sandbox.options[0]
    assert f"ENVID={sent.id}" in mail_options
    assert "NOTIFY=SUCCESS,FAILURE,DELAY" in rcpt_options


async def test_a_notice_template_is_filled_and_html_is_escaped(rig: Rig) -> None:
    templates = {
        "paid": {"subject": "Paid {{ amount }}", "text": "{{ name }}", "html": "<p>{{ name }}</p>"},
        "paid.fr": {"subject": "Payé {{ amount }}", "text": "{{ name }}"},
    }
    target = await rig.target(notice_templates=templates)
    values = {"amount": "5", "name": "<b>&"}
    await target.send(notice(template="paid", values=values, body=None), soon())
    html = rig.mail().get_body(("html",))
    assert html is not None
    assert "<p>&lt;b&gt;&amp;</p>" in html.get_content()
    await target.send(notice(template="paid", values=values, body=None, language="fr"), soon())
    assert rig.mail()["Subject"] == "Payé 5"


async def test_an_event_mail_names_ids_and_types_only(rig: Rig) -> None:
    target = await rig.target()
    sent = event(name="Amina Yusuf")
    await target.send(sent, soon())
    assert str(sent.id) in rig.mail().get_content()
    assert b"Amina" not in rig.sandbox.received[0].body


async def test_a_recipient_refused_for_good_is_told_by_place_while_the_others_get_the_mail(rig: Rig) -> None:
    rig.sandbox.unknown = {"left@office.example"}
    target = await rig.target(
        recipients=["first@office.example", "left@office.example"],
        events={"org.openspp.civil_event.*": {"subject": "New", "text": "Look."}},
    )
    sent = event()
    receipt = await target.send(sent, soon())
    (exchange,) = receipt.exchanges
    assert exchange.status == "250 (1 of 2 refused)"
    (produced,) = receipt.produced
    assert (produced.type, produced.causationid) == ("org.openspp.notice.result.v1", str(sent.id))
    result = NoticeResult.model_validate(produced.data, strict=False)
    assert (result.status.value, result.reason_code) == ("failed", "smtp-550")
    assert result.notice_id == f"{sent.id}/recipient-2"
    assert "office.example" not in repr(receipt)
    assert len(rig.sandbox.received) == 1
    rig.sandbox.unknown = set()
    whole = await target.send(event(), soon())
    assert (whole.exchanges[0].status, list(whole.produced)) == ("250", [])


async def test_an_event_template_cannot_reach_the_data_unless_it_is_shown(rig: Rig) -> None:
    template = {"subject": "s", "text": "{{ data.name }}"}
    target = await rig.target(events={"org.openspp.*": template})
    with pytest.raises(Refused) as caught:
        await target.send(event(name="Amina Yusuf"), soon())
    assert caught.value.code == "mail-template-failed"
    await rig.runtime.close()
    target = await rig.target(events={"org.openspp.*": template | {"show_data": True}})
    await target.send(event(name="Amina Yusuf"), soon())
    assert b"Amina" in rig.sandbox.received[0].body


async def test_a_template_cannot_reach_into_the_program(rig: Rig) -> None:
    target = await rig.target(
        notice_templates={"x": {"subject": "s", "text": "{{ ''.__class__.__mro__[1].__subclasses__() }}"}}
    )
    with pytest.raises(Refused):
        await target.send(notice(template="x", body=None), soon())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"title": {"en": "a\r\nBcc: all@x.example"}}, "mail-header-invalid"),
        ({"to": {"kind": "email", "value": "a@x.example\r\nBcc: b@x.example"}}, "mail-address-invalid"),
        ({"to": {"kind": "email", "value": "a@x.example, b@x.example"}}, "mail-address-invalid"),
        ({"to": {"kind": "email", "value": "<a@x.example> ORCPT=x"}}, "mail-address-invalid"),
        ({"channel": "sms"}, "notice-channel-wrong"),
        ({"template": "none", "body": None}, "notice-template-missing"),
        ({"expires_at": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}, "notice-expired"),
    ],
)
async def test_a_notice_that_must_not_go_out_is_refused(rig: Rig, data: dict[str, Any], code: str) -> None:
    target = await rig.target()
    with pytest.raises(Refused) as caught:
        await target.send(notice(**data), soon())
    assert caught.value.code == code
    assert "x.example" not in str(caught.value)
    assert rig.sandbox.received == []


async def test_one_connection_is_kept_and_a_lost_one_replaced(rig: Rig) -> None:
    target = await rig.target()
    for _ in range(3):
        await target.send(notice(), soon())
    assert rig.sandbox.connections == 1
    await rig.sandbox.stop()
    await rig.sandbox.start()
    await target.send(notice(), soon())
    assert rig.sandbox.connections == 2
    assert len(rig.sandbox.received) == 4


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (Mode.STATUS, Unavailable),
        (Mode.REFUSE, Refused),
        (Mode.CLOSE_AFTER_BODY, Unknown),
        (Mode.HANG, Unknown),
        (Mode.GARBAGE, Unknown),
    ],
)
async def test_each_way_to_fail_becomes_its_action_and_the_next_mail_goes_through(
    rig: Rig, mode: Mode, kind: type[HubError]
) -> None:
    target = await rig.target()
    rig.sandbox.switch(mode)
    with pytest.raises(kind) as caught:
        await target.send(notice(), soon(0.4))
    assert "amina" not in str(caught.value)
    assert len(rig.sandbox.received) == (1 if kind is Unknown else 0)
    rig.sandbox.switch(Mode.OK)
    await target.send(notice(), soon())


async def test_a_wrong_login_stops_the_start(rig: Rig) -> None:
    with pytest.raises(ConfigError) as caught:
        await rig.target(password="wrong-password")
    assert caught.value.code == "target-login-refused"
    assert "wrong-password" not in str(caught.value)


async def test_a_relay_without_starttls_is_not_used_in_clear(rig: Rig) -> None:
    with pytest.raises(ConfigError):
        await rig.target(security="starttls")


async def test_a_mail_that_waited_too_long_for_the_connection_is_unavailable(rig: Rig) -> None:
    target = await rig.target()
    rig.sandbox.switch(Mode.SLOW, seconds=0.5)
    first = asyncio.create_task(target.send(notice(), soon()))
    while not rig.sandbox.received and not first.done():
        await asyncio.sleep(0.005)
    with pytest.raises(Unavailable):
        await target.send(notice(), soon(0.1))
    await first
    assert len(rig.sandbox.received) == 1


def test_every_exception_of_the_smtp_library_is_mapped() -> None:
    for name in aiosmtplib.errors.__all__:
        kind = getattr(aiosmtplib, name, None) or getattr(aiosmtplib.errors, name)
        made = kind.__new__(kind)
        made.code, made.message, made.recipients = 550, "secret <amina@home.example>", []
        for handed in (True, False):
            error = map_failure(made, handed=handed)
            assert isinstance(error, HubError)
            assert "amina" not in str(error)


def test_a_login_without_protection_is_refused_beyond_loopback() -> None:
    with pytest.raises(ValidationError, match="starttls or tls"):
        EmailSettings.model_validate(
            {
                "host": "mail.example",
                "security": "none",
                "username": "u",
                "password": "p",
                "from_address": "a@b.example",
            }
        )
