"""Writing a resource: create once, replace and patch only what one has seen, delete where it is allowed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import orjson
from pydantic import BaseModel, ValidationError

from adapters.http.problems import RequestRefused
from adapters.rest.resources.declaration import Connection, Reply, Resource, Viewer
from adapters.rest.resources.reading import Reading, not_found
from canonical_model.errors import Defect, Refused
from registry.audit import AuditEvent, insert_many

__all__ = ["Reply", "Writing", "checked", "merge_patch", "tag_of", "there_already"]
_MOST_PLACES: Final = 20


def tag_of(row: Mapping[str, Any], form: str = "") -> str:
    """Return the entity tag of an entry: its version where it has one, else a hash of what it says."""
    mark = hashlib.sha256(form.encode()).hexdigest()[:8] if form else ""
    if "version" in row:
        return f'"{row["version"]}{"-" if mark else ""}{mark}"'
    raw = orjson.dumps(dict(row), default=str, option=orjson.OPT_SORT_KEYS)
    return f'"{hashlib.sha256(raw + mark.encode()).hexdigest()[:32]}"'


def checked(model: type[BaseModel], value: Any, before: str = "") -> BaseModel:
    """Return the entry of a body; raises `RequestRefused` (`request-invalid`) with a pointer to each wrong place.

    Names the model does not know are the caller's own text and are not repeated.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        # Several forms of one value each have their own complaint; the place is told once.
        told = {before + _pointer(each["loc"], each["type"]): str(each["type"]) for each in reversed(found)}
        places = [{"pointer": place, "detail": rule} for place, rule in reversed(told.items())][:_MOST_PLACES]
        raise RequestRefused(
            f"The body does not fit this operation in {len(places)} places. Nothing was changed.",
            code="request-invalid",
            remedy="The description of the API (/openapi.json) lists the members.",
            places=places,
        ) from None


def _pointer(loc: tuple[int | str, ...], rule: str) -> str:
    """Return a place as a JSON Pointer, without the names the caller made up and without the forms pydantic tried."""
    if rule == "extra_forbidden":
        loc = loc[:-1]
    elif "[key]" in loc:
        loc = loc[: loc.index("[key]") - 1]
    return "".join(f"/{part}" for part in loc if isinstance(part, int) or "[" not in part)


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
        await _store(resource).replace(connection, viewer, row["id"], entry, row)
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
        if resource.current is not None:
            plain = dict(await resource.current(connection, viewer, row))
        else:
            now = {name: row[name] for name in model.model_fields if name in row and row[name] is not None}
            plain = model.model_construct(**now).model_dump(mode="json", exclude_none=True, warnings=False)
        entry = checked(model, merge_patch(plain, value))
        await _store(resource).replace(connection, viewer, row["id"], entry, row)
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
        if match.strip() != "*" and tag_of(row) not in seen:
            raise RequestRefused(
                f"The {resource.one} was changed since it was read. Nothing was changed.",
                code="precondition-failed",
                remedy="Read it again, see what is different, then send your change with the new ETag.",
                headers={"ETag": tag_of(row)},
            )
        return row

    async def _answer(
        self, connection: Connection, resource: Resource, viewer: Viewer, key: Any, status: int, deed: str
    ) -> Reply:
        await _audit(connection, resource, viewer, key, deed)
        try:
            row = await self._reading.one(resource, viewer, str(key), connection=connection, written=True)
        except Refused as refused:
            if refused.code != resource.not_found:
                raise
            raise out_of_sight(resource.one) from None
        headers = {"ETag": tag_of(row)}
        if status == 201:
            headers["Location"] = f"{resource.path}/{quote(str(key), safe='')}"
        return Reply(status, row, headers)


async def _audit(connection: Connection, resource: Resource, viewer: Viewer, key: Any, deed: str) -> None:
    kind = resource.one
    await insert_many(connection, [trace_of(viewer, kind, key, deed)])


def trace_of(viewer: Viewer, kind: str, key: Any, deed: str) -> AuditEvent:
    """Return what the audit trail keeps of a write: who did what to which entry, and what for where it was said."""
    details = None if viewer.purpose is None else {"purpose": viewer.purpose}
    return AuditEvent(
        viewer.actor, f"{kind}.{deed}", kind, str(key), request_id=viewer.request_id, details=details
    )


def out_of_sight(one: str) -> Refused:
    """Return the refusal of a write after which the writer would not see the entry any more."""
    return Refused(
        f"The {one} would lie outside of what you may see. Nothing was changed.",
        code="out-of-sight",
        remedy="Keep it within your areas and programs, or ask the operator of the hub to have it moved.",
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
