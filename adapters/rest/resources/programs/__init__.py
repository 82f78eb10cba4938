"""Programs over HTTP: terms, funds, enrollments, cycles, entitlements, payments, disputes."""

from __future__ import annotations

from adapters.rest.resources.declaration import Resource
from adapters.rest.resources.operations import Desk
from adapters.rest.resources.programs import cycles, enrollments, entitlements, funds, payments, programs
from adapters.rest.resources.programs.parts import Office
from adapters.rest.resources.visibility import Visibility
from registry.programs import Programs
from routing.trace import Trace

__all__ = ["resources"]


def resources(
    visibility: Visibility, desk: Desk, service: Programs, people: Resource, trace: Trace
) -> tuple[Resource, ...]:
    """Return every resource of programs; `people` says which registrants a viewer may name."""
    office = Office(desk, service)
    given = entitlements.resources(visibility, office)
    return (
        programs.resource(visibility, office, people),
        *funds.resources(office),
        *enrollments.resources(visibility),
        cycles.resource(visibility, office, given[0]),
        *given,
        *payments.resources(visibility, office, people, trace),
    )
