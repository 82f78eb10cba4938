"""The refusals of the API: for each code its HTTP status and its English title."""

from __future__ import annotations

from typing import Final, NamedTuple

from canonical_model.errors import Defect, HubError, Unavailable, Unknown


class Fault(NamedTuple):
    """How one error code is answered over HTTP."""

    status: int
    title: str


CATALOG: Final[dict[str, Fault]] = {
    "request-json-invalid": Fault(400, "The body is not valid JSON"),
    "request-body-broken": Fault(400, "The body did not arrive whole"),
    "request-invalid": Fault(400, "The request is not valid"),
    "cloudevent-invalid": Fault(400, "The CloudEvent is not valid"),
    "query-parameter-unknown": Fault(400, "The query has a parameter this operation does not know"),
    "query-parameter-invalid": Fault(400, "A query parameter has a wrong value"),
    "token-missing": Fault(401, "A bearer token is needed"),
    "token-invalid": Fault(401, "The bearer token was not accepted"),
    "token-expired": Fault(401, "The bearer token has expired"),
    "partner-unknown": Fault(403, "The token belongs to no active partner"),
    "scope-missing": Fault(403, "The token does not carry the scope this operation needs"),
    "callback-target-unknown": Fault(404, "No target takes callbacks here"),
    "resource-not-found": Fault(404, "There is nothing at this address"),
    "method-not-allowed": Fault(405, "This address does not take this method"),
    "not-acceptable": Fault(406, "None of the accepted content types can be produced"),
    "request-too-slow": Fault(408, "The request took too long to arrive"),
    "message-id-reused": Fault(409, "The message id was used before with another body"),
    "body-too-large": Fault(413, "The body is too large"),
    "media-type-unsupported": Fault(415, "This content type is not taken here"),
    "content-encoding-unsupported": Fault(415, "This content encoding is not taken here"),
    "message-type-unknown": Fault(422, "The message type is not known"),
    "message-data-invalid": Fault(422, "The data of the message breaks the canonical model"),
    "no-route": Fault(422, "No route takes this message"),
    "rate-limited": Fault(429, "Too many requests"),
    "internal-defect": Fault(500, "The hub made a mistake"),
    "hub-unavailable": Fault(503, "The hub cannot answer now"),
}
"""What adapters answer; the floors below raise the codes, `declare` adds those of other adapters."""


def declare(code: str, status: int, title: str) -> None:
    """Say how an error code is answered; for adapters that have codes of their own, called when they are imported."""
    CATALOG[code] = Fault(status, title)


def fault_of(error: HubError) -> Fault:
    """Return the status and title of an error: by its code, else by its class."""
    known = CATALOG.get(error.code)
    if known is not None:
        return known
    title = error.code.replace("-", " ").capitalize()
    if isinstance(error, Unavailable | Unknown):
        return Fault(503, title)
    if error.action == "refused":
        return Fault(422, title)
    return Fault(500, title)


def is_ours(error: HubError) -> bool:
    """Say whether the detail must stay in our log: a defect or a configuration error is no partner's business."""
    return isinstance(error, Defect) or error.action in {"defect", "config"}
