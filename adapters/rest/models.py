"""What the hub's own API answers when messages are sent."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class AcceptedReply(BaseModel):
    """The hub has the message; it is stored and its deliveries are on their way."""

    model_config = ConfigDict(extra="forbid")

    id: UUID = Field(description="The hub's id of the message; of a repeat, the id the first one got.")
    accepted_at: datetime = Field(description="When the message was first accepted.")
    duplicate: bool = Field(description="Whether the hub had this message before.")


class ProblemPlace(BaseModel):
    """One place of the request that is wrong."""

    pointer: str | None = Field(default=None, description="JSON Pointer (RFC 6901) into the body.")
    parameter: str | None = Field(default=None, description="Name of a query parameter.")
    detail: str
    line: int | None = Field(default=None, description="Of a rule's text: the line of the place.")
    column: int | None = Field(default=None, description="Of a rule's text: the column of the place.")
    length: int | None = Field(default=None, description="Of a rule's text: how many characters are meant.")
    marked: str | None = Field(
        default=None, description="The line of a rule's text, and the place marked below."
    )


class Problem(BaseModel):
    """A refusal in the form of RFC 9457."""

    type: str = Field(description="Address of the page that explains the refusal.")
    title: str = Field(description="What is wrong, in the language of Accept-Language.")
    status: int
    detail: str
    instance: str = Field(description="The request id; name it when you ask for help.")
    code: str = Field(description="The stable code of the refusal.")
    remedy: str | None = None
    errors: list[ProblemPlace] | None = None


class ItemReply(BaseModel):
    """What became of one message of a batch or a stream: an acceptance or a problem."""

    index: int = Field(ge=0, description="Place in the batch or line of the stream, from 0.")
    status: int = Field(description="202, or the status the message would have got alone.")
    id: UUID | None = None
    accepted_at: datetime | None = None
    duplicate: bool | None = None
    problem: Problem | None = None
    retry_after: int | None = Field(
        default=None, ge=1, description="Seconds to wait before the message is sent again."
    )


class BatchReply(BaseModel):
    """What became of each message of a batch, in its order."""

    accepted: int
    refused: int
    results: list[ItemReply]


EVENT_SCHEMA: Final[dict[str, Any]] = {
    "title": "Event",
    "type": "object",
    "description": "A canonical message as a CloudEvent 1.0 in structured mode.",
    "required": ["specversion", "id", "source", "type", "data"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {
            "type": "string",
            "minLength": 1,
            "maxLength": 500,
            "description": "Your id of the message. Send the same id with the same body again when you got no answer.",
        },
        "source": {"type": "string", "minLength": 1, "maxLength": 256},
        "type": {"type": "string", "pattern": r"^org\.openspp\.[a-z0-9_]+(\.[a-z0-9_]+)*\.v[0-9]+$"},
        "subject": {"type": "string", "minLength": 1, "maxLength": 500},
        "time": {"type": "string", "format": "date-time"},
        "dataschema": {"type": "string", "maxLength": 500},
        "datacontenttype": {"const": "application/json"},
        "traceparent": {"type": "string"},
        "correlationid": {"type": "string", "maxLength": 200},
        "causationid": {"type": "string", "maxLength": 200},
        "data": {"type": "object"},
    },
    "additionalProperties": True,
}
EXAMPLE: Final[dict[str, Any]] = {
    "specversion": "1.0",
    "id": "reg-2026-000417",
    "source": "/civil-registry",
    "type": "org.openspp.civil_event.registered.v1",
    "time": "2026-03-04T09:30:00Z",
    "data": {"event_type": "birth", "subject": {"sex": "female", "birthdate": "2026-03-01"}},
}
