"""POST /{namespace}/v1.0.0/registry/notify: vital events of civil registries become canonical messages."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from aiohttp import web

from adapters.dci.envelope import Notification, NotifiedEvent, message_id_of, read_notification
from adapters.dci.profile import profile_of
from adapters.dci.replies import CORRELATION, REFUSALS, acknowledged, correlation_id, refused
from adapters.dci.schemas import ACK, EXAMPLE, NOTIFY
from adapters.dci.signed import Signatures
from adapters.http.body import parse_json
from adapters.http.operations import Answer, Body, Call, Operation
from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.http.services import Services
from canonical_model.errors import ConfigError, Refused
from canonical_model.message import Message
from canonical_model.tracing import continued_traceparent
from canonical_model.types import check_data
from routing.intake import CHUNK

MESSAGE_TYPE: Final = "org.openspp.civil_event.registered.v1"
MAPPING: Final = "dci.crvs_vital_event"
_NAMESPACE: Final = re.compile(r"[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*){0,4}")


def operations(services: Services) -> list[Operation]:
    """Return one notify operation for each namespace; raises `ConfigError` for wrong namespaces or profiles."""
    if services.mappings is None:
        return []
    notifier = Notifier(services)
    for namespace in services.dci_namespaces:
        if not _NAMESPACE.fullmatch(namespace):
            raise ConfigError(
                f"The DCI namespace {namespace} is not a path of lower-case names. Nothing was started.",
                code="dci-namespace-invalid",
                remedy="Use a namespace such as dci/crvs.",
            )
    return [
        Operation(
            name="notifyVitalEvents" if number == 0 else f"notifyVitalEvents{number + 1}",
            method="POST",
            path=f"/{namespace}/v1.0.0/registry/notify",
            tag="dci",
            scope=Scope.DCI_CRVS_NOTIFY,
            summary="Notify vital events (DCI civil registry interface 1.0.0)",
            description=(
                "ACK is answered once every event of the message is stored. A repeat of a message id gets the same ACK. "
                "One event that cannot be understood refuses the whole message and nothing of it is stored."
            ),
            handler=notifier.notify,
            body=Body.WHOLE,
            requests={"application/json": NOTIFY},
            example=EXAMPLE,
            render=refused,
            answers={200: Answer("The message is stored.", {"application/json": ACK}), **REFUSALS},
        )
        for number, namespace in enumerate(services.dci_namespaces)
    ]


class Notifier:
    """Takes notifications: checks the envelope and its signature, maps every event, then stores all or none."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._to_canonical = services.mappings.get(MAPPING).to_canonical
        self._profiles = {name: profile_of(partner) for name, partner in services.partners.items()}
        self._signatures = Signatures(self._profiles)

    async def notify(self, request: web.Request, call: Call) -> web.Response:
        """Answer one notification."""
        partner = call.partner.name
        envelope = parse_json(call.body)
        message_id = message_id_of(envelope)
        if message_id is not None:
            request[CORRELATION] = correlation_id(partner, message_id)
        profile = self._profiles[partner]
        notification = read_notification(envelope, profile, datetime.now(UTC))
        call.count_messages(len(notification.events))
        self._signatures.check(envelope, call.body, partner)
        trace = request.headers.get("traceparent")
        messages: list[Message] = []
        for number, event in enumerate(notification.events):
            if number % CHUNK == CHUNK - 1:
                await asyncio.sleep(0)  # a long list must not hold up every other caller
            messages.append(self._message(notification, event, number, partner, trace))
        # A repeat is the same when it says the same: a sender that tries again may stamp and sign it anew.
        same = orjson.dumps(envelope["message"], option=orjson.OPT_SORT_KEYS)
        accepted = await self._services.intake.accept_all(
            [(message, same) for message in messages], partner=partner, request_id=call.request_id
        )
        return acknowledged(correlation_id(partner, notification.message_id), accepted[0].accepted_at)

    def _message(
        self, notification: Notification, event: NotifiedEvent, number: int, partner: str, trace: str | None
    ) -> Message:
        at = f"/message/notify_event/{number}/data"
        mapped = False
        try:
            data = self._to_canonical(event.data)
            mapped = True
            check_data(MESSAGE_TYPE, data)
        except Refused as error:
            # Past the mapping, places are those of the canonical model and stand in the detail alone.
            raise RequestRefused(
                error.detail,
                code="dci-event-invalid",
                pointer=at if mapped else f"{at}{error.pointer or ''}",
                remedy="Correct the event; none of the message was stored, so send it whole again.",
            ) from None
        return Message(
            source=partner,
            type=MESSAGE_TYPE,
            subject=_subject(data),
            time=event.timestamp,
            traceparent=continued_traceparent(trace),
            correlationid=notification.transaction_id,
            originid=f"{notification.message_id}/{event.reference_id}",
            data=data,
        )


def _subject(data: dict[str, Any]) -> str | None:
    """Return the first identifier of the person the event is about; events of one person keep their order by it."""
    for one in data.get("subject", {}).get("identifiers", ()):
        kind, value = one.get("id_type"), one.get("value")
        if value:
            return f"{kind}:{value}"[:500]
    return None
