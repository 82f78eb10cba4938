"""How one partner orders payments in the words of GovStack: the options of its dialect profile, checked at the start."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from adapters.dci.profile import options_of
from adapters.g2p.disburse_profile import CallbackBase, check_callbacks
from adapters.http.security.partners import Partner
from canonical_model.localized import Code
from connectors.g2p_connect.disburse_addresses import account_of

DIALECT: Final = "govstack"
MODALITIES: Final = {"00": "account", "01": "mobile", "02": "alias", "03": "wallet", "04": "voucher"}
"""PaymentModality and the type of financial address it means (GovStack Payments, register beneficiary)."""


def _form(text: str) -> str:
    if account_of(text.replace("@", ":1@")) is None:
        raise ValueError("ids are written by a form type@provider")
    return text


def _payer(text: str) -> str:
    if account_of(text) is None:
        raise ValueError("a financial address is written type:id@provider")
    return text


class GovstackProfile(BaseModel):
    """The options of a partner whose dialect is `govstack`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_id: Annotated[str | None, Field(max_length=20)] = None
    """Its SourceBBID; requests of another are refused."""
    tenant: Annotated[str | None, Field(max_length=20)] = None
    """Its Platform-TenantId; batches of another are refused."""
    payer_fa: Annotated[str, AfterValidator(_payer)] | None = None
    """The account its payments come from, where the rail knows more than one."""
    functional_id: Annotated[str, AfterValidator(_form)] = "functional@govstack"
    """How a functional id is written for the account mapper, `type@provider`."""
    registered_only: bool = True
    """Whether every payee must be in the hub's account mapper; if not, the rail looks up those who are not."""
    id_type: Code = "FUNCTIONAL_ID"
    """The identifier type under which a payee without a mapped account is handed to the rail."""
    providers: Annotated[dict[str, Code], Field(max_length=5)] = Field(default_factory=dict)
    """The provider of a financial address that names none, by modality (`00` to `04`)."""
    exact_lengths: bool = True
    """Whether ids have exactly the printed lengths (12, 16, 20); if not, they have 1 to 50 characters."""
    callbacks: Annotated[tuple[CallbackBase, ...], Field(max_length=20)] = ()
    """Where its callbacks may go: an `X-Callback-URL` lies under one of these."""
    callback_networks: Annotated[tuple[str, ...], Field(max_length=20)] = ()
    """Private networks (CIDR) its callbacks may lie in."""

    @model_validator(mode="after")
    def _together(self) -> GovstackProfile:
        check_callbacks(self.callbacks, self.callback_networks)
        if not self.providers.keys() <= MODALITIES.keys():
            raise ValueError("providers are named by modality, 00 to 04")
        return self


def govstack_profile_of(partner: Partner) -> GovstackProfile:
    """Return the profile of a partner, the defaults for one of another dialect; raises `ConfigError`."""
    return options_of(partner, DIALECT, GovstackProfile, "docs/g2p-connect.md")
