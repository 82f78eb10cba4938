"""Programs put together for tests: a real database and message path, registrants written as the registry writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from services.path import MessagePath, route

from canonical_model.errors import Refused
from canonical_model.message import Message, uuid7
from canonical_model.money import Money
from canonical_model.payment import PaymentResult
from canonical_model.program import ProgramStatus
from registry.jobs import Job, JobRunner
from registry.people import PeopleStore
from registry.programs import Cycle, Programs, RuleSource, Said
from registry.storage.periods import ensure
from routing.outbox import HubOutbox

MAKER, CHECKER, SECOND = "user:mary", "user:chris", "user:sam"
ROLE = ["approver"]
START, END = date(2026, 1, 1), date(2026, 1, 31)


@dataclass(frozen=True)
class SqlRule:
    """A rule that is SQL already; `:as_of` stands for the day."""

    text: str
    as_of: date

    def sql(self, first: int = 1) -> tuple[str, Sequence[Any]]:
        if ":as_of" in self.text:
            return self.text.replace(":as_of", f"${first}::date"), (self.as_of,)
        return self.text, ()

    def joined(self, first: int = 1) -> tuple[str, str, str, Sequence[Any]]:
        return ("", "", *self.sql(first))


class SqlRules:
    """Takes SQL expressions over the alias `r` for rules, as the compiler of rules gives them."""

    def __call__(
        self, text: str, *, target: str, result: str, as_of: date, program: str | None = None
    ) -> SqlRule:
        return SqlRule(text, as_of)


async def sql_rules(connection: Any) -> RuleSource:
    """Give the rule source of tests."""
    return SqlRules()


def terms(code: str = "cash", **more: Any) -> dict[str, Any]:
    """Return the terms of a program of cash, 5000 minor units each."""
    return {
        "code": code, "names": {"en": "Cash for all"}, "currency": "KES", "fund": "main", "eligibility": "true",
        "benefit": {"kind": "cash", "amounts": [{"amount": "5000"}]},
    } | more  # fmt: skip


class World(MessagePath):
    """A message path with programs on it."""

    programs: Programs
    people: PeopleStore

    def __init__(
        self, database_url: str, folder: Path, *, routes: Sequence[str] = (), chunk: int = 3, **more: Any
    ) -> None:
        super().__init__(
            database_url, folder, routes or [route("pay", when={"type": "org.openspp.payment.*"})], **more
        )
        self._chunk = chunk

    async def __aenter__(self) -> World:
        await super().__aenter__()
        await ensure(self.pool, "month")
        self.people = PeopleStore(self.pool, self.vault, self.vault.blind, delay=0.001)
        self.programs = Programs(
            self.pool, self.vault, HubOutbox(self.intake), rules=sql_rules, chunk=self._chunk
        )
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self.programs.close()
        await self.people.close()
        await super().__aexit__(*exc)

    async def drive(self, job_id: UUID) -> Job:
        """Run a job to its end here; raises the refusal it ended with."""
        job = await JobRunner(self.pool, uuid7(), self.programs.kinds).run(job_id)
        if job.error is not None:
            raise Refused(job.error["detail"], code=job.error["code"], remedy=job.error["remedy"])
        return job

    async def persons(self, count: int, **columns: Any) -> list[UUID]:
        """Write individuals with what rules need only, and return their ids in order."""
        return await self._registrants("individual", count, columns)

    async def _registrants(self, kind: str, count: int, columns: dict[str, Any]) -> list[UUID]:
        ids = sorted(uuid7() for _ in range(count))
        names = ["id", "kind", "source", *columns]
        places = ", ".join(f"${number}" for number in range(2, len(columns) + 2))
        await self.pool.execute(
            f"INSERT INTO registrant ({', '.join(names)}) SELECT id, '{kind}', 'urn:test'{', ' if columns else ''}{places} "
            "FROM unnest($1::uuid[]) AS t (id)",
            ids,
            *columns.values(),
        )
        return ids

    async def person(self, number: str, *, account: str | None = None, currency: str | None = None) -> UUID:
        """Write a whole person, sealed identity and all."""
        data: dict[str, Any] = {
            "identifiers": [{"id_type": "UIN", "value": f"NID-{number}"}],
            "names": [{"full_name": f"Amina Barasa {number}"}],
        }
        if account is not None:
            given = {"kind": "bank", "provider": "bank-a", "account_number": account, "currency": currency}
            data["accounts"] = [{key: value for key, value in given.items() if value is not None}]
        done = await self.people.upsert(data, source="urn:test", message_id=uuid7(), at=datetime.now(UTC))
        assert done.id is not None
        return done.id

    async def group(self, members: dict[UUID, list[str]], **columns: Any) -> UUID:
        """Write a household with members by id and roles."""
        (id_,) = await self._registrants("group", 1, {"group_kind": "household", **columns})
        for member, roles in members.items():
            await self.join(id_, member, roles)
        return id_

    async def join(self, group_id: UUID, member_id: UUID, roles: list[str]) -> None:
        """Make somebody a member."""
        await self.pool.execute(
            "INSERT INTO membership (id, group_id, member_id, roles, source) VALUES ($1, $2, $3, $4, 'urn:test')",
            uuid7(),
            group_id,
            member_id,
            roles,
        )

    async def program(self, code: str = "cash", *, money: int = 10_000_000, **more: Any) -> None:
        """Define and start a program whose fund holds so much."""
        given = terms(code, **more)
        if given.get("fund"):
            await self.programs.make_fund(given["fund"], {"en": "Main"}, given["currency"], "user:fin")
            if money:
                amount = Money(minor_units=money, currency=given["currency"])
                await self.programs.move_money(given["fund"], "deposit", amount, "user:fin")
        await self.programs.define(given, "user:admin")
        await self.programs.set_state(code, ProgramStatus.ACTIVE, "user:admin")

    async def enroll(self, code: str = "cash") -> Job:
        """Enroll by the rule."""
        return await self.drive(await self.programs.enroll(code, MAKER))

    async def opened(self, code: str = "cash", start: date = START, end: date = END) -> Cycle:
        """Open a cycle with its snapshot."""
        cycle, job, _ = await self.programs.open_cycle(code, MAKER, start=start, end=end)
        await self.drive(job)
        return await self.programs.cycle(code, cycle.sequence)

    async def prepared(self, code: str = "cash", start: date = START, end: date = END) -> Cycle:
        """Open a cycle and make its entitlements."""
        cycle = await self.opened(code, start, end)
        await self.drive(await self.programs.prepare(cycle.id, MAKER))
        return await self.programs.cycle(code, cycle.sequence)

    async def submitted(self, code: str = "cash", start: date = START, end: date = END) -> Cycle:
        """Open a cycle, make its entitlements and submit it."""
        cycle = await self.prepared(code, start, end)
        await self.drive(await self.programs.submit(cycle.id, MAKER))
        return await self.programs.cycle(code, cycle.sequence)

    async def approved(self, code: str = "cash", start: date = START, end: date = END) -> Cycle:
        """Open a cycle and see it approved."""
        cycle = await self.submitted(code, start, end)
        done = await self.programs.approve(cycle.id, CHECKER, ROLE)
        assert done.job is not None
        await self.drive(done.job)
        return await self.programs.cycle(code, cycle.sequence)

    async def distribute(self, cycle: Cycle) -> Job:
        """Order the payments of a cycle."""
        return await self.drive(await self.programs.distribute(cycle.id, MAKER))

    async def distributed(self, code: str = "cash", start: date = START, end: date = END) -> Cycle:
        """Open a cycle and take it to distribution."""
        cycle = await self.approved(code, start, end)
        await self.distribute(cycle)
        return await self.programs.cycle(code, cycle.sequence)

    async def fetch_all(self, cycle: Cycle) -> list[dict[str, Any]]:
        """Fetch the rows of every batch of a cycle, as a connector does."""
        rows = []
        for batch in await self.pool.fetch(
            "SELECT id, version FROM payment_batch WHERE cycle_id = $1 AND message_id IS NOT NULL ORDER BY number",
            cycle.id,
        ):
            rows += [
                row
                async for row in self.programs.rows.stream(f"payment_batch/{batch['id']}/{batch['version']}")
            ]
        return rows

    async def payments(self, cycle: Cycle) -> list[asyncpg.Record]:
        """Return the payments of a cycle in their order."""
        return list(
            await self.pool.fetch(
                "SELECT p.* FROM payment p JOIN payment_batch b ON b.id = p.batch_id WHERE b.cycle_id = $1 ORDER BY p.id",
                cycle.id,
            )
        )

    async def say(
        self,
        payment_id: UUID,
        status: str,
        paid: int | None = None,
        *,
        message_id: UUID | None = None,
        **more: Any,
    ) -> Any:
        """Bring the result of one payment."""
        given: dict[str, Any] = {"payment_id": payment_id.hex, "status": status, **more}
        if paid is not None:
            given["amount_paid"] = {"minor_units": paid, "currency": more.get("currency", "KES")}
            given.pop("currency", None)
        result = PaymentResult.model_validate_json(orjson.dumps(given))
        (done,) = await self.programs.apply_results([Said(message_id or uuid7(), result)])
        return done

    async def messages(self, type_: str) -> list[Message]:
        """Return every message of a type as it was stored, opened, in order."""
        rows = await self.pool.fetch(
            "SELECT id, key_id, body FROM message WHERE type = $1 ORDER BY id", type_
        )
        found = []
        for row in rows:
            key = await self.vault.key(row["key_id"])
            found.append(
                Message.from_stored(
                    key.open(row["body"], b"\x00".join((b"message", b"body", row["id"].bytes)))
                )
            )
        return found

    async def money(self, code: str = "main") -> tuple[int, int, int]:
        """Return what is available, reserved and spent of a fund."""
        fund = await self.programs.fund(code)
        return fund.available, fund.reserved, fund.spent
