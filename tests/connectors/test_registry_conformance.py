"""The conformance kit on the registry connector, with the sandbox standing where the hub's own store would."""

from __future__ import annotations

from connectors.registry import RegistryConnector
from connectors.registry.sandbox import RegistrySandbox, example_message
from connectors.testing import check, connector_suite, kit_for

TestConformance = connector_suite(RegistryConnector, sandbox=RegistrySandbox, message=example_message)


def test_the_command_finds_the_sandbox_and_its_services_by_itself() -> None:
    """What `hub connector check registry` runs: the kit lends the sandbox's services to the connector."""
    outcomes = check(kit_for(RegistryConnector), up_to="bronze")
    assert outcomes
    assert {outcome.result for outcome in outcomes} == {"held"}
