"""The service of programs: each call one transaction, long work as jobs; what the command line, adapters and connectors use."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from datetime import date, datetime
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID, uuid5

import asyncpg
import orjson
from pydantic import ValidationError

from canonical_model.decision import DecisionResult, DecisionSlot
from canonical_model.errors import HubError, Refused
from canonical_model.money import Money
from canonical_model.payment import PaymentResult, PaymentResults
from canonical_model.program import CycleStatus, ProgramStatus
from registry.jobs import JobStore, Kinds
from registry.programs import (
    approvals,
    closing,
    cycles,
    decisions,
    definition,
    enrolling,
    funds,
    reconciliation,
    results,
    work,
)
from registry.programs.approvals import Approved
from registry.programs.cycles import Cycle
from registry.programs.definition import Program
from registry.programs.funds import Fund
from registry.programs.kinds import ENROLL, program_kinds
from registry.programs.payouts import Payouts
from registry.programs.refusals import CHUNK, Connection
from registry.programs.results import Done, Said
from registry.programs.rows import BatchRows
from registry.programs.rules import Rules, declared
from registry.programs.terms import ProgramTerms, read
from registry.storage.database import database_errors
from registry.storage.group import GroupCommit
from registry.storage.held import held
from registry.storage.outbox import Outbox
from registry.vault import ReferenceVault, Vault

_T = TypeVar("_T")
_RESULTS: Final = 500
_WAIT: Final = 10.0


class Programs(Payouts):
    """Programs from definition to reconciliation.

    Every method raises `Refused` with a stable code for what cannot be done, having changed nothing, and `Unavailable`
    while the database is away. What starts long work returns the id of its job, which a runner with `kinds` works on.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        vault: Vault,
        outbox: Outbox,
        *,
        rules: Rules = declared,
        chunk: int = CHUNK,
        delay: float = 0.003,
        references: ReferenceVault | None = None,
    ) -> None:
        super().__init__(pool, vault, outbox)
        self._rules = rules
        self._chunk = chunk
        self._jobs = JobStore(pool)
        self.rows = BatchRows(pool, vault, references)
        self._results: GroupCommit[Said, Done] = GroupCommit(
            self._apply, delay=delay, most=_RESULTS, parallel=1
        )

    @property
    def kinds(self) -> Kinds:
        """The handlers of the jobs of programs."""
        return program_kinds(self._outbox, self.rows, self._rules, chunk=self._chunk)

    def on(self, connection: Connection) -> Programs:
        """Return the service working in a transaction somebody holds."""
        bound = copy(self)
        bound._pool = held(connection)
        return bound

    # Programs and funds

    async def define(
        self, terms: Mapping[str, Any], actor: str, *, dry: bool = False
    ) -> tuple[Program | None, bool]:
        """Make a program or change its terms; with `dry` only check them. Says whether anything changed."""
        checked = read(ProgramTerms, terms, "The program")
        async with self._do("defining a program") as connection:
            rules = await self._rules(connection)
            if dry:
                definition.check_rules(checked, rules)
                return None, False
            return await definition.define(connection, checked, actor, rules, self._outbox)

    async def program(self, code: str) -> Program:
        """Return a program by its code."""
        return await self._one("reading a program", definition.get, code)

    async def programs(self, after: str = "", limit: int = 100) -> list[Program]:
        """Return programs by code, behind `after`."""
        return await self._one("listing programs", definition.listed, after, limit)

    async def set_state(self, code: str, state: ProgramStatus, actor: str) -> Program:
        """Activate, pause or end a program."""
        return await self._one("changing a program", definition.set_state, code, state, actor, self._outbox)

    async def make_fund(
        self, code: str, names: Mapping[str, str], currency: str, actor: str, *, fees_by: str = funds.PROGRAM
    ) -> Fund:
        """Make a fund, or return the one of this code and currency."""
        return await self._one("making a fund", funds.make, code, names, currency, actor, fees_by=fees_by)

    async def bear_fees(self, code: str, fees_by: str, actor: str) -> Fund:
        """Say who bears the fees of rails from now on."""
        return await self._one("changing a fund", funds.bear_fees, code, fees_by, actor)

    async def fund(self, code: str) -> Fund:
        """Return a fund by its code."""
        return await self._one("reading a fund", funds.get, code)

    async def funds(self) -> list[dict[str, Any]]:
        """Return what every fund holds and what became of it."""
        return await self._one("reading funds", reconciliation.of_funds)

    async def fund_entries(
        self, code: str, before: UUID | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Return the newest entries of a fund."""
        return await self._one("reading a fund", funds.entries, code, before, limit)

    async def move_money(
        self,
        code: str,
        kind: str,
        money: Money,
        actor: str,
        *,
        reason: str | None = None,
        once: str | None = None,
    ) -> tuple[Fund, bool]:
        """Deposit into a fund or withdraw from it; the same `once` moves money once."""
        return await self._one("moving money", funds.move, code, kind, money, actor, reason=reason, once=once)

    # Enrollment

    async def preview(self, code: str, today: date | None = None) -> dict[str, int]:
        """Count who is eligible now, without changing anything."""
        async with self._do("previewing eligibility") as connection:
            program = await definition.get(connection, code)
            for setting in work.SETTINGS:
                await connection.execute(setting)
            return await enrolling.preview(connection, program, await self._rules(connection), today)

    async def enroll(self, code: str, actor: str) -> UUID:
        """Enroll by the program's rule; return the job. While one of this program is under way, that one is returned."""
        async with self._do("enrolling") as connection:
            program = await definition.get(connection, code, lock=True)
            if program.state is not ProgramStatus.ACTIVE:
                raise definition.wrong_state(program, "enroll")
            running = await work.live(connection, ENROLL, "program", code)
            return running or await work.submit(self._jobs, connection, ENROLL, actor, {"program": code})

    async def enroll_list(
        self, code: str, ids: Sequence[UUID], actor: str, *, reason: str | None = None
    ) -> dict[str, int]:
        """Enroll the registrants of a list."""
        async with self._do("enrolling") as connection:
            program = await definition.get(connection, code)
            return await enrolling.by_list(connection, program, ids, actor, self._outbox, reason=reason)

    async def move_enrollments(
        self, code: str, ids: Sequence[UUID], to: enrolling.Move, actor: str, *, reason: str | None = None
    ) -> dict[str, int]:
        """Pause, resume or exit the enrollments of a list."""
        async with self._do("changing enrollments") as connection:
            program = await definition.get(connection, code)
            return await enrolling.move(connection, program, ids, to, actor, self._outbox, reason=reason)

    async def enrollments(self, code: str) -> dict[str, int]:
        """Count the enrollments of a program by state."""
        async with self._do("counting enrollments") as connection:
            return await enrolling.counts(connection, await definition.get(connection, code))

    async def place(self, code: str, registrant_id: UUID) -> list[dict[str, Any]]:
        """Return the states a registrant has had in a program."""
        async with self._do("reading an enrollment") as connection:
            return await enrolling.place(connection, await definition.get(connection, code), registrant_id)

    # Cycles

    async def open_cycle(
        self, code: str, actor: str, *, start: date | None = None, end: date | None = None
    ) -> tuple[Cycle, UUID, bool]:
        """Open a cycle; return it, the job of its snapshot and whether it is new."""
        async with self._do("opening a cycle") as connection:
            program = await definition.get(connection, code)
            return await cycles.open_(
                self._jobs, connection, program, actor, self._outbox, start=start, end=end
            )

    async def cycle(self, code: str, sequence: int) -> Cycle:
        """Return the cycle of this number."""
        return await self._one("reading a cycle", cycles.named, code, sequence)

    async def cycles(
        self, code: str | None = None, before: UUID | None = None, limit: int = 100
    ) -> list[Cycle]:
        """Return the newest cycles."""
        return await self._one("listing cycles", cycles.listed, code, before, limit)

    async def snapshot(self, cycle_id: UUID, actor: str) -> UUID:
        """Go on with the snapshot of a cycle that was stopped; return the job."""
        return await self._one(
            "opening a cycle",
            partial(cycles.start, self._jobs),
            cycle_id,
            "snapshot",
            {CycleStatus.DRAFT},
            actor,
        )

    async def prepare(self, cycle_id: UUID, actor: str) -> UUID:
        """Make the entitlements of a cycle; return the job. Raises `Refused` (`cycle-incomplete`) before its snapshot is done."""
        async with self._do("preparing a cycle") as connection:
            cycle = await cycles.get(connection, cycle_id, lock=True)
            if cycle.snapshot_at is not None and not await decisions.answered(
                connection, cycle_id, DecisionSlot.ENTITLEMENT
            ):
                raise Refused(
                    f"The service that says the amounts of cycle {cycle.name} has not answered for everybody. Nothing was prepared.",
                    code="cycle-incomplete",
                    remedy="Look where the question is (`hub messages list`), then try again.",
                )
            if cycle.snapshot_at is None:
                raise Refused(
                    f"The snapshot of cycle {cycle.name} is not done. Nothing was prepared.",
                    code="cycle-incomplete",
                    remedy="Wait for it, or go on with it (`hub program cycle open` with the same days).",
                )
            return await cycles.start(
                self._jobs,
                connection,
                cycle_id,
                "prepare",
                {CycleStatus.DRAFT},
                actor,
                total=cycle.beneficiaries,
                as_maker=True,
            )

    async def submit(self, cycle_id: UUID, actor: str) -> UUID:
        """Submit a cycle for approval; return the job."""
        return await self._one("submitting a cycle", partial(approvals.submit, self._jobs), cycle_id, actor)

    async def approve(
        self, cycle_id: UUID, actor: str, roles: Collection[str], *, step: int | None = None
    ) -> Approved:
        """Agree to the next step of a cycle's approval."""
        return await self._one(
            "approving a cycle",
            partial(approvals.approve, self._jobs),
            cycle_id,
            actor,
            roles,
            self._outbox,
            step=step,
        )

    async def reject(self, cycle_id: UUID, actor: str, roles: Collection[str], reason: str) -> UUID:
        """Send a cycle back to who made it; return the job."""
        return await self._one(
            "sending a cycle back",
            partial(approvals.reject, self._jobs),
            cycle_id,
            actor,
            roles,
            self._outbox,
            reason,
        )

    async def approvals(self, cycle_id: UUID) -> list[dict[str, Any]]:
        """Return who agreed to a cycle or sent it back."""
        return await self._one("reading approvals", approvals.listed, cycle_id)

    async def distribute(self, cycle_id: UUID, actor: str) -> UUID:
        """Order the payments of a cycle, again for what was released since; return the job."""
        states = {CycleStatus.APPROVED, CycleStatus.DISTRIBUTED}
        return await self._one(
            "distributing a cycle", partial(cycles.start, self._jobs), cycle_id, "distribute", states, actor
        )

    async def end_cycle(self, cycle_id: UUID, actor: str) -> UUID:
        """End a cycle; return the job."""
        return await self._one("ending a cycle", partial(closing.end, self._jobs), cycle_id, actor)

    async def cancel_cycle(self, cycle_id: UUID, actor: str) -> UUID:
        """Cancel a cycle; return the job."""
        return await self._one(
            "cancelling a cycle", partial(closing.cancel, self._jobs), cycle_id, actor, self._outbox
        )

    async def entitlements(
        self,
        cycle_id: UUID,
        *,
        state: str | None = None,
        held: str | None = None,
        after: UUID | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """Return entitlements of a cycle."""
        return await self._one(
            "listing entitlements", reconciliation.entitlements, cycle_id, state, held, after, limit
        )

    # Results, as the registry connector hands them in

    async def apply_result(
        self, result: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> Done:
        """Apply a canonical `PaymentResult`, once per message id; concurrent calls share a transaction.

        Raises `Refused` (`payment-result-invalid`) for data of another shape.
        """
        try:
            checked = PaymentResult.model_validate_json(orjson.dumps(dict(result)))
        except (ValidationError, TypeError):
            checked = None
        if checked is None:
            raise Refused(
                f"The data of message {message_id} is no canonical payment result. Nothing was changed.",
                code="payment-result-invalid",
                remedy="Correct the mapping that made the message, then replay it.",
            )
        return await self._results.submit(Said(message_id, checked))

    async def apply_result_chunk(
        self, chunk: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> Done:
        """Apply a canonical `PaymentResults` in one transaction, once per message id.

        Raises `Refused` (`payment-result-invalid`) for data of another shape: then none of it is applied.
        """
        try:
            checked = PaymentResults.model_validate_json(orjson.dumps(dict(chunk)))
        except (ValidationError, TypeError):
            checked = None
        if checked is None:
            raise Refused(
                f"The data of message {message_id} is no canonical results of payments. Nothing was changed.",
                code="payment-result-invalid",
                remedy="Correct the mapping that made the message, then replay it.",
            )
        # The first carries the message's own id, by which a repeat of the message is told; the others ids that follow from it.
        said = [
            Said(message_id if place == 0 else uuid5(message_id, str(place)), result)
            for place, result in enumerate(checked.results)
        ]
        done = await self.apply_results(said)
        return Done(
            changed=any(each.changed for each in done),
            repeated=all(each.repeated for each in done),
            disputed=next((each.disputed for each in done if each.disputed), None),
        )

    async def apply_decision(
        self, result: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> Done:
        """Apply a canonical `DecisionResult`, once per message id; what follows from it is a job.

        Raises `Refused` (`decision-result-invalid`) for data of another shape, and what `decisions.apply` says.
        """
        try:
            checked = DecisionResult.model_validate_json(orjson.dumps(dict(result)))
        except (ValidationError, TypeError):
            checked = None
        if checked is None:
            raise Refused(
                f"The data of message {message_id} is no canonical result of a decision. Nothing was changed.",
                code="decision-result-invalid",
                remedy="Correct the mapping that made the message, then replay it.",
            )
        done, _ = await self._one(
            "applying a decision", decisions.apply, message_id, checked, self._jobs, self._outbox
        )
        return done

    async def apply_results(self, said: Sequence[Said]) -> list[Done]:
        """Apply many results in one transaction."""
        return await self._one("applying results", results.apply, said)

    async def _apply(self, said: Sequence[Said]) -> Sequence[Done | HubError]:
        return await self.apply_results(said)

    async def was_applied(self, message_id: UUID) -> bool:
        """Say whether a message was applied."""
        async with database_errors("asking about a message"), asyncio.timeout(_WAIT):
            found = await self._pool.fetchval(
                "SELECT EXISTS (SELECT FROM applied_message WHERE message_id = $1)", message_id
            )
        return bool(found)

    async def probe(self) -> None:
        """Prove that programs can be read."""
        async with database_errors("probing the programs"), asyncio.timeout(_WAIT):
            await self._pool.fetchval("SELECT EXISTS (SELECT FROM program)")

    async def close(self) -> None:
        """Write what was handed in and return."""
        await self._results.drain()
