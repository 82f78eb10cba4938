import asyncio

import pytest

from connectors.errors import Unknown
from connectors.mojaloop import adapter, ilp
from connectors.mojaloop.client import MojaloopClient
from connectors.mojaloop.formats import dumps, new_uuid
from connectors.mojaloop.fspiop import FspiopBodies
from connectors.mojaloop.model import Order, Party, Payer
from connectors.mojaloop.sandbox_adapter import AdapterSandbox
from connectors.mojaloop.sandbox_scheme import Fault
from connectors.mojaloop.settings import MojaloopSettings
from tests.connectors.mojaloop_files import problems, validator

PAYER = Payer(Party("BUSINESS", "MIN", None, "payerfsp"), "Ministry", "RECEIVE", "TRANSFER", "BUSINESS")


def order(payee=None):
    return Order(new_uuid(), new_uuid(), payee or Party("MSISDN", "27713803912"), 10150, "USD", "Child grant")


class Desk:
    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.client = MojaloopClient(
            MojaloopSettings.model_validate(sandbox.settings()), FspiopBodies(), None
        )

    async def call(self, method, path, body):
        deadline = asyncio.get_running_loop().time() + 30
        return await self.client.plain(method, "transfers", path, dumps(body) if body else b"", deadline)

    async def post(self, **change):
        body = adapter.transfer_request("home-1", order(), PAYER) | change
        return adapter.read(await self.call("POST", "/transfers", body))

    async def put(self, transfer_id, **accepted):
        return adapter.read(await self.call("PUT", f"/transfers/{transfer_id}", accepted))


@pytest.fixture
async def desk():
    sandbox = AdapterSandbox()
    await sandbox.start()
    found = Desk(sandbox)
    yield found
    await found.client.close()
    await sandbox.stop()


@pytest.mark.parametrize(
    "payee", [None, Party("PERSONAL_ID", "ZM-1", "NATIONAL_ID_CARD")], ids=["phone", "national id"]
)
def test_the_request_holds_the_adapters_schema(payee):
    body = adapter.transfer_request("home-1", order(payee), PAYER)
    assert problems(validator("adapter", "transferRequest"), body) == []


async def test_money_moves_with_the_quote_accepted_and_not_before(desk):
    first = await desk.post()
    assert (first.state, first.party.party.fsp) == (adapter.PARTY, desk.sandbox.scheme.fsp_of("27713803912"))
    second = await desk.put(first.transfer_id, acceptParty=True)
    assert (second.state, second.quote.amount, second.quote.currency) == (adapter.QUOTE, 10150, "USD")
    assert not desk.sandbox.scheme.committed()
    third = await desk.put(first.transfer_id, acceptQuote=True)
    assert third.state == adapter.DONE
    assert ilp.fulfils(third.fulfil.fulfilment, second.quote.condition)
    assert len(desk.sandbox.scheme.committed()) == 1


@pytest.mark.parametrize(
    ("fault", "error", "is_open"),
    [
        (Fault.REFUSED, "5104", False),
        (Fault.NO_LIQUIDITY, "4001", False),
        (Fault.SILENT, "2004", True),
        (Fault.WRONG_FULFILMENT, None, True),
    ],
)
async def test_an_answer_to_the_acceptance_tells_final_from_open(desk, fault, error, is_open):
    desk.sandbox.scheme.every.add(fault)
    first = await desk.post()
    await desk.put(first.transfer_id, acceptParty=True)
    last = await desk.put(first.transfer_id, acceptQuote=True)
    assert (last.state, last.error, last.open) == ("ERROR_OCCURRED", error, is_open)


async def test_a_lost_answer_to_the_acceptance_can_be_asked_about(desk):
    first = await desk.post()
    await desk.put(first.transfer_id, acceptParty=True)
    desk.sandbox.drop_after.add("quote")
    with pytest.raises(Unknown):
        await desk.put(first.transfer_id, acceptQuote=True)
    told = adapter.read_status(await desk.call("GET", f"/transfers/{first.transfer_id}", None))
    assert (told.state, told.fulfil.state) == (adapter.DONE, "COMMITTED")


async def test_a_party_nobody_knows_and_a_bad_request_are_final(desk):
    desk.sandbox.scheme.every.add(Fault.PARTY_UNKNOWN)
    found = await desk.post()
    assert (found.error, found.open) == ("3204", False)
    assert (await desk.post(surprise=1)).error == "3100"
