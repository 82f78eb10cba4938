"""What disburse and the mapper do alike with a message: check it, agree where its answer goes, and say how it is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import orjson
from aiohttp import web

from adapters.dci.envelope import message_id_of, refuse
from adapters.dci.replies import CORRELATION, REFUSALS, correlation_id
from adapters.dci.schemas import ACK
from adapters.dci.signed import Signatures
from adapters.g2p.disburse_profile import DisburseProfile, callback_of, disburse_profile_of
from adapters.g2p.disburse_reading import Envelope, read_envelope
from adapters.g2p.disburse_schemas import ANSWER
from adapters.http.body import parse_json
from adapters.http.operations import Answer, Call
from adapters.http.security.partners import Partners
from adapters.http.services import Services

NAMESPACE: Final = "/g2p/v1.0.0"


@dataclass(frozen=True, slots=True)
class Read:
    """A message whose envelope and signature have been checked; `same` is equal for repeats that say the same."""

    partner: str
    profile: DisburseProfile
    envelope: Envelope = field(repr=False)
    same: bytes = field(repr=False)
    now: datetime

    def callback(self, default_path: str) -> str:
        """Return where the answer is to go; raises `RequestRefused` (`dci-sender-uri-invalid`)."""
        uri = callback_of(self.envelope.sender_uri, self.profile.callbacks, default_path)
        if uri is None:
            refuse(
                "/header/sender_uri",
                "callbacks of this partner do not go there",
                "dci-sender-uri-invalid",
            )
        return uri


class Reception:
    """Takes messages of partners in hand, each by the profile of its partner; raises `ConfigError` for a wrong profile."""

    def __init__(self, services: Services) -> None:
        self._profiles = {name: disburse_profile_of(partner) for name, partner in services.partners.items()}
        self._signatures = Signatures(self._profiles)

    def read(
        self, request: web.Request, call: Call, kind: Sequence[str], actions: Sequence[str], items: str
    ) -> Read:
        """Return a message of one of these actions, whose list is `items`; `kind` tells it from others that say the same.

        Raises `RequestRefused` for the first fault of its envelope or signature.
        """
        name, now = call.partner.name, datetime.now(UTC)
        profile = self._profiles[name]
        envelope = parse_json(call.body)
        message_id = message_id_of(envelope)
        if message_id is not None:
            request[CORRELATION] = correlation_id(name, message_id)
        read = read_envelope(envelope, profile, now, actions, items)
        self._signatures.check(envelope, call.body, name)
        # A repeat is the same when it says the same: a sender that tries again may stamp and sign it anew.
        same = orjson.dumps([*kind, envelope["message"]], option=orjson.OPT_SORT_KEYS)
        return Read(name, profile, read, same, now)


def told(at_once: bool, answered: str, acknowledged: str) -> Mapping[int, Answer]:
    """Return the answers of an operation, of which the good one is the answer itself or says that it comes by callback."""
    good = Answer(answered, {"application/json": ANSWER})
    if not at_once:
        good = Answer(f"{acknowledged}; the answer comes by callback.", {"application/json": ACK})
    return {200: good, **REFUSALS}


def receivers(partners: Partners) -> dict[str, str | None]:
    """Return by partner the id by which it knows the hub."""
    return {name: disburse_profile_of(partner).receiver_id for name, partner in partners.items()}
