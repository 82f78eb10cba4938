"""Change requests: asked for by one, agreed to by others, carried out once, taken back the same way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from copy import copy
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson
from pydantic import ValidationError

from canonical_model.errors import HubError, Refused, Unavailable
from canonical_model.message import uuid7
from registry.audit import AuditEvent, check_purpose, insert_many
from registry.changes.applying import carry_out, differences, everybody, read
from registry.changes.conflicts import Conflict, fields_of
from registry.changes.kinds import CHANGE, Change, Edit, Restore, dumped
from registry.changes.planning import invalid, unreadable
from registry.changes.policy import Policies
from registry.changes.request import (
    FIELDS,
    OPEN,
    STATES,
    Decision,
    Preview,
    Request,
    absent,
    decided_twice,
    own,
    role_missing,
    wrong_state,
)
from registry.people import PeopleStore
from registry.people.rows import Connection
from registry.storage.database import database_errors
from registry.storage.held import held
from registry.vault import Vault, aad

LIMIT: Final = 200
WAIT: Final = 30.0
_RESUMED: Final = 100
_CODE: Final = re.compile("[a-z][a-z0-9-]{0,62}")
_ONE: Final = f"SELECT {FIELDS} FROM change_request c WHERE c.id = $1"
_LIST: Final = f"""
SELECT {FIELDS} FROM change_request c
WHERE c.state = ANY ($1::text[]) AND ($2::uuid IS NULL OR c.id < $2) AND ($3::text IS NULL OR c.maker = $3)
    AND ($4::uuid IS NULL OR EXISTS (
        SELECT FROM change_subject s WHERE s.request_id = c.id AND s.registrant_id = $4))
ORDER BY c.id DESC LIMIT $5
"""
_INSERT: Final = """
INSERT INTO change_request (id, type, state, maker, policy, steps, bases, key_id, sealed, undoes, decided_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, CASE WHEN $3 = 'validated' THEN now() END) ON CONFLICT (id) DO NOTHING
RETURNING id
"""
_SUBJECTS: Final = (
    "INSERT INTO change_subject (request_id, registrant_id) SELECT $1, id FROM unnest($2::uuid[]) AS t (id)"
)
_KNOWN: Final = """
SELECT r.id, r.version, a.code FROM registrant r LEFT JOIN area a ON a.id = r.area_id WHERE r.id = ANY ($1::uuid[])
"""
_DECIDE: Final = """
INSERT INTO change_decision (request_id, step, role, actor, maker, agreed) VALUES ($1, $2, $3, $4, $5, $6)
"""
_DECISIONS: Final = """
SELECT step, role, actor, agreed, at FROM change_decision WHERE request_id = $1 ORDER BY at, actor
"""
_MOVE: Final = """
UPDATE change_request SET state = $2, step = $3, reason = $4, conflicts = $5,
    decided_at = CASE WHEN $2 IN ('pending', 'draft') THEN NULL ELSE coalesce(decided_at, now()) END
