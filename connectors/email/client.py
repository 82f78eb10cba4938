"""One kept SMTP connection, and every failure told apart by whether the mail had been handed over."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import aiosmtplib

from connectors.email.composing import Mail
from connectors.errors import ConfigError, HubError, Refused, Unavailable, Unknown

_QUEUED_AS: Final = re.compile(r"queued as ([A-Za-z0-9]{6,40})\b")


@dataclass(frozen=True, slots=True)
class Relay:
    """Where the relay is and how to log in."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    username: str | None
    password: str | None
    ca_file: Path | None
    connect_timeout: float
    delivery_reports: bool


@dataclass(frozen=True, slots=True)
class Handed:
    """The relay's word; `refused` holds the place (from 1) and reply code of each recipient it said no to for good."""

    reference: str | None
    refused: tuple[tuple[int, int], ...] = ()


class SmtpClient:
    """Keeps one connection to a relay and hands mails over one at a time."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._smtp: aiosmtplib.SMTP | None = None
        self._lock = asyncio.Lock()
        self.address = f"smtp://{relay.host}:{relay.port}"

    async def check(self) -> None:
        """Connect, log in and say NOOP; raises `ConfigError` for a wrong login and `Unavailable` when the relay is away."""
        async with self._lock:
            try:
                smtp = await self._connected()
                await smtp.noop(timeout=self._relay.connect_timeout)
            except BaseException as error:
                self._drop()
                if isinstance(error, Exception):
                    raise map_failure(error, handed=False, opening=True) from None
                raise

    async def close(self) -> None:
        """Say QUIT, shortly, and close; safe to call twice."""
        async with self._lock:
            smtp, self._smtp = self._smtp, None
            if smtp is not None and smtp.is_connected:
                try:
                    await smtp.quit(timeout=1)
                except (aiosmtplib.SMTPException, OSError):
                    # The relay went first; closing below is all that is left.
                    smtp.close()

    async def hand_over(self, mail: Mail, deadline: float) -> Handed:
        """Hand one mail to the relay before `deadline` (loop clock)."""
        loop = asyncio.get_running_loop()
        # The part that sends nothing ends early, so that a time-out there is still known to be harmless.
        limit = loop.time() + max((deadline - loop.time()) * 0.9, 0.0)
        async with self._turn(limit):
            handed = False
            try:
                async with asyncio.timeout_at(limit):
                    refused = await self._envelope(mail)
                handed = True
                response = await self._data(mail.content, max(deadline - loop.time(), 0.001))
            except BaseException as error:
                # After any interruption the connection may be in the middle of a reply; a new one is cheap.
                if not _in_step(error):
                    self._drop()
                if isinstance(error, Exception):
                    raise map_failure(error, handed=handed) from None
                raise
        match = _QUEUED_AS.search(response)
        return Handed(match[1] if match else None, refused)

    @asynccontextmanager
    async def _turn(self, limit: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(limit):
                await self._lock.acquire()
        except TimeoutError:
            raise Unavailable(
                "The connection to the mail relay was busy until the deadline; nothing was sent.",
                code="target-busy",
            ) from None
        try:
            yield
        finally:
            self._lock.release()

    async def _envelope(self, mail: Mail) -> tuple[tuple[int, int], ...]:
        """Say MAIL and RCPT; return the recipients refused for good, by place and reply code. A stale connection is replaced once."""
        try:
            return await self._say_envelope(mail)
        except aiosmtplib.SMTPServerDisconnected:
            self._drop()
        except aiosmtplib.SMTPResponseException as error:
            if error.code != 421:
                raise
            self._drop()
        return await self._say_envelope(mail)

    async def _say_envelope(self, mail: Mail) -> tuple[tuple[int, int], ...]:
        smtp = await self._connected()
        mail_options, rcpt_options = self._options(smtp, mail)
        encoding = "utf-8" if mail.international else "ascii"
        try:
            await smtp.mail(mail.sender, options=mail_options, encoding=encoding)
            refused: list[tuple[int, int]] = []
            for place, recipient in enumerate(mail.recipients, 1):
                try:
                    await smtp.rcpt(recipient, options=rcpt_options, encoding=encoding)
                except aiosmtplib.SMTPRecipientRefused as error:
                    refused.append((place, error.code))
            temporary = next((code for _, code in refused if code < 500), None)
            if temporary is not None or len(refused) == len(mail.recipients):
                raise aiosmtplib.SMTPResponseException(temporary or refused[0][1], "")
        except aiosmtplib.SMTPResponseException as error:
            if error.code != 421:
                await smtp.rset()
            raise
        return tuple(refused)

    def _options(self, smtp: aiosmtplib.SMTP, mail: Mail) -> tuple[list[str], list[str]]:
        mail_options, rcpt_options = [], []
        if mail.international:
            if not smtp.supports_extension("smtputf8"):
                raise Refused(
                    "The mail relay takes no addresses outside ASCII.",
                    code="mail-address-invalid",
                    remedy="Use a relay that offers SMTPUTF8 or another address.",
                )
            mail_options.append("SMTPUTF8")
        if smtp.supports_extension("8bitmime"):
            mail_options.append("BODY=8BITMIME")
        if self._relay.delivery_reports and smtp.supports_extension("dsn"):
            mail_options += ["RET=HDRS", f"ENVID={mail.envelope_id}"]
            rcpt_options.append("NOTIFY=SUCCESS,FAILURE,DELAY")
        return mail_options, rcpt_options

    async def _data(self, content: bytes, seconds: float) -> str:
        smtp = self._smtp
        if smtp is None:
            raise aiosmtplib.SMTPServerDisconnected("closed")
        return str((await smtp.data(content, timeout=seconds)).message)

    async def _connected(self) -> aiosmtplib.SMTP:
        if self._smtp is not None and self._smtp.is_connected:
            return self._smtp
        relay = self._relay
        self._smtp = smtp = aiosmtplib.SMTP(
            hostname=relay.host,
            port=relay.port,
            timeout=relay.connect_timeout,
            use_tls=relay.security == "tls",
            start_tls=relay.security == "starttls",
            tls_context=tls_context(relay.ca_file) if relay.security != "none" else None,
        )
        await smtp.connect()
        await smtp.ehlo()
        if relay.username is not None and relay.password is not None:
            await smtp.login(relay.username, relay.password)
        return smtp

    def _drop(self) -> None:
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            smtp.close()


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return the TLS context for a relay; raises `ConfigError` when the file cannot be used."""
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The ca_file of the mail target cannot be used ({type(error).__name__}).",
            code="tls-files-invalid",
            remedy="Check that it is a readable PEM file.",
        ) from None


