"""The message types of the hub, the model each carries, and the check of their data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, cast

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails, SchemaValidator

from canonical_model.base import CanonicalModel
from canonical_model.civil_event import CivilEvent
from canonical_model.consent import Consent
from canonical_model.decision import DecisionRequest, DecisionResult
from canonical_model.enrollment import Enrollment
from canonical_model.entitlement import Entitlement
from canonical_model.errors import Refused
from canonical_model.grievance import Grievance
from canonical_model.household import Household
from canonical_model.notice import Notice, NoticeResult
from canonical_model.payment import PaymentBatch, PaymentInstruction, PaymentResult, PaymentResults
from canonical_model.person import Person
from canonical_model.program import Cycle, Program
from canonical_model.screening import screen_of
from canonical_model.verification import VerificationRequest, VerificationResult
from canonical_model.walk import models_in

MESSAGE_TYPES: Final[Mapping[str, type[CanonicalModel]]] = MappingProxyType(
    {
        "org.openspp.civil_event.registered.v1": CivilEvent,
        "org.openspp.consent.changed.v1": Consent,
        "org.openspp.cycle.changed.v1": Cycle,
        "org.openspp.decision.requested.v1": DecisionRequest,
        "org.openspp.decision.result.v1": DecisionResult,
        "org.openspp.enrollment.changed.v1": Enrollment,
        "org.openspp.entitlement.issued.v1": Entitlement,
        "org.openspp.entitlement.changed.v1": Entitlement,
        "org.openspp.grievance.changed.v1": Grievance,
        "org.openspp.grievance.filed.v1": Grievance,
        "org.openspp.household.upserted.v1": Household,
        "org.openspp.notice.requested.v1": Notice,
        "org.openspp.notice.result.v1": NoticeResult,
        "org.openspp.payment.batch_instructed.v1": PaymentBatch,
        "org.openspp.payment.instructed.v1": PaymentInstruction,
        "org.openspp.payment.result.v1": PaymentResult,
        "org.openspp.payment.results.v1": PaymentResults,
        "org.openspp.person.upserted.v1": Person,
        "org.openspp.program.changed.v1": Program,
        "org.openspp.verification.requested.v1": VerificationRequest,
        "org.openspp.verification.result.v1": VerificationResult,
    }
)
"""Every message type the hub knows and the model of its data."""

_MAX_PLACES: Final = 10
_SHOWABLE_KEY: Final = re.compile(r"[a-z@][a-z@_]{0,39}\Z")
_FIELD_NAMES: Final = frozenset(
    name for root in MESSAGE_TYPES.values() for model in models_in(root) for name in model.model_fields
)
_SAFE_LIMITS: Final = ("max_length", "min_length", "ge", "le", "gt", "lt", "reason")
_VALIDATORS: Final[Mapping[str, SchemaValidator]] = {
    name: cast("SchemaValidator", model.__pydantic_validator__) for name, model in MESSAGE_TYPES.items()
}


_SCREENS: Final[dict[str, Callable[[Any], bool] | None]] = {}


def is_surely_valid(message_type: str, data: Any) -> bool:
    """Say whether a quick check finds the data valid; False says nothing, and the model decides.

    Whatever passes here passes `validate_data`; a test holds both together.
    """
    try:
        screen = _SCREENS[message_type]
    except KeyError:
        # Made when it is first asked for: commands that read no message do not wait for it.
        if message_type not in MESSAGE_TYPES:
            return False
        screen = _SCREENS[message_type] = screen_of(MESSAGE_TYPES[message_type])
    try:
        return screen is not None and screen(data)
    except (TypeError, ValueError):
        return False  # not JSON: the model says so in its own words


def model_of(message_type: str) -> type[CanonicalModel]:
    """Return the model a message type carries; raises `Refused` (`message-type-unknown`)."""
    model = MESSAGE_TYPES.get(message_type)
    if model is None:
        raise _unknown_type()
    return model


def validate_data(message_type: str, data: Mapping[str, Any]) -> CanonicalModel:
    """Return the data of a message as its canonical model, checked by the strict rules of JSON.

    `data` holds JSON values only, as `orjson.loads` gives them. Raises `Refused`: `message-type-unknown`, or
    `message-data-invalid` with the JSON Pointer of the first offending place and at most ten places with their rules in
    the detail. No value of the data is ever repeated.
    """
    validator = _VALIDATORS.get(message_type)
    if validator is None:
        raise _unknown_type()
    try:
        # JSON mode is the strict one that still reads dates and UUIDs from text: 1 is not "1" and not true.
        return cast("CanonicalModel", validator.validate_json(orjson.dumps(data), strict=True))
    except ValidationError as error:
        refused = refusal_of(error, message_type)
    except (TypeError, RecursionError):
        refused = Refused(
            "The data of the message is not JSON. Nothing was accepted.",
            code="message-data-invalid",
            pointer="",
            remedy="Send a JSON object of text, numbers, booleans, lists and objects.",
        )
    # Outside of `except`, since the caught error holds the data and must not come along as the context.
    raise refused


def check_data(message_type: str, data: Mapping[str, Any]) -> None:
    """Check the data of a message and keep nothing; for the hot path. Raises as `validate_data` does."""
    if not is_surely_valid(message_type, data):
        validate_data(message_type, data)


def to_data(model: CanonicalModel) -> dict[str, Any]:
    """Return a model as the JSON object a message carries, without the fields that say nothing."""
    return model.model_dump(mode="json", exclude_none=True, exclude_unset=True)


def refusal_of(error: ValidationError, message_type: str | None = None) -> Refused:
    """Turn a validation error of a canonical model into `Refused` that names places and rules, never a value."""
    problems = error.errors(include_input=False, include_url=False)
    places = [_place(problem) for problem in problems[:_MAX_PLACES]]
    more = f"; and {len(problems) - _MAX_PLACES} more" if len(problems) > _MAX_PLACES else ""
    what = f"The data of a {message_type}" if message_type else "The data"
    return Refused(
        f"{what} breaks the canonical model at {'; '.join(places)}{more}. Nothing was accepted.",
        code="message-data-invalid",
        pointer=pointer_of(problems[0]["loc"]),
        remedy="Correct the places named and send the message again.",
    )


def pointer_of(location: tuple[int | str, ...]) -> str:
    """Return a location as a JSON Pointer (RFC 6901); keys that could hold data of a person stand as `?`."""
    return "".join(f"/{_key(part)}" for part in location if part != "[key]")


def _key(part: int | str) -> str:
    if isinstance(part, int) or part in _FIELD_NAMES or _SHOWABLE_KEY.match(part):
        return str(part)
    return "?"


def _place(problem: ErrorDetails) -> str:
    # The rule's name and its limits come from the model; pydantic's own sentence may quote the input.
    limits = {name: problem["ctx"][name] for name in _SAFE_LIMITS if name in problem.get("ctx", {})}
    told = ", ".join(f"{name} {value}" for name, value in limits.items())
    return f"{pointer_of(problem['loc']) or '/'}: {problem['type']}{f' ({told})' if told else ''}"


def _unknown_type() -> Refused:
    return Refused(
        "The message type is not one the hub knows. Nothing was accepted.",
        code="message-type-unknown",
        pointer="/type",
        remedy="Use a type of the table in docs/canonical-model.md.",
    )
