"""Resources of the hub's own API: declared once, listed, read, written, streamed and described alike."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg
from aiohttp import web

from adapters.http.app import add_operations
from adapters.http.catalog import declare
from adapters.http.services import Services
from adapters.rest.resources import batch, consents, jobs, registrants, trail
from adapters.rest.resources.areas import AREAS
from adapters.rest.resources.declaration import Args, Filter, Resource, Sort, Store, Viewer
from adapters.rest.resources.operations import Desk, operations
from adapters.rest.resources.visibility import Visibility
from adapters.rest.resources.vocabularies import VOCABULARIES
from registry.audit import AuditTrail
from registry.jobs import JobStore
from registry.people import PeopleStore
from registry.people.search import Search
from registry.settings import HubSettings
from registry.vault import Vault

__all__ = [
    "Args",
    "Desk",
    "Filter",
    "Resource",
    "Sort",
    "Store",
    "Viewer",
    "Visibility",
    "extension",
    "operations",
]

for _code, _status, _title in (
    ("area-not-found", 404, "There is no such area"),
    ("audit-checkpoint-not-found", 404, "There is no such checkpoint"),
    ("audit-event-not-found", 404, "There is no such audit event"),
    ("audit-values-none", 404, "The event has no values"),
    ("consent-not-found", 404, "There is no such consent"),
    ("consent-purpose-invalid", 400, "The purpose is none the partner may ask for"),
    ("cursor-invalid", 400, "The cursor does not belong to this search"),
    ("filter-invalid", 400, "A filter has a wrong value"),
    ("idempotency-key-reused", 409, "The Idempotency-Key was used before with another body"),
    ("identifier-ambiguous", 409, "The identifiers belong to several registrants"),
    ("job-not-found", 404, "There is no such job"),
    ("job-once-reused", 409, "The key was used before for other work"),
    ("precondition-failed", 412, "It was changed since it was read"),
    ("precondition-required", 428, "If-Match is needed"),
    ("purpose-missing", 400, "A purpose is needed"),
    ("registrant-not-found", 404, "There is no such registrant"),
    ("resource-exists", 409, "It is there already"),
    ("resource-in-use", 409, "It is still needed"),
    ("search-invalid", 422, "The search cannot be made"),
    ("term-not-found", 404, "There is no such term"),
    ("vocabulary-standard", 409, "The vocabulary comes with the hub"),
):
    declare(_code, _status, _title)


def extension(
    pool: asyncpg.Pool,
    vault: Vault,
    settings: HubSettings,
    people: PeopleStore,
) -> Callable[[web.Application, Services], None]:
    """Return what `Services.extra` needs to offer every resource."""

    def extend(app: web.Application, services: Services) -> None:
        desk, store = Desk(pool, vault, settings), JobStore(pool)
        visibility = Visibility()
        people_resource = registrants.resource(visibility)
        offered = (
            AREAS,
            VOCABULARIES,
            people_resource,
            consents.resource(visibility),
            jobs.JOBS,
            trail.EVENTS,
            trail.CHECKPOINTS,
        )
        search = Search(pool, vault, vault.blind)
        add_operations(app, registrants.operations(people_resource, visibility, desk, people, search))
        for each in offered:
            add_operations(app, operations(each, desk))
        add_operations(app, jobs.operations(desk, store))
        add_operations(app, trail.operations(desk, AuditTrail(pool, vault), store))
        add_operations(app, [batch.operation(offered, desk)])

    return extend
