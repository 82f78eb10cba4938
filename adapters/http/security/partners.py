"""Partners as configured in `partners.yaml`: who they are, what they may do, how they speak."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from adapters.http.security.secrets import well_formed
from canonical_model.errors import ConfigError

FILE_NAME: Final = "partners.yaml"
_MAX_FILE: Final = 4 << 20


class Scope(StrEnum):
    """What a partner may do; tokens carry these words in their `scope` claim."""

    MESSAGES_WRITE = "messages:write"
    MESSAGES_READ = "messages:read"
    MESSAGES_READ_ALL = "messages:read-all"
    MESSAGES_REPLAY = "messages:replay"
    DEAD_READ = "dead:read"
    DEAD_WRITE = "dead:write"
    DCI_CRVS_NOTIFY = "dci.crvs.notify"
    CONSOLE_READ = "console:read"
    METRICS_READ = "metrics:read"
    REGISTRANTS_READ = "registrants:read"
    REGISTRANTS_REVEAL = "registrants:reveal"
    REGISTRANTS_WRITE = "registrants:write"
    AREAS_READ = "areas:read"
    AREAS_WRITE = "areas:write"
    VOCABULARIES_READ = "vocabularies:read"
    VOCABULARIES_WRITE = "vocabularies:write"
    CONSENTS_READ = "consents:read"
    CONSENTS_WRITE = "consents:write"
    JOBS_READ = "jobs:read"
    JOBS_READ_ALL = "jobs:read-all"
    JOBS_WRITE = "jobs:write"
    AUDIT_READ = "audit:read"
    AUDIT_REVEAL = "audit:reveal"
    PROGRAMS_READ = "programs:read"
    PROGRAMS_WRITE = "programs:write"
    FUNDS_READ = "funds:read"
    FUNDS_WRITE = "funds:write"
    ENROLLMENTS_READ = "enrollments:read"
    ENROLLMENTS_WRITE = "enrollments:write"
    CYCLES_READ = "cycles:read"
    CYCLES_WRITE = "cycles:write"
    CYCLES_APPROVE = "cycles:approve"
    ENTITLEMENTS_READ = "entitlements:read"
    ENTITLEMENTS_WRITE = "entitlements:write"
    ENTITLEMENTS_APPROVE = "entitlements:approve"
    VOUCHERS_READ = "vouchers:read"
    VOUCHERS_REDEEM = "vouchers:redeem"
    ACCOUNTS_READ = "accounts:read"
    ACCOUNTS_WRITE = "accounts:write"
    PAYMENTS_READ = "payments:read"
    PAYMENTS_WRITE = "payments:write"
    PAYMENTS_ORDER = "payments:order"
    CHANGES_READ = "changes:read"
    CHANGES_WRITE = "changes:write"
    CHANGES_REVEAL = "changes:reveal"
    CHANGES_APPROVE = "changes:approve"
    DUPLICATES_READ = "duplicates:read"
    DUPLICATES_WRITE = "duplicates:write"
    RULES_READ = "rules:read"
    RULES_EXPLAIN = "rules:explain"
    ATTRIBUTES_READ = "attributes:read"
    ATTRIBUTES_WRITE = "attributes:write"
    IMPORTS_READ = "imports:read"
    IMPORTS_WRITE = "imports:write"


_FREE: Final = re.compile(r"[a-z][a-z0-9:._-]{0,62}")
_AREAS: Final = frozenset(re.split(r"[:.]", word)[0] for word in Scope)
_ALIKE: Final = 85.0
"""From this likeness in percent a word is taken for a misspelt scope."""


def _scope(word: str) -> str:
    """Return a scope, or a free word that only `visible_to` of routes speaks of; raises `ValueError` with a hint.

    Words in the areas of the hub's own scopes (`messages:…`) are kept for the hub: a later one must not fall to somebody
    who chose the same word.
    """
    if word in set(Scope):
        return word
    if not _FREE.fullmatch(word):
        raise ValueError(
            "a scope is at most 63 lower-case letters, digits and `:._-`, and starts with a letter"
        )
    from rapidfuzz import fuzz, process

    near = process.extractOne(word, [str(one) for one in Scope], scorer=fuzz.ratio)
    if near is not None and near[1] >= _ALIKE:
        raise ValueError(f"{word} is no scope; did you mean {near[0]}?")
    if (area := re.split(r"[:.]", word)[0]) in _AREAS:
        raise ValueError(
            f"words that begin with {area} are the hub's own scopes, and this is none of them; "
            f"it has {', '.join(sorted(one for one in Scope if one.startswith(area)))}"
        )
    return word


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Client(_Part):
    """One OAuth client of a partner, known to one issuer: the hub itself, or the outside one it names."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,199}$")]
    secret: Annotated[str | None, Field(default=None, repr=False)] = None
    issuer: Annotated[str | None, Field(default=None, pattern=r"^https?://[^\s?#]{1,500}$")] = None
    """The outside issuer whose tokens name this client, spelt as in their `iss`; None is the hub itself."""

    @field_validator("secret")
    @classmethod
    def _is_a_hash(cls, value: str | None) -> str | None:
        if value is not None and not well_formed(value):
            raise ValueError(
                "must be a scrypt hash (docs/partners.md says how to make one), never the secret itself"
            )
        return value

    @model_validator(mode="after")
    def _has_one_issuer(self) -> Client:
        if self.issuer is not None and self.secret is not None:
            raise ValueError("a client of an outside issuer has its secret there, and none here")
        return self


