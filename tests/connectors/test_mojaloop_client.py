import asyncio

import pytest

from connectors.errors import Unavailable, Unknown
from connectors.mojaloop.client import MojaloopClient
from connectors.mojaloop.errors import action_of_status
from connectors.mojaloop.formats import dumps, new_uuid
from connectors.mojaloop.fspiop import FspiopBodies
from connectors.mojaloop.model import Order, Party, Payer
from connectors.mojaloop.sandbox_http import PAYER, SchemeSandbox
from connectors.mojaloop.settings import MojaloopSettings
from connectors.mojaloop.signing import Signer
from connectors.testing.sandbox import Mode

PAYEE = Party("MSISDN", "+27713803912", None, "bluebank")
FROM = Payer(Party("BUSINESS", "MIN", None, PAYER), "Ministry", "RECEIVE", "TRANSFER", "BUSINESS")


class Desk:
    def __init__(self, sandbox, **settings):
        self.sandbox = sandbox
        self.settings = MojaloopSettings.model_validate(sandbox.settings() | settings)
        key = self.settings.signing_key
        signer = Signer(key.get_secret_value(), PAYER) if key else None
        self.client = MojaloopClient(self.settings, FspiopBodies(), signer)

    @property
    def deadline(self):
        return asyncio.get_running_loop().time() + 30

    def quote(self, **change):
        order = Order(new_uuid(), new_uuid(), PAYEE, 10150, "USD", "Child grant")
        return dumps(FspiopBodies().quote(order, FROM, "2036-01-01T00:00:00.000Z") | change)

    async def post(self, body):
        return await self.client.post("quotes", "/quotes", body, "bluebank", self.deadline)


@pytest.fixture
async def sandbox():
    found = SchemeSandbox(fsps=("bluebank",))
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def desk(sandbox):
    found = Desk(sandbox)
    yield found
    await found.client.close()


async def test_a_look_up_and_a_signed_quote_are_taken(desk):
    found = await desk.client.get("parties", "/parties/MSISDN/+27713803912", None, desk.deadline)
    assert found.taken
    assert (await desk.post(desk.quote())).taken


async def test_a_token_that_no_longer_holds_is_fetched_anew_once(desk):
    assert (await desk.post(desk.quote())).taken
    desk.sandbox.forget_tokens()
    assert (await desk.post(desk.quote())).taken


async def test_a_wrong_client_secret_sends_nothing(sandbox):
    desk = Desk(sandbox, client_secret="wrong-secret-wrong-secret")
    with pytest.raises(Unavailable) as caught:
        await desk.post(desk.quote())
    assert caught.value.code == "token-refused"
    assert not sandbox.received
    await desk.client.close()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"amount": {"currency": "USD", "amount": "101.50"}}, "3101"),
        ({"quoteId": "01JBVM13SQYP507JB1DYBZVCMF"}, "3101"),
        ({"expiration": "2020-01-01T00:00:00.000Z"}, "3300"),
        ({"expiration": "2036-01-01T00:00:00Z"}, "3101"),
        ({"extra": 1}, "3103"),
        ({"note": "x" * 129}, "3101"),
    ],
)
async def test_the_sandbox_refuses_what_the_standard_refuses(desk, change, code):
    answer = await desk.post(desk.quote(**change))
    assert (answer.status, answer.code) == (400, code)


async def test_the_same_id_with_another_body_is_refused_and_with_the_same_body_taken(desk):
    body = desk.quote()
    assert (await desk.post(body)).taken
    assert (await desk.post(body)).taken
    assert (await desk.post(body.replace(b"Child", b"Other"))).code == "3106"


async def test_an_unsigned_or_unsorted_request_is_refused(sandbox, desk):
    unsigned = Desk(sandbox, signing_key=None)
    assert (await unsigned.post(unsigned.quote())).code == "3105"
    await unsigned.client.close()
    assert (await desk.post(desk.quote().replace(b":", b": "))).code == "3105"


async def test_a_peer_of_another_version_says_which_it_speaks(desk):
    desk.sandbox.only_version = "2.0"
    answer = await desk.post(desk.quote())
    assert (answer.status, answer.code, answer.offered) == (406, "3001", ("2.0",))
    assert action_of_status(answer.status) == "systemic"


async def test_an_answer_that_never_comes_is_unknown_and_no_connection_is_unavailable(desk):
    desk.sandbox.switch(Mode.CLOSE_AFTER_BODY)
    with pytest.raises(Unknown):
        await desk.post(desk.quote())
    await desk.sandbox.stop()
    with pytest.raises(Unavailable):
        await desk.post(desk.quote())
