"""The settings of one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from connectors.contract import Settings


class FileColumn(BaseModel):
    """One column of a CSV file of rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """What stands in the header."""
    path: Annotated[str, Field(pattern=r"^[a-z_]+(\.([a-z_]+|[0-9]+))*$", max_length=200)]
    """The field of the row, steps parted by dots: `payee_account.account_number`; an amount of money is written
    as a decimal, a name as one text."""


PAYMENT_COLUMNS: Final = tuple(
    FileColumn(name=name, path=path)
    for name, path in (
        ("payment_id", "payment_id"),
        ("payee_name", "payee_name"),
        ("provider", "payee_account.provider"),
        ("account_number", "payee_account.account_number"),
        ("amount", "amount"),
        ("currency", "amount.currency"),
        ("purpose", "purpose"),
    )
)


class FileSettings(Settings):
    """Where files go, how they are named and what stands in them."""

    folder: Path
    """The folder, as an absolute path; it must be there, and closed to other users of the machine."""
    format: Literal["json", "csv"] = "json"
    """How the rows of a batch are written: one JSON object a line, or CSV. Any other message is one JSON file."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]*$", max_length=50)] = ""
    """What every file's name begins with."""
    columns: tuple[FileColumn, ...] = Field(default=PAYMENT_COLUMNS, min_length=1, max_length=100)
    """The columns of a CSV file, in order."""
    most_rows: int = Field(default=5_000_000, ge=1, le=50_000_000)
    """The most rows of one file; a larger batch is refused."""

    @field_validator("folder")
    @classmethod
    def _is_absolute(cls, value: Path) -> Path:
        if not value.is_absolute():
            raise ValueError("must be an absolute path")
        return value
