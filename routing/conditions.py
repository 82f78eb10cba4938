"""CEL conditions over a message's envelope and data, compiled once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import cel

from canonical_model.message import Message

NAMES: Final = ("type", "source", "subject", "time", "data", "correlationid", "kind")
"""What a condition may name: the envelope's attributes and the data."""


_MACRO = re.compile(r"\.(?:exists|exists_one|all|map|filter)\(\s*([A-Za-z_]\w*)\s*,")


class ConditionError(Exception):
    """A condition cannot be compiled or cannot be decided."""


class Condition:
    """One compiled CEL expression (https://cel.dev) over `type`, `source`, `subject`, `time`, `kind` and `data`."""

    __slots__ = ("_names", "_program", "text")

    def __init__(self, text: str, names: Sequence[str] = NAMES) -> None:
        self.text = text
        try:
            self._program = cel.compile(text)
        except (ValueError, RuntimeError) as error:
            raise ConditionError(
                f"the expression {text!r} does not compile: {str(error).splitlines()[0]}"
            ) from error
        # The library lists the variables of comprehensions too; those are the expression's own.
        named = set(self._program.variables()) - set(_MACRO.findall(text))
        unknown = sorted(named - set(names))
        if unknown:
            raise ConditionError(
                f"the expression {text!r} names {', '.join(unknown)}; only {', '.join(names)} {'is' if len(names) == 1 else 'are'} known"
            )
        self._names = tuple(named)

    def value(self, message: Message) -> Any:
        """Evaluate; a missing field gives None. Raises `ConditionError` when types do not fit."""
        return self._run({name: getattr(message, name) for name in self._names})

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Say whether the condition is true of values by name; a missing field makes it false."""
        value = self._run(values)
        if value is not None and not isinstance(value, bool):
            raise ConditionError(
                f"the condition `{self.text}` gives {type(value).__name__}, not true or false"
            )
        return bool(value)

    def _run(self, values: Mapping[str, Any]) -> Any:
        try:
            return self._program.execute(dict(values))
        except (KeyError, IndexError):
            return None
        except (
            Exception
        ) as error:  # the library raises what Python would: overflow, division by zero, wrong types
            # The library's text may quote values of the message, so only its class is passed on.
            raise ConditionError(
                f"the condition `{self.text}` could not be decided ({type(error).__name__})"
            ) from None

    def decide(self, message: Message) -> tuple[bool, str]:
        """Return whether the condition holds and why; a field the message lacks makes it false."""
        value = self.value(message)
        if value is None:
            return False, f"the condition `{self.text}` names a field this message lacks"
        if not isinstance(value, bool):
            raise ConditionError(
                f"the condition `{self.text}` gives {type(value).__name__}, not true or false"
            )
        return value, f"the condition `{self.text}` is {str(value).lower()}"
