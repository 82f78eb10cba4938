"""Ids resolved at the account mapper of another system, for a command."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from adapters.hub import Hub
from canonical_model.errors import Refused
from connectors.g2p_connect import DisburseSettings, G2pConnectConnector
from connectors.g2p_connect.disburse_client import DisburseClient
from connectors.g2p_connect.mapper import Answered, Item, Mapper
from connectors.targets import build_settings, load_targets
from registry.accounts import Question
from registry.audit.writer import AuditEvent, record
from registry.people.reading import check_purpose

_CONNECTOR: Final = "g2p_connect"


async def elsewhere(
    hub: Hub, target: str, asked: Sequence[Question], purpose: str, actor: str
) -> list[Answered]:
    """Return where ids are paid as the account mapper of a target has it; the audit trail has the question before it is sent.

    Raises `Refused` (`purpose-missing`, `account-target-unknown`) and what the mapper's client raises.
    """
    check_purpose(purpose, actor, "Where people are paid")
    found = {one.name: one for one in load_targets(hub.config_dir / "targets")}.get(target)
    if found is None or found.connector != _CONNECTOR:
        raise Refused(
            f"There is no target {target} of the connector {_CONNECTOR}. Nothing was asked.",
            code="account-target-unknown",
            remedy="Name one of the files in targets/ whose connector is g2p_connect; docs/accounts.md shows one.",
        )
    settings = build_settings(found, G2pConnectConnector)
    assert isinstance(settings, DisburseSettings)
    # Callbacks come to the process that serves, so a command asks for its answer at once.
    settings = settings.model_copy(update={"mapper_callbacks": False})
    details = {"purpose": purpose, "asked": len(asked)}
    await record(hub.pool, AuditEvent(actor, "account.ask", "target", target, details=details))
    client = DisburseClient(settings)
    try:
        deadline = asyncio.get_running_loop().time() + settings.request_timeout
        return await Mapper(settings, client).resolve([Item(one.id, one.address) for one in asked], deadline)
    finally:
        await client.close()
