"""A benefit cycle: from a file of people to reconciled payments, with everybody's books compared at the end."""

from __future__ import annotations

import asyncio
import csv
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from adapters.cli.demo.households import HEADER, Crowd, invent
from adapters.cli.demo.rails import DEPLOYMENT, Rails
from adapters.cli.demo.run import Sender, settle
from adapters.cli.demo.settling import RailAccount, compare, paid_out, take_one_back
from adapters.cli.demo.terms import CURRENCY, PROGRAMS
from adapters.cli.demo.traffic import death_of
from adapters.cli.imports import correction_file
from adapters.cli.output import Told
from adapters.embedded import CIVIL_REGISTRY
from adapters.embedded.config import secret_of
from adapters.hub import Hub
from canonical_model.errors import Defect, Refused
from canonical_model.money import Money
from canonical_model.program import ProgramStatus
from registry.duplicates import DuplicateStore
from registry.duplicates.job import KIND as FIND_DUPLICATES
from registry.imports.columns import Kind
from registry.imports.job import known_areas
from registry.imports.run import Counts, Import, propose
from registry.imports.source import Reading, Source
from registry.imports.store import ImportStore
from registry.imports.writing import PeopleWriter
from registry.jobs import Job, JobRunner
from registry.programs import Cycle
from routing.ledger_desk import Desk

DEPOSIT: Final = 1_500_000_000
MAKER, MANAGER, FINANCE = "user:mary", "user:chris", "user:dina"
_IMPORT: Final = "import-here"
_WITHIN: Final = 60.0
_SUMS: Final = ("payments", "ordered", "paid", "failed", "unknown", "cancelled")


@dataclass(slots=True)
class Paid:
    """One cycle's account, in minor units."""

    cycle: str
    route: str
    payees: int = 0
    """Entitlements of the approved cycle: households, or people."""
    entitled: int = 0
    """What the approved cycle gives; a payment that was stopped is part of it and of no order."""
    payments: int = 0
    ordered: int = 0
    paid: int = 0
    failed: int = 0
    unknown: int = 0
    cancelled: int = 0
    stopped: int = 0
    balanced: bool = False


