"""A small payment system over HTTP with faults, a rail that speaks to it, and the ledger between them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast
from uuid import UUID

import aiohttp
import orjson
from aiohttp import web
from services.path import MessagePath, route

from adapters.http.callbacks import extension
from canonical_model.message import Message, uuid7
from connectors.contract import Callback, CallbackAnswer, Context, Health, Manifest, Receipt, Repeat, Settings
from connectors.payments.contract import (
    FAILED,
    LOOKUP,
    PAID,
    QUEUED,
    REVIEW,
    SENT,
    UNKNOWN,
    WORKING,
    Bounds,
    Ledger,
    Step,
    Transfer,
)
from connectors.payments.driver import Driver
from connectors.payments.orders import Orders
from connectors.runtime import ConnectorRuntime
from connectors.targets import TargetConfig
from routing.ledger import Books
from routing.ledger_results import RESULTS, Results
from routing.outbox import HubOutbox

BANKS = ("bank-a", "bank-b", "bank-c")


class Peer:
    """Looks payees up and moves money, once per transfer id; answers by callbacks, as far as its faults let it."""

    def __init__(self, callback_url: str = "", target: str = "peer") -> None:
        self.callback_url = callback_url
        self.target = target
        self.posts: dict[str, list[bytes]] = {}
        self.moved: dict[str, dict[str, Any]] = {}
        self.unknown_payees: set[str] = set()
        self.refused: set[str] = set()
        self.silent: set[str] = set()
        self.doubled: set[str] = set()
        self.turncoat: set[str] = set()
        self.lost: set[str] = set()
        self.mute = False
        self.early = False
        self.broke_after: int | None = None
        self.kills: int | None = None
        self.busy: Counter[str] = Counter()
        self.busiest: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Peer:
        app = web.Application()
        app.router.add_get("/payees/{payee}", self._payee)
        app.router.add_post("/transfers", self._transfer)
        app.router.add_get("/transfers/{id}", self._state)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._http = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: Any) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()
        await self._runner.cleanup()

    async def _payee(self, request: web.Request) -> web.Response:
        payee = request.match_info["payee"]
        bank = None if payee in self.unknown_payees else BANKS[int(payee) % 3]
        self._later({"kind": "payee", "value": payee, "bank": bank})
        return web.Response(status=202)

    async def _transfer(self, request: web.Request) -> web.Response:
        raw = await request.read()
        body = orjson.loads(raw)
        id_ = body["id"]
        again = id_ in self.posts and id_ not in self.lost
        self.posts.setdefault(id_, []).append(raw)
        if self.kills is not None:
            # The payer dies with its bytes on the way, and they get lost here as well.
            os.kill(self.kills, signal.SIGKILL)
            self.kills = None
            self.lost.add(id_)
            return web.Response(status=503)
        self.lost.discard(id_)
        if again:
            return web.Response(status=202)
        if self.broke_after is not None and len(self.moved) >= self.broke_after:
            return web.json_response({"error": "4001"}, status=400)
        self.busy[body["bank"]] += 1
        self.busiest[body["bank"]] = max(self.busiest[body["bank"]], self.busy[body["bank"]])
        state = "REFUSED" if body["payee"] in self.refused else "PAID"
        if state == "PAID":
            self.moved[id_] = body
        told = {"kind": "transfer", "value": id_, "state": state, "bank": body["bank"]}
        if self.mute or body["payee"] in self.silent:
            return web.Response(status=202)
        if self.early:
            await self.call_back(told)
            return web.Response(status=202)
        self._later(
            told, times=2 if body["payee"] in self.doubled else 1, turns=body["payee"] in self.turncoat
        )
        return web.Response(status=202)

    async def _state(self, request: web.Request) -> web.Response:
        id_ = request.match_info["id"]
        self.asked[id_] += 1
        if self.mute:
            return web.Response(status=503)
        if id_ in self.moved:
            if self.moved[id_]["payee"] in self.silent:
                return web.json_response({"state": "PENDING"})
            return web.json_response({"state": "PAID"})
        return web.json_response({}, status=404 if id_ not in self.posts or id_ in self.lost else 200)

    def _later(self, told: dict[str, Any], *, times: int = 1, turns: bool = False) -> None:
        async def go() -> None:
            await asyncio.sleep(0)
            for _ in range(times):
                await self.call_back(told)
            if turns:
                await self.call_back({**told, "state": "REFUSED"})

        task = asyncio.get_running_loop().create_task(go())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def moves(self, count: int) -> list[str]:
        """Wait until this many transfers are booked and return their ids."""
        async with asyncio.timeout(45):
            while len(self.moved) < count:
                await asyncio.sleep(0.01)
        return list(self.moved)

    async def call_back(self, told: dict[str, Any], secret: str = "s3cret") -> int:
        """Send a callback until the hub takes it; return the status."""
        for _ in range(50):
            try:
                async with self._http.put(
                    f"{self.callback_url}/callbacks/{self.target}/told",
                    json=told,
                    headers={"X-Secret": secret},
                ) as answer:
                    if answer.status < 500:
                        if told["kind"] == "transfer" and told.get("bank"):
                            self.busy[told["bank"]] -= 1
                        return answer.status
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
        raise AssertionError("the hub did not take a callback")


class PeerRail:
    """The rail a third party would write: look-up, transfer, question."""

    asks = 3

    def __init__(
        self, ledger: Ledger, url: str, http: aiohttp.ClientSession, bounds: Bounds, due: float
    ) -> None:
        self.bounds, self._ledger, self._url, self._http, self._due = bounds, ledger, url, http, due
        self._tasks: set[asyncio.Task[None]] = set()
        self.holding: asyncio.Event | None = None
        self.posted = asyncio.Event()

    async def begin(self, rows: Sequence[Transfer]) -> None:
        steps = [
            Step(
                row.id, (LOOKUP, QUEUED), state=WORKING, due_in=self._due,
                references={"party": self._payee(row)},
            )
            for row in rows
        ]  # fmt: skip
        took = await self._ledger.apply(steps)
        for payee in {self._payee(row) for row, ok in zip(rows, took, strict=True) if ok}:
            self._spawn(self._look_up(payee))

    async def go_on(self, rows: Sequence[Transfer]) -> None:
        steps, going = [], []
        for row in rows:
            id_ = str(uuid7())
            row.request = orjson.dumps(
                {
                    "id": id_, "payee": self._payee(row), "bank": row.institution,
                    "amount": row.instruction.amount.decimal(),
                }
            )  # fmt: skip
            steps.append(
                Step(
                    row.id, (row.stage, QUEUED), state=SENT, request=row.request, references={"transfer": id_},
                    due_in=self._due, asked=0,
                )
            )  # fmt: skip
            going.append(row)
        took = await self._ledger.apply(steps)
        for row, ok in zip(going, took, strict=True):
            if ok:
                row.state = SENT
                self._spawn(self._post(row))

    async def ask(self, rows: Sequence[Transfer]) -> None:
        for row in rows:
            at = (row.stage, row.state)
            if row.stage == LOOKUP:
                await self._ledger.apply([Step(row.id, at, asked=row.asked + 1, due_in=self._due)])
                self._spawn(self._look_up(self._payee(row)))
                continue
            answer = await self._ask(row.references["transfer"])
            if answer == "PAID":
                step = Step(row.id, at, state=PAID)
            elif answer == "ABSENT" and row.resent == 0:
                step = Step(row.id, at, resent=1, due_in=self._due)
            elif row.asked + 1 >= self.asks and row.state == SENT:
                step = Step(row.id, at, state=UNKNOWN, reason="unanswered", due_in=3600)
            else:
                step = Step(row.id, at, asked=row.asked + 1, due_in=self._due)
            (done,) = await self._ledger.apply([step])
            if done and step.resent:
                self._spawn(self._post(row))

    async def told(self, told: dict[str, Any]) -> None:
        rows = await self._ledger.find("party" if told["kind"] == "payee" else "transfer", told["value"])
        steps = []
        for row in rows:
            at = (row.stage, row.state)
            if told["kind"] == "payee":
                if at != (LOOKUP, WORKING):
                    continue
                if told["bank"] is None:
                    steps.append(Step(row.id, at, state=FAILED, reason="payee-unknown"))
                else:
                    steps.append(Step(row.id, at, "transfer", QUEUED, told["bank"]))
                continue
            state = PAID if told["state"] == "PAID" else FAILED
            if row.state in {SENT, UNKNOWN}:
                steps.append(Step(row.id, at, state=state, reason=None if state == PAID else "5105"))
            elif row.state in {PAID, FAILED} and row.state != state:
                steps.append(Step(row.id, at, state=REVIEW, reason="contradicts"))
        await self._ledger.apply(steps)

    @staticmethod
    def _payee(row: Transfer) -> str:
        account = row.instruction.payee_account
        assert account is not None
        return account.account_number

    async def _look_up(self, payee: str) -> None:
        async with self._http.get(f"{self._url}/payees/{payee}"):
            return

    async def _post(self, row: Transfer) -> None:
        try:
            async with self._http.post(f"{self._url}/transfers", data=row.request) as answer:
                status = answer.status
        except aiohttp.ClientError:
            return
        self.posted.set()
        if status == 400:
            await self._ledger.stop(row.batch_id, "4001")
            await self._ledger.apply([Step(row.id, (row.stage, SENT), state=QUEUED, reason="4001")])

    async def _ask(self, id_: str) -> str:
        async with self._http.get(f"{self._url}/transfers/{id_}") as answer:
            if answer.status == 404:
                return "ABSENT"
            return "OPEN" if answer.status != 200 else str((await answer.json()).get("state", "OPEN"))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class PeerSettings(Settings):
    url: str = ""
    due: float = 1.0
    window: int = 16


class PeerConnector:
    """Glue, as short as it can be."""

    manifest: ClassVar[Manifest] = Manifest(
        name="peer",
        version="1",
        title="Peer",
        sends=("org.openspp.payment.*instructed.v1",),
        repeat=Repeat.RECOGNISED,
    )
    settings_model: ClassVar[type[Settings]] = PeerSettings

    def __init__(self, settings: PeerSettings) -> None:
        self._settings = settings
        self._rail: PeerRail | None = None

    @property
    def rail(self) -> PeerRail:
        assert self._rail is not None
        return self._rail

    async def open(self, ctx: Context) -> None:
        self._orders = Orders.of(ctx)
        ledger = self._orders.ledger.transfers(ctx.target)
        bounds = Bounds(window=self._settings.window, lookups=200)
        self._rail = PeerRail(ledger, self._settings.url, ctx.http, bounds, self._settings.due)

    async def close(self) -> None:
        if self._rail is not None:
            await self._rail.close()

    async def probe(self) -> Health:
        return Health(True)

    async def send(self, message: Message, deadline: float) -> Receipt:
        return await self._orders.send(message, deadline)

    async def ask(self, message: Message, deadline: float) -> Receipt | None:
        return await self._orders.ask(message)

    async def receive(self, callback: Callback) -> Sequence[Message]:
        return ()

    async def answer(self, callback: Callback) -> CallbackAnswer:
        if callback.headers.get("X-Secret") != "s3cret":
            return CallbackAnswer(401, b'{"error": "who are you"}', {"Content-Type": "application/json"})
        await self.rail.told(orjson.loads(callback.raw))
        return CallbackAnswer(200)


class Rows:
    """The service `rows` of tests: batches by their claim."""

    def __init__(self) -> None:
        self.batches: dict[str, list[dict[str, Any]]] = {}

    async def stream(self, claim: str) -> AsyncIterator[dict[str, Any]]:
        for row in self.batches[claim]:
            yield row


def instruction(
    number: int, *, batch_id: str | None = "B-1", minor_units: int | None = None
) -> dict[str, Any]:
    """Return the data of a payment; its number is its payee."""
    data = {
        "payment_id": f"P-{number}",
        "cycle_id": "C-1",
        "payee": {"registrant_id": str(UUID(int=number))},
        "payee_account": {"kind": "mobile_money", "account_number": f"{700000000 + number}"},
        "amount": {"minor_units": minor_units or 100 + number, "currency": "KES"},
    }
    return data if batch_id is None else {**data, "batch_id": batch_id}


def payee(number: int) -> str:
    """Return the account of payment `number`."""
    return str(700000000 + number)


class PayPath(MessagePath):
    """The message path with a ledger, a driver, the callback endpoint and one target that pays: `peer`."""

    connector: ClassVar[type[Any]] = PeerConnector
    port = 0
    """Where callbacks are taken; 0 picks a port."""
    commit_ms: ClassVar[float] = 3.0
    """How long the books gather steps and questions for one commit."""

    def __init__(
        self, database_url: str, folder: Path, peer: Peer, *, due: float = 1.0, window: int = 16
    ) -> None:
        super().__init__(
            database_url, folder,
            [
                route("pay", to="peer", when={"type": ["org.openspp.payment.instructed.v1", "org.openspp.payment.batch_instructed.v1"]}),
                route("back", to="bank", when={"type": RESULTS}),
            ],
        )  # fmt: skip
        self.peer, self._due, self._window = peer, due, window
        self.rows = Rows()

    async def __aenter__(self) -> PayPath:
        await super().__aenter__()
        self.books = Books(self.pool, self.vault, group_commit_ms=self.commit_ms)
        self._stack.push_async_callback(self.books.drain)
        await self.open_targets()
        return self

    def config(self) -> TargetConfig:
        """Return how the target is configured."""
        return TargetConfig("peer", "peer", {"url": self.peer.url, "due": self._due, "window": self._window})

    async def open_targets(self) -> None:
        """Open the target, the endpoint of its callbacks and its driver."""
        config = self.config()
        self.services = {"ledger": self.books, "rows": self.rows}
        self.connectors = {**self.connectors, "peer": self.connector}
        self._configs.append(config)
        runtime = ConnectorRuntime([config], self.services, connectors=self.connectors)
        await runtime.open()
        self._stack.push_async_callback(runtime.close)
        self.target = runtime.get("peer")
        app = web.Application()
        extension(app, SimpleNamespace(hub=SimpleNamespace(targets=runtime), intake=self.intake))  # type: ignore[arg-type]
        runner = web.AppRunner(app)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self.callback_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.peer.callback_url = self.callback_url
        self.results = Results(self.pool, HubOutbox(self.intake))
        self.driver = Driver("peer", self.books, self.target, settle=self.results.settle)
        self.driver.start()
        self._stack.push_async_callback(self.driver.stop)

    def order(self, orders: Iterable[dict[str, Any]], batch_id: str = "B-1", **change: Any) -> Message:
        """Keep the rows of a batch and return the message that orders it."""
        rows = list(orders)
        self.rows.batches[batch_id] = rows
        total = sum(row["amount"]["minor_units"] for row in rows)
        data = {
            "batch_id": batch_id, "rows_claim": batch_id, "count": len(rows),
            "total": {"minor_units": total, "currency": "KES"},
        } | change  # fmt: skip
        return Message(
            source="hub", type="org.openspp.payment.batch_instructed.v1", subject=batch_id, data=data
        )

    async def instruct(self, message: Message) -> Receipt:
        """Deliver an order to the target, as a worker does."""
        return await self.target.send(message, asyncio.get_running_loop().time() + 30)

    async def states(self) -> dict[str, int]:
        """Return how many transfers are in each state."""
        rows = await self.pool.fetch("SELECT state, count(*) FROM transfer GROUP BY 1")
        return {row[0]: row[1] for row in rows}

    async def one(self, payment_id: str = "P-1") -> Any:
        """Return the row of a payment."""
        return await self.pool.fetchrow("SELECT * FROM transfer WHERE payment_id = $1", payment_id)

    async def reach(self, seconds: float = 45.0, **states: int) -> None:
        """Wait until the transfers are in these states."""
        deadline = time.monotonic() + seconds
        while (found := await self.states()) != states:
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.02)

    async def closed(self, batch_id: str = "B-1", seconds: float = 45.0) -> Any:
        """Wait until a batch is closed and return it."""
        deadline = time.monotonic() + seconds
        while True:
            row = await self.pool.fetchrow("SELECT * FROM transfer_batch WHERE batch_id = $1", batch_id)
            if row is not None and row["state"] == "closed":
                return row
            assert time.monotonic() < deadline, row and dict(row)
            await asyncio.sleep(0.02)


async def work(database_url: str, folder: str, peer_url: str) -> None:
    """Drive payments until killed; what the peer calls back goes to another process."""
    peer = cast("Peer", SimpleNamespace(url=peer_url, callback_url=""))
    async with PayPath(database_url, Path(folder), peer, due=0.5):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:4]))
