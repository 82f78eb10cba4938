"""The account mapper over HTTP, and at the command line as its page shows it."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import documents
import orjson
import pytest
import yaml
from services.g2p import partner
from typer.testing import CliRunner

from adapters.cli.accounts import app
from adapters.rest.accounts import extension
from connectors.g2p_connect.mapper_peer import MapperPeer
from registry.accounts import Accounts
from registry.settings import HubSettings
from registry.storage import periods
from registry.storage.database import open_pool
from registry.vault import KeyEncryptionKey, Vault

ID, FA = "vid:54321@nid", "account:99881@national-bank"
SCOPES = ("accounts:read", "accounts:write")


class Api:
    """A served hub that is an account mapper."""

    def __init__(self, served: Any) -> None:
        self.served = served

    async def call(
        self, method: str, path: str, body: Any = None, by: str = "mapper", scopes: tuple[str, ...] = SCOPES
    ) -> tuple[int, Any]:
        answer = await self.served.client.request(
            method,
            path,
            data=None if body is None else orjson.dumps(body),
            headers={**self.served.auth(by, *scopes), "Content-Type": "application/json"},
        )
        return answer.status, await answer.json(content_type=None)


@pytest.fixture
async def api(serve_with: Any, database_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    settings = HubSettings(data_dir=tmp_path)
    pool = await open_pool(settings, size=4, url=database_url)
    await periods.ensure(pool, settings.partition)
    accounts = Accounts(pool, Vault(pool, KeyEncryptionKey.load(settings)))
    more = (partner("mapper", scopes=list(SCOPES)), partner("confined", scopes=list(SCOPES), areas=["N"]))
    yield Api(await serve_with(None, pool=pool, more=more, extra=(extension(accounts),)))
    await pool.close()


async def test_a_list_is_linked_changed_resolved_and_ended_item_by_item(api: Api) -> None:
    items = [
        {"id": ID, "address": FA, "name": "Amina"},
        {"id": "nobody", "address": FA},
        {"id": ID, "address": FA},
    ]
    status, reply = await api.call("POST", "/v1/accounts/$link", {"items": items})
    assert status == 200, reply
    assert [one["code"] for one in reply["items"]] == [None, "account-id-invalid", "account-linked-already"]
    new = {"id": ID, "address": "mobile:254700111222@m-pay"}
    _, reply = await api.call("POST", "/v1/accounts/$update", {"items": [new]})
    assert reply["items"][0]["code"] is None
    asked = {
        "purpose": "payment",
        "items": [{"id": ID.upper()}, {"id": ID, "address": FA}, {"id": "vid:1@nid"}, {}],
    }
    _, reply = await api.call("POST", "/v1/accounts/$resolve", asked)
    assert [(one["state"], one["address"]) for one in reply["items"]] == [
        ("active", new["address"]), ("elsewhere", None), ("absent", None), ("absent", None),
    ]  # fmt: skip
    _, reply = await api.call("GET", "/v1/accounts?ended=true")
    assert [one["ended_how"] for one in reply["items"]] == ["updated", None]
    assert {one["linked_by"] for one in reply["items"]} == {"mapper"}
    assert "54321" not in str(reply)
    _, reply = await api.call("POST", "/v1/accounts/$history", {"id": ID, "purpose": "complaint 12"})
    assert [(one["address"], one["state"]) for one in reply["items"]] == [
        (FA, "ended"),
        (new["address"], "active"),
    ]
    _, reply = await api.call("POST", "/v1/accounts/$unlink", {"items": [{"id": ID}]})
    assert reply["items"][0]["code"] is None
    _, reply = await api.call("GET", "/v1/accounts")
    assert reply["items"] == []
    _, reply = await api.call("GET", "/v1/accounts/strategies")
    assert reply["items"][0]["name"] == "bank"


async def test_who_may_not_learns_and_changes_nothing(api: Api) -> None:
    link, ask = {"items": [{"id": ID, "address": FA}]}, {"purpose": "x", "items": [{"id": ID}]}
    for path, body, by, scopes, status in (
        ("$link", link, "mapper", ("accounts:read",), 403),
        ("$resolve", ask, "mapper", ("accounts:write",), 403),
        ("$link", link, "confined", SCOPES, 403),
        ("$resolve", ask, "confined", SCOPES, 403),
        ("$resolve", {"items": [{"id": ID}]}, "mapper", SCOPES, 400),
        ("$resolve", {"purpose": " ", "items": [{"id": ID}]}, "mapper", SCOPES, 400),
        ("$history", {"id": ID, "purpose": "x"}, "confined", SCOPES, 403),
        ("$history", {"id": ID}, "mapper", SCOPES, 400),
        ("$link", {"items": []}, "mapper", SCOPES, 400),
        ("$link", {"items": [{"id": ID, "address": FA}] * 1001}, "mapper", SCOPES, 400),
    ):
        found, reply = await api.call("POST", f"/v1/accounts/{path}", body, by, scopes)
        assert found == status, (path, reply)
    assert await api.served.pool.fetchval("SELECT count(*) FROM account_link") == 0


def test_the_page_does_what_it_shows(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("HUB_DATABASE_URL", database_url),
        ("HUB_DATA_DIR", str(tmp_path / ".hub")),
        ("COLUMNS", "250"),
    ):
        monkeypatch.setenv(name, value)
    runner = CliRunner()
    typed = 0
    for block in documents.blocks():
        if "accounts" not in block.words:
            continue
        for word in block.words:
            if word.startswith("file:"):
                (tmp_path / word.removeprefix("file:")).write_text(block.text, encoding="utf-8")
        if block.language != "console":
            continue
        for part in block.text.split("$ ")[1:]:
            line, *expected = part.rstrip("\n").split("\n")
            given, _, command = line.rpartition(" | ")
            result = runner.invoke(
                app, shlex.split(command or line)[2:], input=re.sub("^echo ", "", given) + "\n"
            )
            assert result.exit_code == 0, (line, result.output, result.exception)
            said = " ".join(result.stdout.split())
            for one in expected:
                assert " ".join(one.split()) in said, (line, result.stdout)
            typed += 1
    assert typed >= 8
    result = runner.invoke(app, ["list", "--json", "--purpose", "audit", "--limit", "1"])
    assert orjson.loads(result.stdout)["links"][0]["account_id"] == "vid:100@nid"


async def test_a_command_asks_another_mapper_and_the_trail_says_so_first(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = MapperPeer()
    await peer.start()
    peer.links[ID] = FA
    folder = tmp_path / "config"
    (folder / "targets").mkdir(parents=True)
    settings = peer.settings()
    for name in ("signing_key", "bearer_token"):
        (tmp_path / name).write_text(settings[name])
        settings[name] = {"file": str(tmp_path / name)}
    target = {"target": "other", "connector": "g2p_connect", "settings": settings}
    (folder / "targets" / "other.yaml").write_text(yaml.safe_dump(target))
    for name, value in (
        ("HUB_DATABASE_URL", database_url),
        ("HUB_DATA_DIR", str(tmp_path / ".hub")),
        ("HUB_CONFIG_DIR", str(folder)),
    ):
        monkeypatch.setenv(name, value)

    async def ask(*words: str) -> Any:
        given = f"{ID}\nvid:1@nid\n"
        return await asyncio.to_thread(CliRunner().invoke, app, ["resolve", "--json", *words], input=given)

    unknown = await ask("--purpose", "complaint 12", "--at", "nobody")
    assert getattr(unknown.exception, "code", None) == "account-target-unknown"
    found = await ask("--purpose", "complaint 12", "--at", "other")
    assert found.exit_code == 0, found.exception
    told = [(one["state"], one["address"]) for one in orjson.loads(found.stdout)["accounts"]]
    assert told == [("active", FA), ("absent", None)]
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT action, object_id, details::text FROM audit_event")
    assert [tuple(row)[:2] for row in rows] == [("account.ask", "other")]
    assert "54321" not in rows[0]["details"]
    await connection.close()
    await peer.stop()
