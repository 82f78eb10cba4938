"""The account mapper: sealed, dated, with its history, in whole lists."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from services.path import everything_as_text

from canonical_model.errors import Refused
from canonical_model.message import uuid7
from registry.accounts import (
    ADDRESS_CODE,
    DATES_CODE,
    ID_CODE,
    LINKED_CODE,
    REPEATED_CODE,
    UNLINKED_CODE,
    Accounts,
    Link,
    Question,
    StrategyBook,
    parse,
    shipped,
)
from registry.accounts import statements as sql
from registry.people import PeopleStore
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import Vault

BY = "spp"
ID, FA = "vid:54321@nid", "account:99881@national-bank"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(HubSettings(), url=database_url, size=4)
    await ensure(opened, "month")
    yield opened
    await opened.close()


@pytest.fixture
async def vault(pool: asyncpg.Pool, tmp_path: Path) -> Vault:
    return await Vault.open(pool, HubSettings(data_dir=tmp_path))


@pytest.fixture
def accounts(pool: asyncpg.Pool, vault: Vault) -> Accounts:
    return Accounts(pool, vault)


async def one(accounts: Accounts, id_: str | None = ID, address: str | None = None) -> tuple[str, str | None]:
    (found,) = await accounts.resolve([Question(id_, address)], actor=BY, purpose="payment")
    return found.state, found.address


async def test_what_is_linked_is_resolved_in_any_case_of_its_letters_and_lies_nowhere_in_clear(
    accounts: Accounts, pool: asyncpg.Pool
) -> None:
    link = Link(ID, FA, more={"name": "Amina Planted", "phone_number": "+254700111222"})
    (made,) = await accounts.link([link], actor=BY)
    assert made.code is None
    assert await one(accounts, ID.upper()) == ("active", FA)
    assert await one(accounts, None, FA.upper()) == ("active", FA)
    assert await one(accounts, ID, FA) == ("active", FA)
    assert await one(accounts, ID, "account:1@other") == ("elsewhere", None)
    assert await one(accounts, "vid:1@nid") == ("absent", None)
    assert await one(accounts, None, "account:1@other") == ("absent", None)
    text = await everything_as_text(pool)
    for planted in ("54321", "99881", "Planted", "254700111222", "national-bank"):
        assert planted not in text, planted


async def test_an_id_has_one_link_at_a_time_whoever_comes_at_once(accounts: Accounts) -> None:
    several = [Link(ID, f"account:{number}@bank") for number in range(8)]
    outcomes = await asyncio.gather(*(accounts.link([each], actor=BY) for each in several))
    assert sum(found.code is None for (found,) in outcomes) == 1
    assert {found.code for (found,) in outcomes} == {None, LINKED_CODE}
    twice = [Link("vid:2@nid", FA), Link("vid:2@nid", "account:3@bank")]
    assert [each.code for each in await accounts.link(twice, actor=BY)] == [None, LINKED_CODE]


async def test_lists_of_the_same_ids_in_other_orders_do_not_wait_for_each_other_forever(
    accounts: Accounts,
) -> None:
    ids = [f"vid:{number}@nid" for number in range(50)]
    await accounts.link([Link(each, FA) for each in ids], actor=BY)
    for _ in range(5):
        there = [Link(each, "account:1@bank") for each in ids]
        await asyncio.gather(accounts.update(there, actor=BY), accounts.update(there[::-1], actor=BY))
    assert await one(accounts, ids[7]) == ("active", "account:1@bank")


async def test_an_update_keeps_the_link_before_and_an_unlink_ends_it(accounts: Accounts) -> None:
    assert [each.code for each in await accounts.update([Link(ID, FA)], actor=BY)] == [UNLINKED_CODE]
    await accounts.link([Link(ID, FA)], actor=BY)
    new = "mobile:254700111222@m-pay"
    assert [each.code for each in await accounts.update([Link(ID, new), Link(ID, FA)], actor=BY)] == [
        None,
        REPEATED_CODE,
    ]
    assert await one(accounts) == ("active", new)
    wrong = await accounts.unlink([Question(ID, FA)], actor=BY)
    assert wrong[0].code == UNLINKED_CODE, "another address than the linked one"
    ended = await accounts.unlink([Question(ID, new), Question("no id"), Question("vid:9@nid")], actor=BY)
    assert [each.code for each in ended] == [None, ID_CODE, UNLINKED_CODE]
    assert await one(accounts) == ("absent", None)
    history = await accounts.listed(id=ID, ended=True, actor=BY, purpose="complaint 12")
    assert [(each["address"], each["ended_how"]) for each in history] == [(FA, "updated"), (new, "unlinked")]
    assert await accounts.listed(id=ID) == []


async def test_a_link_holds_between_its_dates_only(accounts: Accounts, pool: asyncpg.Pool) -> None:
    now = datetime.now(UTC)
    later = Link("vid:1@nid", FA, valid_from=now + timedelta(days=1))
    brief = Link("vid:2@nid", FA, valid_to=now + timedelta(days=1))
    wrong = [
        Link("vid:3@nid", FA, valid_to=now - timedelta(days=1)),
        Link("no id", FA),
        Link("vid:4@nid", "nowhere"),
    ]
    found = await accounts.link([later, brief, *wrong], actor=BY)
    assert [each.code for each in found] == [None, None, DATES_CODE, ID_CODE, ADDRESS_CODE]
    assert (await one(accounts, "vid:1@nid"))[0] == "inactive"
    assert (await one(accounts, "vid:2@nid"))[0] == "active"
    await pool.execute(
        "UPDATE account_link SET valid_from = now() - interval '2 h', valid_to = now() - interval '1 h' WHERE valid_to IS NOT NULL"
    )
    assert (await one(accounts, "vid:2@nid"))[0] == "inactive"
    assert [each.code for each in await accounts.update([Link("vid:2@nid", FA)], actor=BY)] == [UNLINKED_CODE]
    assert [each.code for each in await accounts.link([Link("vid:2@nid", FA)], actor=BY)] == [None]
    assert (await one(accounts, "vid:2@nid"))[0] == "active"


class Recorded:
    """A pool that tells which statements read from it."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.seen: list[str] = []

    async def fetch(self, statement: str, *values: Any) -> Any:
        self.seen.append(statement)
        return await self.pool.fetch(statement, *values)

    def acquire(self, **how: Any) -> Any:
        return self.pool.acquire(**how)


