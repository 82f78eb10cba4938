"""The outside ends of the payments: two Mojaloop schemes and a Payment Hub EE, which misbehave towards some payees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from canonical_model.money import Money
from connectors.mojaloop.sandbox_http import SchemeSandbox
from connectors.mojaloop.sandbox_scheme import Fault as SchemeFault
from connectors.payment_hub_ee.sandbox_books import Fault as HubFault
from connectors.payment_hub_ee.sandbox_http import DeploymentSandbox

MOBILE: Final = "mobile-money"
NATIONAL: Final = "national-switch"
DEPLOYMENT: Final = "payment-hub"
_ORDERED: Final = "org.openspp.payment.instructed.v1"
_BATCH: Final = "org.openspp.payment.batch_instructed.v1"
_EVERY: Final = 25
"""One person in so many meets one of the faults of each rail, each in its turn."""
_EVERY_HEAD: Final = 10
"""The same of heads of households, who are fewer."""
F = TypeVar("F", SchemeFault, HubFault)
_SINGLE: Final = (
    SchemeFault.SILENT, SchemeFault.REFUSED, SchemeFault.LOST, SchemeFault.PARTY_UNKNOWN, SchemeFault.DUPLICATE,
    SchemeFault.EARLY, SchemeFault.LATE, SchemeFault.WRONG_FULFILMENT, SchemeFault.RESERVED, SchemeFault.MUTE,
    SchemeFault.QUOTE_OTHER_PAYEE,
)  # fmt: skip
_BULK: Final = (
    SchemeFault.REFUSED, SchemeFault.ITEM_DOUBLED, SchemeFault.PARTY_UNKNOWN, SchemeFault.SILENT,
    SchemeFault.QUOTE_OTHER_AMOUNT, SchemeFault.WRONG_FULFILMENT, SchemeFault.DUPLICATE, SchemeFault.MUTE,
    SchemeFault.ITEM_MISSING,
)  # fmt: skip
_FILES: Final = (HubFault.FAIL, HubFault.LATE, HubFault.STALLED, HubFault.MISSING)
_WHOLE: Final = (HubFault.CALLBACK_TWICE, HubFault.ANSWER_LOST)
FAULTS: Final[Mapping[str, tuple[str, ...]]] = {
    MOBILE: _SINGLE,
    NATIONAL: ("shuffled", *_BULK),
    DEPLOYMENT: (*_WHOLE, *_FILES),
}
"""What goes wrong at each rail."""
_SCHEME_PACE: Final = {"lookups": 200, "window": 200, "lookup_seconds": 4.0, "ask_seconds": 1.0, "asks": 2}
_HUB_PACE: Final = {
    "first_ask": 0.5, "sweep_seconds": 1.0, "lost_asks": 4, "missing_asks": 4, "open_asks": 4,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Moved:
    """Money that left the payer at a rail, by the rail's own books."""

    kind: str
    """The kind of reference the ledger has for `reference`."""
    reference: str
    payee: str
    minor_units: int


class Rails:
    """The sandboxes, the targets and routes that reach them, and their books."""

    def __init__(self, currency: str) -> None:
        self._currency = currency
        self._mobile = SchemeSandbox(algorithm="ES256")
        self._national = SchemeSandbox(algorithm="ES256")
        self._deployment = DeploymentSandbox(login=True)

    async def start(self, hub_url: str) -> None:
        """Start every sandbox; they call back to a hub at this address."""
        self._mobile.calls_back_to(f"{hub_url}/callbacks/{MOBILE}")
        self._national.calls_back_to(f"{hub_url}/callbacks/{NATIONAL}")
        self._deployment.callbacks = f"{hub_url}/callbacks/{DEPLOYMENT}"
        for one in (self._mobile, self._national, self._deployment):
            await one.start()

    async def stop(self) -> None:
        """Stop every sandbox; safe to call twice."""
        for one in (self._mobile, self._national, self._deployment):
            await one.stop()

    def targets(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Return connector and settings of each rail; asked about soon, since nobody waits hours for a demonstration."""
        return {
            MOBILE: ("mojaloop", self._mobile.settings() | _SCHEME_PACE | {"bulk": False}),
            NATIONAL: ("mojaloop", self._national.settings() | _SCHEME_PACE),
            DEPLOYMENT: ("payment_hub_ee", self._deployment.settings() | _HUB_PACE),
        }

    def routes(self) -> dict[str, dict[str, Any]]:
        """Return the routes of the payments: those ordered one by one, and batches by their program."""
        return {
            "payments-to-mobile-money": _route(
                "Payments ordered one by one go through the mobile money scheme", _ORDERED, MOBILE
            ),
            "payments-to-national-switch": _route(
                "Batches for children go through the national switch", _BATCH, NATIONAL,
                'data.program_id == "drought-children"',
            ),
            "payments-to-payment-hub": _route(
                "Other batches go through Payment Hub EE", _BATCH, DEPLOYMENT,
                'data.program_id in ["with-elders", "drought-adults"]',
            ),
        }  # fmt: skip

    def misbehave(self, heads: Sequence[str], everybody: Sequence[str]) -> None:
        """Give some payees of each rail a fault; whole answers are shuffled, doubled or lost besides.

        `heads` are the wallets households are paid to, `everybody` those of all people.
        """
        for wallet, fault in _spread(heads, _SINGLE, _EVERY_HEAD):
            self._mobile.scheme.faults.setdefault(wallet, set()).add(fault)
        for wallet, fault in _spread(everybody, _BULK, _EVERY):
            self._national.scheme.faults.setdefault(wallet, set()).add(fault)
        for wallet, row_fault in _spread(everybody, _FILES, _EVERY):
            self._deployment.books.faults[wallet].add(row_fault)
        self._national.shuffle_bulk(True)
        self._deployment.books.every |= set(_WHOLE)

    def towards(self) -> dict[str, Mapping[str, set[SchemeFault] | set[HubFault]]]:
        """Return the faults of each rail by the wallet they befall."""
        return {
            MOBILE: self._mobile.scheme.faults,
            NATIONAL: self._national.scheme.faults,
            DEPLOYMENT: self._deployment.books.faults,
        }

    def books(self) -> Mapping[str, list[Moved]]:
        """Return what each rail says it has paid out."""
        schemes = ((MOBILE, self._mobile.scheme), (NATIONAL, self._national.scheme))
        found = {
            name: [
                Moved("transfer", id_, paid.identifier, paid.amount)
                for id_, paid in scheme.transfers.items()
                if paid.state == "COMMITTED"
            ]
            for name, scheme in schemes
        }
        found[DEPLOYMENT] = [
            Moved("request", request, payee, Money.parse(amount, currency).minor_units)
            for request, payee, amount, currency in self._deployment.books.moved
        ]
        return found


def _route(title: str, type_: str, to: str, condition: str | None = None) -> dict[str, Any]:
    when = {"type": type_} if condition is None else {"type": type_, "condition": condition}
    return {"title": title, "when": when, "to": to}


def _spread(wallets: Sequence[str], faults: tuple[F, ...], every: int) -> Iterator[tuple[str, F]]:
    for turn, wallet in enumerate(wallets[::every]):
        yield wallet, faults[turn % len(faults)]
