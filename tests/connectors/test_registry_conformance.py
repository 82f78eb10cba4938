"""The conformance kit on the registry connector, with the sandbox standing where the hub's own store would."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from connectors.contract import Context
from connectors.registry import RegistryConnector
from connectors.registry.sandbox import RegistrySandbox, example_message
from connectors.testing import connector_suite

_started: list[RegistrySandbox] = []


def _sandbox() -> RegistrySandbox:
    _started[:] = [RegistrySandbox()]
    return _started[0]


class _Sandboxed(RegistryConnector):
    """The connector itself; only the composition root's services are the sandbox's."""

    # The kit looks for the connector's files beside its module.
    __module__ = RegistryConnector.__module__

    async def open(self, ctx: Context) -> None:
        services: dict[str, Any] = {**_started[0].services(), **ctx.services}
        await super().open(replace(ctx, services=services))


TestConformance = connector_suite(_Sandboxed, sandbox=_sandbox, message=example_message)
