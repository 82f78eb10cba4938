"""G2P Connect and GovStack Payments put together: what a process serves, and what it calls back."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg
from aiohttp import web

from adapters.g2p import disburse, disburse_profile, govstack, govstack_profile, mapper
from adapters.g2p.disburse_answers import Writer
from adapters.g2p.disburse_callbacks import Teller
from adapters.g2p.disburse_profile import disburse_profile_of, guards_of
from adapters.g2p.govstack_beneficiaries import Beneficiaries
from adapters.g2p.govstack_profile import govstack_profile_of
from adapters.http.security.partners import Partners
from adapters.http.services import Services
from registry.accounts import Accounts
from registry.signing import SigningKey
from registry.vault import Vault
from routing.disbursements import Disbursements
from routing.intake import Intake


class Disbursing:
    """The extensions for `Services.extra`, and the teller to be started once the process listens."""

    def __init__(
        self, pool: asyncpg.Pool, vault: Vault, intake: Intake, partners: Partners, key: SigningKey, url: str
    ) -> None:
        self.store = store = Disbursements(pool, vault, intake)
        writer = Writer(key, url)
        accounts = Accounts(pool, vault)
        beneficiaries = Beneficiaries(accounts)
        self.extensions: list[Callable[[web.Application, Services], None]] = [
            disburse.extension(store, writer),
            mapper.extension(store, accounts, writer),
            govstack.extension(store, beneficiaries),
        ]
        self.teller = Teller(
            store,
            {
                "g2p": disburse.answers_of(partners, store, writer),
                "govstack": govstack.answers_of(store),
                **mapper.answers(partners, store, accounts, writer),
            },
            {
                **guards_of(partners, disburse_profile.DIALECT, disburse_profile_of),
                **guards_of(partners, govstack_profile.DIALECT, govstack_profile_of),
            },
        )
