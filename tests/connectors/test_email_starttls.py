"""Mail over STARTTLS with a real relay: protected before anything is said, or not sent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from services.certificates import certificate

from canonical_model.message import Message
from connectors.email import EmailConnector, EmailSettings
from connectors.errors import Unavailable
from connectors.runtime import ConnectorRuntime, OpenTarget, TargetConfig

USER, PASSWORD = "hub", "a-password-of-the-tests-only"


class Relay:
    """A relay that takes mail over STARTTLS and after a login alone, and remembers how each mail came."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.authority = certificate(folder, "relay", host)
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.tls.load_cert_chain(folder / "relay.pem", folder / "relay.key")
        self.mails: list[tuple[bool, bool, bytes]] = []
        self.logins: list[bool] = []
        self.server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self.server = await asyncio.get_running_loop().create_server(self._protocol, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    def _protocol(self) -> SMTP:
        return SMTP(
            self,
            hostname="relay.example",
            tls_context=self.tls,
            require_starttls=True,
            auth_required=True,
            auth_require_tls=True,
            authenticator=self._login,
            loop=asyncio.get_running_loop(),
        )

    def _login(self, _server: Any, session: Any, _envelope: Any, _how: str, data: Any) -> AuthResult:
        self.logins.append(session.ssl is not None)
        known = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=known, handled=False)

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:
        self.mails.append((session.ssl is not None, session.authenticated, envelope.content))
        return "250 2.0.0 Ok: queued as 4AB91F0C22"


class Rig:
    def __init__(self) -> None:
        self.runtime = ConnectorRuntime([], connectors={})

    async def target(self, relay: Relay, **settings: Any) -> OpenTarget:
        base = {
            "host": "127.0.0.1",
            "port": relay.port,
            "security": "starttls",
            "username": USER,
            "password": PASSWORD,
            "ca_file": str(relay.authority),
            "from_address": "hub@registry.example",
        }
        made = EmailConnector(EmailSettings.model_validate(base | settings))
        opened = OpenTarget(TargetConfig("mail", "email", timeout=3), made)
        self.runtime._targets["mail"] = opened
        await self.runtime.open()
        return opened


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.runtime.close()


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    made = Relay(tmp_path)
    await made.start()
    yield made
    assert made.server is not None
    made.server.close()


def notice() -> Message:
    return Message(
        source="/programs",
        type="org.openspp.notice.requested.v1",
        data={
            "notice_id": "n-1",
            "channel": "email",
            "to": {"kind": "email", "value": "amina@home.example"},
            "title": {"en": "Your payment"},
            "body": {"en": "It was sent."},
        },
    )


def soon() -> float:
    return asyncio.get_running_loop().time() + 30


async def test_a_mail_goes_over_starttls_and_the_login_with_it(rig: Rig, relay: Relay) -> None:
    target = await rig.target(relay)
    receipt = await target.send(notice(), soon())
    assert receipt.reference == "4AB91F0C22"
    ((protected, authenticated, content),) = relay.mails
    assert (protected, authenticated) == (True, True)
    assert b"It was sent." in content
    assert relay.logins == [True]


async def test_a_relay_of_an_unknown_authority_gets_neither_login_nor_mail(
    rig: Rig, relay: Relay, tmp_path: Path
) -> None:
    target = await rig.target(relay, ca_file=str(certificate(tmp_path, "other", "127.0.0.1")))
    with pytest.raises(Unavailable) as caught:
        await target.send(notice(), soon())
    assert caught.value.code == "target-tls-failed"
    assert (relay.mails, relay.logins) == ([], [])


async def test_a_relay_with_the_certificate_of_another_host_gets_neither_login_nor_mail(
    rig: Rig, tmp_path: Path
) -> None:
    relay = Relay(tmp_path, "mail.elsewhere.example")
    await relay.start()
    target = await rig.target(relay)
    with pytest.raises(Unavailable) as caught:
        await target.send(notice(), soon())
    assert caught.value.code == "target-tls-failed"
    assert (relay.mails, relay.logins) == ([], [])
    assert relay.server is not None
    relay.server.close()
