"""Who has to agree to a change: an ordered list of policies, the first that fits decides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import cel
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from canonical_model.errors import ConfigError
from registry.changes.kinds import TYPES

FILE_NAME: Final = "changes.yaml"
_NAMES: Final = {"type", "fields", "attributes", "area", "maker"}
"""What a condition may name: facts about the change, never what it says of a person beyond declared attributes."""


def _compiles(text: str) -> str:
    try:
        named = set(cel.compile(text).variables())
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"does not compile: {str(error).splitlines()[0]}") from None
    if unknown := sorted(named - _NAMES):
        raise ValueError(f"names {', '.join(unknown)}; only {', '.join(sorted(_NAMES))} are known")
    return text


def _types(values: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := sorted(set(values) - set(TYPES)):
        raise ValueError(f"{', '.join(unknown)} is no type of change; there are {', '.join(TYPES)}")
    return values


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(_Part):
    """One agreement that is needed: by so many people who have the role."""

    role: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
    people: Annotated[int, Field(ge=1, le=10)] = 1


class Policy(_Part):
    """Which changes it is about, and who has to agree, step after step."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    types: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_types)] = TYPES
    when: Annotated[str, Field(max_length=2000), AfterValidator(_compiles)] | None = None
    """A CEL condition over `type`, `fields` (names of what is set), `attributes`, `area` and `maker`."""
    steps: tuple[Step, ...] = Field(max_length=10)
    """Nobody has to agree where there are none: the change is carried out at once."""


DEFAULT: Final = Policy(name="one-other-person", steps=(Step(role="approver"),))
"""What holds where no file says otherwise: somebody else has to agree."""


class Policies:
    """The policies of a hub, in order; `DEFAULT` is the last."""

    def __init__(self, policies: Sequence[Policy] = ()) -> None:
        self._all = {policy.name: policy for policy in (*policies, DEFAULT)}
        self._compiled = {
            policy.name: cel.compile(policy.when) for policy in policies if policy.when is not None
        }

    def choose(self, facts: dict[str, Any]) -> Policy:
        """Return the first policy that fits; a condition that cannot be decided does not let a change pass it by."""
        for policy in self._all.values():
            if facts["type"] in policy.types and self._holds(policy, facts):
                return policy
        return DEFAULT

    def _holds(self, policy: Policy, facts: dict[str, Any]) -> bool:
        program = self._compiled.get(policy.name)
        if program is None:
            return True
        try:
            held = program.execute({name: facts[name] for name in program.variables()})
        except Exception:  # whatever the library raises for odd values
            held = None
        # The stricter reading: a policy whose condition is unclear applies where it asks somebody, and not where it asks nobody.
        return held if isinstance(held, bool) else bool(policy.steps)


def load_policies(folder: Path) -> Policies:
    """Read `changes.yaml` of a configuration folder; raises `ConfigError` (`changes-invalid`) naming the place."""
    path = folder / FILE_NAME
    if not path.is_file():
        return Policies()
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _wrong(path, f"it cannot be read ({type(error).__name__})") from None
    listed = raw.get("policies") if isinstance(raw, dict) else None
    if not isinstance(listed, list) or len(raw) != 1:
        raise _wrong(path, "it holds no list `policies`, or something beside it")
    found: list[Policy] = []
    for number, one in enumerate(listed, 1):
        try:
            found.append(Policy.model_validate(one))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(str(step) for step in first["loc"])
            raise _wrong(path, f"policy {number}, {place}: {first['msg']}") from None
    if len({policy.name for policy in found} | {DEFAULT.name}) != len(found) + 1:
        raise _wrong(path, f"two policies have one name, or one is called {DEFAULT.name}")
    return Policies(found)


def _wrong(path: Path, what: str) -> ConfigError:
    return ConfigError(
        f"The file {path.name} is wrong: {what}. Nothing was started.",
        code="changes-invalid",
        remedy="Correct it; docs/changes.md has each option.",
    )
