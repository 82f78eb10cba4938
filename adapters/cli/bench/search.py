"""`hub bench search`: finding people by identifier and by name, beside a bare key look-up and a bare index query."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from adapters.cli.bench.crowd import Somebody, crowd
from adapters.cli.bench.load import percentile
from adapters.cli.bench.scratch import drop_database, fresh_database
from canonical_model.message import uuid7
from canonical_model.names import PersonName
from registry.people.identity import identifier_hash
from registry.people.reading import Reader
from registry.people.search import Search
from registry.people.spelling import latin, words
from registry.people.tokens import facets_of, name_tokens, sought
from registry.settings import HubSettings
from registry.storage import migrate
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import DataKey, KeyEncryptionKey, Vault, sealed_place

GOAL_IDENTIFIER_MS: Final = 5.0
GOAL_NAME_MS: Final = 50.0
GOAL_TOKENS: Final = 30_000
_CHUNK: Final = 10_000
_KEPT: Final = 4_000
_YEAR: Final = timedelta(days=365)
_BARE_KEY: Final = "SELECT id, kind, status FROM registrant WHERE id = $1"
_BARE_INDEX: Final = """
WITH hit AS MATERIALIZED (SELECT registrant_id FROM registrant_search WHERE names @> $1::bigint[])
SELECT registrant_id FROM hit LIMIT 300
"""
_SIZES: Final = """
SELECT pg_relation_size('registrant_search_names') AS index, pg_relation_size('registrant_search') AS table,
       pg_relation_size('registrant_vault') + coalesce(pg_relation_size(
           (SELECT reltoastrelid FROM pg_class WHERE relname = 'registrant_vault')), 0) AS vault
