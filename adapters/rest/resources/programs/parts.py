"""What the resources of programs share: words of bodies, counts, lists of ids."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel

from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import Deed, Doing, Reply, Resource
from adapters.rest.resources.jobs import JobReply, begun
from adapters.rest.resources.operations import Desk
from registry.programs import Programs

MOST_IDS: Final = 10_000
Reason = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,62}$",
        description="A short code of why, such as moved-away; it names nobody.",
    ),
]
Note = Annotated[
    str,
    Field(min_length=1, max_length=200, description="Where this is known from, without data of people."),
]
Ids = Annotated[list[UUID], Field(min_length=1, max_length=MOST_IDS)]
BUSY: Final = ("cycle-busy", "cycle-state", "cycle-incomplete")


class Part(BaseModel):
    """A body of these resources."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Counts(RootModel[dict[str, int]]):
    """How many of a list were changed, by what became of them."""


class Registrants(Part):
    """Registrants by their ids; those the caller may not see count like those that are not there."""

    registrants: Ids
    reason: Reason | None = None


def counted(
    word: str,
    summary: str,
    body: type[Part],
    scope: Scope,
    do: Callable[[Doing], Awaitable[dict[str, int]]],
    *,
    item: bool = False,
    problems: tuple[str, ...] = (),
) -> Deed:
    """Return a deed over a list of ids that answers what became of how many."""

    async def work(doing: Doing) -> Reply:
        return Reply(200, await do(doing))

    return Deed(
        word=word, summary=summary, do=work, body=body, answer=Counts, scope=scope, item=item,
        problems=("list-length", *problems),
    )  # fmt: skip


def job(
    word: str,
    summary: str,
    scope: Scope,
    do: Callable[[Doing], Awaitable[UUID]],
    *,
    body: type[Part] | None = None,
    problems: tuple[str, ...] = (),
) -> Deed:
    """Return a deed that begins long work."""

    async def work(doing: Doing) -> Reply:
        return await begun(doing.connection, await do(doing))

    return Deed(
        word=word, summary=summary, do=work, body=body, answer=JobReply, scope=scope, job=True, problems=problems
    )  # fmt: skip


class Office:
    """What the deeds of programs work with."""

    def __init__(self, desk: Desk, programs: Programs) -> None:
        self.desk, self._programs = desk, programs

    def at(self, doing: Doing) -> Programs:
        """Return the service, working in the transaction of a deed."""
        return self._programs.on(doing.connection)

    def on(self, connection: Any) -> Programs:
        """Return the service, working in a transaction."""
        return self._programs.on(connection)

    async def seen(self, resource: Resource, doing: Doing, ids: list[UUID]) -> list[UUID]:
        """Return ids of which those the caller may not see are ids of nothing."""
        return await self.desk.reading.seen(resource, doing.viewer, ids, doing.connection)
