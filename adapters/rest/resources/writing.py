"""Writing a resource: create once, replace and patch only what one has seen, delete where it is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from adapters.http.problems import RequestRefused
from adapters.rest.resources.declaration import Connection, Resource, Viewer
from adapters.rest.resources.reading import Reading, not_found
from canonical_model.errors import Defect, Refused
from registry.audit import AuditEvent, insert_many

_MOST_PLACES: Final = 20


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a write, whichever way it came in."""

    status: int
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def etag(row: Mapping[str, Any], mark: str = "") -> str:
    """Return the entity tag of an entry: its version, and a mark for another form of the same."""
    return f'"{row["version"]}{mark}"'


def checked(model: type[BaseModel], value: Any, before: str = "") -> BaseModel:
    """Return the entry of a body; raises `RequestRefused` (`request-invalid`) with a pointer to each wrong place.

    Names the model does not know are the caller's own text and are not repeated.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        places = [
            {
                "pointer": before
                + "".join(
                    f"/{part}"
                    for part in (each["loc"][:-1] if each["type"] == "extra_forbidden" else each["loc"])
                ),
                "detail": str(each["type"]),
            }
            for each in error.errors(include_input=False, include_url=False, include_context=False)
        ][:_MOST_PLACES]
        raise RequestRefused(
            f"The body does not fit this operation in {len(places)} places. Nothing was changed.",
            code="request-invalid",
            remedy="The description of the API (/openapi.json) lists the members.",
            places=places,
        ) from None


def merge_patch(target: Any, patch: Any) -> Any:
    """Return a value changed by a merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


class Writing:
    """Writes resources; every method works in the caller's transaction, which the audit event is part of."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def create(self, connection: Connection, resource: Resource, viewer: Viewer, value: Any) -> Reply:
        """Make an entry; 201 with its place and its form."""
        entry = checked(_entry(resource), value)
        key = await _store(resource).create(connection, viewer, entry)
        return await self._answer(connection, resource, viewer, key, 201, "create")

    async def replace(
        self,
        connection: Connection,
        resource: Resource,
        viewer: Viewer,
        text: str,
        value: Any,
        match: str | None,
    ) -> Reply:
        """Give an entry the values of the body, none of the old ones; needs If-Match."""
        entry = checked(_entry(resource), value)
        row = await self._held(connection, resource, viewer, text, match)
        await _store(resource).replace(connection, viewer, row["id"], entry)
        return await self._answer(connection, resource, viewer, row["id"], 200, "replace")

    async def patch(
        self,
        connection: Connection,
        resource: Resource,
        viewer: Viewer,
        text: str,
        value: Any,
        match: str | None,
    ) -> Reply:
        """Change an entry by a merge patch (RFC 7396); needs If-Match."""
        if not isinstance(value, dict):
            raise RequestRefused(
                "A merge patch is a JSON object. Nothing was changed.", code="request-invalid", pointer=""
            )
        model = _entry(resource)
        row = await self._held(connection, resource, viewer, text, match)
        now = {name: row[name] for name in model.model_fields if name in row and row[name] is not None}
        plain = model.model_construct(**now).model_dump(mode="json", exclude_none=True, warnings=False)
        entry = checked(model, merge_patch(plain, value))
        await _store(resource).replace(connection, viewer, row["id"], entry)
        return await self._answer(connection, resource, viewer, row["id"], 200, "patch")

    async def delete(
        self, connection: Connection, resource: Resource, viewer: Viewer, text: str, match: str | None
    ) -> Reply:
        """Remove an entry; needs If-Match."""
        row = await self._held(connection, resource, viewer, text, match)
        await _store(resource).delete(connection, viewer, row["id"])
        await _audit(connection, resource, viewer, row["id"], "delete")
        return Reply(204)

    async def _held(
        self, connection: Connection, resource: Resource, viewer: Viewer, text: str, match: str | None
    ) -> dict[str, Any]:
        if match is None:
            raise RequestRefused(
                f"A change of a {resource.one} needs the version it was seen in. Nothing was changed.",
                code="precondition-required",
                remedy="Send the ETag of your last read in If-Match.",
            )
        row = await self._reading.one(resource, viewer, text, connection=connection, lock=True)
        seen = {part.strip().removeprefix("W/") for part in match.split(",")}
        if match.strip() != "*" and etag(row) not in seen:
            raise RequestRefused(
                f"The {resource.one} was changed since it was read. Nothing was changed.",
                code="precondition-failed",
                remedy="Read it again, see what is different, then send your change with the new ETag.",
                headers={"ETag": etag(row)},
            )
        return row

    async def _answer(
        self, connection: Connection, resource: Resource, viewer: Viewer, key: Any, status: int, deed: str
    ) -> Reply:
        await _audit(connection, resource, viewer, key, deed)
        row = await self._reading.one(resource, viewer, str(key), connection=connection)
        headers = {"ETag": etag(row)}
        if status == 201:
            headers["Location"] = f"{resource.path}/{key}"
        return Reply(status, row, headers)


async def _audit(connection: Connection, resource: Resource, viewer: Viewer, key: Any, deed: str) -> None:
    kind = resource.one
    await insert_many(
        connection,
        [AuditEvent(viewer.name, f"{kind}.{deed}", kind, str(key), request_id=viewer.request_id)],
    )


def _entry(resource: Resource) -> type[BaseModel]:
    if resource.entry is None:
        raise Defect(f"The resource {resource.name} cannot be written and was asked to be.")
    return resource.entry


def _store(resource: Resource) -> Any:
    if resource.store is None:
        raise not_found(resource)
    return resource.store


def there_already(one: str) -> Refused:
    """Return the refusal of a create whose key is taken."""
    return Refused(
        f"There is such a {one} already. Nothing was changed.",
        code="resource-exists",
        remedy="Read it, then change it with PUT or PATCH and its ETag.",
    )
