"""A sandbox of an ID system that is asked by token: it checks each question, and answers, denies, hangs or is away."""

from __future__ import annotations

import asyncio
from typing import Any

from canonical_model.errors import Refused, Unavailable
from canonical_model.message import Message
from canonical_model.types import validate_data
from canonical_model.verification import VerificationKind, VerificationRequest
from connectors.contract import Receipt
from routing.identity import PERSON, REQUESTED, RESULT

SOURCE = "urn:test:id-system"


class IdSystem:
    """Knows people by token; `answer` is what a scripted target does with each message."""

    def __init__(self, token_type: str) -> None:
        self.token_type = token_type
        self.people: dict[str, dict[str, Any]] = {}
        self.inactive: set[str] = set()
        self.away = False
        self.seconds = 0.0
        self.asked = 0

    async def answer(self, message: Message, _number: int) -> Receipt:
        """Refuse what is no well-formed question, else answer it."""
        question = validate_data(message.type, message.data)
        if message.type != REQUESTED or not isinstance(question, VerificationRequest):
            raise Refused("This system takes verifications only.", code="request-invalid")
        given = question.identifier
        wrong = (
            question.kind is not VerificationKind.TOKEN
            or question.proof != given.value
            or (given.namespace or given.id_type) != self.token_type
            or question.request_id != str(message.id)
            or "names" not in question.wanted
            or message.subject is not None
        )
        if wrong:
            raise Refused("The question is not one by token.", code="request-invalid")
        self.asked += 1
        await asyncio.sleep(self.seconds)
        if self.away:
            raise Unavailable("The system is closed.", code="target-unavailable")
        person = self.people.get(given.value)
        status = "inactive" if given.value in self.inactive else "match" if person else "not_found"
        told = [self._message(RESULT, {"request_id": question.request_id, "status": status})]
        if person is not None and status == "match":
            told.append(
                self._message(PERSON, {name: person[name] for name in question.wanted if name in person})
            )
        return Receipt(reference="id-1", told=told)

    def _message(self, type_: str, data: dict[str, Any]) -> Message:
        return Message(source=SOURCE, type=type_, data=data)
