"""Runs the demonstration and settles the accounts of both sides."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import aiohttp
import orjson

from adapters.cli.demo.rails import Rails
from adapters.cli.demo.traffic import Sending, day
from adapters.cli.output import Told
from adapters.embedded import CIVIL_REGISTRY, OutsideWorld, write_config
from adapters.embedded.config import secret_of
from adapters.front import Front, own_url
from adapters.hub import Hub
from connectors.testing.sandbox import Mode
from registry.settings import HubSettings

NOTIFY: Final = "/dci/crvs/v1.0.0/registry/notify"
DELIVER_WITHIN: Final = 60.0
MINISTRY_DOWN: Final = 4.0
"""Seconds the ministry's endpoint answers 503 at the start."""


@dataclass(slots=True)
class Account:
    """What happened, counted from the senders' and the receivers' own records."""

    events: int
    accepted: int = 0
    refused: int = 0
    duplicates: int = 0
    delivered: int = 0
    retried: int = 0
    dead: int = 0
    lost: int = 0
    seconds: float = 0.0
    broker: str = ""
    refusals: dict[str, int] = field(default_factory=dict)
    routes: list[dict[str, Any]] = field(default_factory=list)
    trace: list[dict[str, Any]] = field(default_factory=list)
    trace_id: str = ""
    wrong: list[str] = field(default_factory=list)
    """Anything both sides' books disagree on, in words."""


class Sender:
    """A civil registry: gets a token, sends its day, keeps its own books."""

    def __init__(self, url: str, secret: str) -> None:
        self._url = url
        self._secret = secret
        self.acknowledged: list[str] = []
        self.duplicates = 0
        self.refused: dict[str, int] = {}
        self.unexpected: list[str] = []

    async def send(self, sendings: list[Sending], progress: Callable[[int], None]) -> None:
        """Send every request, eight at a time, a repeat always after its first."""
        async with aiohttp.ClientSession(self._url) as http:
            form = {"grant_type": "client_credentials"}
            login = base64.b64encode(f"{CIVIL_REGISTRY}:{self._secret}".encode()).decode()
            async with http.post(
                "/oauth2/token", data=form, headers={"Authorization": f"Basic {login}"}
            ) as answer:
                answer.raise_for_status()
                token = (await answer.json())["access_token"]
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            slots = asyncio.Semaphore(8)
            first = [one for one in sendings if one.kind in {"event", "malformed"}]
            again = [one for one in sendings if one.kind in {"repeat", "reuse"}]
            for group in (first, again):
                await asyncio.gather(*(self._one(http, headers, slots, one, progress) for one in group))

    async def _one(
        self,
        http: aiohttp.ClientSession,
        headers: dict[str, str],
        slots: asyncio.Semaphore,
        sending: Sending,
        progress: Callable[[int], None],
    ) -> None:
        async with slots, http.post(NOTIFY, data=sending.body, headers=headers) as answer:
            body = await answer.json(content_type=None)
        progress(1)
        message = body.get("message", {})
        if message.get("ack_status") == "ACK":
            if sending.kind == "event" and sending.origin is not None:
                self.acknowledged.append(sending.origin)
            elif sending.kind == "repeat":
                self.duplicates += 1
            else:
                self.unexpected.append(f"a {sending.kind} request was acknowledged")
            return
        code = message.get("error", {}).get("code", str(answer.status))
        reason = f"{sending.kind}: {code}"
        self.refused[reason] = self.refused.get(reason, 0) + 1
        if sending.kind in {"event", "repeat"}:
            self.unexpected.append(f"a good request was refused ({code})")


async def run_demo(
    settings: HubSettings, events: int, rails: Rails, progress: Told
) -> tuple[Account, Hub, Front, OutsideWorld]:
    """Run the day and return the account with everything still open, so that a person may look around."""
    outside = OutsideWorld()
    await outside.start()
    await rails.start(own_url(settings, settings.port))
    write_config(
        settings.data_dir,
        webhook=outside.ministry.settings(),
        email=outside.mailbox.settings(),
        mobile=outside.mobile.settings(),
        rails=rails.targets(),
        paying=rails.routes(),
        first_retry="500ms",
    )
    hub = Hub(settings)
    front = Front(hub)
    try:
        await hub.open()
        url = await front.start()
        account = Account(events, broker=hub.broker.name)
        started = time.monotonic()
        outside.ministry.switch(Mode.STATUS, status=503, retry_after=1)
        recovery = asyncio.create_task(_recover(outside))
        sendings = list(day(events))
        sender = Sender(url, secret_of(settings.data_dir, CIVIL_REGISTRY))
        done = 0

        def sent(count: int) -> None:
            nonlocal done
            done += count
            progress("sending", done, len(sendings))

        await sender.send(sendings, sent)
        await recovery
        await settle(hub, progress)
        account.seconds = time.monotonic() - started
        await _count(account, hub, sender, outside)
    except BaseException:
        await front.stop()
        await hub.close()
        await outside.stop()
        await rails.stop()
        raise
    return account, hub, front, outside


