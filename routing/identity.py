"""Asking an ID system for a person's identity, as a question over a route; what it tells is handed on and kept nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import orjson

from canonical_model.errors import HubError, Refused, Unavailable
from canonical_model.identifiers import Identifier
from canonical_model.message import Message
from canonical_model.types import to_data
from canonical_model.verification import VerificationKind, VerificationRequest, VerificationStatus
from routing.asking import Asker

REQUESTED: Final = "org.openspp.verification.requested.v1"
RESULT: Final = "org.openspp.verification.result.v1"
PERSON: Final = "org.openspp.person.upserted.v1"
WANTED: Final = ("names", "identifiers", "contact_points", "addresses", "accounts")
PURPOSE: Final = "identity-by-reference"
SOURCE: Final = "urn:openspp:hub"
_GONE: Final = {
    VerificationStatus.NOT_FOUND.value,
    VerificationStatus.NO_MATCH.value,
    VerificationStatus.INACTIVE.value,
}


class RoutedIdentity:
    """The `IdentitySource` of a vault by reference: each question is a verification by token on the first route that takes it.

    The connector answers with `Receipt.told`: a verification result, and for a match the person as the system knows them.
    """

    def __init__(self, asker: Callable[[], Awaitable[Asker]], *, system: str, identifier: str) -> None:
        self._asker = asker
        self._system = system
        self._identifier = identifier

    async def identity(self, token: str, deadline: float) -> bytes | None:
        """Return the canonical person a token stands for as JSON, None when the system does not know the token.

        `deadline` is in seconds. Raises `Unavailable` (`identity-unavailable`) when there is no answer in time.
        """
        until = asyncio.get_running_loop().time() + deadline
        question = self._question(token)
        try:
            async with asyncio.timeout_at(until):
                asker = await self._asker()
            answer = await asker.ask(question, until, "hub")
        except (HubError, TimeoutError) as error:
            if isinstance(error, Refused) and error.code != "no-route":
                raise
            raise self._away(getattr(error, "code", "ask-timeout"), question) from None
        told = {one.type: one.data for one in answer.told}
        status = told.get(RESULT, {}).get("status")
        if status in _GONE:
            return None
        person = told.get(PERSON)
        if status != VerificationStatus.MATCH.value or person is None:
            raise self._away("no-identity" if status is None else f"status {status}"[:40], question)
        return orjson.dumps(person)

    def _question(self, token: str) -> Message:
        namespaced = self._identifier.startswith("urn:")
        identifier = Identifier(
            id_type=self._identifier.rpartition(":")[2] if namespaced else self._identifier,
            value=token,
            namespace=self._identifier if namespaced else None,
        )
        made = Message(source=SOURCE, type=REQUESTED)
        asked = VerificationRequest(
            request_id=str(made.id),
            kind=VerificationKind.TOKEN,
            identifier=identifier,
            proof=token,
            purpose=PURPOSE,
            wanted=WANTED,
        )
        return made.model_copy(update={"data": to_data(asked)})

    def _away(self, why: str, question: Message) -> Unavailable:
        return Unavailable(
            f"The ID system {self._system} gave no identity for the question {question.id} in time ({why}); none was shown.",
            code="identity-unavailable",
            remedy="Ask again later. The trace of the message shows where it stopped; a route must take "
            f"{REQUESTED}.",
            retry_after=5,
        )
