from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from canonical_model.message import Message
from connectors.contract import Context, Health, Receipt, Repeat
from connectors.errors import HubError, Refused, Unavailable, Unknown
from connectors.testing import PROPERTIES, Kit, check, connector_suite, kit_for, score
from connectors.webhook import WebhookConnector
from connectors.webhook.sandbox import SECRET, WebhookSandbox


class BlindRetry(WebhookConnector):
    async def send(self, message: Message, deadline: float) -> Receipt:
        try:
            return await super().send(message, deadline)
        except Unknown:
            return await super().send(message, deadline)


class Talkative(WebhookConnector):
    async def send(self, message: Message, deadline: float) -> Receipt:
        logging.getLogger("talkative").debug("sending %s", message.data)
        return await super().send(message, deadline)


class TellsSecret(WebhookConnector):
    async def send(self, message: Message, deadline: float) -> Receipt:
        try:
            return await super().send(message, deadline)
        except HubError as error:
            raise Refused(f"failed with {SECRET}") from error


class EatsRefusal(WebhookConnector):
    async def send(self, message: Message, deadline: float) -> Receipt:
        try:
            return await super().send(message, deadline)
        except Refused as error:
            raise Unavailable("later") from error


class FreshIds(WebhookConnector):
    async def send(self, message: Message, deadline: float) -> Receipt:
        again = Message(source=message.source, type=message.type, data=message.data)
        return await super().send(again, deadline)


class PostingProbe(WebhookConnector):
    async def probe(self) -> Health:
        await self.send(
            Message(source="/p", type="org.openspp.test.made.v1"), asyncio.get_running_loop().time() + 1
        )
        return Health(True)


class LazyOpen(WebhookConnector):
    async def open(self, ctx: Context) -> None:
        self._target = ctx.target


class NoMapping(WebhookConnector):
    @staticmethod
    def map_error(error: Exception) -> HubError:
        raise error


class Overclaims(WebhookConnector):
    manifest = WebhookConnector.manifest.model_copy(
        update={"exempt": {"no_secret_and_no_personal_datum_leaks": "we promise to be careful"}}
    )


class SaysAsk(WebhookConnector):
    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.repeat = Repeat.ASK


@pytest.mark.parametrize(
    ("connector", "caught_by"),
    [
        (BlindRetry, "a_lost_answer_is_unknown"),
        (Talkative, "no_secret_and_no_personal_datum_leaks"),
        (TellsSecret, "no_secret_and_no_personal_datum_leaks"),
        (EatsRefusal, "a_refused_message_is_not_retried"),
        (FreshIds, "a_repeated_message_id_is_sent_once"),
        (SaysAsk, "a_repeated_message_id_is_sent_once"),
        (PostingProbe, "a_probe_has_no_side_effects"),
        (LazyOpen, "wrong_settings_fail_early"),
        (NoMapping, "every_library_exception_is_mapped"),
        (Overclaims, "the_manifest_is_complete"),
    ],
)
def test_a_faulty_connector_is_caught_by_the_property_about_it(
    connector: type[WebhookConnector], caught_by: str
) -> None:
    kit = Kit(connector, WebhookSandbox)
    (tried,) = [p for p in PROPERTIES if p.name == caught_by]
    with pytest.raises((AssertionError, HubError)):
        asyncio.run(tried.trial(kit))
    asyncio.run(tried.trial(Kit(WebhookConnector, WebhookSandbox)))


def test_the_score_names_the_tier_and_the_first_property_that_blocks_the_next() -> None:
    kit = kit_for(WebhookConnector)
    tier, blocking = score(check(kit))
    assert tier == "gold"
    assert blocking is not None
    assert blocking.name == "there_is_evidence_from_the_real_system"
    assert blocking.anchor.startswith("docs/connectors.md#")


def test_the_suite_holds_a_connector_to_the_tier_it_claims() -> None:
    suite: Any = connector_suite(WebhookConnector, sandbox=WebhookSandbox)
    tests = {name for name in vars(suite) if name.startswith("test_")}
    assert tests == {f"test_{p.name}" for p in PROPERTIES if p.tier != "platinum"}


def test_every_property_says_in_a_sentence_what_it_expects() -> None:
    assert len(PROPERTIES) >= 20
    assert all(p.statement.splitlines()[0].endswith(".") for p in PROPERTIES)
    assert len({p.name for p in PROPERTIES}) == len(PROPERTIES)
