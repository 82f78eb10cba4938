"""`hub audit` on a real database: what an auditor types and reads."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
from typer.testing import CliRunner, Result

from adapters.cli.audit import app
from canonical_model.errors import Refused
from canonical_model.message import uuid7
from registry.audit import AuditEvent, record
from registry.settings import load_settings
from registry.storage import periods
from registry.storage.database import open_pool


@pytest.fixture
def registrant(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UUID:
    (tmp_path / "config" / "routes").mkdir(parents=True)
    monkeypatch.setenv("HUB_DATABASE_URL", database_url)
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    id_ = uuid7()
    # Ids of one millisecond have no order, and lists go by the order of ids.
    now = time.time_ns() // 1_000_000

    async def write() -> None:
        pool = await open_pool(load_settings(), size=2)
        await periods.ensure(pool, "month")
        await record(
            pool,
            AuditEvent(
                "clinic",
                "registrant.reveal",
                "registrant",
                str(id_),
                details={"purpose": "payment check"},
                id=uuid7(now - 2),
            ),
            AuditEvent("registrar", "registrant.flag", "registrant", str(id_), id=uuid7(now - 1)),
            AuditEvent("operator", "delivery.replay", "delivery", str(uuid7())),
        )
        await pool.close()

    asyncio.run(write())
    return id_


def _hub(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def _json(*words: str) -> Any:
    return orjson.loads(_hub(*words, "--json").stdout)


def _seal() -> None:
    """Seal all three events; transactions of other databases of the server keep them open for a moment."""
    end = time.monotonic() + 60
    while _json("verify")["unsealed"]:
        assert time.monotonic() < end
        _hub("seal")


def _by_hand(url: str, statement: str) -> None:
    async def work() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(
            f"ALTER TABLE audit_event DISABLE TRIGGER ALL; {statement}; ALTER TABLE audit_event ENABLE TRIGGER ALL"
        )
        await connection.close()

    asyncio.run(work())


def test_verify_is_clean_until_a_byte_is_changed_by_hand(
    registrant: UUID, database_url: str, tmp_path: Path
) -> None:
    assert _json("verify")["unsealed"] == 3
    _seal()
    file = tmp_path / "checkpoint.json"
    assert "Checkpoint 1 was written" in _hub("checkpoint", "export", str(file)).stdout
    clean = _hub("verify", "--against", str(file))
    assert clean.exit_code == 0
    assert "The trail is whole." in clean.stdout
    changed = _json("list", "--action", "registrant.flag")["items"][0]["id"]
    _by_hand(database_url, f"UPDATE audit_event SET actor = 'registrat' WHERE id = '{changed}'")
    broken = _hub("verify")
    assert broken.exit_code == 1
    assert f"First broken link: event-changed: event {changed}, checkpoint 1" in broken.stdout
    assert _json("verify")["first"] == {"kind": "event-changed", "checkpoint": 1, "event": changed}


def test_a_file_that_is_there_is_not_replaced(registrant: UUID, tmp_path: Path) -> None:
    _seal()
    file = tmp_path / "checkpoint.json"
    file.write_text("mine")
    with pytest.raises(Refused) as caught:
        _hub("checkpoint", "export", str(file))
    assert caught.value.code == "file-not-written"
    assert file.read_text() == "mine"


def test_who_saw_a_record_is_one_command(registrant: UUID) -> None:
    everything = _json("who", str(registrant))["items"]
    assert [(each["actor"], each["action"]) for each in everything] == [
        ("registrar", "registrant.flag"),
        ("clinic", "registrant.reveal"),
    ]
    looks = _hub("who", str(registrant), "--looks").stdout
    assert "payment check" in looks
    assert "registrar" not in looks


def test_a_list_goes_on_where_its_page_ended(registrant: UUID) -> None:
    first = _json("list", "--limit", "2")
    second = _json("list", "--limit", "2", "--cursor", first["next"])
    assert len(first["items"]) == 2
    assert len(second["items"]) == 1
    assert second["next"] is None


def test_an_event_is_shown_with_the_checkpoint_that_seals_it(registrant: UUID) -> None:
    id_ = _json("list", "--action", "registrant.flag")["items"][0]["id"]
    assert _json("show", id_)["checkpoint"] is None
    _seal()
    assert _json("show", id_)["checkpoint"] == 1
    with pytest.raises(Refused) as caught:
        _hub("show", id_, "--reveal", "--purpose", "complaint 17")
    assert caught.value.code == "audit-values-none"


def test_checkpoints_are_listed_and_a_renewed_key_signs_the_next(registrant: UUID) -> None:
    _seal()
    assert _json("renew-key")["kid"]
    _seal()
    assert [each["number"] for each in _json("checkpoint", "list")["items"]] == [1]
    assert _hub("verify").exit_code == 0
