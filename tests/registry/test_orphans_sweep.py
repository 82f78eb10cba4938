"""What a cut-off accept leaves in the object store goes after a day, and nothing a message points to ever does."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from services.path import MessagePath, message, route

from canonical_model.message import uuid7
from registry.objects import FileObjectStore, Listed
from registry.storage import orphans
from registry.storage.orphans import OrphanSweep


@pytest.fixture
async def path(database_url: str, tmp_path: Path) -> AsyncIterator[MessagePath]:
    async with MessagePath(database_url, tmp_path, [route()], claim_check_bytes=4096) as found:
        yield found


def sweep(path: MessagePath, owner: str = "0a1b") -> OrphanSweep:
    return OrphanSweep(path.pool, path.objects, owner, look_again=0)


def a_day_passes(folder: Path) -> None:
    for file in (folder / "objects").rglob("*"):
        if file.is_file():
            os.utime(file, (time.time() - 90_000,) * 2)


async def lying(path: MessagePath) -> set[str]:
    return {one.key for one in await path.objects.listing("message")}


async def test_only_what_no_message_points_to_goes_and_only_after_a_day(
    path: MessagePath, tmp_path: Path
) -> None:
    (kept,) = await path.accept(message("p-1", pad="x" * 6000))
    left, foreign = f"message/{uuid7()}", "message/not-an-id"
    await path.objects.put(left, b"sealed")
    await path.objects.put(foreign, b"of somebody else")
    round_ = sweep(path)
    assert [await round_.round() for _ in range(2)] == [0, 0]
    a_day_passes(tmp_path)
    young = f"message/{uuid7()}"
    await path.objects.put(young, b"sealed")
    assert await round_.round() == 1
    assert await lying(path) == {f"message/{kept}", foreign, young}
    assert await round_.round() == 0
    assert await path.objects.get(f"message/{kept}")


async def test_a_row_written_between_the_two_looks_keeps_its_object(
    path: MessagePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = message("p-1", pad="x" * 6000)
    entry = await path.intake.prepare(late, partner="ministry", raw=b"raw")
    round_ = sweep(path)
    await round_.round()
    a_day_passes(tmp_path)

    async def the_database_is_back(_seconds: float) -> None:
        async with path.pool.acquire() as connection:
            await path.intake.write(connection, [entry])

    monkeypatch.setattr(orphans.asyncio, "sleep", the_database_is_back)
    assert await round_.round() == 0
    assert await lying(path) == {f"message/{late.id}"}


async def test_a_store_shared_with_another_hub_is_left_alone(path: MessagePath, tmp_path: Path) -> None:
    await path.objects.put(f"message/{uuid7()}", b"of either")
    ours, theirs = sweep(path, "aa"), sweep(path, "bb")
    await ours.round()
    await theirs.round()
    a_day_passes(tmp_path)
    assert [await ours.round(), await theirs.round()] == [0, 0]
    assert len(await lying(path)) == 1
    # The other hub has moved away and an operator removed its name.
    await path.objects.delete("owner/bb")
    assert await ours.round() == 1


async def test_a_hub_that_has_just_come_deletes_nothing_yet(path: MessagePath, tmp_path: Path) -> None:
    await path.objects.put(f"message/{uuid7()}", b"sealed")
    a_day_passes(tmp_path)
    round_ = sweep(path)
    assert [await round_.round() for _ in range(3)] == [0, 0, 0]
    a_day_passes(tmp_path)
    assert await round_.round() == 1


class Watched(FileObjectStore):
    """Counts the pages asked for."""

    asked: list[str]

    async def listing(self, folder: str, after: str = "", limit: int = 2) -> list[Listed]:
        if folder == orphans.FOLDER:
            self.asked.append(after)
        return await super().listing(folder, after, 2)


async def test_a_round_is_bounded_and_the_next_goes_on_behind_it(
    path: MessagePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "PAGE", 2)
    store = Watched(tmp_path / "objects")
    store.asked = []
    for _ in range(23):
        await store.put(f"message/{uuid7()}", b"sealed")
    round_ = OrphanSweep(path.pool, store, "aa", look_again=0)
    await round_.round()
    a_day_passes(tmp_path)
    assert [await round_.round() for _ in range(3)] == [10, 10, 3]
    assert len(store.asked) == 5 + 5 + 2
    assert await lying(path) == set()
    await store.close()
