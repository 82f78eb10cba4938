"""How ids and financial addresses are written: templates as data, which both take a text apart and put it together."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from canonical_model.account import AccountKind
from canonical_model.errors import Refused

LONGEST: Final = 200
"""Characters of an id or a financial address."""
MANY: Final = 200
"""Strategies of one hub."""
_FIELD: Final = re.compile(r"\{([a-z][a-z_]{0,29})\}")
Kind = Literal["id", "fa"]


class Strategy(BaseModel):
    """One form: a template of fields in braces, parted by literal text, so that it reads in one way only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
    kind: Kind
    template: Annotated[str, Field(min_length=3, max_length=LONGEST)]
    description: Annotated[str, Field(max_length=300)] = ""
    account: AccountKind | None = None
    """The kind of account an address of this form names; registrants' accounts of that kind are written in it."""
    identifier: Annotated[str, Field(max_length=100)] | None = None
    """Type or namespace of the registrants' identifiers that an id of this form names by its field `value`."""
    providers: Annotated[dict[str, Annotated[str, Field(max_length=200)]], Field(max_length=1000)] = {}
    """Names of providers by the code that stands in an address."""

    @model_validator(mode="after")
    def _reads_in_one_way(self) -> Strategy:
        pieces = _FIELD.split(self.template)
        names, between = pieces[1::2], pieces[2:-1:2]
        if not names or len(set(names)) != len(names):
            raise ValueError("a template has fields in braces, each once")
        if not all(between):
            raise ValueError("fields are parted by literal text")
        if any("{" in part or "}" in part for part in pieces[::2]):
            raise ValueError("braces hold a name of lower-case letters")
        if self.identifier is not None and (self.kind != "id" or "value" not in names):
            raise ValueError("an identifier is named by the field `value` of an id")
        return self


@dataclass(frozen=True, slots=True)
class Read:
    """A text taken apart: the strategy that fits it and its fields."""

    strategy: Strategy
    fields: Mapping[str, str] = field(repr=False)

    @property
    def provider(self) -> tuple[str, str] | None:
        """Code and name of the provider, None where the form has none."""
        code = self.fields.get("provider")
        return None if code is None else (code, self.strategy.providers.get(code.lower(), code))


class StrategyBook:
    """Strategies in the order in which they are tried."""

    def __init__(self, strategies: Iterable[Strategy]) -> None:
        self.all = tuple(strategies)
        self._forms: dict[str, list[tuple[Strategy, re.Pattern[str]]]] = {"id": [], "fa": []}
        for each in self.all:
            self._forms[each.kind].append((each, _form(each.template)))
        self.identifying = any(each.identifier for each in self.all)
        """Whether some ids are identifiers of registrants."""

    def read(self, kind: Kind, text: str) -> Read | None:
        """Return an id or a financial address taken apart by the first strategy that fits, None when none does."""
        if not 0 < len(text) <= LONGEST:
            return None
        for each, form in self._forms[kind]:
            if (found := form.fullmatch(text)) is not None:
                return Read(each, found.groupdict())
        return None

    def write(self, account: Mapping[str, Any]) -> str | None:
        """Return an account of a registrant as a financial address, None when no strategy of its kind can write it."""
        given = {"number": account.get("account_number"), "provider": account.get("provider")}
        given |= {"branch": account.get("branch"), "type": str(account.get("id_type") or "").lower() or None}
        for each, form in self._forms["fa"]:
            if each.account != account.get("kind"):
                continue
            if (account.get("id_type") == "IBAN") != (each.name == "iban"):
                continue
            if all(given.get(name) for name in _FIELD.findall(each.template)):
                text = _FIELD.sub(lambda one: str(given[one[1]]), each.template)
                if form.fullmatch(text) is not None and len(text) <= LONGEST:
                    return text
        return None


def _form(template: str) -> re.Pattern[str]:
    """Return the pattern of a template: a field ends at the literal behind it, so that reading takes one pass.

    No field holds a colon, which parts the type from the rest in every address.
    """
    pieces = _FIELD.split(template)
    ends = "".join(sorted({part[0] for part in pieces[2::2] if part}))
    made = [re.escape(pieces[0])]
    for name, literal in zip(pieces[1::2], pieces[2::2], strict=True):
        stop = literal[0] if literal else ends
        made.append(f"(?P<{name}>[^\\s\\x00-\\x20\\x7f:{re.escape(stop)}]+){re.escape(literal)}")
    return re.compile("".join(made), re.IGNORECASE)


@cache
def shipped() -> tuple[Strategy, ...]:
    """Return the strategies the hub comes with."""
    text = resources.files("registry.accounts").joinpath("strategies.toml").read_text(encoding="utf-8")
    return parse(text)


def parse(text: str) -> tuple[Strategy, ...]:
    """Return the strategies of a TOML text (`[[strategy]]`); raises `Refused` (`account-strategy-invalid`) with the place."""
    try:
        found = tomllib.loads(text).get("strategy")
    except tomllib.TOMLDecodeError:
        raise _invalid("", "the file is no TOML") from None
    if not isinstance(found, list) or not 0 < len(found) <= MANY:
        raise _invalid("/strategy", f"the file has 1 to {MANY} parts [[strategy]]")
    made = []
    for number, each in enumerate(found):
        try:
            made.append(Strategy.model_validate(each))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            place = "/".join(map(str, ("", "strategy", number, *first["loc"])))
            raise _invalid(place, first["msg"].removeprefix("Value error, ")) from None
    if len({each.name for each in made}) != len(made):
        raise _invalid("/strategy", "each strategy has a name of its own")
    return tuple(made)


def _invalid(place: str, rule: str) -> Refused:
    return Refused(
        f"A strategy of accounts is not well-formed at {place or 'its beginning'}: {rule}. Nothing was changed.",
        code="account-strategy-invalid",
        pointer=place,
        remedy="docs/accounts.md shows strategies with every field.",
    )
