"""The programs of the demonstration: two for households, one for every child and one for every adult, each with its rail."""

from __future__ import annotations

from typing import Any, Final

CURRENCY: Final = "KES"
_APPROVAL: Final = {"steps": [{"role": "manager"}, {"role": "finance"}]}


def _program(
    name: str, names: tuple[str, str], target: str, who: str, amount: str, most: int, route: str, form: str
) -> dict[str, Any]:
    return {
        "code": name,
        "names": dict(zip(("en", "fr"), names, strict=True)),
        "target_type": target,
        "currency": CURRENCY,
        "fund": "main",
        "eligibility": who,
        "benefit": {"amounts": [{"amount": amount}], "most": most},
        "managers": {"approval": _APPROVAL, "payment": {"route": route, "form": form}},
    }


PROGRAMS: Final[tuple[dict[str, Any], ...]] = (
    _program(
        "small-children",
        ("Grant for small children", "Allocation petite enfance"),
        "group",
        "members.exists(m, age_years(m.birthdate) < 5) && members.count(m, age_years(m.birthdate) < 18) >= 2",
        "members.count(m, age_years(m.birthdate) < 18) * 75050",
        250_000,
        "payments-to-mobile-money",
        "single",
    ),
    _program(
        "with-elders",
        ("Grant for households with elders", "Allocation aux foyers avec aînés"),
        "group",
        "members.exists(m, age_years(m.birthdate) >= 65)",
        "size(members) * 90000",
        400_000,
        "payments-to-payment-hub",
        "batch",
    ),
    _program(
        "drought-children",
        ("Drought relief for children", "Secours sécheresse aux enfants"),
        "individual",
        "age_years(r.birthdate) < 18",
        "age_years(r.birthdate) < 5 ? 60050 : 45075",
        60_050,
        "payments-to-national-switch",
        "batch",
    ),
    _program(
        "drought-adults",
        ("Drought relief for adults", "Secours sécheresse aux adultes"),
        "individual",
        "age_years(r.birthdate) >= 18",
        "age_years(r.birthdate) >= 65 ? 120000 : 80000",
        120_000,
        "payments-to-payment-hub",
        "batch",
    ),
)
