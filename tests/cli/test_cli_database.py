"""`hub db` and `hub doctor` on a real database: fresh, current, away, forbidden, sealed with another key."""

from __future__ import annotations

import asyncio
import base64
import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from services import postgres
from services.apart import free_port

from registry.storage import migrate

AWAY = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture
def empty_database(postgres_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = postgres.fresh_name()
    url = postgres.create(postgres_server, name)
    monkeypatch.setenv("HUB_DATABASE_URL", url)
    try:
        yield url
    finally:
        postgres.drop(postgres_server, name)


def _findings(ran: Any) -> dict[str, dict[str, str]]:
    worst = {"fail": 2, "warn": 1, "ok": 0}
    found: dict[str, dict[str, str]] = {}
    for one in ran.json["findings"]:
        if one["part"] not in found or worst[one["state"]] > worst[found[one["part"]]["state"]]:
            found[one["part"]] = one
    return found


def test_an_upgrade_fills_an_empty_database_and_can_be_repeated(
    folder: Path, empty_database: str, hub: Any
) -> None:
    assert hub("db", "status", "--json").code == 1
    first = hub("db", "upgrade", "--json").json
    assert (first["before"], first["after"], first["changed"]) == (None, migrate.head(), True)
    assert hub("db", "upgrade", "--json").json["changed"] is False
    status = hub("db", "status", "--json")
    assert (status.code, status.json["current"], status.json["outbox"]) == (0, True, 0)


def test_partitions_are_listed_with_the_time_they_hold(folder: Path, empty_database: str, hub: Any) -> None:
    hub("db", "upgrade")
    found = hub("db", "partitions", "--json").json["partitions"]
    assert {one["table"] for one in found} >= {"message", "delivery", "attempt", "audit_event"}
    now = datetime.datetime.now(datetime.UTC).isoformat()
    assert any(one["table"] == "message" and one["from"] <= now < one["until"] for one in found)


def test_a_database_that_is_away_ends_with_three(
    folder: Path, monkeypatch: pytest.MonkeyPatch, hub: Any
) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", AWAY)
    ran = hub("db", "status", "--json")
    assert (ran.code, orjson.loads(ran.err)["code"]) == (3, "database-unavailable")


def test_the_doctor_goes_on_after_a_part_that_fails(
    config: Path, monkeypatch: pytest.MonkeyPatch, hub: Any
) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", AWAY)
    monkeypatch.setenv("HUB_BROKER_URL", f"amqp://guest:hidden-password@127.0.0.1:{free_port()}")
    (config / "routes" / "bad.yaml").write_text("route: bad\nwhen: {type: org.openspp.*}\nto: nowhere\n")
    ran = hub("doctor", "--json")
    found = _findings(ran)
    assert ran.code == 1
    for part, code in (
        ("database", "database-unavailable"),
        ("broker", "broker-unavailable"),
        ("routes", "target-unknown"),
    ):
        assert (found[part]["state"], found[part]["code"]) == ("fail", code)
        assert found[part]["mend"]
    for part in ("settings", "disk", "partners", "mappings", "targets"):
        assert found[part]["state"] == "ok", found[part]
    assert "hidden-password" not in ran.out


def test_a_wrong_setting_is_a_finding_that_shows_no_value(monkeypatch: pytest.MonkeyPatch, hub: Any) -> None:
    monkeypatch.setenv("HUB_PREFETCH", "many-secret-things")
    ran = hub("doctor", "--json")
    assert ran.code == 1
    assert ran.json["findings"][0]["code"] == "settings-invalid"
    assert "prefetch" in ran.out
    assert "many-secret-things" not in ran.out


def test_the_doctor_makes_no_key_and_no_database(folder: Path, hub: Any) -> None:
    ran = hub("doctor", "--json")
    assert ran.code == 0, ran.out
    assert not (folder / ".hub").exists()


def test_the_doctor_finds_a_key_that_is_not_the_databases(
    config: Path, folder: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, hub: Any
) -> None:
    async def plant() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute(
                "INSERT INTO data_key (scope, wrapped, kek) VALUES ('message:2026-01:', $1, 'file:other')",
                os.urandom(40),
            )
        finally:
            await connection.close()

    asyncio.run(plant())
    kek = folder / "kek"
    kek.write_bytes(base64.b64encode(os.urandom(32)))
    kek.chmod(0o600)
    monkeypatch.setenv("HUB_DATABASE_URL", database_url)
    monkeypatch.setenv("HUB_KEK_FILE", str(kek))
    found = _findings(hub("doctor", "--json"))
    assert (found["sealed data"]["state"], found["sealed data"]["code"]) == ("fail", "key-file-wrong")
    kek.chmod(0o644)
    assert _findings(hub("doctor", "--json"))["kek"]["code"] == "key-file-open"


@pytest.mark.rabbitmq
def test_the_doctor_sends_a_parcel_through_a_real_broker(
    folder: Path, broker_url: str, monkeypatch: pytest.MonkeyPatch, hub: Any
) -> None:
    monkeypatch.setenv("HUB_BROKER_URL", broker_url)
    found = _findings(hub("doctor", "--json"))["broker"]
    assert found["state"] == "ok", found
    assert "quorum" in found["says"]


def _certificate(folder: Path, host: str, days: int) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(now - datetime.timedelta(days=100)).not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    (folder / "tls.pem").write_bytes(certificate.public_bytes(pem))
    plain = serialization.NoEncryption()
    (folder / "tls.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return folder / "tls.pem", folder / "tls.key"


@pytest.mark.parametrize(
    ("host", "days", "state", "says"),
    [
        ("hub.example", 300, "ok", "in force"),
        ("hub.example", 10, "warn", "ends on"),
        ("hub.example", -1, "fail", "ended on"),
        ("other.example", 300, "fail", "hub.example"),
    ],
)
def test_the_doctor_reads_the_certificate(
    folder: Path, monkeypatch: pytest.MonkeyPatch, hub: Any, host: str, days: int, state: str, says: str
) -> None:
    certificate, key = _certificate(folder, host, days)
    monkeypatch.setenv("HUB_TLS_CERT", str(certificate))
    monkeypatch.setenv("HUB_TLS_KEY", str(key))
    monkeypatch.setenv("HUB_PUBLIC_URL", "https://hub.example")
    found = _findings(hub("doctor", "--json"))["tls"]
    assert found["state"] == state
    assert says in found["says"]
