"""What a look at one part found, and in words how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from canonical_model.errors import HubError


class State(StrEnum):
    """How well a part is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One part, its state, a sentence, and how to mend it; neither names a secret or a person."""

    part: str
    state: State
    says: str
    mend: str = ""
    code: str = ""


def ok(part: str, says: str) -> Finding:
    """Return the finding of a part that is well."""
    return Finding(part, State.OK, says)


def warn(part: str, says: str, mend: str) -> Finding:
    """Return the finding of a part that works and should be looked at."""
    return Finding(part, State.WARN, says, mend)


def fail(part: str, says: str, mend: str, code: str = "") -> Finding:
    """Return the finding of a part that keeps the hub from working."""
    return Finding(part, State.FAIL, says, mend, code)


def of_error(part: str, error: HubError) -> Finding:
    """Return the finding an error of the hub stands for."""
    return fail(part, error.detail, error.remedy or f"`hub errors {error.code}` says more.", error.code)
