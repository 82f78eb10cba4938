"""Silver and gold properties: how a connector behaves when the outside system does not."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from connectors.contract import Receipt, Repeat
from connectors.errors import HubError, Refused, Unavailable, Unknown
from connectors.testing.kit import PLANTED, Bench, Kit, PropertyFailed, expect, told
from connectors.testing.properties import holds
from connectors.testing.sandbox import Mode

_SHORT: Final = 0.4
_MAX_REPLY: Final = 1 << 20
_FAULTS: Final = (
    Mode.STATUS,
    Mode.REFUSE,
    Mode.CLOSE_AFTER_BODY,
    Mode.GARBAGE,
    Mode.FLOOD,
    Mode.HANG,
)


async def _fault(bench: Bench, mode: Mode) -> Receipt | HubError:
    bench.sandbox.switch(mode)
    return await bench.outcome(within=_SHORT if mode is Mode.HANG else 5.0)


@holds("silver", exemptable=False)
async def a_timed_out_send_is_unknown(kit: Kit) -> None:
    """A send that gets no answer before its deadline ends as Unknown, and went out once only."""
    async with kit.bench() as bench:
        found = await _fault(bench, Mode.HANG)
        expect(isinstance(found, Unknown), "Unknown.", type(found).__name__)
        expect(
            len(bench.sandbox.received) == 1, "one send, never blindly repeated.", len(bench.sandbox.received)
        )


@holds("silver", exemptable=False)
async def a_lost_answer_is_unknown(kit: Kit) -> None:
    """A connection that ends after the message went out gives Unknown, and the connector does not send again by itself."""
    async with kit.bench() as bench:
        found = await _fault(bench, Mode.CLOSE_AFTER_BODY)
        expect(isinstance(found, Unknown), "Unknown.", type(found).__name__)
        expect(
            len(bench.sandbox.received) == 1, "one send, never blindly repeated.", len(bench.sandbox.received)
        )


@holds("silver", exemptable=False)
async def an_unreadable_answer_is_unknown(kit: Kit) -> None:
    """Bytes that are no answer are no receipt and no refusal: the outcome is Unknown."""
    async with kit.bench() as bench:
        found = await _fault(bench, Mode.GARBAGE)
        expect(isinstance(found, Unknown), "Unknown.", type(found).__name__)


@holds("silver", exemptable=False)
async def a_repeated_message_id_is_sent_once(kit: Kit) -> None:
    """After an unknown outcome a message takes effect once, in the way the manifest's `repeat` says.

    `recognised`: sent again, the target sees the same id and counts it once. `ask`: asking gives a receipt for what
    arrived and nothing for what did not. `never`: asking stays Unknown, so that a person decides.
    """
    async with kit.bench() as bench:
        message, loop = bench.new_message(), asyncio.get_running_loop()
        bench.sandbox.switch(Mode.CLOSE_AFTER_BODY)
        expect(isinstance(await bench.outcome(message), Unknown), "Unknown after a lost answer.")
        bench.sandbox.switch(Mode.OK)
        repeat = bench.target.repeat
        if repeat is Repeat.RECOGNISED:
            await bench.send(message)
            expect(len({seen.id for seen in bench.sandbox.received}) == 1, "the same id on both sends.")
        elif repeat is Repeat.ASK:
            expect(
                await bench.target.ask(message, loop.time() + 5) is not None, "a receipt for what arrived."
            )
            other = await bench.target.ask(bench.new_message(), loop.time() + 5)
            expect(other is None, "None for a message that never arrived.", other)
        else:
            try:
                await bench.target.ask(message, loop.time() + 5)
            except Unknown:
                pass
            else:
                expect(False, "asking to stay Unknown.")
        expect(len(bench.sandbox.effects()) == 1, "one effect in the target.", len(bench.sandbox.effects()))


@holds("silver")
async def a_refused_message_is_not_retried(kit: Kit) -> None:
    """A no of the target is Refused, at once and without an effect."""
    async with kit.bench() as bench:
        started = time.monotonic()
        found = await _fault(bench, Mode.REFUSE)
        expect(isinstance(found, Refused), "Refused.", type(found).__name__)
        expect(time.monotonic() - started < 2, "an answer at once, without tries of its own.")
        expect(not bench.sandbox.effects(), "no effect in the target.")


@holds("silver")
async def a_busy_target_is_unavailable(kit: Kit) -> None:
    """The target's word for "try later" is Unavailable, so that the hub retries, and the connector does not."""
    async with kit.bench() as bench:
        found = await _fault(bench, Mode.STATUS)
        expect(isinstance(found, Unavailable), "Unavailable.", type(found).__name__)


@holds("silver")
async def unavailable_carries_retry_after(kit: Kit) -> None:
    """When the target says how long to wait, Unavailable carries the seconds."""
    async with kit.bench() as bench:
        bench.sandbox.switch(Mode.STATUS, retry_after=7)
        found = await bench.outcome()
        expect(isinstance(found, Unavailable), "Unavailable.", type(found).__name__)
        expect(
            getattr(found, "retry_after", None) == 7,
            "retry_after of 7 seconds.",
            getattr(found, "retry_after", None),
        )


