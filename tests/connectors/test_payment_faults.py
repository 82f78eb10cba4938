"""Whatever a rail's system does wrong, on every rail and form: paid once, and the sums are those of the system's own books.

Every fault a sandbox knows is tried on every form of its rail: two of six payees meet it, the others do not. A fault that cannot
show on a form (one of bulk items where payments go one by one) must then do no harm either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from services.payment_hub import Desk as HubDesk
from services.payment_hub import order as hub_order

from canonical_model.payment import PaymentInstruction
from connectors.mojaloop.sandbox_adapter import AdapterSandbox
from connectors.mojaloop.sandbox_http import SchemeSandbox
from connectors.mojaloop.sandbox_scheme import Fault as SchemeFault
from connectors.payment_hub_ee.sandbox_books import Fault as HubFault
from tests.connectors.mojaloop_bulk_desk import QUICK, BulkDesk
from tests.connectors.mojaloop_desk import Desk as SchemeDesk
from tests.connectors.mojaloop_desk import order as scheme_order
from tests.connectors.test_mojaloop_adapter_rail import Desk as AdapterDesk

FAULTY = (1, 4)
COUNT = 6
OPEN = {"unknown", "review"}
STOPPING = {SchemeFault.NO_LIQUIDITY, HubFault.UNSIGNED}


@dataclass
class Outcome:
    """What the ledger says of each payment, and what moved at the system, by payee."""

    states: dict[str, str] = field(default_factory=dict)
    ordered: dict[str, int] = field(default_factory=dict)
    moved: Counter[str] = field(default_factory=Counter)
    units: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Sequence[Any], moves: Sequence[tuple[str, int]], payee_of: dict[str, str]) -> Outcome:
        found = cls()
        for row in rows:
            payee = payee_of[row.payment_id]
            found.states[payee] = row.state
            found.ordered[payee] = row.instruction.amount.minor_units
        for payee, units in moves:
            found.moved[payee] += 1
            found.units[payee] = found.units.get(payee, 0) + units
        return found

    def prove(
        self, faulty: set[str], *, stops: bool, pays_twice_itself: bool = False, spreads: bool = False
    ) -> None:
        """Assert what holds on every rail; a fault that spreads lets others of its bulk fail, never be lost."""
        sums: Counter[str] = Counter()
        for payee, state in self.states.items():
            sums[state] += self.ordered[payee]
            said = f"{payee}: {state}, moved {self.moved[payee]} times"
            if not (pays_twice_itself and payee in faulty):
                assert self.moved[payee] <= 1, said
            if state == "paid":
                assert self.units.get(payee) == self.ordered[payee], said
            elif state in {"failed", "cancelled"}:
                assert not self.moved[payee], said
            elif not stops:
                assert state in OPEN, said
        assert sums.total() == sum(self.ordered.values())
        if not stops:
            healthy = {self.states[payee] for payee in self.states.keys() - faulty}
            assert healthy <= ({"paid", "failed"} if spreads else {"paid"}), self.states


def phones() -> list[str]:
    return [f"+27713{number:06d}" for number in range(COUNT)]


async def by_scheme(desk: Any, fault: SchemeFault, *, spreads: bool = False) -> None:
    orders = [
        scheme_order(f"P-{number}", phone, 1000 + number, batch_id="B-1")
        for number, phone in enumerate(phones())
    ]
    faulty = {phones()[number] for number in FAULTY}
    async with desk:
        for phone in faulty:
            desk.sandbox.scheme.faults[phone] = {fault}
        await desk.pay(*orders)
        moves = [(paid.identifier, paid.amount) for paid in desk.sandbox.scheme.committed()]
        payees = {one.payment_id: phone for one, phone in zip(orders, phones(), strict=True)}
        outcome = Outcome.of(list(desk.ledger.rows.values()), moves, payees)
    outcome.prove(faulty, stops=fault in STOPPING, spreads=spreads)


@pytest.mark.parametrize("fault", SchemeFault)
@pytest.mark.parametrize("form", ["1.1", "2.0", "iso20022", "1.1 in bulk", "2.0 in bulk"])
async def test_whatever_a_scheme_does_a_payment_is_made_once_and_said_truly(
    form: str, fault: SchemeFault
) -> None:
    sandbox = SchemeSandbox(version=form.split(maxsplit=1)[0], algorithm="ES256")
    bulk = form.endswith("bulk")
    # The terms of a bulk quote expire together: the standard has one expiration for all of them.
    spreads = bulk and fault is SchemeFault.QUOTE_EXPIRED
    await by_scheme(SchemeDesk(sandbox, bulk=bulk), fault, spreads=spreads)


@pytest.mark.parametrize("fault", SchemeFault)
async def test_whatever_a_scheme_does_behind_an_adapter_a_payment_is_made_once_and_said_truly(
    fault: SchemeFault,
) -> None:
    await by_scheme(AdapterDesk(), fault)


@pytest.mark.parametrize("fault", SchemeFault)
async def test_whatever_a_scheme_does_behind_an_adapters_bulk_a_payment_is_made_once_and_said_truly(
    fault: SchemeFault,
) -> None:
    # An entry that names another's transfer puts both in doubt before anything is paid.
    spreads = fault is SchemeFault.WRONG_PARTY
    await by_scheme(BulkDesk(AdapterSandbox(), **QUICK | {"bulk_seconds": 30.0}), fault, spreads=spreads)


@pytest.mark.parametrize("fault", HubFault)
@pytest.mark.parametrize("form", ["csv", "json", "channel"])
async def test_whatever_a_payment_hub_does_a_payment_is_made_once_and_said_truly(
    form: str, fault: HubFault
) -> None:
    change: dict[str, Any] = {"singles": "channel"} if form == "channel" else {"form": form}
    change |= {"open_asks": 3}
    orders: list[PaymentInstruction] = [
        hub_order(number, units=85_000 + 100 * number) for number in range(COUNT)
    ]
    async with HubDesk(change=change) as desk:
        for number in FAULTY:
            desk.books.faults[f"2547{number:08d}"].add(fault)
        await desk.pay(orders, None if form == "channel" else "B-1")
        payees = {one.payment_id: f"2547{number:08d}" for number, one in enumerate(orders)}
        moves = [
            (payee.removeprefix("+"), round(float(amount) * 100)) for _, payee, amount, _ in desk.books.moved
        ]
        outcome = Outcome.of(list(desk.ledger.rows.values()), moves, payees)
    outcome.prove(
        {payees[f"P-{number}"] for number in FAULTY},
        stops=fault in STOPPING,
        pays_twice_itself=fault is HubFault.PAID_TWICE,
    )
