"""From a canonical message to a mail: who gets it, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime, formataddr
from fnmatch import fnmatchcase
from typing import Any, Final

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from canonical_model.message import Message
from connectors.email.settings import EmailSettings, MailTemplate, header_text, mail_address
from connectors.errors import ConfigError, Refused

NOTICE: Final = "org.openspp.notice.requested.v1"
_MAX_TEXT: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail ready to be handed to a relay: envelope and content."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    envelope_id: str
    international: bool
    """Whether an address is not ASCII, so that the relay must offer SMTPUTF8."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    subject: Template
    text: Template
    html: Template | None
    show_data: bool


class Composer:
    """Writes mails by the templates of one target; templates are compiled once."""

    def __init__(self, settings: EmailSettings) -> None:
        self._settings = settings
        self._events = {glob: _compile(glob, template) for glob, template in settings.events.items()}
        self._notices = {
            name: _compile(name, template) for name, template in settings.notice_templates.items()
        }

    def compose(self, message: Message) -> Mail:
        """Return the mail for a message; raises `Refused` when there is none to write."""
        if message.type == NOTICE:
            return self._notice(message)
        for glob, template in self._events.items():
            if fnmatchcase(message.type, glob):
                values: dict[str, Any] = {
                    "id": str(message.id),
                    "type": message.type,
                    "kind": message.kind,
                    "time": message.time.astimezone(UTC).isoformat(timespec="seconds"),
                    "source": message.source,
                    "correlationid": message.correlationid or "",
                }
                if template.show_data:
                    values["data"] = message.data
                return self._write(message, self._settings.recipients, _render(template, values, message))
        raise _refuse(message, "notice-template-missing", f"no template is set for the type {message.type}")

    def _notice(self, message: Message) -> Mail:
        data = message.data
        to = data.get("to")
        if data.get("channel", "email") != "email" or not isinstance(to, Mapping):
            raise _refuse(message, "notice-channel-wrong", "it is not a notice by mail")
        try:
            address = mail_address(str(to.get("value", "")))
        except ValueError:
            raise _refuse(
                message, "mail-address-invalid", "its address is not a plain mail address"
            ) from None
        _check_expiry(message, data.get("expires_at"))
        language = str(data.get("language") or self._settings.default_language)
        name = data.get("template")
        if name is not None:
            template = self._template(str(name), language)
            if template is None:
                raise _refuse(message, "notice-template-missing", "the template it names is not set")
            values = data.get("values")
            parts = _render(template, dict(values) if isinstance(values, Mapping) else {}, message)
        else:
            default = self._settings.default_language
            body = _localized(data.get("body"), language, default)
            if not body:
                raise _refuse(message, "notice-template-missing", "it has neither a template nor a text")
            parts = (_localized(data.get("title"), language, default) or " ", body, None)
        return self._write(message, (address,), parts)

    def _template(self, name: str, language: str) -> _Compiled | None:
        for key in (f"{name}.{language}", f"{name}.{language.partition('-')[0]}", name):
            if key in self._notices:
                return self._notices[key]
        return None

    def _write(self, message: Message, to: tuple[str, ...], parts: tuple[str, str, str | None]) -> Mail:
        settings, subject = self._settings, parts[0].strip()
        try:
            header_text(subject)
        except ValueError:
            raise _refuse(
                message, "mail-header-invalid", "its subject holds a line break or control character"
            ) from None
        mail = EmailMessage(policy=SMTP_POLICY)
        mail["From"] = formataddr((settings.from_name, settings.from_address))
        mail["To"] = ", ".join(to)
        mail["Subject"] = subject
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail["Message-ID"] = f"<{message.id}@{settings.own_domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Auto-Response-Suppress"] = "All"
        if settings.reply_to:
            mail["Reply-To"] = settings.reply_to
        mail.set_content(parts[1], cte="quoted-printable")
        if parts[2] is not None:
            mail.add_alternative(parts[2], subtype="html", cte="quoted-printable")
        sender = settings.from_address
        if settings.bounce_address:
            local, _, domain = settings.bounce_address.rpartition("@")
            sender = f"{local}+{message.id.hex}@{domain}"
        international = not all(address.isascii() for address in (sender, settings.from_address, *to))
        policy = SMTP_POLICY.clone(utf8=True) if international else SMTP_POLICY
        return Mail(sender, to, mail.as_bytes(policy=policy), str(message.id), international)


def _compile(name: str, template: MailTemplate) -> _Compiled:
    plain = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    markup = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=True)
    try:
        return _Compiled(
            plain.from_string(template.subject),
            plain.from_string(template.text),
            markup.from_string(template.html) if template.html is not None else None,
            template.show_data,
        )
    except TemplateError as error:
        raise ConfigError(
            f"The mail template {name} is not valid Jinja2 ({type(error).__name__}).",
            code="mail-template-invalid",
            remedy="Correct the template in the target's settings.",
        ) from None


def _render(template: _Compiled, values: dict[str, Any], message: Message) -> tuple[str, str, str | None]:
    try:
        parts = (
            template.subject.render(values),
            template.text.render(values),
            template.html.render(values) if template.html is not None else None,
        )
    except Exception as error:
        # A template is the operator's program; whatever it raises may quote the values.
        kind = type(error).__name__
        raise _refuse(message, "mail-template-failed", f"its template could not be filled ({kind})") from None
    if sum(len(part or "") for part in parts) > _MAX_TEXT:
        raise _refuse(message, "mail-template-failed", "its text is longer than 256 KiB")
    return parts


def _localized(value: Any, language: str, default: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping) or not value:
        return ""
    for key in (language, language.partition("-")[0], default):
        if key in value:
            return str(value[key])
    return str(next(iter(value.values())))


def _check_expiry(message: Message, expires_at: Any) -> None:
    if expires_at is None:
        return
    try:
        moment = expires_at if isinstance(expires_at, datetime) else datetime.fromisoformat(str(expires_at))
    except ValueError:
        raise _refuse(message, "notice-expired", "its expiry is not a time") from None
    if (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) <= datetime.now(UTC):
        raise _refuse(message, "notice-expired", "its time has passed")


def _refuse(message: Message, code: str, why: str) -> Refused:
    return Refused(
        f"No mail was sent for message {message.id}: {why}.",
        code=code,
        remedy="Correct the notice or the target's templates, then replay the message.",
    )
