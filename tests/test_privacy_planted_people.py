"""Planted people go through import, change request, merge and payment, faults included; what lies anywhere after it names nobody."""

from __future__ import annotations

import asyncio
import csv
import logging
import subprocess
import sys
from collections.abc import Awaitable, Iterator
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from services.path import everything_as_text
from services.programs import World

from canonical_model.errors import HubError
from canonical_model.message import uuid7
from registry.audit import AuditTrail, Verifier
from registry.changes import ChangeStore
from registry.duplicates.store import DuplicateStore
from registry.people import Documents, PeopleStore
from registry.people.tokens import registrant_tokens
from registry.settings import HubSettings
from registry.vault import Vault
from registry.vault.rotation import reseal
from routing import metrics

PLANTED = (
    "Zephyrine",
    "Oyelaran",
    "Kettunen",
    "700999888",
    "700999777",
    "zephyrine@planted.example",
    "NID-4471-8820",
    "NID-4471-9931",
    "ACC-90817263",
    "Jacaranda-Lane",
)
HEADER = (
    "identifier", "given_name", "family_name", "sex", "birthdate", "phone", "email", "address", "account",
)  # fmt: skip


def row(nid: str, given: str, **more: str) -> dict[str, str]:
    return {
        "identifier": nid, "given_name": given, "family_name": "Oyelaran-Kettunen", "sex": "female",
        "birthdate": "1990-04-02", "phone": "+254700999888", "email": "zephyrine@planted.example",
        "address": "7 Jacaranda-Lane", "account": "ACC-90817263",
    } | more  # fmt: skip


class Told:
    """Everything a program printed, an error said or a logger wrote."""

    def __init__(self, url: str, folder: Path) -> None:
        self.parts: list[str] = []
        self._url, self._folder = url, folder

    def hub(self, *words: str, fails: bool = False) -> str:
        """Run `hub WORDS`; what goes to standard output is shown to who may see it, all else must name nobody."""
        done = subprocess.run(
            [str(Path(sys.executable).parent / "hub"), *words],
            env={
                "PATH": "/usr/bin:/bin", "HUB_DATABASE_URL": self._url, "HUB_DATA_DIR": str(self._folder),
                "HUB_LOG_LEVEL": "DEBUG",
            },
            cwd=self._folder, capture_output=True, timeout=240, check=False, text=True,
        )  # fmt: skip
        assert (done.returncode != 0) is fails, done.stderr
        self.parts.append(done.stderr)
        return done.stdout

    async def error(self, work: Awaitable[Any]) -> None:
        """Keep what a refusal says, with everything it was caused by."""
        with pytest.raises(HubError) as caught:
            await work
        cause: BaseException | None = caught.value
        while cause is not None:
            self.parts.append(f"{cause!r} {cause}")
            cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


@pytest.fixture
def log() -> Iterator[StringIO]:
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


