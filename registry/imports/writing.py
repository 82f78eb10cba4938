"""From rows to the registry: people as they are, and the households they say they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Connection
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import HubError
from registry.imports.ahead import MadeChunk, Order
from registry.imports.drafting import Drafted, Drafting
from registry.imports.files import Row
from registry.imports.reading import RowRead, RowReader
from registry.people.drafts import Draft, Task
from registry.people.writing import Writer


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows made ready: their drafts, hashed and where that was worth it as rows of the tables."""

    drafted: Drafted
    tasks: Sequence[Draft | Task]


class PeopleWriter:
    """Writes the rows of a chunk through the registry's writer; `at` is the time of what the file says.

    While most rows are new people, `prepare`, or another process, does all the work on them but the writing.
    """

    def __init__(self, writer: Writer, *, source: str, actor: str, at: datetime) -> None:
        self._writer = writer
        self._drafting = Drafting(source, actor, at)
        self.mostly_new = True
        """Whether most rows of the last chunk were new people, made ready with what still holds."""

    async def order(self, connection: Connection | PoolConnectionProxy) -> Order | None:
        """Return what another process needs to make rows ready, None where only this one can."""
        lent = await self._writer.lend(connection, self._drafting.source)
        return None if lent is None else Order(lent, self._drafting)

    def prepare(self, rows: Sequence[RowRead]) -> Prepared:
        """Make rows ready as far as goes without the database; may be called in any thread, while others are written."""
        drafted = self._drafting.drafts(rows)
        return Prepared(drafted, self._writer.ahead(drafted.drafts) if self.mostly_new else drafted.drafts)

    async def __call__(
        self, connection: Connection | PoolConnectionProxy, prepared: Prepared
    ) -> Sequence[bool | HubError]:
        """Write all rows in the caller's transaction; say for each whether it is new, or why it was not taken.

        A row whose household does not take it (a second head) is told so; its person is written all the same.
        """
        drafted = prepared.drafted
        answers: list[bool | HubError] = []
        written = await self._writer.write(connection, prepared.tasks)
        for one in written[: drafted.rows]:
            answers.append(one if isinstance(one, HubError) else one.created)
        self.mostly_new = 2 * answers.count(True) >= drafted.rows
        wrong = list(drafted.wrong)
        for members, done in zip(drafted.households, written[drafted.rows :], strict=True):
            if isinstance(done, HubError):
                wrong += [(place, done) for place in members]
        for place, error in wrong:
            answers[place] = error
        return answers

    async def made(
        self, connection: Connection | PoolConnectionProxy, order: Order, chunk: MadeChunk, reader: RowReader
    ) -> Sequence[bool | HubError]:
        """Write rows that another process made ready; the answers are those of a call.

        Units of which somebody is known already are read again and go the ordinary way.
        """
        answers: list[bool | HubError] = [False] * len(chunk.good)
        units = list(chunk.units.items())
        written = await self._writer.write_made(
            connection, order.lent, [unit for _, unit in units],
            source=self._drafting.source, actor=self._drafting.actor,
        )  # fmt: skip
        left = list(chunk.left)
        for at, (places, _) in enumerate(units):
            # The last place of a family is its household's, which is no row.
            own = [place for place in places if place < len(chunk.good)]
            if written is not None and written[at]:
                for place in own:
                    answers[place] = True
            else:
                left += own
        if left:
            left.sort()
            again = self.prepare([reader.read(Row(*chunk.good[place])) for place in left])
            for place, answer in zip(left, await self(connection, again), strict=True):
                answers[place] = answer
        self.mostly_new = written is not None and 2 * answers.count(True) >= len(answers)
        return answers