async def _recover(outside: OutsideWorld) -> None:
    await asyncio.sleep(MINISTRY_DOWN)
    outside.ministry.switch(Mode.OK)


async def settle(hub: Hub, progress: Told, doing: str = "delivering") -> None:
    """Wait until no delivery is live any more, at most `DELIVER_WITHIN` seconds."""
    deadline = time.monotonic() + DELIVER_WITHIN
    while time.monotonic() < deadline:
        row = await hub.pool.fetchrow("SELECT count(*) AS all, count(ended_at) AS ended FROM delivery")
        assert row is not None  # an aggregate always answers
        progress(doing, row["ended"], row["all"])
        if row["all"] == row["ended"]:
            return
        await asyncio.sleep(0.2)


async def _count(account: Account, hub: Hub, sender: Sender, outside: OutsideWorld) -> None:
    account.accepted = len(sender.acknowledged)
    account.duplicates = sender.duplicates
    account.refusals = dict(sorted(sender.refused.items()))
    account.refused = sum(sender.refused.values())
    account.wrong = list(sender.unexpected)
    rows = await hub.pool.fetch(
        "SELECT route, target, count(*) FILTER (WHERE state = 'delivered') AS delivered, "
        "count(*) FILTER (WHERE attempts > 1) AS retried, count(*) FILTER (WHERE state IN ('dead', 'refused')) AS dead, "
        "count(*) FILTER (WHERE ended_at IS NULL) AS open, max(attempts) AS attempts FROM delivery GROUP BY 1, 2 ORDER BY 1"
    )
    account.routes = [dict(row) for row in rows]
    account.delivered = sum(row["delivered"] for row in rows)
    account.retried = sum(row["retried"] for row in rows)
    account.dead = sum(row["dead"] for row in rows)
    _reconcile(account, sender, outside, await hub.pool.fetch("SELECT id FROM civil_event"))
    await _trace(account, hub)


def _reconcile(account: Account, sender: Sender, outside: OutsideWorld, recorded: list[Any]) -> None:
    """Compare the sender's books with each receiver's; what any of them misses is lost."""
    ministry: dict[str, str] = {}
    for seen in outside.ministry.received:
        event = orjson.loads(seen.body)
        if seen.id in outside.ministry.effects():
            ministry[event["originid"]] = event["id"]
    mailbox = {mail.strip("<>").partition("@")[0] for mail in outside.mailbox.effects()}
    registry = {str(row["id"]) for row in recorded}
    known = {str(UUID(id_)) for id_ in ministry.values()}
    for origin in sender.acknowledged:
        id_ = ministry.get(origin)
        missing = [
            name
            for name, has in (
                ("ministry", id_ is not None),
                ("registry", id_ in registry),
                ("mailbox", id_ in mailbox),
            )
            if not has
        ]
        if missing:
            account.lost += 1
            account.wrong.append(f"{origin} is missing at: {', '.join(missing)}")
    if len(mailbox) != len(outside.mailbox.effects()):
        account.wrong.append("a mail was sent twice")
    for name, ids in (("ministry", known), ("registry", registry), ("mailbox", mailbox)):
        if len(ids) > len(sender.acknowledged):
            account.wrong.append(f"{name} holds more events than were acknowledged")


async def _trace(account: Account, hub: Hub) -> None:
    """Keep the story of one message that needed more than one attempt."""
    id_ = await hub.pool.fetchval("SELECT message_id FROM delivery ORDER BY attempts DESC, id LIMIT 1")
    if id_ is None:
        return
    account.trace_id = str(id_)
    head = await hub.pool.fetchrow("SELECT accepted_at, partner, type, size FROM message WHERE id = $1", id_)
    assert head is not None  # deliveries never outlive their message
    account.trace.append(
        {
            "at": head["accepted_at"],
            "what": "accepted",
            "where": head["partner"],
            "note": f"{head['type']}, {head['size']} bytes",
        }
    )
    rows = await hub.pool.fetch(
        "SELECT a.started_at, a.number, a.outcome, a.seconds, a.code, d.route, d.target FROM attempt a "
        "JOIN delivery d ON d.id = a.delivery_id WHERE a.message_id = $1 ORDER BY a.started_at",
        id_,
    )
    for row in rows:
        note = f"attempt {row['number']}, {row['seconds'] * 1000:.0f} ms" + (
            f", {row['code']}" if row["code"] else ""
        )
        account.trace.append(
            {"at": row["started_at"], "what": row["outcome"], "where": row["target"], "note": note}
        )


def demo_data(folder: Path) -> Path:
    """Return the folder the demonstration keeps its data in."""
    return folder / "demo"