async def planted_file(folder: Path) -> Path:
    path = folder / "people.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER)
        writer.writeheader()
        writer.writerow(row("NID-4471-8820", "Zephyrine"))
        writer.writerow(row("NID-4471-9931", "Zephyrine B", phone="+254700999777"))
        writer.writerow(row("NID-4471-0000", "Zephyrine C", birthdate="Zephyrine's birthday"))
        writer.writerow(row("NID-4471-0001", "Zephyrine D", phone="70099988 of Zephyrine"))
    return path


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_nothing_planted_is_in_a_dump_logs_metrics_errors_objects_or_jobs(
    database_url: str, tmp_path: Path, log: StringIO
) -> None:
    told = Told(database_url, tmp_path)
    apart = tmp_path / "apart"
    apart.mkdir()
    file = await planted_file(apart)
    async with World(database_url, tmp_path) as world:
        people = PeopleStore(
            world.pool, world.vault, world.vault.blind, tokens=partial(registrant_tokens, world.vault.blind)
        )
        imported = await asyncio.to_thread(
            told.hub, "import", "run", str(file), "--source", "survey", "--problems", str(apart / "mend.csv"), "--json",
            fails=True,
        )  # fmt: skip
        told.parts.append(imported)
        assert await world.pool.fetchval("SELECT count(*) FROM registrant") == 2, imported
        assert await world.pool.fetchval("SELECT count(*) FROM import_problem") == 2, imported
        first, second = [
            each["id"] for each in await world.pool.fetch("SELECT id FROM registrant ORDER BY id")
        ]

        # A change of a name and an account, agreed to, then taken back; and the two made one.
        changes = ChangeStore(world.pool, world.vault, people)
        name = {"names": [{"given_name": "Zephyrine", "family_name": "Kettunen"}]}
        asked = await changes.submit({"type": "edit", "registrant": str(first), "set": name}, "user:maker")
        await changes.preview(asked.id, "look", "user:checker")
        await changes.decide(asked.id, "user:checker", ("approver",), agrees=True)
        merge = {"type": "merge", "survivor": str(first), "absorbed": str(second)}
        joined = await changes.submit(merge, "user:maker")
        await changes.decide(joined.id, "user:checker", ("approver",), agrees=True)
        found = await people.search.by_name("Zephyrine", purpose="look", actor="user:desk")
        assert [each.id for each in found.candidates] == [first]
        await people.reveal(first, "look", "user:desk")
        await people.reveal_history(first, "look", "user:auditor")
        documents = Documents(world.pool, world.vault, world.objects)
        kept = await documents.put(
            first, b"Birth of Zephyrine Oyelaran", kind="certificate", media_type="text/plain", source="s", actor="a"
        )  # fmt: skip
        await documents.open(kept.id, "look", "user:desk")

        # Paid, with a failed payment.
        await world.program()
        await world.enroll()
        cycle = await world.distributed()
        rows = await world.fetch_all(cycle)
        assert any("Zephyrine" in str(each) for each in rows), "the rail got the person"
        (payment,) = await world.payments(cycle)
        await world.say(payment["id"], "failed", reason_code="account-closed")

        # What is refused, with the person in every place.
        for wrong in (
            {"names": "Zephyrine"},
            {"identifiers": [{"id_type": "NID", "value": "NID-4471-8820"}], "sex": "Zephyrine Oyelaran"},
            {"identifiers": [{"id_type": "NID", "value": "NID-4471-8820"}], "Zephyrine": "Oyelaran"},
            {"contact_points": [{"kind": "mobile", "value": "Zephyrine +254700999888"}]},
        ):
            await told.error(people.upsert(wrong, source="survey", message_id=uuid7()))
        await told.error(people.search.by_name("Zephyrine" * 40, purpose="p", actor="a"))
        edit = {"type": "edit", "registrant": str(first), "set": {"sex": "Zephyrine", "names": "Oyelaran"}}
        await told.error(changes.submit(edit, "user:maker"))
        await DuplicateStore(world.pool, world.vault, changes).listed(purpose="look", actor="user:desk")

        jobs = await world.pool.fetch("SELECT j::text AS line FROM job j")
        tables = await everything_as_text(world.pool)
        dump = await asyncio.to_thread(
            subprocess.run, ["pg_dump", database_url], capture_output=True, check=True, timeout=60
        )
        places = {
            "errors and logs of programs": "\n".join(told.parts),
            "logs": log.getvalue(),
            "metrics": metrics.render().decode(),
            "jobs": "\n".join(each["line"] for each in jobs),
            "tables": tables,
            "dump": dump.stdout.decode("utf-8", "replace"),
            "object store and data folder": "\n".join(
                f"{path} {path.read_bytes().decode('latin-1')}"
                for path in tmp_path.rglob("*")
                if path.is_file() and apart not in path.parents
            ),
        }
        assert str(first) in places["dump"]
        assert "import-run" in places["jobs"] or "import" in places["jobs"]
        assert kept.id.hex in places["object store and data folder"]
        for place, text in places.items():
            for value in PLANTED:
                for form in (value, value.casefold(), value.encode().hex()):
                    assert form not in text, f"{value!r} is in the {place}: {around(text, form)}"

        await everybody_is_told(world, first)
        # Everything that was sealed on the way opens where it lies, and nothing fell out of the trail.
        await world.pool.execute(
            "UPDATE data_key SET scope = replace(scope, to_char(now(), 'YYYY-MM'), '2020-01')"
        )
        fresh = await Vault.open(world.pool, HubSettings(data_dir=tmp_path))
        again = await reseal(world.pool, fresh)
        assert (again.left, again.broken) == (0, [])
        assert {
            "registrant_vault.sealed", "registrant_change.sealed", "registrant_merge.sealed", "change_request.sealed",
            "change_request.undo", "import_problem.sealed", "message.body",
        } <= {name for name, number in again.columns.items() if number}  # fmt: skip
        report = await Verifier(world.pool, fresh).verify()
        assert report.whole, report.breaks
        await people.close()


async def everybody_is_told(world: World, id_: UUID) -> None:
    """Every way somebody looked at the person is found by one query."""
    looks = await AuditTrail(world.pool, world.vault).who(id_, looks=True, limit=200)
    assert {each.action for each in looks} >= {
        "change.reveal", "registrant.search", "person.reveal", "person.history", "document.opened", "payment_batch.fetch",
    }  # fmt: skip


def around(text: str, value: str) -> str:
    at = text.find(value)
    return text[max(0, at - 300) : at + 300]