WHERE id = $1
"""
_APPLIED: Final = """
UPDATE change_request SET state = 'applied', applied_at = now(), results = $2, undo_key = $3, undo = $4 WHERE id = $1
"""


class ChangeStore:
    """Change requests of one hub; every method raises `Unavailable` when the database is away."""

    def __init__(
        self, pool: asyncpg.Pool, vault: Vault, people: PeopleStore, policies: Policies | None = None
    ) -> None:
        self._pool = pool
        self._vault = vault
        self._people = people
        self._policies = policies or Policies()

    def on(self, connection: Connection) -> ChangeStore:
        """Return the store working in a transaction somebody holds; what is refused in it is then kept nowhere."""
        bound = copy(self)
        bound._pool = held(connection)
        return bound

    async def submit(
        self,
        asked: Mapping[str, Any] | Change,
        maker: str,
        *,
        bases: Mapping[UUID, int] | None = None,
        draft: bool = False,
        id_: UUID | None = None,
        keep: bool = True,
    ) -> Request:
        """Ask for a change; who has to agree is fixed here, by the first policy that fits.

        `bases` are the versions the maker saw (default: those of now). Asked for again with one `id_`, it is asked for
        once. A change that cannot be made now is refused at once. Where nobody has to agree it is carried out. With
        `keep=False` it is only said what would come of it. Raises
        `Refused`: `change-invalid`, `change-conflict`, `change-impossible`, `change-id-reused`, `registrant-not-found`,
        and what the writer of registrants refuses.
        """
        change = _read(asked)
        async with self._transaction("asking for a change") as connection:
            attempt = connection.transaction()
            await attempt.start()
            try:
                request = await self.submit_in(
                    connection, change, maker, bases=bases, draft=draft, id_=id_ or uuid7()
                )
            except BaseException:
                await attempt.rollback()
                raise
            if not keep:
                await attempt.rollback()
                return request
            await attempt.commit()
        return await self.apply(request.id, maker) if request.state == "validated" else request

    async def submit_in(
        self,
        connection: Connection,
        change: Change,
        maker: str,
        *,
        id_: UUID,
        bases: Mapping[UUID, int] | None = None,
        draft: bool = False,
        undoes: Request | None = None,
    ) -> Request:
        """Ask for a change in the caller's transaction; one that nobody has to agree to stays `validated`."""
        ids = await everybody(connection, change)
        known = {row["id"]: row for row in await connection.fetch(_KNOWN, list(ids))}
        seen = dict(bases or {})
        for each in ids:
            if each in known and seen.setdefault(each, known[each]["version"]) > known[each]["version"]:
                raise invalid(f"registrant {each} has no version {seen[each]} yet", "/bases")
        first = known.get(ids[0]) if ids else None
        policy, steps = self._decide_who(change, maker, first["code"] if first else None, undoes)
        key = await self._vault.current_key("change_request")
        sealed = key.seal(dumped(change), _place("sealed", id_))
        state = "draft" if draft else "pending" if steps else "validated"
        made = await connection.fetchval(
            _INSERT, id_, change.type, state, maker, policy, steps,
            {str(each): seen[each] for each in ids if each in seen}, key.id, sealed, undoes.id if undoes else None,
        )  # fmt: skip
        if made is None:
            return await self._again(connection, id_, change, maker)
        await connection.execute(_SUBJECTS, id_, list(dict.fromkeys(ids)))
        # Whether it can be made is found by making it and taking that back.
        await self._tried(connection, change, id_, maker, seen)
        await self._note(connection, maker, "change.submit", id_, {"type": change.type, "policy": policy})
        return await self._get(connection, id_)

    async def hand_in(self, id_: UUID, actor: str) -> Request:
        """Hand a draft in, so that others decide; only its maker can. Raises `Refused` as `cancel` does."""
        async with self._transaction("handing a change in") as connection:
            request = await self._locked(connection, id_)
            if request.state != "draft":
                raise wrong_state(request, "a draft")
            if request.maker != actor:
                raise _not_maker(id_)
            state = "pending" if request.steps else "validated"
            await connection.execute(_MOVE, id_, state, 0, None, None)
            await self._note(connection, actor, "change.hand_in", id_)
        return await self.apply(id_, actor) if state == "validated" else await self.get(id_)

    async def get(self, id_: UUID) -> Request:
        """Return a request with who decided; raises `Refused` (`change-not-found`)."""
        async with self._transaction("reading a change") as connection:
            return await self._get(connection, id_)

    async def listed(
        self,
        *,
        states: Collection[str] = OPEN,
        maker: str | None = None,
        registrant: UUID | None = None,
        before: UUID | None = None,
        limit: int = 50,
    ) -> list[Request]:
        """Return the newest requests in these states with ids below `before`, at most 200, without decisions."""
        if unknown := set(states) - set(STATES):
            raise Refused(
                f"There are no such states of a change: {len(unknown)} of those given.",
                code="filter-invalid",
                remedy=f"Name some of {', '.join(STATES)}.",
            )
        async with database_errors("listing changes"), asyncio.timeout(WAIT):
            rows = await self._pool.fetch(
                _LIST, list(states), before, maker, registrant, max(1, min(limit, LIMIT))
            )
        return [Request(**dict(row)) for row in rows]

    async def preview(self, id_: UUID, purpose: str, actor: str, *, trace_id: str | None = None) -> Preview:
        """Return what an open change would do, field by field; the trail has it before the caller does.

        What it would do is found by doing it and taking it back. Raises `Refused` (`purpose-missing`, `change-not-found`).
        """
        why = check_purpose(purpose)
        async with self._transaction("looking at a change") as connection:
            request = await self._get(connection, id_)
            change = await self._opened(connection, id_)
            ids = await everybody(connection, change)
            await insert_many(
                connection,
                [
                    AuditEvent(
                        actor, "change.reveal", "registrant", str(each), request_id=trace_id,
                        details={"purpose": why, "change": str(id_)},
                    )
                    for each in ids
                ] or [AuditEvent(actor, "change.reveal", "change", str(id_), details={"purpose": why})],
            )  # fmt: skip
            if request.state not in OPEN:
                return Preview(request, (), wrong_state(request, "open"))
            before = await read(connection, self._vault, ids)
            bases = {UUID(each): version for each, version in request.bases.items()}
            try:
                after = await self._tried(connection, change, id_, request.maker, bases)
            except Refused as refused:
                return Preview(request, (), refused)
        return Preview(request, differences(before, after))

    async def asked(self, id_: UUID, purpose: str, actor: str) -> Change:
        """Return what was asked for, opened; the trail has it first. Raises `Refused` as `preview` does."""
        why = check_purpose(purpose)
        async with self._transaction("opening a change") as connection:
            change = await self._opened(connection, id_)
            await self._note(connection, actor, "change.reveal", id_, {"purpose": why})
        return change

    async def decide(
        self, id_: UUID, actor: str, roles: Collection[str], *, agrees: bool, reason: str | None = None
    ) -> Request:
        """Agree to a change, or refuse it, at the step that is next; the last agreement carries it out.

        The decision is kept before anything is carried out; a hub that stops between the two goes on by `resume`. Raises
        `Refused`: `change-state-wrong`, `change-maker-checks`, `change-decided-twice`, `change-role-missing`,
        `reason-invalid`, and what `apply` raises.
        """
        if reason is not None and not _CODE.fullmatch(reason):
            raise Refused(
                "The reason is no short code; nothing was decided, and it was not kept.",
                code="reason-invalid",
                remedy="Write lower case letters, digits and hyphens, such as evidence-missing; it must name nobody.",
            )
        async with self._transaction("deciding over a change") as connection:
            request = await self._locked(connection, id_)
            if request.state != "pending":
                raise wrong_state(request, "pending")
            if request.maker == actor:
                raise own(id_)
            if any(each.actor == actor for each in request.decisions):
                raise decided_twice(id_)
            role = request.waits_for
            if role is None or role not in roles:
                raise role_missing(request)
            await connection.execute(_DECIDE, id_, request.step, role, actor, request.maker, agrees)
            agreed = sum(each.step == request.step for each in request.decisions) + 1
            step = request.step + (agrees and agreed >= request.steps[request.step]["people"])
            state = "rejected" if not agrees else "validated" if step == len(request.steps) else "pending"
            await connection.execute(_MOVE, id_, state, step, None if agrees else reason or "refused", None)
            done = "change.agree" if agrees else "change.refuse"
            await self._note(connection, actor, done, id_, {"role": role, "step": request.step})
        return await self.apply(id_, actor) if state == "validated" else await self.get(id_)

    async def apply(self, id_: UUID, actor: str) -> Request:
        """Carry out a change that was agreed to; one that was carried out already stays as it is.

        A change that cannot be made any more becomes `rejected`, and the refusal is raised: `change-conflict` names the
        fields others changed. What is only away raises `Unavailable` and leaves it `validated`.
        """
        refused: Refused | None = None
        async with self._transaction("carrying a change out") as connection:
            request = await self._locked(connection, id_)
            if request.state == "applied":
                return request
            if request.state != "validated":
                raise wrong_state(request, "validated")
            change = await self._opened(connection, id_)
            bases = {UUID(each): version for each, version in request.bases.items()}
            try:
                async with connection.transaction():
                    done = await carry_out(
                        connection, self._people, self._vault, change,
                        request_id=id_, actor=request.maker, bases=bases,
                    )  # fmt: skip
                    key = await self._vault.current_key("change_request")
                    undo = key.seal(dumped(done.undo), _place("undo", id_))
                    results = {str(each): version for each, version in done.results.items()}
                    await connection.execute(_APPLIED, id_, results, key.id, undo)
                    more = [each for each in done.results if each not in request.subjects]
                    await connection.execute(_SUBJECTS, id_, more)
                    await self._note(
                        connection, actor, "change.apply", id_, {"type": change.type, "versions": results}
                    )
            except Refused as error:
                refused = error
                names = list(error.fields) if isinstance(error, Conflict) else None
                await connection.execute(_MOVE, id_, "rejected", request.step, error.code, names)
                await self._note(
                    connection, actor, "change.apply", id_, {"code": error.code, "fields": names}, "refused"
                )
        if refused is not None:
            raise refused
        return await self.get(id_)

    async def resume(self) -> int:
        """Carry out what was agreed to and not carried out, as a hub that stopped leaves it; return how many were."""
        done = 0
        for request in reversed(await self.listed(states=("validated",), limit=_RESUMED)):
            try:
                await self.apply(request.id, "hub")
                done += 1
            except Unavailable:
                raise
            except HubError:
                continue  # a refusal is kept with the request, a defect by the trail of who asks next
        return done

    async def cancel(self, id_: UUID, actor: str) -> Request:
        """Take a request back that was not carried out; only its maker can.

        Raises `Refused` (`change-state-wrong`, `change-not-maker`, `change-not-found`).
        """
        async with self._transaction("cancelling a change") as connection:
            request = await self._locked(connection, id_)
            if request.state not in OPEN:
                raise wrong_state(request, "open")
            if request.maker != actor:
                raise _not_maker(id_)
            await connection.execute(_MOVE, id_, "cancelled", request.step, "cancelled", None)
            await self._note(connection, actor, "change.cancel", id_)
        return await self.get(id_)

    async def undo(self, id_: UUID, maker: str, *, new_id: UUID | None = None) -> Request:
        """Ask for a change that takes another one back; the same people have to agree to it as to the other.

        What others changed since is a conflict. Raises `Refused` (`change-state-wrong`, `change-undone`) and as `submit`.
        """
        undo_id = new_id or uuid7()
        async with self._transaction("undoing a change") as connection:
            request = await self._locked(connection, id_)
            if request.state != "applied":
                raise wrong_state(request, "applied")
            if request.undone_by not in {None, undo_id}:
                raise Refused(
                    f"Change {id_} is undone by change {request.undone_by} already; nothing was asked for.",
                    code="change-undone",
                    remedy="Decide over that one, or cancel it and ask anew.",
                )
            row = await connection.fetchrow("SELECT undo_key, undo FROM change_request WHERE id = $1", id_)
            assert row is not None  # read and locked just above
            raw = (await self._vault.key(row["undo_key"])).open(row["undo"], _place("undo", id_))
            bases = {UUID(each): version for each, version in (request.results or {}).items()}
            made = await self.submit_in(
                connection, CHANGE.validate_json(raw), maker, id_=undo_id, bases=bases, undoes=request
            )
        return await self.apply(made.id, maker) if made.state == "validated" else made

    def _decide_who(
        self, change: Change, maker: str, area: str | None, undoes: Request | None
    ) -> tuple[str, list[dict[str, Any]]]:
        if undoes is not None:
            return undoes.policy, [dict(step) for step in undoes.steps]
        edits = change.edits if isinstance(change, Restore) else (change,) if isinstance(change, Edit) else ()
        attributes = sorted({name for one in edits for name in one.set.get("attributes", {})})
        policy = self._policies.choose(
            {
                "type": change.type, "fields": fields_of(change), "attributes": attributes, "area": area or "",
                "maker": maker,
            }
        )  # fmt: skip
        return policy.name, [step.model_dump() for step in policy.steps]

    async def _tried(
        self, connection: Connection, change: Change, id_: UUID, maker: str, bases: Mapping[UUID, int]
    ) -> dict[UUID, dict[str, Any]]:
        """Carry a change out, look at whom it concerned, and take it all back."""
        attempt = connection.transaction()
        await attempt.start()
        try:
            done = await carry_out(
                connection, self._people, self._vault, change, request_id=id_, actor=maker, bases=bases
            )
            return await read(connection, self._vault, done.results)
        finally:
            await attempt.rollback()

    async def _again(self, connection: Connection, id_: UUID, change: Change, maker: str) -> Request:
        there = await self._get(connection, id_)
        if there.maker == maker and await self._opened(connection, id_) == change:
            return there
        raise Refused(
            f"Change {id_} was asked for before with other content or by somebody else; nothing was asked for.",
            code="change-id-reused",
            remedy="Send another change with another id.",
        )

    async def _opened(self, connection: Connection, id_: UUID) -> Change:
        row = await connection.fetchrow("SELECT key_id, sealed FROM change_request WHERE id = $1", id_)
        if row is None:
            raise absent()
        key = await self._vault.key(row["key_id"])
        return CHANGE.validate_json(key.open(row["sealed"], _place("sealed", id_)))

    async def _locked(self, connection: Connection, id_: UUID) -> Request:
        # Locked first and read by the next statement, so that what is read is what the one before left.
        await connection.execute("SELECT 1 FROM change_request WHERE id = $1 FOR NO KEY UPDATE", id_)
        return await self._get(connection, id_)

    async def _get(self, connection: Connection, id_: UUID) -> Request:
        row = await connection.fetchrow(_ONE, id_)
        if row is None:
            raise absent()
        decided = tuple(Decision(**dict(each)) for each in await connection.fetch(_DECISIONS, id_))
        return Request(**dict(row), decisions=decided)

    async def _note(
        self,
        connection: Connection,
        actor: str,
        action: str,
        id_: UUID,
        details: Mapping[str, Any] | None = None,
        outcome: str = "ok",
    ) -> None:
        await insert_many(
            connection, [AuditEvent(actor, action, "change", str(id_), outcome, details=details)]
        )

    @asynccontextmanager
    async def _transaction(self, what: str) -> AsyncIterator[Connection]:
        async with (
            database_errors(what),
            asyncio.timeout(WAIT),
            self._pool.acquire(timeout=10) as connection,
            connection.transaction(),
        ):
            yield connection


def _read(asked: Mapping[str, Any] | Change) -> Change:
    if not isinstance(asked, Mapping):
        return asked
    try:
        return CHANGE.validate_json(orjson.dumps(dict(asked)))
    except ValidationError as error:
        raise unreadable(error) from None
    except orjson.JSONEncodeError:
        raise invalid("it is no JSON") from None


def _place(column: str, id_: UUID) -> bytes:
    return aad("change_request", column, id_.bytes)


def _not_maker(id_: UUID) -> Refused:
    return Refused(
        f"Only its maker can do this with change {id_}; nothing was changed.",
        code="change-not-maker",
        remedy="Ask the maker, or refuse the change in your role.",
    )
