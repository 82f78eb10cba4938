"""Key services and the keys they wrap: a file, a transit secrets engine, and the change from one to another."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from services.transit import TransitSandbox, transit

from canonical_model.errors import ConfigError, Defect, Unavailable
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.vault import KeyEncryptionKey, KeyRing, TransitKeys, Vault, Wrapped, open_keys


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(HubSettings(), url=database_url, size=4)
    yield opened
    await opened.close()


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[TransitSandbox]:
    async with transit(tmp_path) as running:
        yield running


@pytest.fixture
async def service(sandbox: TransitSandbox) -> AsyncIterator[TransitKeys]:
    keys = TransitKeys(sandbox.url, sandbox.token_file, deadline=30)
    yield keys
    await keys.close()


def key_file(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(base64.b64encode(os.urandom(32)))
    path.chmod(0o600)
    return path


async def test_a_service_wraps_and_unwraps_and_names_the_version_that_did(
    sandbox: TransitSandbox, service: TransitKeys
) -> None:
    secret = os.urandom(32)
    first = await service.wrap(secret)
    sandbox.rotate()
    second = await service.rewrap(first)
    assert (first.kek, second.kek) == ("transit:transit/openspp-hub:v1", "transit:transit/openspp-hub:v2")
    assert await service.unwrap(first) == await service.unwrap(second) == secret
    assert await service.current() == second.kek
    assert service.holds(first.kek)
    assert not service.holds("transit:transit/openspp-hub-2:v1")
    assert service.derive("blind index") is None


async def test_rewrapping_never_brings_the_secret_to_the_hub(
    sandbox: TransitSandbox, service: TransitKeys
) -> None:
    wrapped = await service.wrap(os.urandom(32))
    await service.rewrap(wrapped)
    assert sandbox.calls == {"encrypt": 1, "rewrap": 1}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Wrapped("transit:transit/openspp-hub:v9", b"vault:v9:AAAA"), "version is too new"),
        (Wrapped("transit:transit/openspp-hub:v1", b"AAAA"), "no prefix"),
        (
            Wrapped("transit:transit/openspp-hub:v1", b"vault:v1:" + base64.b64encode(b"\0" * 60)),
            "authentication failed",
        ),
    ],
)
async def test_what_the_service_cannot_open_is_refused_with_its_reason(
    service: TransitKeys, wrong: Wrapped, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        await service.unwrap(wrong)
    assert caught.value.code == "key-service-refused"


async def test_a_token_without_right_is_refused_and_a_new_one_is_read_without_restart(
    sandbox: TransitSandbox, service: TransitKeys
) -> None:
    wrapped = await service.wrap(b"k" * 32)
    sandbox.token = "hvs.renewed"
    with pytest.raises(ConfigError, match="permission denied") as caught:
        await service.unwrap(wrapped)
    assert caught.value.code == "key-service-refused"
    sandbox.write_token()
    assert await service.unwrap(wrapped) == b"k" * 32
    sandbox.policy = {path for path in sandbox.policy if "decrypt" not in path}
    with pytest.raises(ConfigError, match="refused to decrypt with 403"):
        await service.unwrap(wrapped)


async def test_a_service_that_is_sealed_silent_or_gone_is_unavailable(
    sandbox: TransitSandbox, service: TransitKeys, unused_tcp_port: int
) -> None:
    gone = TransitKeys(f"http://127.0.0.1:{unused_tcp_port}/v1/transit/keys/hub", sandbox.token_file)
    sandbox.sealed = True
    for keys in (service, gone):
        with pytest.raises(Unavailable) as caught:
            await keys.wrap(b"k" * 32)
        assert caught.value.code == "key-service-unavailable"
        assert caught.value.retry_after
    sandbox.sealed, sandbox.stalls = False, True
    hurried = TransitKeys(sandbox.url, sandbox.token_file, deadline=0.5)
    with pytest.raises(Unavailable, match="TimeoutError"):
        await hurried.wrap(b"k" * 32)
    await hurried.close()
    await gone.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://vault.example:8200/v1/transit/keys/hub",
        "https://vault.example:8200/transit/keys/hub",
        "https://vault.example:8200/v1/transit/keys/",
        "https://vault.example:8200/v1/transit/keys/hub.",
        "https://user@vault.example/v1/transit/keys/hub",
        "ftp://127.0.0.1/v1/transit/keys/hub",
    ],
)
def test_an_address_that_is_none_of_a_key_is_refused_at_the_start(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        TransitKeys(url, tmp_path / "token")
    assert caught.value.code == "key-service-invalid"


async def test_a_token_that_everybody_may_read_is_not_used(
    sandbox: TransitSandbox, service: TransitKeys
) -> None:
    sandbox.token_file.chmod(0o604)
    with pytest.raises(ConfigError) as caught:
        await service.wrap(b"k" * 32)
    assert caught.value.code == "key-file-open"
    sandbox.token_file.unlink()
    with pytest.raises(ConfigError) as caught:
        await service.wrap(b"k" * 32)
    assert caught.value.code == "key-file-missing"
    assert not sandbox.seen


def test_settings_that_name_two_keys_or_no_token_are_refused(tmp_path: Path) -> None:
    url = "https://vault.example:8200/v1/transit/keys/hub"
    for settings in (
        HubSettings(kek_url=url, kek_file=key_file(tmp_path, "kek"), kek_token_file=tmp_path / "t"),
        HubSettings(kek_url=url),
    ):
        with pytest.raises(ConfigError) as caught:
            open_keys(settings)
        assert caught.value.code == "key-service-invalid"


async def test_a_vault_works_with_a_service_and_keeps_its_blind_index(
    pool: asyncpg.Pool, sandbox: TransitSandbox
) -> None:
    settings = HubSettings(kek_url=sandbox.url, kek_token_file=sandbox.token_file)
    vault = await Vault.open(pool, settings)
    key = await vault.current_key("registrant_vault")
    sealed = key.seal(b"Ada", b"row")
    index = vault.blind.index("identifier", "1")
    await vault.close()
    sandbox.rotate()
    again = await Vault.open(pool, settings)
    assert again.blind.index("identifier", "1") == index
    assert (await again.key(key.id)).open(sealed, b"row") == b"Ada"
    await again.close()
    assert not any(b"Ada" in body for body in sandbox.seen)


async def test_keys_in_memory_go_on_opening_while_the_service_is_away(
    pool: asyncpg.Pool, sandbox: TransitSandbox
) -> None:
    vault = await Vault.open(pool, HubSettings(kek_url=sandbox.url, kek_token_file=sandbox.token_file))
    key = await vault.current_key("registrant_vault")
    sandbox.sealed = True
    asked = sandbox.calls.total()
    assert (await vault.key(key.id)) is key
    assert sandbox.calls.total() == asked
    with pytest.raises(Unavailable):
        await vault.current_key("another_table")
    await vault.close()


async def test_next_months_keys_are_at_hand_before_the_month_turns(
    pool: asyncpg.Pool, sandbox: TransitSandbox
) -> None:
    vault = await Vault.open(pool, HubSettings(kek_url=sandbox.url, kek_token_file=sandbox.token_file))
    await vault.current_key("message", 90)
    await vault.current_key("registrant_vault")
    assert await vault.make_ahead(datetime(2026, 11, 27, tzinfo=UTC)) == 0
    assert await vault.make_ahead(datetime(2026, 11, 29, tzinfo=UTC)) == 2
    rows = await pool.fetch(
        "SELECT id, scope, expires_at FROM data_key WHERE scope LIKE '%:2026-12:%' ORDER BY scope"
    )
    assert [(row["scope"], row["expires_at"]) for row in rows] == [
        ("message:2026-12:90", datetime(2027, 4, 1, tzinfo=UTC)),
        ("registrant_vault:2026-12:", None),
    ]
    sandbox.sealed = True
    assert await vault.key(rows[0]["id"])  # opened already
    await vault.close()


async def test_many_who_need_one_key_ask_the_service_once(
    pool: asyncpg.Pool, sandbox: TransitSandbox
) -> None:
    import asyncio

    settings = HubSettings(kek_url=sandbox.url, kek_token_file=sandbox.token_file)
    first = await Vault.open(pool, settings)
    key_id = (await first.current_key("registrant_vault")).id
    await first.close()
    vault = await Vault.open(pool, settings)
    before = sandbox.calls["decrypt"]
    await asyncio.gather(*(vault.key(key_id) for _ in range(20)))
    assert sandbox.calls["decrypt"] == before + 1
    await vault.close()


async def test_a_database_from_before_keeps_the_blind_index_its_hashes_were_made_with(
    pool: asyncpg.Pool, tmp_path: Path
) -> None:
    old = key_file(tmp_path, "old")
    before = Vault(pool, KeyEncryptionKey.read(old))
    await before.current_key("person")
    index = before.blind.index("identifier", "1")
    # The hub is upgraded and the key replaced in one go.
    vault = await Vault.open(pool, HubSettings(kek_file=key_file(tmp_path, "new"), kek_old_file=old))
    assert vault.blind.index("identifier", "1") == index
    last = await Vault.open(pool, HubSettings(kek_file=tmp_path / "new"))
    assert last.blind.index("identifier", "1") == index


async def test_a_wrong_key_file_stops_the_start_and_changes_nothing(
    pool: asyncpg.Pool, tmp_path: Path
) -> None:
    await Vault(pool, KeyEncryptionKey.read(key_file(tmp_path, "right"))).current_key("person")
    before = await pool.fetch("SELECT * FROM data_key")
    with pytest.raises(ConfigError) as caught:
        await Vault.open(pool, HubSettings(kek_file=key_file(tmp_path, "wrong")))
    assert caught.value.code == "key-file-wrong"
    assert await pool.fetch("SELECT * FROM data_key") == before


async def test_two_processes_that_start_first_agree_on_one_blind_index(
    pool: asyncpg.Pool, sandbox: TransitSandbox
) -> None:
    import asyncio

    settings = HubSettings(kek_url=sandbox.url, kek_token_file=sandbox.token_file)
    vaults = await asyncio.gather(*(Vault.open(pool, settings) for _ in range(4)))
    assert len({vault.blind.index("identifier", "1") for vault in vaults}) == 1
    for vault in vaults:
        await vault.close()


async def test_a_vault_without_derivable_key_is_not_opened_by_halves(
    pool: asyncpg.Pool, service: TransitKeys
) -> None:
    with pytest.raises(Defect):
        Vault(pool, service)


async def test_a_ring_moves_a_secret_from_file_to_service_and_back(
    tmp_path: Path, service: TransitKeys
) -> None:
    file = KeyEncryptionKey.read(key_file(tmp_path, "kek"))
    secret = os.urandom(32)
    at_service = await KeyRing(service, [file]).rewrap(await file.wrap(secret))
    assert service.holds(at_service.kek)
    back = await KeyRing(file, [service]).rewrap(at_service)
    assert back.kek == file.id
    assert await file.unwrap(back) == secret
    with pytest.raises(ConfigError) as caught:
        await KeyRing(file).unwrap(at_service)
    assert caught.value.code == "key-file-wrong"
    assert "secret" not in repr(at_service)