"""


@dataclass(slots=True)
class Figures:
    """What one run measured: milliseconds by kind of search, and what filling took."""

    people: int
    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    found: dict[str, list[bool]] = field(default_factory=dict)
    opened: list[int] = field(default_factory=list)
    fill_seconds: float = 0.0
    token_seconds: float = 0.0
    tokens: int = 0
    sizes: dict[str, int] = field(default_factory=dict)

    def at(self, kind: str, share: float) -> float:
        """Return a percentile of one kind of search in milliseconds."""
        return percentile(self.milliseconds.get(kind, []), share)


@dataclass(frozen=True, slots=True)
class _Known:
    id: UUID
    somebody: Somebody


async def measure(database: str, people: int, searches: int, say: Callable[[str], None]) -> Figures:
    """Fill a database of its own with invented people, search them, and drop it again."""
    name = f"hub_bench_search_{os.getpid()}"
    url = await fresh_database(database, name)
    try:
        await migrate.upgrade_async(url)
        with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
            settings = HubSettings(data_dir=Path(folder))
            pool = await open_pool(settings, url=url, size=4)
            try:
                await ensure(pool, "month")
                vault = Vault(pool, KeyEncryptionKey.load(settings))
                figures = Figures(people)
                known = await _fill(pool, vault, people, figures, say)
                await _search(pool, vault, known, searches, figures, say)
                await _search_behind(pool, vault, known, searches, figures, say)
                return figures
            finally:
                await pool.close()
    finally:
        await drop_database(database, name)


async def _fill(
    pool: asyncpg.Pool, vault: Vault, people: int, figures: Figures, say: Callable[[str], None]
) -> list[_Known]:
    chance = random.Random(2)  # noqa: S311
    kept: list[_Known] = []
    key = await vault.current_key("registrant_vault")
    started = time.perf_counter()
    source = crowd(people)
    done = 0
    # What a first import would write, in the same indexed tables.
    async with pool.acquire() as connection:
        while chunk := list(islice(source, _CHUNK)):
            rows = [_Known(uuid7(), each) for each in chunk]
            kept += chance.sample(rows, max(1, _KEPT * len(rows) // people))
            await _write(connection, rows, vault, key, figures)
            done += len(rows)
            if done % 100_000 == 0:
                say(f"{done:,} of {people:,} people")
    say("settling the indexes")
    for table in ("registrant", "registrant_vault", "registrant_identifier", "registrant_search"):
        await pool.execute(f"VACUUM (ANALYZE) {table}", timeout=900)
    figures.fill_seconds = time.perf_counter() - started
    figures.sizes = dict(await pool.fetchrow(_SIZES) or {})
    return kept


async def _write(
    connection: Any, rows: Sequence[_Known], vault: Vault, key: DataKey, figures: Figures
) -> None:
    begun = time.process_time()
    tokens = [name_tokens(vault.blind, [PersonName(**each.somebody.name)]) for each in rows]
    figures.token_seconds += time.process_time() - begun
    figures.tokens += sum(map(len, tokens))
    await connection.copy_records_to_table(
        "registrant",
        records=[
            (each.id, "individual", each.somebody.sex, each.somebody.born, "urn:bench") for each in rows
        ],
        columns=["id", "kind", "sex", "birthdate", "source"],
        timeout=300,
    )
    await connection.copy_records_to_table(
        "registrant_vault",
        records=[
            (each.id, key.id, 2, key.seal(_document(each.somebody), sealed_place(2, each.id)))
            for each in rows
        ],
        columns=["registrant_id", "key_id", "format", "sealed"],
        timeout=300,
    )
    await connection.copy_records_to_table(
        "registrant_identifier",
        records=[
            (uuid7(), each.id, "UIN", identifier_hash(vault.blind, "UIN", _uin(each.somebody)))
            for each in rows
        ],
        columns=["id", "registrant_id", "type", "hash"],
        timeout=300,
    )
    await connection.copy_records_to_table(
        "registrant_search",
        records=[
            (each.id, found, facets_of(each.somebody.born, None))
            for each, found in zip(rows, tokens, strict=True)
        ],
        columns=["registrant_id", "names", "facets"],
        timeout=300,
    )


def _uin(somebody: Somebody) -> str:
    return f"{somebody.number:010d}"


def _document(somebody: Somebody) -> bytes:
    """Return a sealed document of ordinary size: a name, an identifier, a phone, an address, each with its clock."""
    clock = [1762000000000, 1762000000000, "0" * 32]
    uin = _uin(somebody)
    address = {
        "address_line_1": f"House {somebody.number % 997}",
        "locality": "Invented",
        "country_code": "KE",
    }
    phone = {"kind": "mobile", "value": f"+2547{somebody.number:08d}"}
    return orjson.dumps(
        {
            "values": {
                "names": [[somebody.name], clock],
                "sex": [somebody.sex, clock],
                "birthdate": [somebody.born.isoformat(), clock],
                "contact_points": [[phone], clock],
                "addresses": [[address], clock],
            },
            "identifiers": {f"UIN\x00{uin}": [{"id_type": "UIN", "value": uin}, clock]},
            "facts": {},
        }
    )


async def _search(
    pool: asyncpg.Pool,
    vault: Vault,
    known: Sequence[_Known],
    searches: int,
    figures: Figures,
    say: Callable[[str], None],
) -> None:
    say(f"{searches} searches of each kind")
    search = Search(pool, vault, vault.blind)
    chance = random.Random(3)  # noqa: S311
    some = [chance.choice(known) for _ in range(searches)]
    gc.collect()
    gc.freeze()  # the lists of the filling are no part of a hub's memory
    for each in some[:50]:
        await search.by_name(_whole(each.somebody), purpose="warming up", actor="user:bench")
    reader = Reader(pool, vault, vault.blind)
    await _timed(figures, "raw.key", [_fetch(pool, _BARE_KEY, each.id) for each in some])
    await _timed(
        figures,
        "identifier",
        [partial(reader.find_by_identifier, "UIN", _uin(each.somebody)) for each in some],
    )
    exact = [
        [each.exact[0] for each in sought(vault.blind, _whole(one.somebody)) if not each.optional]
        for one in some
    ]
    await _timed(figures, "raw.index", [_fetch(pool, _BARE_INDEX, each) for each in exact])
    for kind, make in _KINDS.items():
        say(f"by name: {kind}")
        for each in some:
            text = make(each.somebody, chance)
            born: dict[str, Any] = {}
            if kind == "filtered":
                born = {"born_from": each.somebody.born - _YEAR, "born_to": each.somebody.born + _YEAR}
            begun = time.perf_counter()
            found = await search.by_name(text, purpose="bench", actor="user:bench", limit=20, **born)
            taken = (time.perf_counter() - begun) * 1000
            figures.milliseconds.setdefault(f"name.{kind}", []).append(taken)
            figures.milliseconds.setdefault("name", []).append(taken)
            figures.opened.append(found.opened)
            if kind not in {"one_word", "beginnings", "filtered"}:
                names = {orjson.dumps(one) for candidate in found.candidates for one in candidate.names}
                figures.found.setdefault(kind, []).append(orjson.dumps(each.somebody.name) in names)


async def _search_behind(
    pool: asyncpg.Pool,
    vault: Vault,
    known: Sequence[_Known],
    searches: int,
    figures: Figures,
    say: Callable[[str], None],
) -> None:
    """Search while the index still has to take in what was written just now, as after part of an import."""
    say(f"{_CHUNK} people more, then names again")
    key = await vault.current_key("registrant_vault")
    more = [_Known(uuid7(), each) for each in islice(crowd(figures.people + _CHUNK, 4), figures.people, None)]
    async with pool.acquire() as connection:
        await _write(connection, more, vault, key, figures)
    search = Search(pool, vault, vault.blind)
    calls = [
        partial(search.by_name, _whole(each.somebody), purpose="bench", actor="user:bench")
        for each in known[:searches]
    ]
    await _timed(figures, "name.behind", calls)


def _fetch(pool: asyncpg.Pool, statement: str, value: Any) -> Callable[[], Awaitable[Any]]:
    return lambda: pool.fetch(statement, value)


async def _timed(figures: Figures, kind: str, calls: Sequence[Callable[[], Awaitable[Any]]]) -> None:
    taken = figures.milliseconds.setdefault(kind, [])
    for each in calls:
        begun = time.perf_counter()
        await each()
        taken.append((time.perf_counter() - begun) * 1000)
        await asyncio.sleep(0)


def _parts(somebody: Somebody) -> list[str]:
    return [
        somebody.name[part]
        for part in ("full_name", "given_name", "addl_name", "family_name")
        if part in somebody.name
    ]


def _whole(somebody: Somebody) -> str:
    return " ".join(_parts(somebody))


def _misspelled(somebody: Somebody, chance: random.Random) -> str:
    """Change one letter, as a clerk would: swapped with the next, left out, or doubled."""
    text = list(_whole(somebody))
    places = [
        place for place in range(1, len(text) - 1) if text[place].isalpha() and text[place + 1].isalpha()
    ]
    if not places:
        return "".join(text)
    place = chance.choice(places)
    match chance.randrange(3):
        case 0:
            text[place], text[place + 1] = text[place + 1], text[place]
        case 1:
            del text[place]
        case _:
            text.insert(place, text[place])
    return "".join(text)


def _in_latin(somebody: Somebody, _: random.Random) -> str:
    return " ".join(latin(word.written) for word in words(_whole(somebody)))


_KINDS: Final[dict[str, Callable[[Somebody, random.Random], str]]] = {
    "whole": lambda somebody, _: _whole(somebody),
    "swapped": lambda somebody, _: " ".join(reversed(_parts(somebody))),
    "latin": _in_latin,
    "misspelled": _misspelled,
    "one_word": lambda somebody, chance: chance.choice(_parts(somebody)),
    "filtered": lambda somebody, _: _parts(somebody)[0],
    "beginnings": lambda somebody, _: " ".join(part[:4] for part in _parts(somebody)),
}


def rows(figures: Figures, row: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the results as rows of the common document, made by `row`."""
    key, index = figures.milliseconds["raw.key"], figures.milliseconds["raw.index"]
    for share, label in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99")):
        yield row(f"raw.key.{label}", percentile(key, share), "ms")
        yield row(f"raw.index.{label}", percentile(index, share), "ms")
        yield row(
            f"identifier.{label}", figures.at("identifier", share), "ms", percentile(key, share),
            GOAL_IDENTIFIER_MS if label == "p99" else None,
        )  # fmt: skip
        yield row(
            f"name.{label}", figures.at("name", share), "ms", percentile(index, share),
            GOAL_NAME_MS if label == "p95" else None,
        )  # fmt: skip
        for kind in (*_KINDS, "behind"):
            yield row(
                f"name.{kind}.{label}", figures.at(f"name.{kind}", share), "ms", percentile(index, share)
            )
    for kind, hits in figures.found.items():
        yield row(f"found.{kind}", sum(hits) / len(hits), "share of searches")
    yield row("opened", sum(figures.opened) / max(1, len(figures.opened)), "records a search")
    yield row("fill", figures.people / figures.fill_seconds, "people/s")
    yield row(
        "tokens.speed", figures.people / figures.token_seconds, "people/s", None, GOAL_TOKENS, least=True
    )
    yield row("tokens", figures.tokens / figures.people, "a person")
    for name, size in figures.sizes.items():
        yield row(f"bytes.{name}", size / figures.people, "bytes a person")