@holds("silver")
async def an_absent_target_is_unavailable(kit: Kit) -> None:
    """Once the target is gone, sends become Unavailable: nothing was sent, and that is known."""
    async with kit.bench() as bench:
        await bench.sandbox.stop()
        # The first send may meet a kept connection that only now turns out to be dead.
        await bench.outcome()
        found = await bench.outcome()
        expect(isinstance(found, Unavailable), "Unavailable.", type(found).__name__)


@holds("silver", exemptable=False)
async def no_secret_and_no_personal_datum_leaks(kit: Kit) -> None:
    """No planted person and no secret is in any log line, exception, receipt or recorded exchange, whatever goes wrong."""
    async with kit.bench() as bench:
        shown: list[str] = []
        for mode in (Mode.OK, *_FAULTS):
            found = await _fault(bench, mode)
            shown.append(
                told(found) if isinstance(found, HubError) else f"{found.reference} {found.exchanges!r}"
            )
        shown.append(repr(await bench.target.probe()))
        shown.append(repr(bench.connector))
        places = {
            "an exception, a receipt or an exchange": "\n".join(shown),
            "a log line": "\n".join(bench.logs),
        }
        for place, text in places.items():
            expect(not any(planted in text for planted in PLANTED), f"no planted person in {place}.")
            expect(not any(secret in text for secret in bench.sandbox.secrets()), f"no secret in {place}.")


@holds("silver")
async def closing_twice_is_safe(kit: Kit) -> None:
    """A connector can be closed before it was opened, closed twice, and opened again."""
    async with kit.bench(opened=False) as bench:
        await bench.connector.close()
        await bench.connector.open(bench.context)
        await bench.connector.close()
        await bench.connector.close()
        await bench.connector.open(bench.context)
        expect(
            isinstance(await bench.connector.send(bench.new_message(), _deadline()), Receipt), "a receipt."
        )


@holds("silver")
async def a_probe_has_no_side_effects(kit: Kit) -> None:
    """A probe says whether the target answers, leaves nothing behind, and does not raise when nobody is there."""
    async with kit.bench() as bench:
        for _ in range(3):
            health = await bench.connector.probe()
            expect(health.ok, "a healthy sandbox.", health.detail)
        expect(not bench.sandbox.received, "nothing to have arrived.")
        await bench.sandbox.stop()
        try:
            health = await bench.connector.probe()
        except Exception as error:
            raise PropertyFailed(
                f"Expected: a Health that is not ok. Seen: {type(error).__name__}"
            ) from error
        expect(not health.ok, "a Health that is not ok when nobody is there.")


@holds("silver")
async def the_deadline_is_respected(kit: Kit) -> None:
    """A send ends soon after its deadline, however slow the target is."""
    async with kit.bench() as bench:
        bench.sandbox.switch(Mode.SLOW, seconds=30)
        started = time.monotonic()
        found = await bench.outcome(within=_SHORT)
        expect(time.monotonic() - started < _SHORT + 1, "an end within a second of the deadline.")
        expect(isinstance(found, HubError), "an error, not a receipt.", type(found).__name__)


@holds("gold")
async def the_concurrency_bound_is_respected(kit: Kit) -> None:
    """No more messages are in the target's hands at once than the target's `concurrency`."""
    async with kit.bench(concurrency=3) as bench:
        bench.sandbox.switch(Mode.SLOW, seconds=0.03)
        await asyncio.gather(*(bench.send(within=20) for _ in range(12)))
        expect(bench.sandbox.busiest <= 3, "at most 3 at once.", bench.sandbox.busiest)
        expect(len(bench.sandbox.effects()) == 12, "all 12 to arrive.", len(bench.sandbox.effects()))


@holds("gold")
async def a_huge_answer_is_bounded(kit: Kit) -> None:
    """An answer of megabytes is cut or refused; it is never read whole, and the next message goes through."""
    async with kit.bench() as bench:
        found = await _fault(bench, Mode.FLOOD)
        if isinstance(found, Receipt):
            most = max((exchange.reply_bytes for exchange in found.exchanges), default=0)
            expect(most < _MAX_REPLY, "less than a megabyte read.", most)
        bench.sandbox.switch(Mode.OK)
        await bench.send()


@holds("gold")
async def every_fault_is_survived(kit: Kit) -> None:
    """After each kind of fault the next message goes through on the same opened connector."""
    async with kit.bench() as bench:
        for mode in _FAULTS:
            await _fault(bench, mode)
            bench.sandbox.switch(Mode.OK)
            found = await bench.outcome()
            expect(isinstance(found, Receipt), f"a receipt after {mode}.", type(found).__name__)


@holds("gold")
async def a_hundred_messages_arrive_once_each(kit: Kit) -> None:
    """A hundred messages sent at the same time arrive, each once, none under another's id."""
    async with kit.bench() as bench:
        await asyncio.gather(*(bench.send(within=30) for _ in range(100)))
        expect(len({seen.id for seen in bench.sandbox.received}) == 100, "a hundred ids.")
        expect(len(bench.sandbox.received) == 100, "a hundred messages.", len(bench.sandbox.received))


@holds("platinum")
async def there_is_evidence_from_the_real_system(kit: Kit) -> None:
    """evidence.md says when, with which version and by whom it was run against the vendor's own sandbox, and what came out."""
    path = kit.folder / "evidence.md"
    expect(path.is_file() and path.stat().st_size > 200, "an evidence.md beside connector.py.")


def _deadline() -> float:
    return asyncio.get_running_loop().time() + 5.0
