"""`hub demo` and `hub bench`: the programs a stranger runs first."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unicodedata
from dataclasses import fields
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import documents
import pytest

from adapters.cli.demo import KEYS
from adapters.cli.demo.benefit import Benefit, Paid
from adapters.cli.demo.households import DUPLICATES, WRONG_DATES, invent
from adapters.cli.demo.rails import FAULTS, Moved, Rails
from adapters.cli.demo.run import Account, Sender, _reconcile
from adapters.cli.demo.settling import RailAccount, settled
from adapters.cli.demo.traffic import day

BENCH_KEYS = {"metric", "value", "unit", "limit", "ratio", "goal", "met"}


def hub(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in an empty folder, with no setting but the given ones."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    return subprocess.run(
        [sys.executable, "-m", "adapters.cli", *words],
        cwd=folder,
        env={**clean, **env},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.slow
def test_the_demo_loses_nothing_with_no_settings_at_all(tmp_path: Path) -> None:
    done = hub(tmp_path, "demo", "--json", "--events", "60", "--people", "400")
    assert done.returncode == 0, done.stderr[-2000:]
    account = json.loads(done.stdout)
    assert list(account)[: len(KEYS)] == list(KEYS)
    assert account["lost"] == account["dead"] == 0
    assert account["delivered"] == 3 * account["accepted"] > 0
    assert account["retried"] > 0
    assert account["refused"] > 0
    assert account["duplicates"] > 0
    assert account["wrong"] == []
    _is_a_whole_benefit_cycle(account["benefit"])


def _is_a_whole_benefit_cycle(benefit: dict[str, Any]) -> None:
    assert (benefit["balanced"], benefit["wrong"], benefit["people"]) == (True, [], 400)
    assert benefit["rows_faulty"] == benefit["rows_mended"] == len(benefit["problems"]) == len(WRONG_DATES)
    assert (benefit["duplicates_merged"], benefit["duplicates_distinct"] >= 1) == (DUPLICATES, True)
    assert benefit["maker_refused"] == "approval-own"
    assert benefit["stopped"]["reason"] == "registrant-deceased"
    for cycle in benefit["cycles"]:
        outcomes = [cycle[name] for name in ("paid", "failed", "unknown", "cancelled")]
        assert sum(outcomes) == cycle["ordered"] == cycle["entitled"] - cycle["stopped"] > 0
    totals = {
        name: sum(cycle[name] for cycle in benefit["cycles"]) for name in ("unknown", "cancelled", "stopped")
    }
    assert all(totals.values()), totals
    assert benefit["fund"]["spent"] == sum(cycle["paid"] for cycle in benefit["cycles"])
    for rail in benefit["rails"]:
        assert rail["paid"] + rail["failed"] + rail["unknown"] + rail["cancelled"] == rail["ordered"] > 0
        assert (rail["moved"], rail["twice"]) == (rail["paid"] + rail["unproven"], 0)
    assert [rail["rail"] for rail in benefit["rails"]] == list(FAULTS)
    met = {reason for rail in benefit["rails"] for reason in rail["reasons"]}
    assert met >= {"3204", "row-missing", "still-open", "fulfilment-wrong"}, "faults were on"


@pytest.mark.slow
@pytest.mark.rabbitmq
def test_the_demo_travels_over_rabbitmq_when_told_to(tmp_path: Path, broker_url: str) -> None:
    done = hub(tmp_path, "demo", "--json", "--events", "40", "--people", "400", HUB_BROKER_URL=broker_url)
    assert done.returncode == 0, done.stderr[-2000:]
    account = json.loads(done.stdout)
    assert (account["broker"], account["lost"], account["benefit"]["balanced"]) == ("rabbitmq", 0, True)


@pytest.mark.slow
def test_the_demo_refuses_a_database_that_holds_anything(tmp_path: Path, database_url: str) -> None:
    first = hub(
        tmp_path, "demo", "--json", "--events", "10", "--people", "300", HUB_DATABASE_URL=database_url
    )
    assert json.loads(first.stdout)["benefit"]["balanced"], first.stderr[-2000:]
    again = hub(tmp_path, "demo", "--json", HUB_DATABASE_URL=database_url)
    assert (again.returncode, "demo-database-used" in again.stderr) == (2, True)


def test_every_key_of_the_demo_stands_on_its_page() -> None:
    told = set(
        re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| `[^|]*\|", documents.page("demo.md"), re.M)))
    )
    made = {one.name for kind in (Account, Benefit, Paid, RailAccount) for one in fields(kind)} | {"benefit"}
    assert told == made


def test_the_file_holds_what_the_demo_says_it_holds() -> None:
    made = invent(500, date(2026, 6, 1))
    rows = {row[2]: row for row in made.rows}
    assert len(rows) == len(made.rows) == 500
    assert len(made.twice) == DUPLICATES
    assert [row[8] for row in made.rows if row[2] in made.dates] != list(made.dates.values())
    assert made.mourned[1] == "head"
    assert {row[1] for row in made.rows} >= {"head", "spouse", "child"}
    scripts = {unicodedata.name(name[0]).split()[0] for row in made.rows for name in (row[3] or row[6],)}
    assert scripts >= {"LATIN", "ARABIC", "DEVANAGARI"}
    assert all(bool(row[6]) != bool(row[3] and row[5]) for row in made.rows), "one name, or both parts"


def test_each_fault_befalls_a_payee_of_its_rail() -> None:
    rails, made = Rails("KES"), invent(2000, date(2026, 6, 1))
    rails.misbehave(made.wallets(heads=True), made.wallets())
    met = {
        name: {fault.value for faults in towards.values() for fault in faults}
        for name, towards in rails.towards().items()
    }
    for name, faults in met.items():
        assert faults <= set(FAULTS[name])
        assert len(faults) >= len(FAULTS[name]) - 2, "all but those of whole answers"


@pytest.mark.parametrize("odd", [None, "twice", "amount", "failed", "stranger"])
async def test_money_that_moved_otherwise_than_the_books_say_is_told(odd: str | None) -> None:
    row = SimpleNamespace(
        id="1",
        payment_id="P-1",
        state="failed" if odd == "failed" else "paid",
        instruction=SimpleNamespace(amount=SimpleNamespace(minor_units=500)),
    )
    moved = [Moved("transfer", "T-1", "W1", 501 if odd == "amount" else 500)] * (2 if odd == "twice" else 1)
    rows = [[] if odd == "stranger" else [row]] * len(moved)
    account = RailAccount("rail", payments=1, ordered=500, paid=0 if odd == "failed" else 500)
    account.failed = 500 - account.paid
    wrong = settled(account, moved, rows)  # type: ignore[arg-type]
    assert bool(wrong) is (odd is not None)
    assert account.balanced is (odd is None)


@pytest.mark.slow
def test_the_bench_prints_one_object_with_every_figure_beside_its_limit(
    tmp_path: Path, database_url: str
) -> None:
    done = hub(tmp_path, "bench", "path", "--json", "--messages", "500", HUB_DATABASE_URL=database_url)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert set(report) == {"name", "machine", "settings", "results"}
    assert all(set(row) == BENCH_KEYS for row in report["results"])
    found = {row["metric"]: row for row in report["results"]}
    assert found["postgres.lost"]["value"] == found["postgres.twice"]["value"] == 0
    assert found["postgres.delivered"]["value"] > 0
    for role in ("api", "worker"):
        growth, most = found[f"postgres.memory_growth.{role}"], found[f"postgres.memory_most.{role}"]
        assert growth["goal"] >= 16
        assert growth["met"] is (growth["value"] <= growth["goal"])
        assert most["value"] >= max(found[f"postgres.memory.{role}"]["value"], most["limit"]) > 0
    assert "full speed" not in done.stderr, "with --json nothing but errors goes to what is no terminal"


@pytest.mark.slow
def test_the_bench_of_a_rail_pays_everybody_once_and_puts_its_cost_beside_that_of_its_signatures(
    tmp_path: Path, database_url: str
) -> None:
    done = hub(
        tmp_path, "bench", "payments", "--rail", "g2p_connect", "--ledger", "--messages", "500", "--json",
        HUB_DATABASE_URL=database_url,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["settings"] == {
        "rail": "g2p_connect", "payments": 500, "ledger": "both", "message_items": 100,
    }  # fmt: skip
    assert all(set(row) == BENCH_KEYS for row in report["results"])
    found = {row["metric"]: row for row in report["results"]}
    for name in ("single", "batch"):
        assert found[f"{name}.wrong"]["value"] == found[f"{name}.ledger.wrong"]["value"] == 0
        assert found[f"{name}.messages"]["value"] == (500 if name == "single" else 5)
        assert found[f"{name}.questions"]["value"] == 0, (
            "all are told by signed callbacks, none is asked about"
        )
        beside = sum(found[f"raw.{name}.{what}"]["value"] for what in ("sign", "verify"))
        share = beside if name == "single" else beside / 100
        assert found[f"{name}.cpu"]["limit"] == pytest.approx(share, abs=0.002, rel=0.1)
        assert found[f"{name}.cpu"]["value"] > found[f"{name}.cpu"]["limit"]


def outside(ministry: dict[str, str], mailbox: list[str]) -> SimpleNamespace:
    """Return receivers whose books hold the given events."""
    seen = [
        SimpleNamespace(id=id_, body=json.dumps({"originid": origin, "id": id_}).encode())
        for origin, id_ in ministry.items()
    ]
    return SimpleNamespace(
        ministry=SimpleNamespace(received=seen, effects=lambda: tuple(ministry.values())),
        mailbox=SimpleNamespace(effects=lambda: tuple(f"<{id_}@hub.example>" for id_ in mailbox)),
    )


@pytest.mark.parametrize("missing", [None, "ministry", "registry", "mailbox"])
def test_an_event_any_receiver_misses_counts_as_lost(missing: str | None) -> None:
    ids = {f"origin-{number}": str(uuid4()) for number in range(3)}
    sender = Sender("http://hub.example", "secret")
    sender.acknowledged = list(ids)
    books = {name: dict(ids) for name in ("ministry", "registry", "mailbox")}
    if missing is not None:
        del books[missing]["origin-1"]
    account = Account(3)
    _reconcile(
        account,
        sender,
        outside(books["ministry"], list(books["mailbox"].values())),  # type: ignore[arg-type]
        [{"id": id_} for id_ in books["registry"].values()],
    )
    assert account.lost == (0 if missing is None else 1)
    assert bool(account.wrong) is (missing is not None)


def test_a_day_holds_events_mistakes_repeats_and_reused_ids() -> None:
    kinds = [sending.kind for sending in day(200)]
    assert {"event", "malformed", "repeat", "reuse"} == set(kinds)
    assert kinds.count("event") + kinds.count("malformed") == 200
