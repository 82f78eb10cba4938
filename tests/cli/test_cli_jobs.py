"""`hub jobs` on a real database: what is listed, run here, and ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest
from typer.testing import CliRunner, Result

from adapters.cli.jobs import app
from canonical_model.errors import Refused
from registry.jobs import JobStore
from registry.settings import load_settings
from registry.storage import periods
from registry.storage.database import open_pool

T = TypeVar("T")


@pytest.fixture
def store(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[JobStore], Awaitable[Any]]], Any]:
    (tmp_path / "config" / "routes").mkdir(parents=True)
    monkeypatch.setenv("HUB_DATABASE_URL", database_url)
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")

    def run(work: Callable[[JobStore], Awaitable[T]]) -> T:
        async def whole() -> T:
            pool = await open_pool(load_settings(), size=2)
            try:
                await periods.ensure(pool, "month")
                return await work(JobStore(pool))
            finally:
                await pool.close()

        return asyncio.run(whole())

    return run


def _hub(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def _json(*words: str) -> Any:
    return orjson.loads(_hub(*words, "--json").stdout)


def test_a_waiting_job_is_run_here_and_its_result_shown(store: Callable[..., Any]) -> None:
    job = store(lambda jobs: jobs.submit("audit.verify", actor="user:ana")).job
    assert _json("list", "--state", "queued")["items"][0]["id"] == str(job.id)
    done = _json("run", str(job.id))
    assert done["state"] == "done"
    assert done["result"]["whole"] is True
    assert "done" in _hub("show", str(job.id), "--watch").stdout
    with pytest.raises(Refused) as caught:
        _hub("cancel", str(job.id))
    assert caught.value.code == "job-ended"


def test_a_waiting_job_is_cancelled_at_once(store: Callable[..., Any]) -> None:
    job = store(lambda jobs: jobs.submit("audit.verify", actor="user:ana")).job
    assert _json("cancel", str(job.id))["state"] == "cancelled"
    assert _json("run", str(job.id))["state"] == "cancelled"


@pytest.mark.parametrize("word", ["nonsense", "01890a5d-ac96-774b-bcce-b302099a8057"])
def test_a_job_that_is_not_there_is_said(store: Callable[..., Any], word: str) -> None:
    store(lambda jobs: jobs.list())
    with pytest.raises(Refused) as caught:
        _hub("show", word)
    assert caught.value.code == "job-not-found"


def test_a_list_goes_on_where_its_page_ended(store: Callable[..., Any]) -> None:
    for _ in range(3):
        store(lambda jobs: jobs.submit("audit.verify", actor="user:ana"))
    first = _json("list", "--limit", "2")
    assert len(first["items"]) == 2
    assert len(_json("list", "--limit", "2", "--cursor", first["next"])["items"]) == 1
