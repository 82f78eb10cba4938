"""Routes: which messages go where, under which condition, retried how, seen by whom. One YAML file each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from canonical_model.errors import ConfigError
from canonical_model.message import Message
from routing.conditions import Condition, ConditionError
from routing.exclusion import Exclusive, first_of_groups
from routing.rails import MOST_RAILS, RailChoice, Rails
from routing.retry import Duration, RetryPolicy
from routing.schedule import Schedule

_NAME = re.compile(r"^[a-z0-9][a-z0-9-]{0,62}$")
_WORD = re.compile(r"[a-z][a-z0-9:._-]{0,62}")


def _name(value: str) -> str:
    if not _NAME.match(value):
        raise ValueError("use lower-case letters, digits and hyphens, at most 63")
    return value


def _tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _words(value: tuple[str, ...]) -> tuple[str, ...]:
    for word in value:
        if not _WORD.fullmatch(word):
            raise ValueError(
                "a word is at most 63 lower-case letters, digits and `:._-`, and starts with a letter"
            )
    return value


Name = Annotated[str, AfterValidator(_name)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_tuple)]


class When(BaseModel):
    """Which messages a route takes: all given parts must hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Texts = Field(min_length=1)
    source: Texts = ()
    condition: str | None = None


class RouteFile(BaseModel):
    """One route as its YAML file has it; docs/routes.md explains every option."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    route: Name
    version: Annotated[int, Field(ge=1)] = 1
    title: str = ""
    enabled: bool = True
    when: When
    map: str | None = None
    to: Name | None = None
    rails: tuple[RailChoice, ...] = Field(default=(), max_length=MOST_RAILS)
    order: str = "subject"
    retry: RetryPolicy = RetryPolicy()
    timeout: Duration | None = None
    schedule: Schedule | None = None
    retention: Duration | None = None
    visible_to: Annotated[Texts, AfterValidator(_words)] = ()
    exclusive: Exclusive | None = None
    copies: bool = False

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if (self.to is None) == (not self.rails):
            raise ValueError("give either `to`, or `rails` to choose among")
        if self.rails and self.map is not None:
            raise ValueError("rails are chosen by the canonical order, so `map` cannot be used with `rails`")
        return self


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a route takes a message, and in words why or why not."""

    route: str
    matched: bool
    why: str
    broken: bool = False
    """True when the condition could not be decided: the message is kept as a dead letter, never dropped."""


class Route:
    """One route, ready to match."""

    def __init__(self, file: RouteFile, origin: str) -> None:
        self.file = file
        self.origin = origin
        self.name = file.route
        self.version = file.version
        self.target = file.to or file.route
        self.rails = Rails(file.route, file.rails, origin) if file.rails else None
        self.reaches = self.rails.targets if self.rails else [self.target]
        self.mapping = file.map
        self.retry = file.retry
        self.schedule = file.schedule
        self.visible = list(file.visible_to) or None
        self.retention_days = None if file.retention is None else max(1, round(file.retention / 86400))
        self.ordered = file.order != "none"
        self.by_subject = file.order == "subject"
        self.sources = file.when.source
        self.expression = file.when.condition
        self.exclusive = file.exclusive
        self.copies = file.copies
        self.enabled = file.enabled
        self._fits = Verdict(self.name, matched=True, why="type and source fit")
        try:
            self.condition = Condition(file.when.condition) if file.when.condition else None
            self._order = Condition(file.order) if file.order not in {"none", "subject"} else None
        except ConditionError as error:
            raise ConfigError(
                f"Route {self.name} in {origin}: {error}",
                code="route-invalid",
                remedy="Correct the expression; `hub routes check` shows the place.",
            ) from error

    def takes_type(self, type_: str) -> bool:
        """Say whether the message type fits one of the route's types or globs."""
        return any(fnmatchcase(type_, glob) for glob in self.file.when.type)

    def verdict(self, message: Message) -> Verdict:
        """Say whether this route takes the message, and why."""
        when = self.file.when
        if not self.file.enabled:
            return Verdict(self.name, matched=False, why="the route is switched off (enabled: false)")
        if not self.takes_type(message.type):
            return Verdict(
                self.name, matched=False, why=f"type {message.type} fits none of {', '.join(when.type)}"
            )
        if when.source and not any(fnmatchcase(message.source, glob) for glob in when.source):
            return Verdict(
                self.name, matched=False, why=f"source {message.source} is none of {', '.join(when.source)}"
            )
        return self._decide(message)

    def takes(self, message: Message) -> Verdict | None:
        """Return the verdict of an enabled route whose type fits, None where the source or the condition does not."""
        sources = self.file.when.source
        if sources and not any(fnmatchcase(message.source, glob) for glob in sources):
            return None
        verdict = self._fits if self.condition is None else self._decide(message)
        return verdict if verdict.matched else None

    def _decide(self, message: Message) -> Verdict:
        if self.condition is None:
            return self._fits
        try:
            matched, why = self.condition.decide(message)
        except ConditionError as error:
            return Verdict(self.name, matched=True, why=str(error), broken=True)
        return Verdict(self.name, matched=matched, why=why)

    def order_value(self, message: Message) -> str | None:
        """Return the value by which deliveries of this route are kept in order, None for no order."""
        if not self.ordered:
            return None
        if self._order is None:
            return message.subject
        value = self._order.value(message)
        return None if value is None else str(value)


