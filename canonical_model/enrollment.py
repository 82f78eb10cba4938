"""Who is enrolled in which program."""

from __future__ import annotations

from datetime import date
from enum import StrEnum

from pydantic import AwareDatetime

from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.localized import Code
from canonical_model.registrant import RegistrantRef


class EnrollmentStatus(StrEnum):
    """The state of an enrollment, as OpenSPP names it."""

    DRAFT = "draft"
    ENROLLED = "enrolled"
    PAUSED = "paused"
    EXITED = "exited"
    NOT_ELIGIBLE = "not_eligible"
    DUPLICATED = "duplicated"


class Enrollment(CanonicalModel):
    """One registrant's place in one program, and its state since `changed_at`."""

    enrollment_id: Code | None = private(Privacy.PUBLIC, default=None)
    program_id: Code = private(Privacy.PUBLIC)
    registrant: RegistrantRef = private(Privacy.IDENTIFIER)
    status: EnrollmentStatus = private(Privacy.PERSONAL)
    previous_status: EnrollmentStatus | None = private(Privacy.PERSONAL, default=None)
    reason: Code | None = private(
        Privacy.SENSITIVE, default=None, description="Code of why the state changed."
    )
    enrollment_date: date | None = private(Privacy.PERSONAL, default=None)
    exit_date: date | None = private(Privacy.PERSONAL, default=None)
    changed_at: AwareDatetime | None = private(Privacy.PUBLIC, default=None)