class Rate(_Part):
    """How much a partner may send: requests a second in the long run, and at once."""

    per_second: Annotated[float, Field(gt=0, le=1_000_000)]
    burst: Annotated[int, Field(ge=1, le=10_000_000)]


class Dialect(_Part):
    """The dialect a partner speaks and its options; each adapter checks the options of its own dialects."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")] = "canonical"
    options: dict[str, Any] = Field(default_factory=dict)


class ConsentPolicy(_Part):
    """That a partner sees only people who allowed it: for which purposes it may ask."""

    purposes: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:#/-]{0,99}$")], ...],
        Field(min_length=1, max_length=50),
    ]


class Partner(_Part):
    """One outside system with an identity, scopes and a dialect profile."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    display: Annotated[str, Field(default="", max_length=200)] = ""
    clients: Annotated[tuple[Client, ...], Field(default=(), max_length=20)] = ()
    scopes: Annotated[frozenset[Annotated[str, AfterValidator(_scope)]], Field(max_length=100)] = frozenset()
    """Scopes, and free words by which routes say who sees their deliveries."""
    dialect: Dialect = Dialect()
    enabled: bool = True
    rate: Rate | None = None
    areas: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] | None, Field(max_length=500)
    ] = None
    """Codes of the areas whose registrants it sees, with all areas in them; None for every area."""
    programs: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] | None, Field(max_length=500)
    ] = None
    """Codes of the programs whose registrants it sees; None for everybody, enrolled or not."""
    consent: ConsentPolicy | None = None
    """Whom it sees by consent only; None where another legal basis holds."""
    roles: Annotated[
        frozenset[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,62}$")]], Field(max_length=100)
    ] = frozenset()
    """Roles in which it, or a person who calls through it, may agree to cycles and changes."""

    @model_validator(mode="after")
    def _has_a_client(self) -> Partner:
        if self.enabled and not self.clients:
            raise ValueError("an enabled partner needs at least one client")
        return self


class Partners(Mapping[str, Partner]):
    """Every configured partner by name, and the way from a client of an issuer to its partner."""

    def __init__(self, partners: Iterable[Partner] = ()) -> None:
        self._by_name: dict[str, Partner] = {}
        self._by_client: dict[tuple[str | None, str], tuple[Partner, Client]] = {}
        for partner in partners:
            if partner.name in self._by_name:
                raise ValueError(f"the partner name {partner.name} is used twice")
            self._by_name[partner.name] = partner
            for client in partner.clients:
                if (client.issuer, client.id) in self._by_client:
                    raise ValueError(f"a client id of {partner.name} is used twice")
                self._by_client[client.issuer, client.id] = (partner, client)

    def __getitem__(self, name: str) -> Partner:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def client(self, client_id: str, issuer: str | None = None) -> tuple[Partner, Client] | None:
        """Return the enabled partner of a client id and that client, or None; `issuer` is None for the hub's own clients.

        Two issuers may give the same id to different clients, so an id alone says nothing.
        """
        found = self._by_client.get((issuer, client_id))
        return found if found is not None and found[0].enabled else None


class _File(_Part):
    partners: tuple[Partner, ...] = ()


def load_partners(config_dir: Path | None) -> Partners:
    """Read `partners.yaml` of the configuration folder; no folder or no file means no partner.

    Raises `ConfigError` (`partners-invalid`) that names the file and the place in it, never a value.
    """
    path = config_dir / FILE_NAME if config_dir is not None else None
    if path is None or not path.exists():
        return Partners()
    try:
        text = path.read_bytes()
        if len(text) > _MAX_FILE:
            raise _wrong(path, "the file is larger than 4 MiB")
        return Partners(_File.model_validate(yaml.safe_load(text) or {}).partners)
    except ValidationError as error:
        places = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise _wrong(path, places) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise _wrong(path, f"line {line} is not YAML") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _wrong(path, str(error) if type(error) is ValueError else "the file cannot be read") from None


def _wrong(path: Path, what: str) -> ConfigError:
    return ConfigError(
        f"{path}: {what}. Nothing was started.",
        code="partners-invalid",
        remedy="Correct the file; docs/partners.md shows every key.",
    )
