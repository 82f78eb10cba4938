"""The rail of files: payments gathered into one file, handed over exactly once, and told of by the bank's own files.

Stages: `lookup` (gathered), `file` (stored as part of a file that is not in its place), `landing` (about to be moved there),
`written`. A file is made whole beside its place and moved in one step after `landing` is committed: whoever comes back
from a crash moves it if it still lies beside its place, and never writes a second one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Final

from canonical_model.message import uuid7
from connectors.bank_file.settings import BankFileSettings
from connectors.bank_file.writing import MOST_GROUPS, Entry, Unwritable, entry, part_of, read_stored, whole
from connectors.file.client import PART, Folder
from connectors.file.connector import mapped
from connectors.payments.contract import (
    FAILED,
    LOOKUP,
    QUEUED,
    SENT,
    UNKNOWN,
    WORKING,
    Bounds,
    Ledger,
    Step,
    Transfer,
)

FILE: Final = "file"
LANDING: Final = "landing"
WRITTEN: Final = "written"
REFERENCE: Final = "e2e"
"""Kind of the reference a file names a payment by: the transfer's id, which names no person."""
IN_FILE: Final = "file"
IN_PART: Final = "part"
_GATHERED: Final = "all"
_SOON: Final = 60.0
_DAY: Final = 86_400.0
_UNDER_WAY: Final = 1_000_000_000
"""A bank takes days, so that what is under way is bounded by the files, not by a window."""


class FileRail:
    """Gathers payments into files and hands them over; what the bank says comes by `connectors.bank_file.results`."""

    def __init__(self, settings: BankFileSettings, ledger: Ledger, folder: Folder) -> None:
        self._settings, self._ledger, self._folder = settings, ledger, folder
        self.bounds = Bounds(window=_UNDER_WAY, lookups=settings.rows, bulk=settings.rows)

    async def begin(self, rows: Sequence[Transfer]) -> None:
        """Gather payments; one that the form cannot say fails before anything is sent."""
        steps = []
        for row in rows:
            try:
                entry(row.instruction, _reference(row), self._settings)
            except Unwritable as error:
                steps.append(Step(row.id, (row.stage, QUEUED), state=FAILED, reason=error.code))
                continue
            steps.append(Step(row.id, (row.stage, QUEUED), stage=FILE, state=QUEUED, institution=_GATHERED))
        await self._ledger.apply(steps)

    async def go_on(self, rows: Sequence[Transfer]) -> None:
        """Store payments as the entries of one file, then hand it over."""
        file_id = uuid7().hex
        groups: dict[str, int] = {}
        steps = []
        for place, row in enumerate(rows):
            made = entry(row.instruction, _reference(row), self._settings)
            number = groups.setdefault(made.group, len(groups) + 1)
            if number > MOST_GROUPS:
                del groups[made.group]
                continue  # the next file takes it
            kept = Entry(made.group, made.units, made.body, number)
            references = {
                REFERENCE: _reference(row),
                IN_FILE: file_id,
                IN_PART: part_of(number, file_id),
            }
            steps.append(
                Step(
                    row.id, (row.stage, QUEUED), stage=FILE, state=SENT, request=kept.stored(place),
                    references=references, due_in=_SOON,
                )
            )  # fmt: skip
        if any(await self._ledger.apply(steps)):
            await self._hand_over(file_id)

    async def ask(self, rows: Sequence[Transfer]) -> None:
        """Hand over files that a crash held up; call what the bank has not answered in time unknown."""
        held_up = {
            row.references[IN_FILE] for row in rows if row.stage in {FILE, LANDING} and row.state == SENT
        }
        for file_id in sorted(held_up):
            await self._hand_over(file_id)
        steps = [
            Step(row.id, (row.stage, row.state), state=UNKNOWN, reason="unanswered", due_in=_DAY)
            if row.state == SENT
            else Step(row.id, (row.stage, row.state), asked=row.asked + 1, due_in=_DAY)
            for row in rows
            if row.stage == WRITTEN and row.state in {SENT, UNKNOWN}
        ]
        # A look-up is over at once here, so that nothing is ever at work; a row that is comes from an older version.
        steps += [
            Step(row.id, (LOOKUP, WORKING), state=QUEUED)
            for row in rows
            if (row.stage, row.state) == (LOOKUP, WORKING)
        ]
        await self._ledger.apply(steps)

    async def _hand_over(self, file_id: str) -> None:
        try:
            await self._put(file_id)
        except OSError as error:
            # The rows know where they are: the file is handed over when they are due.
            raise mapped(error, "a file of payments", handed=False) from None

    async def _put(self, file_id: str) -> None:
        rows = [row for row in await self._ledger.find(IN_FILE, file_id) if row.request is not None]
        if not rows:
            return
        ordered = sorted(((*read_stored(row.request or b""), row) for row in rows), key=lambda one: one[0])
        first = ordered[0][2]
        name, beside = self._name(file_id), f"{PART}{file_id}"
        if not any(row.stage in {LANDING, WRITTEN} for row in rows):
            await self._folder.put(beside, _pieces([made for _, made, _ in ordered], file_id, self._settings))
            # One process moves the first row; the other leaves the file to it.
            (mine,) = await self._ledger.apply([Step(first.id, (FILE, SENT), stage=LANDING, due_in=_SOON)])
            if not mine:
                return
        await self._ledger.apply(
            [Step(row.id, (FILE, SENT), stage=LANDING, due_in=_SOON) for row in rows if row.stage == FILE]
        )
        # Gone from beside its place means that it was moved: by this process before a crash, or by another.
        with suppress(FileNotFoundError):
            await self._folder.land(self._folder.path / beside, name)
        answer = self._settings.answer_days * _DAY
        await self._ledger.apply(
            [
                Step(row.id, (LANDING, SENT), stage=WRITTEN, due_in=answer)
                for row in rows
                if row.stage != WRITTEN
            ]
        )

    def _name(self, file_id: str) -> str:
        kind = "csv" if self._settings.format == "csv" else "xml"
        return f"{self._settings.prefix}{file_id}.{kind}"


def _reference(row: Transfer) -> str:
    """Return the `EndToEndId` of a transfer: its id, at most 35 characters."""
    return row.id.replace("-", "")


async def _pieces(entries: Sequence[Entry], file_id: str, settings: BankFileSettings) -> AsyncIterator[bytes]:
    for piece in whole(entries, file_id, settings):
        yield piece