def _in_step(error: BaseException) -> bool:
    """Say whether client and relay still agree on whose turn it is: the relay gave a regular negative reply."""
    regular = isinstance(error, aiosmtplib.SMTPResponseException) and 400 <= error.code < 600
    return regular and getattr(error, "code", 421) != 421


def map_failure(error: Exception, *, handed: bool, opening: bool = False) -> HubError:
    """Return the hub error for an exception of the SMTP library; the relay's text is left out, since it quotes addresses."""
    if isinstance(error, HubError):
        return error
    if isinstance(error, aiosmtplib.SMTPAuthenticationError) and error.code >= 500:
        # Once open, a login that stops working must not cost messages: they wait until it is put right.
        return (ConfigError if opening else Unavailable)(
            f"The mail relay did not accept the login ({error.code}).",
            code="target-login-refused",
            remedy="Check username and password of the target.",
        )
    # The library says with its bare base class that STARTTLS or AUTH is not offered.
    if isinstance(error, aiosmtplib.SMTPNotSupported) or (
        type(error) is aiosmtplib.SMTPException and not handed
    ):
        return (ConfigError if opening else Unavailable)(
            "The mail relay does not offer what the settings ask for (STARTTLS or a login).",
            code="target-login-refused",
            remedy="Correct `security`, or `username` and `password`.",
        )
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        code = max((refused.code for refused in error.recipients), default=550)
        return _by_code(code)
    greeting = isinstance(error, (aiosmtplib.SMTPConnectError, aiosmtplib.SMTPHeloError))
    if isinstance(error, aiosmtplib.SMTPResponseException) and 400 <= error.code < 600 and not greeting:
        return _by_code(error.code)
    if handed:
        return Unknown(
            f"The mail relay gave no usable answer after the mail was handed over ({type(error).__name__}).",
            code="outcome-unknown",
            remedy="Look for the Message-ID in the relay's log, then replay or close the delivery.",
        )
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return Unavailable(
            "No trusted TLS connection to the mail relay could be made.",
            code="target-tls-failed",
            remedy="Check the relay's certificate and ca_file.",
        )
    return Unavailable(
        f"The mail relay cannot be reached ({type(error).__name__}); nothing was sent.",
        code="target-unavailable",
        remedy="Check that the relay is up and that the network lets the hub through.",
    )


def _by_code(code: int) -> HubError:
    if code < 500:
        return Unavailable(f"The mail relay asks to try later ({code}).", code="target-unavailable")
    return Refused(
        f"The mail relay refused the mail ({code}).",
        code="target-refused",
        remedy="Look up the reply code in the relay's log under the Message-ID.",
    )
