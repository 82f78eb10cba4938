"""How one partner speaks DCI: the options of its dialect profile, checked when the server starts."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from adapters.dci.signature import SignatureKeys
from adapters.http.security.partners import Partner
from canonical_model.errors import ConfigError
from registry.signing import KeyRefused


class SignaturePolicy(BaseModel):
    """Which signature a partner's envelopes carry and what is done when one is missing."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    style: Literal["none", "dci-http", "jws-compact"] = "none"
    policy: Literal["required", "optional", "off"] = "off"
    jwks: dict[str, Any] = Field(default_factory=dict, repr=False)
    skew_seconds: Annotated[int, Field(ge=0, le=600)] = 60

    @field_validator("jwks")
    @classmethod
    def _usable(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value:
            try:
                SignatureKeys(value)
            except KeyRefused as error:
                raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _complete(self) -> SignaturePolicy:
        if self.policy != "off" and (self.style == "none" or not self.jwks):
            raise ValueError("a signature that is checked needs a style and the partner's keys in jwks")
        return self


class DciProfile(BaseModel):
    """The options of a partner whose dialect is `dci`.

    `tolerant` accepts what the official samples and several field systems send although the standard forbids it:
    numbers as text, empty ids and times, a single object where a list belongs, a missing status.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tolerant: bool = False
    sender_id: str | None = None
    receiver_id: str | None = None
    signature: SignaturePolicy = SignaturePolicy()
    skew_seconds: Annotated[int, Field(ge=0, le=3600)] = 300
    """How far ahead the clock of the partner may be."""
    max_age_seconds: Annotated[int, Field(ge=60)] = 30 * 86400
    """How old a message may be; a registry that could not reach the hub sends it later under its first time."""


P = TypeVar("P", bound=BaseModel)


def profile_of(partner: Partner) -> DciProfile:
    """Return the DCI profile of a partner, the strict default for one of another dialect; raises `ConfigError`."""
    return options_of(partner, "dci", DciProfile, "docs/dci.md")


def options_of(partner: Partner, dialect: str, model: type[P], page: str) -> P:
    """Return the options of a partner of this dialect, the defaults for one of another; raises `ConfigError`."""
    if partner.dialect.name != dialect:
        return model()
    try:
        return model.model_validate(partner.dialect.options)
    except ValidationError as error:
        places = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise ConfigError(
            f"partners.yaml: partner {partner.name}: dialect.options: {places}. Nothing was started.",
            code="partners-invalid",
            remedy=f"Correct the options; {page} lists them.",
        ) from None
