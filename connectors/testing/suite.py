"""Running the kit: as a pytest class, as a list of results, as a tier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from canonical_model.message import Message
from connectors.contract import Connector
from connectors.errors import HubError
from connectors.testing import behaved, declared
from connectors.testing.kit import Kit, PropertyFailed
from connectors.testing.properties import PROPERTIES, TIERS, Property
from connectors.testing.sandbox import Sandbox

__all__ = ["Outcome", "behaved", "check", "connector_suite", "declared", "score"]

_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one property came out: `held`, `failed` or `exempt`."""

    name: str
    tier: str
    result: str
    statement: str
    detail: str
    anchor: str


async def _try(kit: Kit, tried: Property) -> str:
    """Return an empty text when the property holds, else what was expected and seen."""
    try:
        async with asyncio.timeout(_SECONDS):
            await tried.trial(kit)
    except PropertyFailed as error:
        return str(error)
    except HubError as error:
        return f"The connector raised {type(error).__name__} where a receipt was expected: {error}"
    except TimeoutError:
        return f"The trial did not end within {_SECONDS:.0f} seconds."
    except Exception as error:
        return f"The trial was broken off by {type(error).__name__}, which is no error of the contract."
    return ""


async def check_async(kit: Kit, *, up_to: str = "platinum") -> list[Outcome]:
    """Try every property up to a tier, lowest tier first."""
    outcomes = []
    exempt = kit.connector.manifest.exempt
    for tried in _up_to(up_to):
        if tried.name in exempt and tried.exemptable:
            result, detail = "exempt", exempt[tried.name]
        else:
            detail = await _try(kit, tried)
            result = "failed" if detail else "held"
        outcomes.append(Outcome(tried.name, tried.tier, result, tried.statement, detail, tried.anchor))
    return outcomes


def check(kit: Kit, *, up_to: str = "platinum") -> list[Outcome]:
    """Try every property up to a tier; needs no pytest."""
    return asyncio.run(check_async(kit, up_to=up_to))


def score(outcomes: list[Outcome]) -> tuple[str | None, Outcome | None]:
    """Return the tier reached (None below bronze) and the first property that blocks the next."""
    reached: str | None = None
    for tier in TIERS:
        for outcome in outcomes:
            if outcome.tier == tier and outcome.result == "failed":
                return reached, outcome
        reached = tier
    return reached, None


def connector_suite(
    connector: type[Connector],
    *,
    sandbox: Callable[[], Sandbox],
    settings: Mapping[str, Any] | None = None,
    message: Callable[[], Message] | None = None,
) -> type:
    """Return a pytest class with one test per property up to the tier the manifest claims.

    `settings` come on top of the sandbox's own; `message` makes a message the connector takes, if a planted one of
    its first type will not do.
    """
    kit = Kit(connector, sandbox, settings or {}, message)
    tests = {
        f"test_{tried.name}": _test_of(kit, tried)
        for tried in _up_to(connector.manifest.tier)
        if tried.name not in connector.manifest.exempt or not tried.exemptable
    }
    return type(
        f"Test{connector.__name__}", (), {"__doc__": f"Conformance of {connector.__name__}.", **tests}
    )


def _test_of(kit: Kit, tried: Property) -> Callable[[Any], None]:
    def test(self: Any) -> None:
        found = asyncio.run(_try(kit, tried))
        if found:
            raise PropertyFailed(f"{tried.statement}\n{found}\nSee {tried.anchor}")

    test.__doc__ = tried.statement
    return test


def _up_to(tier: str) -> list[Property]:
    wanted = TIERS[: TIERS.index(tier) + 1] if tier in TIERS else TIERS[:1]
    return sorted((p for p in PROPERTIES if p.tier in wanted), key=lambda p: TIERS.index(p.tier))
