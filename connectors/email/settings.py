"""The settings of one email target."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from connectors.contract import Settings

_ADDRESS: Final = re.compile(
    r"[^\s@<>\"(),:;\\\x00-\x1f\x7f]{1,64}@[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*",
    re.I,
)
_DOMAIN: Final = r"^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$"


def mail_address(value: str) -> str:
    """Return a plain mail address; raises `ValueError`, which does not repeat it, when it could be anything else."""
    if len(value) > 254 or not _ADDRESS.fullmatch(value):
        raise ValueError("not a plain mail address")
    return value


def header_text(value: str) -> str:
    """Return a text fit for a mail header; raises `ValueError` when it holds a line break or a control character."""
    if any(ord(c) < 32 or ord(c) == 127 or c in "\x85\u2028\u2029" for c in value):
        raise ValueError("a header may not hold line breaks or control characters")
    return value


MailAddress = Annotated[str, AfterValidator(mail_address)]
HeaderText = Annotated[str, Field(max_length=200), AfterValidator(header_text)]


class MailTemplate(BaseModel):
    """Subject, text and optional HTML of a mail, in Jinja2."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str = Field(min_length=1, max_length=500)
    """One line."""
    text: str = Field(min_length=1, max_length=50_000)
    """The plain text; always sent."""
    html: str | None = Field(default=None, max_length=100_000)
    """The HTML alternative; values are escaped."""
    show_data: bool = False
    """Give the template the message's `data`. Off, an event mail can name ids and types only; on, personal data may leave."""


class EmailSettings(Settings):
    """The relay, the sender, and what is written to whom."""

    host: str = Field(pattern=_DOMAIN)
    """The relay's name or address."""
    port: int = Field(default=587, ge=1, le=65535)
    """587 with STARTTLS, 465 with TLS from the start."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """How the connection is protected; `none` takes a login only on loopback."""
    username: str | None = Field(default=None, max_length=200)
    """The login's name, when the relay asks for one."""
    password: SecretStr | None = None
    """The login's password."""
    ca_file: Path | None = None
    """PEM file of the authorities trusted for the relay in place of the system's."""
    from_address: MailAddress
    """The sender people see."""
    from_name: HeaderText = ""
    """The name beside it."""
    reply_to: MailAddress | None = None
    """Where answers go."""
    bounce_address: MailAddress | None = None
    """Base of the envelope sender: `bounce@x.org` becomes `bounce+<message id>@x.org`, so each bounce names its message."""
    message_id_domain: str | None = Field(default=None, pattern=_DOMAIN)
    """Right side of Message-ID; the domain of `from_address` if not set."""
    delivery_reports: bool = True
    """Ask for delivery status notifications where the relay offers DSN."""
    events: dict[str, MailTemplate] = Field(default_factory=dict, max_length=200)
    """Event mails: message type (globs allowed) to template."""
    recipients: tuple[MailAddress, ...] = Field(default=(), max_length=50)
    """Who gets the event mails; an office mailbox rather than a person's."""
    notice_templates: dict[str, MailTemplate] = Field(default_factory=dict, max_length=1000)
    """Templates of notices: `name`, or `name.language` where a language has its own."""
    default_language: str = Field(default="en", pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")
    """Taken when a notice has no text in its own language."""
    connect_timeout: float = Field(default=10.0, ge=0.05, le=60)
    """Seconds for connection, TLS and login."""

    @model_validator(mode="after")
    def _check_together(self) -> EmailSettings:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.username is not None and self.security == "none" and not _loopback(self.host):
            raise ValueError("a login needs security: starttls or tls")
        if self.events and not self.recipients:
            raise ValueError("events need recipients")
        return self

    @property
    def own_domain(self) -> str:
        """The domain Message-IDs end in."""
        return self.message_id_domain or self.from_address.rpartition("@")[2]


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