class RouteBook:
    """All routes, indexed by message type."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = {route.name: route for route in routes}
        self._by_type: dict[str, list[Route]] = {}

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes.values())

    def __len__(self) -> int:
        return len(self._routes)

    def get(self, name: str) -> Route | None:
        """Return the route of this name."""
        return self._routes.get(name)

    def candidates(self, type_: str) -> list[Route]:
        """Return the enabled routes that take this message type."""
        found = self._by_type.get(type_)
        if found is None:
            found = [route for route in self if route.file.enabled and route.takes_type(type_)]
            if len(self._by_type) < 1000:
                self._by_type[type_] = found
        return found

    def match(self, message: Message) -> list[tuple[Route, Verdict]]:
        """Return the routes that take a message, of each exclusive group the one with the lowest place.

        A route whose condition cannot be decided counts as taking it: whoever stands behind it must not.
        """
        found = [
            (route, verdict)
            for route in self.candidates(message.type)
            if (verdict := route.takes(message)) is not None
        ]
        if len(found) < 2 or not any(route.exclusive for route, _ in found):
            return found
        return [found[number] for number in first_of_groups([route.exclusive for route, _ in found])]

    def explain(self, message: Message) -> list[Verdict]:
        """Return every route's verdict on a message."""
        taking = {route.name: route for route, _ in self.match(message)}
        found = []
        for route in self:
            verdict = route.verdict(message)
            if verdict.matched and route.name not in taking and route.exclusive is not None:
                group = route.exclusive.group
                first = next(
                    one.name for one in taking.values() if one.exclusive and one.exclusive.group == group
                )
                verdict = Verdict(
                    route.name, matched=False, why=f"the route {first} comes first in the group {group}"
                )
            found.append(verdict)
        return found


def parse_route(text: str, origin: str) -> Route:
    """Read one route from YAML; raises `ConfigError` (code `route-invalid`) naming the file and the key."""
    try:
        raw: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{origin}{place}: this is not YAML.", code="route-invalid") from error
    try:
        return Route(RouteFile.model_validate(raw), origin)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise ConfigError(
            f"{origin}: {problems}",
            code="route-invalid",
            remedy="docs/routes.md lists every option; `hub routes check` reads the files again.",
        ) from None


def load_routes(folder: Path) -> RouteBook:
    """Read every `*.yaml` of a folder; raises `ConfigError` on the first wrong file or a name used twice."""
    routes: dict[str, Route] = {}
    for path in sorted(folder.glob("*.yaml")):
        route = parse_route(path.read_text(encoding="utf-8"), path.name)
        if route.name in routes:
            raise ConfigError(
                f"{path.name} and {routes[route.name].origin} both declare the route {route.name}.",
                code="route-invalid",
            )
        routes[route.name] = route
    return RouteBook(list(routes.values()))
