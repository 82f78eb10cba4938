"""Resources of the hub's own API: declared once, listed, read, written, streamed and described alike."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg
from aiohttp import web

from adapters.http.app import add_operations
from adapters.http.catalog import declare
from adapters.http.services import Services
from adapters.rest.resources import (
    batch,
    consents,
    duplicates,
    imports,
    jobs,
    registrant_export,
    registrants,
    rules,
    trail,
)
from adapters.rest.resources.areas import AREAS
from adapters.rest.resources.attributes import ATTRIBUTES
from adapters.rest.resources.changes import resource as change_resource
from adapters.rest.resources.declaration import Args, Filter, Resource, Sort, Store, Viewer
from adapters.rest.resources.deeds import deeds
from adapters.rest.resources.facts import FACT_TYPES, documents, facts
from adapters.rest.resources.operations import Desk, operations
from adapters.rest.resources.people import registrants_of
from adapters.rest.resources.programs import resources as program_resources
from adapters.rest.resources.refusals import declare_all
from adapters.rest.resources.registrant_store import Registrants
from adapters.rest.resources.ties import RELATIONSHIP_TYPES, memberships, relationships
from adapters.rest.resources.visibility import Visibility
from adapters.rest.resources.vocabularies import VOCABULARIES
from registry.attributes import Catalog
from registry.audit import AuditTrail
from registry.changes import ChangeStore
from registry.imports.uploads import UploadStore
from registry.jobs import JobStore
from registry.objects import ObjectStore
from registry.people import PeopleStore
from registry.programs import Programs
from registry.settings import HubSettings
from registry.vault import Vault
from routing.trace import Trace

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
    ("attributes-invalid", 422, "The attributes break their schema"),
    ("group-head-taken", 409, "The group has a head already"),
    ("group-recipient-taken", 409, "The group has a principal recipient already"),
    ("group-nested", 422, "Groups in groups are not switched on"),
    ("group-too-large", 422, "The group has too many members"),
    ("identifier-invalid", 422, "An identifier breaks the rule of its type"),
    ("identifier-taken", 409, "An identifier belongs to somebody else"),
    ("identifiers-too-many", 422, "Too many identifiers"),
    ("member-unknown", 422, "There is no such member"),
    ("membership-dates-reversed", 422, "A membership ends before it begins"),
    ("membership-overlaps", 409, "A membership overlaps another"),
    ("out-of-sight", 403, "It would lie outside of what you may see"),
    ("overloaded", 503, "Too many writes wait"),
    ("people-busy", 503, "Other writers were faster"),
    ("person-data-refused", 422, "The database does not take the data"),
    ("phone-invalid", 422, "A phone number is not valid"),
    ("registrant-merged", 409, "The registrant was merged into another"),
    ("purpose-missing", 400, "A purpose is needed"),
    ("registrant-not-found", 404, "There is no such registrant"),
    ("resource-exists", 409, "It is there already"),
    ("resource-in-use", 409, "It is still needed"),
    ("search-invalid", 422, "The search cannot be made"),
    ("name-search-unavailable", 422, "Nobody can be found by name here"),
    ("identity-unknown", 404, "The ID system does not know the person"),
    ("identity-unavailable", 503, "The ID system does not answer"),
    ("reference-missing", 422, "The ID system's token is missing"),
    ("term-not-found", 404, "There is no such term"),
    ("document-invalid", 422, "The document cannot be kept"),
    ("document-not-found", 404, "There is no such document"),
    ("event-data-invalid", 422, "The data of the fact do not fit its type"),
    ("event-type-invalid", 422, "The type of facts is not well-formed"),
    ("event-type-unknown", 422, "There is no such type of facts"),
    ("fact-not-found", 404, "There is no such fact"),
    ("fact-type-not-found", 404, "There is no such type of facts"),
    ("membership-not-found", 404, "There is no such membership"),
    ("relationship-invalid", 422, "The relationship cannot be made"),
    ("relationship-not-found", 404, "There is no such relationship"),
    ("relationship-type-not-found", 404, "There is no such type of relationship"),
    ("vocabulary-standard", 409, "The vocabulary comes with the hub"),
):
    declare(_code, _status, _title)


declare_all()


def extension(
    pool: asyncpg.Pool,
    vault: Vault,
    settings: HubSettings,
    people: PeopleStore,
    programs: Programs | None = None,
    changes: ChangeStore | None = None,
    uploads: UploadStore | None = None,
    catalog: Callable[[], Catalog] | None = None,
    objects: ObjectStore | None = None,
) -> Callable[[web.Application, Services], None]:
    """Return what `Services.extra` needs to offer every resource."""

    def extend(app: web.Application, services: Services) -> None:
        desk, store = Desk(pool, vault, settings), JobStore(pool)
        visibility = Visibility()
        written = Registrants(pool, people, vault.blind, visibility, catalog)
        people_resource = registrants.resource(visibility, written, people.region)
        offered: tuple[Resource, ...] = (
            AREAS,
            VOCABULARIES,
            people_resource,
            memberships(visibility),
            relationships(visibility, visibility.places),
            facts(visibility, visibility.places),
            RELATIONSHIP_TYPES,
            FACT_TYPES,
            consents.resource(visibility),
            jobs.JOBS,
            trail.EVENTS,
            trail.CHECKPOINTS,
        )
        if objects is not None:
            offered += (documents(visibility, visibility.places, vault, objects),)
        if programs is not None:
            allowed = registrants_of(visibility)
            trace = Trace(pool, vault.blind)
            offered += program_resources(visibility, desk, programs, allowed, trace)
        offered += (ATTRIBUTES,)
        if changes is not None:
            offered += (
                change_resource(visibility, desk, changes, registrants_of(visibility)),
                duplicates.resource(visibility, vault, changes),
            )
        if uploads is not None:
            handed_in = imports.files(desk, vault, uploads)
            offered += (handed_in, imports.mappings(vault))
            add_operations(app, imports.operations(handed_in, desk, vault, uploads))
        # Before the resource itself, whose address with an id would take `$export` for one.
        add_operations(app, [registrant_export.operation(people_resource, desk, people)])
        add_operations(app, registrants.operations(people_resource, visibility, desk, people))
        for each in offered:
            add_operations(app, [*operations(each, desk), *deeds(each, desk)])
        add_operations(app, deeds(rules.resource(visibility, desk, people_resource), desk))
        add_operations(app, jobs.operations(desk, store))
        add_operations(app, trail.operations(desk, AuditTrail(pool, vault), store))
        add_operations(app, [batch.operation(offered, desk)])

    return extend
