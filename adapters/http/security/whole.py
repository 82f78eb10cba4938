"""The refusal of partners that see a part of the registry only, where what is asked for knows no parts."""

from __future__ import annotations

from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Partner


def check_whole(partner: Partner, cannot: str, remedy: str) -> None:
    """Raise `RequestRefused` (`partner-confined`) for a partner that sees a part of the registry only."""
    if partner.areas is None and partner.programs is None and partner.consent is None:
        return
    raise RequestRefused(
        f"A partner that sees a part of the registry only cannot {cannot}",
        code="partner-confined",
        remedy=remedy,
    )
