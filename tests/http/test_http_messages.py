"""Sending messages over the hub's own API, against the real intake."""

from __future__ import annotations

import asyncio
import copy
import io
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from canonical_model.civil_event import CivilEvent
from canonical_model.types import to_data

REQUEST = "0190a6c1-7d2e-7b4a-9c3f-5e8d1f2a4b6c"
PATH = "/v1/messages"


def event(id_: str = "ev-1", **changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": id_,
        "source": "/civil-registry",
        "type": "org.openspp.civil_event.registered.v1",
        "time": "2026-03-04T09:30:00Z",
        "data": {"event_type": "birth", "subject": {"sex": "female", "birthdate": "2026-03-01"}},
        **changes,
    }


@pytest.fixture(autouse=True)
def _the_sample_is_canonical() -> None:
    data = event()["data"]
    assert to_data(CivilEvent.model_validate_json(orjson.dumps(data)))


async def test_an_accepted_message_is_stored_before_the_answer(hub: Any) -> None:
    answer = await hub.client.post(PATH, json=event(), headers={**hub.auth(), "X-Request-ID": REQUEST})
    body = await answer.json()
    assert (answer.status, body["duplicate"]) == (202, False)
    assert answer.headers["Location"] == f"{PATH}/{body['id']}"
    assert answer.headers["X-Request-ID"] == REQUEST
    assert answer.headers["RateLimit"].startswith('"partner";r=')
    row = await hub.pool.fetchrow("SELECT id, partner, request_id FROM message")
    assert (str(row["id"]), row["partner"], row["request_id"]) == (body["id"], "civil-registry", REQUEST)


@pytest.mark.parametrize("form", [{"Connection": "close"}, {"Expect": "100-continue"}])
async def test_a_request_of_unusual_form_gets_the_same_answer(hub: Any, form: dict[str, str]) -> None:
    """The usual request takes a short way past the router; the answers differ in nothing a caller could tell."""
    answers = []
    for number, extra in enumerate(({}, form)):
        headers = {**hub.auth(), **extra}
        answer = await hub.client.post(PATH, json=event(f"ev-{number}"), headers=headers)
        body = await answer.json()
        assert answer.headers["Location"] == f"{PATH}/{body['id']}"
        answers.append((answer.status, answer.reason, set(body), dict(answer.headers)))
    for *_, found in answers:
        found.pop("Connection", None)
        for name in ("Location", "X-Request-ID", "RateLimit", "Date"):
            assert found.pop(name)
    assert answers[0] == answers[1]


async def test_an_old_client_is_answered_and_let_go(hub: Any) -> None:
    body = orjson.dumps(event())
    lines = [f"POST {PATH} HTTP/1.0", *(f"{k}: {v}" for k, v in hub.auth().items())]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    reader, writer = await asyncio.open_connection(hub.client.host, hub.client.port)
    writer.write("\r\n".join(lines).encode() + body)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answer.startswith(b"HTTP/1.0 202 Accepted\r\n")


