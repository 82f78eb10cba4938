"""The settings of one bank or cash-out desk that takes files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from connectors.contract import Settings
from connectors.file.settings import FileColumn

_Max35 = Annotated[str, StringConstraints(min_length=1, max_length=35)]
CASH_OUT_COLUMNS: Final = tuple(
    FileColumn(name=name, path=path)
    for name, path in (
        ("reference", "reference"),
        ("payment_id", "payment_id"),
        ("entitlement_id", "entitlement_id"),
        ("payee_name", "payee_name"),
        ("payee_identifier", "payee.identifiers.0.value"),
        ("provider", "payee_account.provider"),
        ("account_number", "payee_account.account_number"),
        ("amount", "amount"),
        ("currency", "amount.currency"),
        ("purpose", "purpose"),
        ("expires_at", "expires_at"),
    )
)


class BankFileSettings(Settings):
    """Where files go and come back, what stands in them, and which words of the bank mean paid or failed."""

    folder: Path
    """The folder files are put into, as an absolute path; it must be there, and closed to other users of the machine."""
    format: Literal["csv", "pain.001"] = "csv"
    """`csv`: a cash-out list; `pain.001`: ISO 20022 pain.001.001.09."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]*$", max_length=50)] = ""
    """What every file's name begins with."""
    rows: int = Field(default=5_000, ge=1, le=20_000)
    """The most payments of one file."""
    columns: tuple[FileColumn, ...] = Field(default=CASH_OUT_COLUMNS, min_length=1, max_length=100)
    """The columns of a cash-out list; one of them is `reference`, by which its results are matched."""
    debtor_name: Annotated[str, StringConstraints(min_length=1, max_length=140)] | None = None
    """Who pays, as the bank knows it (pain.001)."""
    debtor_account: Annotated[str, StringConstraints(min_length=1, max_length=34)] | None = None
    """The account that is paid from: an IBAN, or another number of the bank (pain.001)."""
    debtor_agent: _Max35 | None = None
    """The bank of that account: its BIC, or another code (pain.001)."""
    initiating_id: _Max35 | None = None
    """The customer number the bank gave to whoever hands the files in (pain.001)."""
    charges: Literal["DEBT", "CRED", "SHAR", "SLEV"] | None = None
    """Who bears the bank's charges (`ChrgBr`); left to the agreement with the bank if not given."""
    results: Path | None = None
    """The folder the bank's files are picked up from, as an absolute path; what was read moves to `done` in it."""
    poll: float = Field(default=30.0, ge=0.05, le=3600)
    """Seconds between two looks into `results`."""
    paid_statuses: tuple[str, ...] = Field(default=("ACSC", "ACCC"), max_length=20)
    """Statuses of a pain.002 that mean paid. Empty: only a booked entry of a camt.054 does."""
    failed_statuses: tuple[str, ...] = Field(default=("RJCT", "CANC"), min_length=1, max_length=20)
    """Statuses of a pain.002 that mean certainly not paid."""
    open_statuses: tuple[str, ...] = Field(
        default=("RCVD", "PDNG", "ACTC", "ACCP", "ACSP", "ACWC", "ACFC", "ACSC", "ACCC", "PART"),
        max_length=30,
    )
    """Statuses of a pain.002 that say nothing yet; any other puts the payment in review."""
    answer_days: float = Field(default=7.0, ge=0.0001, le=365)
    """Days after which a payment without an answer is unknown."""
    most_bytes: int = Field(default=64 * 1024 * 1024, ge=1024, le=1 << 30)
    """The most bytes of one file that is read back."""

    @field_validator("folder", "results")
    @classmethod
    def _is_absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("must be an absolute path")
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.format == "pain.001":
            missing = [
                name
                for name in ("debtor_name", "debtor_account", "debtor_agent")
                if getattr(self, name) is None
            ]
            if missing:
                raise ValueError(f"pain.001 needs {', '.join(missing)}")
        elif "reference" not in {column.path for column in self.columns}:
            raise ValueError("one of the columns must be `reference`, by which results are matched")
        if self.results is not None and self.results == self.folder:
            raise ValueError("results must be another folder than the one files are put into")
        return self
