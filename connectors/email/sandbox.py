"""A local mail relay that keeps what it is given and can fail in every way a relay fails."""

from __future__ import annotations

import asyncio
import email
import logging
import socket
from collections.abc import Sequence
from email import policy
from typing import Any, Final

from connectors.errors import ConfigError
from connectors.testing.sandbox import Mode, Seen

USERNAME: Final = "sandbox-user"
PASSWORD: Final = "sandbox-mail-password-0001"  # noqa: S105 - known to everybody, only for the sandbox
_MAX_KEPT: Final = 10_000
_TEMPLATE: Final = {"subject": "Event {{ kind }}", "text": "Type {{ type }}, id {{ id }}"}


def _smtp_server() -> Any:
    try:
        from aiosmtpd import smtp
    except ImportError as error:
        raise ConfigError(
            "The mail sandbox needs the package aiosmtpd.",
            code="extra-missing",
            remedy='Install it with: pip install "openspp-hub[demo]"',
        ) from error
    return smtp


def _relay_class(smtp: Any) -> Any:
    """Return the server library's protocol, taught to take the DSN options it does not know."""

    class Relay(smtp.SMTP):  # type: ignore[misc]
        async def smtp_MAIL(self, arg: str | None) -> None:
            rest, options = _take_options(arg, ("RET=", "ENVID="))
            await super().smtp_MAIL(rest)
            if self.envelope is not None:
                self.envelope.mail_options.extend(options)

        async def smtp_RCPT(self, arg: str | None) -> None:
            rest, options = _take_options(arg, ("NOTIFY=", "ORCPT="))
            await super().smtp_RCPT(rest)
            if self.envelope is not None:
                self.envelope.rcpt_options.extend(options)

    return Relay


def _take_options(arg: str | None, names: tuple[str, ...]) -> tuple[str | None, list[str]]:
    words = arg.split(" ") if arg else []
    taken = [word for word in words if word.upper().startswith(names)]
    return (" ".join(word for word in words if word not in taken) if arg else arg), taken


class EmailSandbox:
    """A relay on a loopback port with a login; keeps the newest 10,000 mails."""

    def __init__(self) -> None:
        self.received: list[Seen] = []
        self.unknown: set[str] = set()
        """Addresses this relay refuses for good while it takes others."""
        self.senders: list[str] = []
        """Envelope senders, in the order of `received`."""
        self.options: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        """MAIL and RCPT options, in the order of `received`."""
        self.connections = 0
        self.busiest = 0
        self.port = 0
        self._inside = 0
        self._mode, self._status, self._seconds = Mode.OK, 451, 0.0
        self._stopping = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: set[Any] = set()
        self._smtp = _smtp_server()
        self._relay = _relay_class(self._smtp)
        # The server library logs every command it reads, addresses and all.
        logging.getLogger("mail.log").setLevel(logging.CRITICAL)

    async def start(self) -> None:
        """Listen on a free loopback port (the same one when started again)."""
        self._stopping = asyncio.Event()
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._server = await asyncio.get_running_loop().create_server(self._protocol, sock=listener)

    async def stop(self) -> None:
        """Stop listening and drop every connection; safe to call twice."""
        self._stopping.set()
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for protocol in self._open:
            if protocol.transport is not None:
                protocol.transport.abort()
        self._open.clear()
        # The handlers of dropped connections end in their own turns of the loop.
        for _ in range(3):
            await asyncio.sleep(0)

    def settings(self) -> dict[str, Any]:
        """Return the settings of an email target that reaches this sandbox and mails every event to an office."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "security": "none",
            "username": USERNAME,
            "password": PASSWORD,
            "from_address": "hub@registry.example",
            "bounce_address": "bounce@registry.example",
            "recipients": ["office@ministry.example"],
            "events": {"org.openspp.*": _TEMPLATE},
        }

    def secrets(self) -> Sequence[str]:
        """Return the secrets in `settings`."""
        return (PASSWORD,)

    def effects(self) -> Sequence[str]:
        """Return the Message-ID of every mail taken: a relay recognises no repeat."""
        return tuple(seen.id for seen in self.received)

    def switch(
        self, mode: Mode, *, status: int | None = None, seconds: float = 0.0, retry_after: int | None = None
    ) -> None:
        """Treat the next mails in this way; `status` defaults to 451, `retry_after` has no place in SMTP."""
        self._mode, self._status, self._seconds = mode, status or 451, seconds

    async def handle_EHLO(
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        """Offer DSN beside what the server offers itself."""
        session.host_name = hostname
        return [*responses[:-1], "250-DSN", responses[-1]]

    async def handle_MAIL(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Take the envelope sender of a session that has logged in."""
        # Checked here, because the server library warns of a required login without TLS even on loopback.
        if not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Take or refuse a recipient, as switched."""
        if self._mode is Mode.REFUSE or address in self.unknown:
            return f"550 5.1.1 <{address}> no such mailbox"
        if self._mode is Mode.STATUS:
            return f"{self._status} <{address}> not now"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Keep the mail, then answer as switched."""
        self._inside += 1
        self.busiest = max(self.busiest, self._inside)
        try:
            return await self._take(server, envelope)
        finally:
            self._inside -= 1

    async def _take(self, server: Any, envelope: Any) -> str:
        body = bytes(envelope.content)
        mail = email.message_from_bytes(body, policy=policy.SMTP)
        self.received.append(Seen(str(mail["Message-ID"]), body, {k: str(v) for k, v in mail.items()}))
        self.senders.append(envelope.mail_from)
        self.options.append((tuple(envelope.mail_options), tuple(envelope.rcpt_options)))
        for kept in (self.received, self.senders, self.options):
            del kept[: max(0, len(kept) - _MAX_KEPT)]
        if self._mode is Mode.SLOW:
            await self._wait(self._seconds)
        elif self._mode is Mode.HANG:
            await self._wait(None)
        if self._mode in {Mode.CLOSE_AFTER_BODY, Mode.HANG}:
            server.transport.abort()
        if self._mode is Mode.FLOOD:
            return "250 " + "x" * (1 << 20)
        if self._mode is Mode.GARBAGE:
            return "\x00\x01 this is no reply"
        return f"250 2.0.0 Ok: queued as {len(self.received):010X}"

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            # The time is over, which is what was waited for.
            return

    def _protocol(self) -> Any:
        self.connections += 1
        result = self._smtp.AuthResult
        protocol = self._relay(
            self,
            hostname="sandbox.example",
            enable_SMTPUTF8=True,
            authenticator=lambda _server, _session, _envelope, _mechanism, data: result(
                success=(data.login, data.password) == (USERNAME.encode(), PASSWORD.encode()), handled=False
            ),
            auth_require_tls=False,
            loop=asyncio.get_running_loop(),
        )
        self._open.add(protocol)
        return protocol