@dataclass(slots=True)
class Benefit:
    """What happened from the file to the reconciled payments."""

    people: int = 0
    households: int = 0
    rows_faulty: int = 0
    rows_mended: int = 0
    problems: list[str] = field(default_factory=list)
    duplicates_found: int = 0
    duplicates_merged: int = 0
    duplicates_distinct: int = 0
    maker_refused: str = ""
    cycles: list[Paid] = field(default_factory=list)
    rails: list[RailAccount] = field(default_factory=list)
    stopped: dict[str, Any] = field(default_factory=dict)
    fund: dict[str, int] = field(default_factory=dict)
    currency: str = CURRENCY
    balanced: bool = False
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Office:
    """The programme office, working on an open hub that delivers."""

    def __init__(self, hub: Hub, rails: Rails, url: str, folder: Path, told: Told) -> None:
        self._hub, self._rails, self._url, self._folder, self._told = hub, rails, url, folder, told
        self.account = Benefit()

    async def run(self, people: int) -> Benefit:
        """Do the whole cycle; what does not agree is told in `wrong`."""
        began = time.monotonic()
        today = datetime.now(UTC).date()
        made = invent(people, today)
        await self._import(made)
        await self._resolve(made)
        cycles = [await self._prepare(terms, today) for terms in await self._open_books()]
        await self._mourn(made, cycles)
        await self._pay(made, cycles)
        await self._hear_back(cycles)
        await self._reconcile()
        self.account.seconds = time.monotonic() - began
        return self.account

    def _expect(self, holds: bool, sentence: str) -> None:
        if not holds:
            self.account.wrong.append(sentence)

    async def _job(self, doing: str, id_: UUID) -> Job:
        """Watch a job the hub works on; raises what it ended with."""
        async with asyncio.timeout(_WITHIN):
            while not (job := await self._hub.jobs.get(id_)).ended:
                self._told(doing, job.done, job.total)
                await asyncio.sleep(0.03)
        if job.error is not None:
            raise Refused(job.error["detail"], code=job.error["code"], remedy=job.error["remedy"])
        return job

    # From the file to one row for each person

    async def _import(self, made: Crowd) -> None:
        account = self.account
        file, problems, mended = (self._folder / name for name in ("people.csv", "mend.csv", "mended.csv"))
        made.write(file)
        first = await self._load(file, problems)
        account.rows_faulty = first.untaken
        account.problems = _said(problems)
        account.rows_mended = made.mend(problems, mended)
        second = await self._load(mended, None)
        account.people = first.created + second.created
        account.households = made.households
        self._expect(
            first.untaken == len(made.dates), "the import did not find the wrong dates that are in the file"
        )
        self._expect(account.people == len(made.rows), "not every row of the file became a person")

    async def _load(self, file: Path, problems: Path | None) -> Counts:
        hub, source = self._hub, Source(file)
        mapping = propose(source, Kind.INDIVIDUAL)
        self._expect(
            sum(one.field is not None for one in mapping.columns) >= len(HEADER),
            "a column was not recognised",
        )
        reading = Reading(
            mapping, hub.catalog.declared("individual"), await known_areas(hub.pool), hub.settings.region
        )
        submitted = await hub.jobs.submit(
            _IMPORT, actor=MAKER, params={"mapping": mapping.name}, once=file.name
        )
        write = PeopleWriter(hub.people.writer, source="office", actor=MAKER, at=submitted.job.created_at)
        store = ImportStore(hub.pool, hub.vault)
        runner = JobRunner(hub.pool, hub.id, {_IMPORT: Import(hub.pool, store, write, source, reading).run})
        job = await runner.run(submitted.job.id, lambda done, total: self._told("importing", done, total))
        if job.result is None:
            raise Defect("The import ended without a result.")
        with correction_file(problems, source) as out:
            if out is not None:
                async for one in store.kept(job.id):
                    out.write(one.number, one.cells, one.problems)
        return Counts.of(job.result)

    async def _resolve(self, made: Crowd) -> None:
        hub, account = self._hub, self.account
        store = DuplicateStore(hub.pool, hub.vault, hub.changes)
        found = await hub.jobs.submit(FIND_DUPLICATES, actor=MAKER, params={}, once="demo")
        await self._job("comparing", found.job.id)
        pairs = await store.listed(state="open", limit=200, purpose="demonstration", actor=MAKER)
        account.duplicates_found = len(pairs)
        same = {frozenset([await self._who(one), await self._who(other)]) for one, other in made.twice}
        for pair in pairs:
            decision = "duplicate" if {pair.first, pair.second} in same else "distinct"
            decided = await store.decide(pair.first, pair.second, decision, MAKER)
            if decided.request_id is None:
                account.duplicates_distinct += 1
                continue
            done = await hub.changes.decide(decided.request_id, MANAGER, ["approver"], agrees=True)
            account.duplicates_merged += done.state == "applied"
        self._expect(
            account.duplicates_merged == len(made.twice), "not every planted duplicate was found and merged"
        )
        self._expect(account.duplicates_distinct >= 1, "the twins were not shown to anybody")

    async def _who(self, uin: str) -> UUID:
        found = await self._hub.people.find_by_identifier("UIN", uin)
        if found is None:
            raise Defect("A person of the file is not in the registry.")
        return found.id

    # From people to an approved cycle

    async def _open_books(self) -> tuple[dict[str, Any], ...]:
        programs = self._hub.programs
        await programs.make_fund("main", {"en": "Social protection fund"}, CURRENCY, MAKER)
        money = Money(minor_units=DEPOSIT, currency=CURRENCY)
        await programs.move_money("main", "deposit", money, MAKER, once="demo")
        return PROGRAMS

    async def _prepare(self, terms: dict[str, Any], today: date) -> Cycle:
        programs, code = self._hub.programs, terms["code"]
        await programs.define(terms, MAKER)
        await programs.set_state(code, ProgramStatus.ACTIVE, MAKER)
        await self._job("enrolling", await programs.enroll(code, MAKER))
        start = today.replace(day=1)
        opened, job, _ = await programs.open_cycle(code, MAKER, start=start, end=start + timedelta(days=27))
        await self._job("opening", job)
        cycle = await programs.cycle(code, opened.sequence)
        if cycle.prepared_at is None:
            await self._job("preparing", await programs.prepare(cycle.id, MAKER))
        await self._job("submitting", await programs.submit(cycle.id, MAKER))
        try:
            await programs.approve(cycle.id, MAKER, ["manager"])
        except Refused as refused:
            self.account.maker_refused = refused.code
        self._expect(self.account.maker_refused == "approval-own", "who made a cycle could approve it")
        await programs.approve(cycle.id, MANAGER, ["manager"])
        done = await programs.approve(cycle.id, FINANCE, ["finance"])
        if done.job is not None:
            await self._job("approving", done.job)
        cycle = await programs.cycle(code, opened.sequence)
        payment = cycle.managers.payment
        self.account.cycles.append(Paid(cycle.name, str(payment.route), cycle.entitlements, cycle.total))
        return cycle

    # Between approval and payment, and after it

    async def _mourn(self, made: Crowd, cycles: list[Cycle]) -> None:
        """Let the civil registry tell of a death, by the same call as every other day."""
        told = ("UIN", "Given name", "Family name", "Gender", "Date of birth")
        uin, given, family, sex, born = (made.mourned[HEADER.index(name)] for name in told)
        who = await self._who(uin)
        sender = Sender(self._url, secret_of(self._hub.settings.data_dir, CIVIL_REGISTRY))
        await sender.send([death_of(uin, given, family, sex, born)], lambda _: None)
        await settle(self._hub, self._told, "hearing")
        self._expect(len(sender.acknowledged) == 1, "the death was not acknowledged")
        for cycle, account in zip(cycles, self.account.cycles, strict=True):
            for held in await self._hub.programs.entitlements(cycle.id, held="registrant-deceased"):
                account.stopped += held["amount"]
                if held["recipient_id"] == who and not self.account.stopped:
                    self.account.stopped = {
                        "cycle": cycle.name, "entitlement": held["number"], "amount": held["amount"],
                        "reason": held["held"], "recipient": str(who), "household": str(held["registrant_id"]),
                    }  # fmt: skip
        self._expect(bool(self.account.stopped), "the death of a recipient stopped no payment")

    async def _pay(self, made: Crowd, cycles: list[Cycle]) -> None:
        """Order everything; one payment is taken back while its rail is stopped."""
        hub, desk = self._hub, Desk(self._hub.pool, self._hub.books)
        self._rails.misbehave(made.wallets(heads=True), made.wallets())
        await hub.books.stop(DEPLOYMENT, None, "demonstration")
        for cycle in cycles:
            await self._job("ordering", await hub.programs.distribute(cycle.id, MAKER))
        await settle(hub, self._told, "ordering")
        await take_one_back(desk, DEPLOYMENT, MANAGER)
        await desk.resume(DEPLOYMENT, actor=MANAGER)
        await paid_out(hub, self._told, _WITHIN)
        await settle(hub, self._told, "hearing back")
        for name, moved in self._rails.books().items():
            account, wrong = await compare(hub, desk, name, moved)
            self.account.rails.append(account)
            self.account.wrong += wrong

    async def _hear_back(self, cycles: list[Cycle]) -> None:
        """Take what the results said into each cycle's account."""
        for cycle, account in zip(cycles, self.account.cycles, strict=True):
            sums = await self._hub.programs.reconcile(cycle.id)
            for name in _SUMS:
                setattr(account, name, sums[name])
            account.balanced = sums["balanced"]

    async def _reconcile(self) -> None:
        account = self.account
        (fund,) = await self._hub.programs.funds()
        account.fund = {name: fund[name] for name in ("deposited", "reserved", "spent", "fees", "available")}
        for one in account.cycles:
            outcomes = one.paid + one.failed + one.unknown + one.cancelled
            self._expect(one.balanced and outcomes == one.ordered > 0, f"{one.cycle}: the sums do not agree")
            self._expect(one.ordered + one.stopped == one.entitled, f"{one.cycle}: an entitlement is lost")
        self._expect(
            fund["balanced"] and fund["spent"] == sum(one.paid for one in account.cycles), "the fund is wrong"
        )
        self._expect(
            fund["deposited"] == sum(fund[name] for name in ("reserved", "spent", "fees", "available")),
            "money is lost",
        )
        for name in _SUMS:
            self._expect(
                sum(getattr(one, name) for one in account.rails)
                == sum(getattr(one, name) for one in account.cycles),
                f"the ledger and the programs disagree about what is {name}",
            )
        self._expect(not await self._hub.programs.disputes(), "a result is disputed")
        account.balanced = not account.wrong


def _said(problems: Path) -> list[str]:
    """Return what the file of problems says of its rows, with the value as the file had it."""
    with problems.open(encoding="utf-8-sig", newline="") as file:
        return [
            f"row {row['_row']}, {row['Date of birth']} – {row['_problems']}" for row in csv.DictReader(file)
        ]
