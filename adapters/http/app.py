"""The HTTP application: the operations of every adapter behind one pipeline."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aiohttp import web

from adapters.http.auditing import AUDITOR, Auditor
from adapters.http.operations import OPERATIONS, Operation
from adapters.http.pipeline import Pipeline, edge
from adapters.http.ready import SHORT
from adapters.http.services import Services

SERVICES: Final = web.AppKey("services", Services)
PIPELINE: Final = web.AppKey("pipeline", Pipeline)


def build_app(services: Services) -> web.Application:
    """Return the application with the hub's own API, the standards' adapters and whatever `services.extra` adds."""
    from adapters.dci.notify import operations as dci_operations
    from adapters.http.issuing import operations as issuing_operations
    from adapters.http.pages import operations as page_operations
    from adapters.rest.messages import operations as message_operations

    app = web.Application(middlewares=[edge(services.settings)], client_max_size=services.settings.body_limit)
    app[SERVICES] = services
    app[OPERATIONS] = []
    app[SHORT] = {}
    auditor = None if services.pool is None else Auditor(services.pool, services.partners)
    if auditor is not None:
        app[AUDITOR] = auditor
        app.on_cleanup.append(_close_auditor)
    app[PIPELINE] = Pipeline(services.settings, services.tokens, services.partners, auditor)
    add_operations(app, message_operations(services))
    add_operations(app, dci_operations(services))
    add_operations(app, issuing_operations(services))
    add_operations(app, page_operations(services))
    for extend in services.extra:
        extend(app, services)
    return app


async def _close_auditor(app: web.Application) -> None:
    await app[AUDITOR].close()


def add_operations(app: web.Application, operations: Iterable[Operation]) -> None:
    """Add operations to the application and to its OpenAPI description; a GET answers HEAD too."""
    for operation in operations:
        endpoint = app[PIPELINE].endpoint(operation)
        resource = app.router.add_resource(operation.path)
        resource.add_route(operation.method, endpoint, expect_handler=app[PIPELINE].expectation(operation))
        if operation.short:
            app[SHORT][operation.method, operation.path] = endpoint
        if operation.method == "GET":
            resource.add_route("HEAD", endpoint)
        app[OPERATIONS].append(operation)