async def test_a_thousand_ids_are_one_statement_and_more_are_refused(
    accounts: Accounts, pool: asyncpg.Pool, vault: Vault
) -> None:
    links = [Link(f"vid:{number}@nid", f"account:{number}@bank") for number in range(1000)]
    assert all(each.code is None for each in await accounts.link(links, actor=BY))
    asked = [Question(each.id) for each in links[::-1]]
    recorded = Recorded(pool)
    found = await Accounts(recorded, vault).resolve(asked, actor=BY, purpose="payment")  # type: ignore[arg-type]
    assert [each.address for each in found] == [each.address for each in links[::-1]]
    assert recorded.seen == [sql.STRATEGIES, sql.RESOLVE]
    with pytest.raises(Refused) as refused:
        await accounts.resolve([*asked, Question(ID)], actor=BY, purpose="payment")
    assert refused.value.code == "account-list-too-long"


async def test_whoever_saw_an_address_stands_in_the_audit_trail_with_the_purpose(
    accounts: Accounts, pool: asyncpg.Pool
) -> None:
    (made,) = await accounts.link([Link(ID, FA)], actor=BY)
    with pytest.raises(Refused) as refused:
        await accounts.resolve([Question(ID)], actor=BY, purpose=" ")
    assert refused.value.code == "purpose-missing"
    await one(accounts)
    rows = await pool.fetch("SELECT action, actor, details FROM audit_event ORDER BY id")
    assert [row["action"] for row in rows] == ["account.link", "account.reveal"]
    assert rows[1]["details"] == {"purpose": "payment", "asked": 1, "shown": [str(made.link_id)]}


async def test_an_id_without_a_link_is_paid_at_the_account_of_the_registrants_record(
    accounts: Accounts, pool: asyncpg.Pool, vault: Vault
) -> None:
    people = PeopleStore(pool, vault, vault.blind)
    account = {"kind": "bank", "provider": "bank", "account_number": "777", "id_type": "ACCOUNT_ID"}
    person = {
        "names": [{"given_name": "Amina"}],
        "identifiers": [{"id_type": "NID", "value": "4711"}],
        "accounts": [account],
    }
    await people.upsert(person, source="urn:x", message_id=uuid7(), at=datetime.now(UTC))
    assert await one(accounts, "nid:4711@gov") == ("absent", None), (
        "not before a strategy says which identifier it is"
    )
    await accounts.apply(
        parse(
            '[[strategy]]\nname = "national"\nkind = "id"\ntemplate = "nid:{value}@gov"\nidentifier = "NID"'
        ),
        actor=BY,
    )
    assert await one(accounts, "nid:4711@gov") == ("active", "account:777@bank")
    await accounts.link([Link("nid:4711@gov", FA)], actor=BY)
    assert await one(accounts, "nid:4711@gov") == ("active", FA), "what was linked goes before the record"
    await people.close()


def test_an_address_is_taken_apart_by_the_strategy_that_fits_and_put_together_again() -> None:
    ours = '[[strategy]]\nname = "spar"\nkind = "fa"\ntemplate = "account_number:{number}.bank_code:{provider}.fa_type:BANK"\naccount = "bank"\nproviders = {gtb = "GT Bank"}'
    book = StrategyBook([*parse(ours), *shipped()])
    read = book.read("fa", "account_number:12345.bank_code:GTB.fa_type:bank")
    assert read is not None
    assert (read.strategy.name, dict(read.fields), read.provider) == (
        "spar",
        {"number": "12345", "provider": "GTB"},
        ("GTB", "GT Bank"),
    )
    assert (
        book.write({"kind": "bank", "provider": "gtb", "account_number": "12345"})
        == "account_number:12345.bank_code:gtb.fa_type:BANK"
    )
    for text, name in (
        ("account:12345@abcd0000001.ifsc.pymt-rail", "bank"), ("joeuser@national-bank", "user"),
        ("voucher:12345@food.coupon-network", "voucher"), ("token:12345@gtbank", "token"), ("vid:5@nid", "alias"),
    ):  # fmt: skip
        found = book.read("fa", text)
        assert found is not None, text
        assert found.strategy.name == name
    for text in (
        "",
        "nobody",
        "a@b@c",
        "account:1 2@bank",
        "account:@bank",
        "x" * 300 + "@bank",
        "account:1@ba\nnk",
    ):
        assert book.read("fa", text) is None, text


@pytest.mark.parametrize(
    "wrong",
    ["strategy = 3", "[[strategy", '[[strategy]]\nname = "x"\nkind = "fa"\ntemplate = "{a}{b}"',
     '[[strategy]]\nname = "x"\nkind = "fa"\ntemplate = "{a}@{a}"', '[[strategy]]\nname = "x"\nkind = "fa"\ntemplate = "{A}@b"',
     '[[strategy]]\nname = "x"\nkind = "fa"\ntemplate = "{value}@b"\nidentifier = "NID"'],
)  # fmt: skip
def test_a_strategy_that_could_be_read_in_two_ways_is_refused_with_its_place(wrong: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(wrong)
    assert refused.value.code == "account-strategy-invalid"