async def test_requests_sent_ahead_are_answered_in_order(hub: Any) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in hub.auth().items())
    reader, writer = await asyncio.open_connection(hub.client.host, hub.client.port)
    for number in range(5):
        # The third one is refused, so both kinds of answers follow each other on one connection.
        body = orjson.dumps(event(f"ev-{number}", **({"type": "unknown"} if number == 2 else {})))
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(f"POST {PATH} HTTP/1.1\r\nHost: hub\r\n{head}{length}".encode() + body)
    seen = []
    for _ in range(5):
        top = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        size = next(
            int(line[15:]) for line in top.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        await reader.readexactly(size)
        seen.append(int(top[9:12]))
    writer.close()
    assert seen[:2] == [202, 202]
    assert 400 <= seen[2] < 500
    assert seen[3:] == [202, 202]


async def test_a_repeat_gets_the_first_answer_whatever_its_spacing(hub: Any) -> None:
    first = await (await hub.client.post(PATH, json=event(), headers=hub.auth())).json()
    spaced = orjson.dumps(dict(reversed(event().items())), option=orjson.OPT_INDENT_2)
    headers = {**hub.auth(), "Content-Type": "application/cloudevents+json"}
    again = await hub.client.post(PATH, data=spaced, headers=headers)
    body = await again.json()
    assert (again.status, body["id"], body["duplicate"]) == (202, first["id"], True)
    assert await hub.stored() == 1


async def test_an_id_reused_with_another_body_is_refused(hub: Any) -> None:
    await hub.client.post(PATH, json=event(), headers=hub.auth())
    other = copy.deepcopy(event())
    other["data"]["event_type"] = "death"
    answer = await hub.client.post(PATH, json=other, headers=hub.auth())
    body = await answer.json()
    assert (answer.status, body["code"], body["errors"][0]["pointer"]) == (409, "message-id-reused", "/id")
    assert await hub.stored() == 1


async def test_the_same_id_of_two_partners_is_two_messages(hub: Any) -> None:
    for client in ("civil-registry", "tolerated"):
        answer = await hub.client.post(PATH, json=event(), headers=hub.auth(client))
        assert (await answer.json())["duplicate"] is False
    assert await hub.stored() == 2


async def test_binary_mode_says_the_same_as_structured_mode(hub: Any) -> None:
    one = event()
    headers = {f"ce-{name}": value for name, value in one.items() if name != "data"}
    answer = await hub.client.post(PATH, json=one["data"], headers={**hub.auth(), **headers})
    assert answer.status == 202
    again = await (await hub.client.post(PATH, json=one, headers=hub.auth())).json()
    assert again["duplicate"] is True


async def test_each_message_of_a_batch_has_its_own_answer(hub: Any) -> None:
    bad = event("b", data={"event_type": "birth"})
    batch = [event("a"), bad, event("c", type="org.openspp.nothing.known.v1"), event("a")]
    headers = {**hub.auth(), "Content-Type": "application/cloudevents-batch+json"}
    answer = await hub.client.post(PATH, data=orjson.dumps(batch), headers=headers)
    body = await answer.json()
    assert (answer.status, body["accepted"], body["refused"]) == (202, 2, 2)
    assert [one["status"] for one in body["results"]] == [202, 422, 422, 202]
    assert body["results"][1]["problem"]["errors"][0]["pointer"] == "/1/data/subject"
    assert body["results"][2]["problem"]["code"] == "message-type-unknown"
    assert body["results"][0]["id"] == body["results"][3]["id"]
    assert await hub.stored() == 1


async def test_a_stream_is_answered_line_by_line_in_order(hub: Any) -> None:
    lines = [orjson.dumps(event(f"s-{number}")) for number in range(600)]
    lines[300] = b"{not json"

    async def body() -> AsyncIterator[bytes]:
        text = b"\n".join(lines)
        for start in range(0, len(text), 7001):
            yield text[start : start + 7001]

    headers = {**hub.auth(), "Content-Type": "application/x-ndjson"}
    answer = await hub.client.post(PATH, data=body(), headers=headers)
    results = [orjson.loads(line) for line in (await answer.read()).splitlines()]
    assert answer.status == 202
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert [one["index"] for one in results] == list(range(600))
    assert [one["index"] for one in results if one["status"] != 202] == [300]
    assert results[300]["problem"]["code"] == "cloudevent-invalid"
    assert await hub.stored() == 599


async def test_a_stream_answers_while_it_is_still_being_sent(hub: Any) -> None:
    more = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield orjson.dumps(event("first")) + b"\n"
        await more.wait()
        yield orjson.dumps(event("second")) + b"\n"

    headers = {**hub.auth(), "Content-Type": "application/x-ndjson"}
    answer = await hub.client.post(PATH, data=body(), headers=headers)
    async with asyncio.timeout(45):
        assert orjson.loads(await answer.content.readline())["status"] == 202
        assert await hub.stored() == 1
        more.set()
        assert orjson.loads(await answer.content.readline())["index"] == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"specversion": "1.0", ', 400, "cloudevent-invalid"),
        (b"\xff\xfe", 400, "cloudevent-invalid"),
        (b"[]", 400, "cloudevent-invalid"),
        (b'{"data":' + b"[" * 70 + b"]" * 70 + b"}", 400, "cloudevent-invalid"),
        (b"[" * 100_000, 400, "cloudevent-invalid"),
        (orjson.dumps(event(id=7)), 400, "cloudevent-invalid"),
        (orjson.dumps(event(type="org.openspp.unknown.thing.v1")), 422, "message-type-unknown"),
        (orjson.dumps(event(type="com.example.thing")), 422, "message-type-unknown"),
        (orjson.dumps(event(data=[1])), 400, "cloudevent-invalid"),
        (
            orjson.dumps(event(data={"event_type": "birth", "subject": {"sex": 3}})),
            422,
            "message-data-invalid",
        ),
    ],
)
async def test_a_wrong_body_is_refused_with_its_place_and_not_its_values(
    hub: Any, body: bytes, status: int, code: str
) -> None:
    headers = {**hub.auth(), "Content-Type": "application/json"}
    answer = await hub.client.post(PATH, data=body, headers=headers)
    problem = await answer.json()
    assert (answer.status, problem["code"]) == (status, code)
    assert answer.content_type == "application/problem+json"
    assert problem["type"] == f"/errors/{code}"
    assert problem["instance"] == answer.headers["X-Request-ID"]
    assert "pointer" in problem["errors"][0]
    assert await hub.stored() == 0


@pytest.mark.parametrize("told", [True, False])
async def test_a_body_of_twenty_megabytes_is_refused_and_the_next_request_served(
    hub: Any, told: bool
) -> None:
    note = b'{"specversion": "1.0", "id": "big", "data": {"note": "' + b"x" * (20 << 20) + b'"}}'

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(note), 1 << 20):
            yield note[start : start + (1 << 20)]

    answer = await hub.client.post(
        PATH,
        data=io.BytesIO(note) if told else pieces(),
        headers={**hub.auth(), "Content-Type": "application/json"},
    )
    problem = await answer.json()
    assert (answer.status, problem["code"]) == (413, "body-too-large")
    assert await hub.stored() == 0
    assert (await hub.client.post(PATH, json=event(), headers=hub.auth())).status == 202


async def test_the_source_of_a_message_is_the_partner_of_the_token(hub: Any) -> None:
    seen: list[Any] = []
    accept = hub.services.intake.accept

    async def watched(message: Any, **rest: Any) -> Any:
        seen.append(message)
        return await accept(message, **rest)

    hub.services.intake.accept = watched
    answer = await hub.client.post(PATH, json=event(source="/payments"), headers=hub.auth())
    assert answer.status == 202
    assert (seen[0].source, seen[0].originid) == ("civil-registry", "ev-1")


async def test_a_message_built_from_a_checked_event_is_what_the_model_would_build() -> None:
    from adapters.rest.incoming import read_line
    from canonical_model.message import Message

    built, _ = read_line(orjson.dumps(event(subject="person:1", correlationid="c-1")), "civil-registry")
    assert Message.model_validate(built.model_dump()) == built
