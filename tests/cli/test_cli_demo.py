"""`hub demo` and `hub bench`: the programs a stranger runs first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from adapters.cli.demo import KEYS
from adapters.cli.demo.run import Account, Sender, _reconcile
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
        timeout=110,
        check=False,
    )


@pytest.mark.slow
def test_the_demo_loses_nothing_with_no_settings_at_all(tmp_path: Path) -> None:
    done = hub(tmp_path, "demo", "--json", "--events", "60")
    assert done.returncode == 0, done.stderr[-2000:]
    account = json.loads(done.stdout)
    assert list(account)[: len(KEYS)] == list(KEYS)
    assert account["lost"] == account["dead"] == 0
    assert account["delivered"] == 3 * account["accepted"] > 0
    assert account["retried"] > 0
    assert account["refused"] > 0
    assert account["duplicates"] > 0
    assert account["wrong"] == []


@pytest.mark.slow
@pytest.mark.rabbitmq
def test_the_demo_travels_over_rabbitmq_when_told_to(tmp_path: Path, broker_url: str) -> None:
    done = hub(tmp_path, "demo", "--json", "--events", "40", HUB_BROKER_URL=broker_url)
    assert done.returncode == 0, done.stderr[-2000:]
    account = json.loads(done.stdout)
    assert (account["broker"], account["lost"]) == ("rabbitmq", 0)


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
