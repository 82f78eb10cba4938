"""`hub program` from a file to reconciled payments, as programme staff type it, with rules in CEL."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
import yaml

from canonical_model.message import uuid7

PROGRAM: dict[str, Any] = {
    "code": "elders",
    "names": {"en": "Old age grant"},
    "currency": "KES",
    "fund": "main",
    "eligibility": "age_years(r.birthdate) >= 60",
    "benefit": {"amounts": [{"amount": "r.sex == 'female' ? 600000 : 500000"}], "most": 550000},
}


@pytest.fixture
def office(folder: Path, database_url: str, hub: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub with a route for payments, a fund, three old people and a young one, and the program's file."""
    monkeypatch.setenv("HUB_DATABASE_URL", database_url)
    routes = folder / ".hub" / "config" / "routes"
    routes.mkdir(parents=True)
    (routes / "pay.yaml").write_text(
        yaml.safe_dump({"route": "pay", "when": {"type": "org.openspp.payment.*"}, "to": "bank"})
    )
    people = [
        ("male", date(1950, 1, 1)),
        ("female", date(1950, 1, 1)),
        ("female", date(1951, 1, 1)),
        ("male", date(2001, 1, 1)),
    ]

    async def fill() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.executemany(
            "INSERT INTO registrant (id, source, sex, birthdate) VALUES ($1, 'urn:test', $2, $3)",
            [(uuid7(), *one) for one in people],
        )
        await connection.close()

    asyncio.run(fill())
    (folder / "elders.yaml").write_text(yaml.safe_dump(PROGRAM))
    assert hub("program", "fund", "make", "main", "KES").code == 0
    assert hub("program", "fund", "deposit", "main", "20000.00", "--once", "slip").code == 0
    return folder


def test_a_program_goes_from_its_file_to_reconciled_payments(
    office: Path, hub: Any, database_url: str
) -> None:
    assert (
        hub("program", "fund", "deposit", "main", "20000.00", "--once", "slip", "--json").json["moved"]
        is False
    )
    assert "nothing was changed" in hub("program", "define", "elders.yaml", "--dry-run").out
    assert hub("program", "define", "elders.yaml", "--json").json["changed"]
    hub("program", "activate", "elders")
    assert hub("program", "preview", "elders", "--json").json["new"] == 3
    assert hub("program", "enroll", "elders", "--json").json["enrolled"] == 3
    opened = hub(
        "program",
        "cycle",
        "open",
        "elders",
        "--from",
        "2026-01-01",
        "--to",
        "2026-01-31",
        "--as",
        "mary",
        "--json",
    ).json
    assert (opened["cycle"], opened["entitlements"], opened["total"]) == ("elders/1", 3, 500000 + 2 * 550000)
    assert hub("program", "cycle", "submit", "elders/1", "--as", "mary").code == 0
    assert "hub program approve elders/1 --role approver" in hub("program", "cycle", "show", "elders/1").out
    own = hub("program", "approve", "elders/1", "--role", "approver", "--as", "mary")
    assert (own.code, "approval-own" in own.err) == (1, True)
    done = hub("program", "approve", "elders/1", "--role", "approver", "--as", "chris", "--json").json
    assert (done["state"], done["reserved"]) == ("approved", 1_600_000)
    would = hub("program", "pay", "elders/1", "--dry-run", "--json").json
    assert (would["payments"], would["ordered"]) == (3, 1_600_000)
    paid = hub("program", "pay", "elders/1", "--as", "mary", "--json").json
    assert (paid["payments"], paid["ordered"], paid["state"]) == (3, 1_600_000, "distributed")
    account = hub("program", "reconcile", "elders/1", "--json").json
    assert (account["unknown"], account["balanced"]) == (1_600_000, True)
    batch = account["batches"][0]["batch_id"]
    rows = hub("program", "payment", "list", batch, "--json").json["items"]
    (office / "paid.txt").write_text("\n".join(row["id"] for row in rows))
    settled = hub(
        "program", "payment", "settle", "paid", "--note", "list of the bank", "--ids", "paid.txt", "--json"
    ).json
    assert settled == {"settled": 3, "unchanged": 0}
    assert "16,000.00 KES" in hub("program", "reconcile", "elders/1").out
    assert hub("program", "cycle", "end", "elders/1", "--json").json["state"] == "ended"
    (fund,) = hub("program", "fund", "show", "--json").json["items"]
    assert (fund["available"], fund["spent"], fund["balanced"]) == (400_000, 1_600_000, True)


def test_a_rule_that_cannot_be_is_refused_with_its_place(office: Path, hub: Any) -> None:
    (office / "wrong.yaml").write_text(
        yaml.safe_dump({**PROGRAM, "eligibility": "age_years(r.birthday) >= 60"})
    )
    ran = hub("program", "define", "wrong.yaml", "--json")
    assert ran.code == 1
    assert orjson.loads(ran.err)["code"] == "rule-name-unknown"
    assert hub("program", "list", "--json").json["items"] == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("show", "nothing"), "program-not-found"),
        (("cycle", "show", "elders/9"), "cycle-not-found"),
        (("cycle", "show", "elders"), "cycle-not-found"),
        (("hold", "not-an-id", "--reason", "x"), "id-invalid"),
        (("hold", "--reason", "x"), "list-length"),
        (("fund", "deposit", "main", "12.345"), "amount-invalid"),
        (("fund", "withdraw", "main", "999999.00"), "fund-overdrawn"),
        (("cycle", "open", "elders", "--from", "01/02/2026"), "day-invalid"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_code(
    office: Path, hub: Any, words: tuple[str, ...], code: str
) -> None:
    ran = hub("program", *words, "--json")
    assert ran.code == 1
    assert orjson.loads(ran.err)["code"] == code
