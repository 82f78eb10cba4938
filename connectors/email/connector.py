"""The email connector: canonical message in, mail out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import aiosmtplib

from canonical_model.message import Message
from connectors.contract import Callback, Context, Exchange, Health, Manifest, Receipt, Settings
from connectors.email.client import Handed, Relay, SmtpClient, map_failure
from connectors.email.composing import NOTICE, Composer
from connectors.email.settings import EmailSettings
from connectors.errors import HubError, Unavailable, Unknown
from connectors.manifests import manifest_beside

_RESULT = "org.openspp.notice.result.v1"


class EmailConnector:
    """Sends notices to people and event mails to offices through one SMTP relay."""

    manifest: ClassVar[Manifest] = manifest_beside(__file__)
    settings_model: ClassVar[type[Settings]] = EmailSettings
    library_errors: ClassVar[tuple[type[BaseException], ...]] = (aiosmtplib.SMTPException,)

    def __init__(self, settings: EmailSettings) -> None:
        self._composer = Composer(settings)
        self._relay = Relay(
            settings.host,
            settings.port,
            settings.security,
            settings.username,
            settings.password.get_secret_value() if settings.password else None,
            settings.ca_file,
            settings.connect_timeout,
            settings.delivery_reports,
        )
        self._target = "email"
        self._client: SmtpClient | None = None

    @staticmethod
    def map_error(error: Exception) -> HubError:
        """Return the hub error for an exception of the SMTP library, met after the mail was handed over."""
        return map_failure(error, handed=True)

    async def open(self, ctx: Context) -> None:
        """Connect and log in; raises `ConfigError` for a wrong login and `Unavailable` when the relay is away."""
        await self.close()
        self._target = ctx.target
        client = SmtpClient(self._relay)
        await client.check()
        self._client = client

    async def close(self) -> None:
        """Say goodbye to the relay; safe to call twice."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def probe(self) -> Health:
        """Say NOOP to the relay."""
        started = time.perf_counter()
        try:
            await self._ready().check()
        except HubError as error:
            return Health(False, error.detail, time.perf_counter() - started)
        return Health(True, "The relay answers.", time.perf_counter() - started)

    async def send(self, message: Message, deadline: float) -> Receipt:
        """Write and hand over one mail; the relay's 250 is the receipt.

        It says how many recipients were refused for good, and for each of them carries a notice result `failed`.
        """
        mail = self._composer.compose(message)
        client = self._ready()
        started_at, started = datetime.now(UTC), time.perf_counter()
        handed = await client.hand_over(mail, deadline)
        total, refused = len(mail.recipients), len(handed.refused)
        exchange = Exchange(
            "SMTP",
            client.address,
            f"250 ({refused} of {total} refused)" if refused else "250",
            started_at,
            time.perf_counter() - started,
            len(mail.content),
            0,
            {"recipients": str(total), "refused": str(refused)},
        )
        return Receipt(handed.reference, (exchange,), _results(message, handed))

    async def ask(self, message: Message, deadline: float) -> Receipt | None:
        """Raise `Unknown`: SMTP has no way to ask what became of a mail, so a person looks into the relay's log."""
        raise Unknown(
            f"Target {self._target} cannot be asked about message {message.id}.",
            remedy=f"Look for the Message-ID that starts with {message.id} in the relay's log.",
        )

    async def receive(self, callback: Callback) -> Sequence[Message]:
        """Return nothing: a relay sends no callbacks."""
        return ()

    def _ready(self) -> SmtpClient:
        if self._client is None:
            raise Unavailable(f"Target {self._target} is not open; nothing was sent.", code="target-closed")
        return self._client


def _results(message: Message, handed: Handed) -> Sequence[Message]:
    """Return what is known of each recipient: a notice was accepted; of an event mail, who was refused for good.

    A recipient is named by the place in the list of recipients, never by the address.
    """
    found: list[dict[str, Any]] = []
    notice_id = message.data.get("notice_id")
    if message.type == NOTICE and isinstance(notice_id, str):
        found.append({"notice_id": notice_id, "status": "accepted"})
    found += [
        {
            "notice_id": f"{message.id}/recipient-{place}",
            "status": "failed",
            "reason_code": f"smtp-{code}",
        }
        for place, code in handed.refused
    ]
    at = {"at": datetime.now(UTC).isoformat()}
    if handed.reference:
        at["gateway_reference"] = handed.reference
    return tuple(
        Message(
            source="/connectors/email",
            type=_RESULT,
            subject=message.subject,
            traceparent=message.traceparent,
            correlationid=message.correlationid,
            causationid=str(message.id),
            data={**data, **at},
        )
        for data in found
    )
