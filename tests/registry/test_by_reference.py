"""People kept by reference: the hub holds a token, the ID system the identity, and every way in and out keeps to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from services.id_system import IdSystem
from services.path import MessagePath, everything_as_text, route

from canonical_model.errors import Refused, Unavailable
from canonical_model.message import uuid7
from canonical_model.person import Person
from registry.audit import AuditTrail
from registry.imports.reading import RowRead
from registry.imports.writing import PeopleWriter
from registry.people import PeopleStore
from registry.people.referring import Referring
from registry.people.retoken import retoken
from registry.people.tokens import registrant_tokens
from registry.storage.periods import ensure
from registry.vault import ReferenceVault, aad, sealed_place
from routing.asking import Asker
from routing.identity import RoutedIdentity

TOKEN_TYPE = "urn:gov:xx:id:psut"
SOURCE = "urn:gov:xx:registry"
TOKEN = "PSUT-55-0199"
IDENTITY: dict[str, Any] = {
    "names": [{"given_name": "Zephyrine", "family_name": "Oyelaran"}],
    "identifiers": [{"id_type": "NID", "value": "NID-4471-8820"}],
    "contact_points": [{"kind": "mobile", "value": "+254700999888"}],
    "addresses": [{"address_line_1": "7 Planted Street"}],
}
PLANTED = ("Zephyrine", "Oyelaran", "NID-4471-8820", "254700999888", "Planted Street", TOKEN)


class Kept:
    """A registry whose people are kept by reference at a sandbox behind a real route."""

    def __init__(self, path: MessagePath, asker: Asker, rules: Referring) -> None:
        self.path, self.pool, self.vault = path, path.pool, path.vault
        self.system = IdSystem(TOKEN_TYPE)
        self.system.people[TOKEN] = IDENTITY
        path.bank.on_send = self.system.answer

        async def ready() -> Asker:
            return asker

        source = RoutedIdentity(ready, system=rules.system, identifier=rules.identifier)
        self.references = ReferenceVault(path.pool, path.vault, source, system=rules.system, deadline=2.0)
        self.people = PeopleStore(
            path.pool,
            path.vault,
            path.vault.blind,
            tokens=partial(registrant_tokens, path.vault.blind),
            declared={"shelter"},
            referring=rules,
            references=self.references,
        )

    async def everything(self) -> str:
        """Return all tables as text, with every sealed document of a registrant or event opened."""
        parts = [await everything_as_text(self.pool)]
        for row in await self.pool.fetch("SELECT * FROM registrant_vault"):
            key = await self.vault.key(row["key_id"])
            place = sealed_place(row["format"], row["registrant_id"])
            parts.append(key.open(row["sealed"], place).decode())
        return "\n".join(parts)


Make = Callable[..., Any]


@pytest.fixture
async def make(database_url: str, tmp_path: Path) -> AsyncIterator[Make]:
    opened: list[tuple[MessagePath, Asker, Kept]] = []

    async def build(**rules: Any) -> Kept:
        path = await MessagePath(
            database_url,
            tmp_path,
            [route(when={"type": "org.openspp.verification.*"}, retry={"attempts": 1})],
        ).__aenter__()
        await ensure(path.pool, "month")
        asker = Asker(await path.start(), path.pool)
        await asker.start()
        kept = Kept(path, asker, Referring("mosip", TOKEN_TYPE, **rules))
        opened.append((path, asker, kept))
        return kept

    yield build
    for path, asker, kept in opened:
        await kept.people.close()
        await asker.stop(5.0)
        await path.__aexit__(None, None, None)


def zephyrine(token: str | None = TOKEN, **more: Any) -> dict[str, Any]:
    identifiers = list(IDENTITY["identifiers"])
    if token is not None:
        identifiers.append({"id_type": "psut", "value": token, "namespace": TOKEN_TYPE})
    return IDENTITY | {"identifiers": identifiers, "sex": "female", "birthdate": "1990-04-02"} | more


async def put(kept: Kept, data: dict[str, Any], source: str = SOURCE) -> Any:
    return (await kept.people.upsert(data, source=source, message_id=uuid7(), at=datetime.now(UTC))).id


async def test_what_is_written_goes_to_the_token_and_is_revealed_from_the_id_system(make: Make) -> None:
    kept = await make()
    id_ = await put(kept, zephyrine(attributes={"shelter": "tent", "note": "Zephyrine"}))
    found = await kept.people.find_by_identifier(TOKEN_TYPE, TOKEN)
    assert (found.id, found.sex, str(found.birthdate), found.attributes) == (
        id_, "female", "1990-04-02", {"shelter": "tent"},
    )  # fmt: skip
    assert await kept.people.find_by_identifier("NID", "NID-4471-8820") is None
    before = await kept.everything()
    assert [value for value in PLANTED if value in before] == []
    shown = await kept.people.reveal(id_, "complaint 12", "user:clerk")
    assert isinstance(shown, Person)
    assert (shown.names[0].family_name, shown.contact_points[0].value) == ("Oyelaran", "+254700999888")
    assert (shown.sex, str(shown.birthdate), shown.attributes["shelter"]) == ("female", "1990-04-02", "tent")
    # The question is in the trail and in the message store, sealed; the answer is nowhere.
    after = await kept.everything()
    assert [value for value in PLANTED if value in after] == []
    assert await kept.pool.fetchval("SELECT count(*) FROM message") == 1
    looks = await AuditTrail(kept.pool, kept.vault).who(id_, looks=True)
    assert [(one.actor, one.action, one.details["purpose"]) for one in looks] == [
        ("user:clerk", "person.reveal", "complaint 12")
    ]


async def test_later_facts_find_the_person_by_the_token_and_keep_no_identity(make: Make) -> None:
    kept = await make()
    id_ = await put(kept, zephyrine())
    confirmed = await kept.pool.fetchval("SELECT confirmed_at FROM registrant_reference")
    assert await put(kept, zephyrine(sex="other", names=[{"full_name": "Oyelaran Z"}])) == id_
    found = await kept.people.get(id_)
    assert (found.sex, found.version) == ("other", 2)
    # Who sent the token again is not the ID system: it vouched for nothing.
    assert await kept.pool.fetchval("SELECT confirmed_at FROM registrant_reference") == confirmed
    event = {
        "event_type": "death",
        "subject": zephyrine(),
        "event_date": "2026-10-01",
        "registration_number": {"id_type": "DRN", "value": "D-1"},
    }
    told = await kept.people.record_event(event, source=SOURCE, message_id=uuid7())
    assert told.person_id == id_
    assert (await kept.people.get(id_)).status == "deceased"
    history = await kept.people.reveal_history(id_, "complaint 12", "user:clerk")
    assert [value for value in PLANTED if value in str(history)] == []
    row = await kept.pool.fetchrow("SELECT * FROM civil_event")
    event_text = (await kept.vault.key(row["key_id"])).open(
        row["sealed"], aad("civil_event", "sealed", row["id"].bytes)
    )
    assert [value for value in PLANTED if value in event_text.decode()] == []


async def test_a_new_person_without_a_token_is_refused_and_nothing_is_kept(make: Make) -> None:
    kept = await make()
    with pytest.raises(Refused) as caught:
        await put(kept, zephyrine(None))
    assert caught.value.code == "reference-missing"
    assert "Zephyrine" not in str(caught.value)
    assert await kept.pool.fetchval("SELECT count(*) FROM registrant") == 0


async def test_an_id_system_that_is_away_or_slow_is_told_precisely_and_says_nothing_of_the_person(
    make: Make,
) -> None:
    kept = await make()
    id_ = await put(kept, zephyrine())
    before = await kept.pool.fetchrow("SELECT * FROM registrant_reference")
    kept.system.away = True
    with pytest.raises(Unavailable) as caught:
        await kept.people.reveal(id_, "complaint 12", "user:clerk")
    assert (caught.value.code, caught.value.retry_after) == ("identity-unavailable", 5)
    assert "mosip" in caught.value.detail
    kept.system.away, kept.system.seconds = False, 4.0
    with pytest.raises(Unavailable) as caught:
        await kept.people.reveal(id_, "complaint 12", "user:clerk")
    assert (caught.value.code, "ask-timeout" in caught.value.detail) == ("identity-unavailable", True)
    assert [value for value in PLANTED if value in str(caught.value)] == []
    assert await kept.pool.fetchrow("SELECT * FROM registrant_reference") == before
    looks = await AuditTrail(kept.pool, kept.vault).who(id_, looks=True)
    assert len(looks) == 2


@pytest.mark.parametrize("how", ["unknown", "inactive"])
async def test_somebody_the_id_system_does_not_know_any_more_is_told_apart(make: Make, how: str) -> None:
    kept = await make()
    id_ = await put(kept, zephyrine())
    if how == "unknown":
        kept.system.people.clear()
    else:
        kept.system.inactive.add(TOKEN)
    with pytest.raises(Refused) as caught:
        await kept.people.reveal(id_, "complaint 12", "user:clerk")
    assert caught.value.code == "identity-unknown"
    assert await kept.pool.fetchval("SELECT unknown_since IS NOT NULL FROM registrant_reference")


async def test_without_tokens_of_names_a_search_by_name_says_that_it_is_not_available(make: Make) -> None:
    kept = await make()
    await put(kept, zephyrine())
    with pytest.raises(Refused) as caught:
        await kept.people.search.by_name("Zephyrine", purpose="p", actor="a")
    assert caught.value.code == "name-search-unavailable"
    assert await kept.pool.fetchval("SELECT names || contacts FROM registrant_search") == []


async def test_with_tokens_of_names_people_are_found_and_their_names_come_from_the_id_system(
    make: Make,
) -> None:
    kept = await make(indexes="names")
    id_ = await put(kept, zephyrine())
    await put(kept, {"identifiers": zephyrine()["identifiers"], "birthdate": "1991-01-01"})
    assert await retoken(kept.pool, kept.vault) == 0
    found = await kept.people.search.by_name("zefirine oyelaran", purpose="p", actor="a")
    assert [(one.id, one.names[0]["family_name"]) for one in found.candidates] == [(id_, "Oyelaran")]
    assert found.complete
    kept.system.away = True
    with pytest.raises(Unavailable) as caught:
        await kept.people.search.by_name("Oyelaran", purpose="p", actor="a")
    assert caught.value.code == "identity-unavailable"


async def test_other_identifiers_are_indexed_only_where_the_country_allows_it(make: Make) -> None:
    kept = await make(indexes="identifiers")
    id_ = await put(kept, zephyrine())
    found = await kept.people.find_by_identifier("NID", "NID-4471-8820")
    assert found.id == id_
    # Found by it, the person needs no token in a later message.
    assert await put(kept, zephyrine(None, sex="other")) == id_
    text = await kept.everything()
    assert [value for value in PLANTED if value in text] == []


async def test_only_people_of_the_named_sources_are_kept_by_reference(make: Make) -> None:
    kept = await make(sources=("urn:gov:xx:*",))
    there = await put(kept, zephyrine())
    here = await put(
        kept, {"identifiers": [{"id_type": "UIN", "value": "1"}], "names": [{"full_name": "Zephyrine"}]},
        source="urn:ngo:yy",
    )  # fmt: skip
    shown = await kept.people.reveal(here, "p", "a")
    assert shown.names[0].full_name == "Zephyrine"
    assert kept.system.asked == 0
    found = await kept.people.search.by_name("Zephyrine", purpose="p", actor="a")
    assert [one.id for one in found.candidates] == [here]
    assert not found.complete, "who is kept by reference was not looked at"
    # Whoever says something of a person kept by reference, the identity is not kept.
    token = {"id_type": "psut", "value": TOKEN, "namespace": TOKEN_TYPE}
    said = {"identifiers": [token], "names": [{"full_name": "Planted Street"}]}
    assert await put(kept, said, source="urn:ngo:yy") == there
    assert "Planted Street" not in await kept.everything()


async def test_somebody_who_was_kept_here_loses_the_identity_with_the_first_token(make: Make) -> None:
    kept = await make(sources=("urn:gov:xx:*",))
    token = {"id_type": "psut", "value": TOKEN, "namespace": TOKEN_TYPE}
    id_ = await put(
        kept, {"identifiers": [token], "names": [{"full_name": "Planted Street"}]}, source="urn:ngo:yy"
    )
    assert "Planted Street" in await kept.everything()
    assert await put(kept, zephyrine()) == id_
    assert "Planted Street" not in await kept.everything()
    assert (await kept.people.reveal(id_, "p", "a")).names[0].family_name == "Oyelaran"


async def test_an_import_keeps_tokens_and_members_of_households_too(make: Make) -> None:
    kept = await make()
    write = PeopleWriter(kept.people.writer, source="import:file", actor="a", at=datetime.now(UTC))
    people = [Person.model_validate(data) for data in (zephyrine(), zephyrine(None))]
    rows = [RowRead(number, one) for number, one in enumerate(people, 1)]
    async with kept.pool.acquire() as connection, connection.transaction():
        answers = await write(connection, write.prepare(rows))
    assert answers[0] is True
    assert answers[1].code == "reference-missing"
    other = {"id_type": "psut", "value": "PSUT-2", "namespace": TOKEN_TYPE}
    household = {"identifiers": [{"id_type": "HH", "value": "1"}], "memberships": [{"identifiers": [other]}]}
    await kept.people.upsert_group(household, source=SOURCE)
    text = await kept.everything()
    assert [value for value in (*PLANTED, "PSUT-2") if value in text] == []
    assert await kept.pool.fetchval("SELECT count(*) FROM registrant_reference") == 2


async def test_a_hub_that_knows_no_id_system_says_so_of_people_kept_by_reference(make: Make) -> None:
    kept = await make()
    id_ = await put(kept, zephyrine())
    plain = PeopleStore(kept.pool, kept.vault, kept.vault.blind)
    with pytest.raises(Refused) as caught:
        await plain.reveal(id_, "p", "a")
    assert caught.value.code == "reference-unconfigured"
