"""Beneficiaries of GovStack: functional ids and where they are paid, kept by the account mapper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from adapters.g2p.govstack_profile import MODALITIES, GovstackProfile
from adapters.g2p.govstack_reading import Beneficiary
from canonical_model.account import Account
from connectors.g2p_connect.disburse_addresses import account_of
from registry.accounts import Accounts, Link, Question
from routing.disbursements import Item

ADDRESS_INVALID: Final = "account-address-invalid"
PURPOSE: Final = "payment"
"""Why addresses of payees are looked up, as the audit trail has it."""


class Beneficiaries:
    """The account mapper as this dialect uses it: lists in the order they came."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def prepare(self) -> None:
        """Have at hand what `register` needs besides its connection."""
        await self._accounts.prepare()

    async def register(
        self,
        found: Sequence[Beneficiary],
        profile: GovstackProfile,
        connection: Any,
        *,
        update: bool,
        actor: str,
        request_id: str | None,
    ) -> list[Item]:
        """Link beneficiaries to their addresses in the caller's transaction, or with `update` give them others.

        An item is named by its place, and has a code where nothing was done.
        """
        links, places = [], []
        items = [Item(str(place), None, ADDRESS_INVALID) for place in range(len(found))]
        for place, one in enumerate(found):
            address = address_of(one.modality, one.address, profile)
            if address is not None:
                links.append(Link(id_of(one.functional_id, profile), address))
                places.append(place)
        work = self._accounts.update if update else self._accounts.link
        if links:
            done = await work(links, actor=actor, request_id=request_id, connection=connection)
            for place, outcome in zip(places, done, strict=True):
                items[place] = Item(str(place), outcome.link_id, outcome.code)
        return items

    async def accounts_of(
        self, ids: Sequence[str], profile: GovstackProfile, *, actor: str, request_id: str | None
    ) -> list[Account | None]:
        """Return the account each functional id is paid at now, None for one that has none; the audit trail has it."""
        asked = [Question(id=id_of(one, profile)) for one in ids]
        found = await self._accounts.resolve(asked, actor=actor, purpose=PURPOSE, request_id=request_id)
        return [
            account_of(one.address) if one.state == "active" and one.address is not None else None
            for one in found
        ]


def id_of(functional_id: str, profile: GovstackProfile) -> str:
    """Return a functional id as the account mapper has it."""
    kind, _, provider = profile.functional_id.partition("@")
    return f"{kind}:{functional_id}@{provider}"


def address_of(modality: str, address: str, profile: GovstackProfile) -> str | None:
    """Return a beneficiary's financial address as the account mapper has it, None when it cannot be one."""
    kind = MODALITIES.get(modality)
    if kind is None:
        return None
    whole = address if ":" in address else f"{kind}:{address}"
    if "@" not in whole and modality in profile.providers:
        whole = f"{whole}@{profile.providers[modality]}"
    return whole if "@" in whole and account_of(whole) is not None else None
