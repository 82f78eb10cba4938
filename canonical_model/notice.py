"""Notices: what is told to a person over SMS, mail or another channel, and whether it arrived."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import AwareDatetime, model_validator
from pydantic_core import PydanticCustomError

from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.contact import ContactPoint
from canonical_model.localized import Code, LanguageTag, LocalizedText, LongText
from canonical_model.person import AttributeName
from canonical_model.registrant import RegistrantRef


class NoticeChannel(StrEnum):
    """How a notice travels."""

    SMS = "sms"
    EMAIL = "email"
    VOICE = "voice"
    CHAT = "chat"


class NoticeStatus(StrEnum):
    """What became of a notice."""

    ACCEPTED = "accepted"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class Notice(CanonicalModel):
    """A message to one person: either a template with its values, or the text itself."""

    notice_id: Code = private(Privacy.PUBLIC)
    channel: NoticeChannel = private(Privacy.PUBLIC)
    recipient: RegistrantRef | None = private(Privacy.IDENTIFIER, default=None)
    to: ContactPoint = private(Privacy.CONTACT)
    language: LanguageTag | None = private(Privacy.PUBLIC, default=None, description="Language to write in.")
    template: Code | None = private(Privacy.PUBLIC, default=None)
    values: dict[AttributeName, LongText] = private(
        Privacy.PERSONAL,
        default_factory=dict,
        max_length=50,
        description="What the template's places are filled with.",
    )
    title: LocalizedText | None = private(
        Privacy.PERSONAL, default=None, description="Subject line of a mail."
    )
    body: LocalizedText | None = private(Privacy.PERSONAL, default=None)
    send_after: AwareDatetime | None = private(Privacy.PUBLIC, default=None)
    expires_at: AwareDatetime | None = private(Privacy.PUBLIC, default=None)

    @model_validator(mode="after")
    def _has_one_text_and_a_fitting_address(self) -> Self:
        if (self.template is None) == (self.body is None):
            raise PydanticCustomError("notice_text", "A notice has either a template or a body")
        if (self.channel is NoticeChannel.EMAIL) != (self.to.kind == "email"):
            raise PydanticCustomError("notice_channel", "The contact point does not fit the channel")
        return self


class NoticeResult(CanonicalModel):
    """What a gateway says became of one notice."""

    notice_id: Code = private(Privacy.PUBLIC)
    status: NoticeStatus = private(Privacy.PUBLIC)
    gateway_reference: Code | None = private(Privacy.PUBLIC, default=None)
    at: AwareDatetime | None = private(Privacy.PUBLIC, default=None)
    parts: int | None = private(
        Privacy.PUBLIC, default=None, ge=1, le=255, description="SMS parts it was billed as."
    )
    reason_code: Code | None = private(Privacy.PUBLIC, default=None)
