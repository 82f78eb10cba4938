"""CloudEvents over HTTP: three modes read and written alike, everything else refused without repeating it."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canonical_model import (
    IncomingEvent,
    Message,
    Refused,
    continued_traceparent,
    parse_http,
    to_http_batch,
    to_http_binary,
    to_http_structured,
    to_message,
    traceparent_or_none,
)
from canonical_model.cloudevents import BATCH, MAX_BATCH, MAX_DEPTH, STRUCTURED

TRACE = f"00-{'0af7651916cd43dd8448eb211c80319c'}-{'b7ad6b7169203331'}-01"
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.builds(
    Message,
    source=st.just("/partners/crvs"),
    type=st.just("org.openspp.person.upserted.v1"),
    subject=st.none() | TEXT.filter(lambda text: text == text.strip()),
    time=st.integers(0, 4_000_000_000_000).map(lambda ms: datetime.fromtimestamp(ms / 1000, UTC)),
    traceparent=st.just(TRACE),
    correlationid=st.none() | st.just("c-1"),
    data=st.dictionaries(TEXT, VALUES, max_size=3),
)


def event(**changes: Any) -> dict[str, Any]:
    base = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/crvs",
        "type": "org.openspp.person.upserted.v1",
        "data": {"sex": "female"},
    }
    return {name: value for name, value in (base | changes).items() if value is not ...}


def structured(body: Any, content_type: str = STRUCTURED) -> list[IncomingEvent]:
    return parse_http(
        {"Content-Type": content_type}, body if isinstance(body, bytes) else json.dumps(body).encode()
    )


def refusal(headers: dict[str, str], body: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        parse_http(headers, body)
    assert caught.value.code == "cloudevent-invalid"
    assert caught.value.__context__ is None, "a caught error holds what was sent"
    return caught.value


def same(message: Message, got: IncomingEvent) -> bool:
    names = (
        "source",
        "type",
        "subject",
        "time",
        "dataschema",
        "traceparent",
        "correlationid",
        "causationid",
        "data",
    )
    return got.id == str(message.id) and all(getattr(message, name) == getattr(got, name) for name in names)


@settings(deadline=None)
@given(MESSAGES)
def test_all_three_modes_carry_a_message_whole(message: Message) -> None:
    assert same(message, parse_http(*to_http_structured(message))[0])
    headers, body = to_http_binary(message, identifying=True)
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    assert same(message, parse_http(headers, body)[0])
    first, second = parse_http(*to_http_batch([message, message]))
    assert same(message, first)
    assert first == second


def test_binary_mode_keeps_what_may_identify_a_person_out_of_headers() -> None:
    message = Message(
        source="/crvs", type="org.openspp.person.upserted.v1", subject="Zzyzx", originid="Zzyzx-2"
    )
    assert "Zzyzx" not in str(to_http_binary(message)[0])
    headers, _ = to_http_binary(message, identifying=True)
    assert headers["ce-subject"] == "Zzyzx"


def test_headers_are_percent_encoded_and_decoded_as_the_binding_says() -> None:
    message = Message(
        source="/crvs", type="org.openspp.person.upserted.v1", subject='Euro € 50% "ok" 😀', traceparent=TRACE
    )
    headers, body = to_http_binary(message, identifying=True)
    assert headers["ce-subject"] == "Euro%20%E2%82%AC%2050%25%20%22ok%22%20%F0%9F%98%80"
    assert parse_http(headers, body)[0].subject == message.subject
    plain = {
        "ce-specversion": "1.0",
        "CE-ID": "1",
        "ce-source": "/a",
        "ce-type": "t",
        "content-type": "application/json",
    }
    assert parse_http(plain | {"ce-subject": '"quoted \\" text"'}, b"{}")[0].subject == 'quoted " text'
    assert parse_http(plain | {"ce-subject": "50% of %zz"}, b"{}")[0].subject == "50% of %zz"
    # A value decodes once: %2541 is the text %41.
    assert parse_http(plain | {"ce-subject": "%2541"}, b"{}")[0].subject == "%41"
    assert refusal(plain | {"ce-subject": "%ff"}, b"{}").pointer == "/subject"
    assert refusal(plain | {"ce-subject": "caf\udce9"}, b"{}").pointer == "/subject"


def test_a_batch_holds_up_to_a_thousand_events() -> None:
    assert structured([], BATCH) == []
    assert len(structured([event()] * MAX_BATCH, BATCH)) == MAX_BATCH
    assert refusal({"content-type": BATCH}, json.dumps([event()] * (MAX_BATCH + 1)).encode()).pointer == ""
    assert refusal({"content-type": BATCH}, json.dumps([event(), event(id="")]).encode()).pointer == "/1/id"
    assert refusal({"content-type": BATCH}, json.dumps(event()).encode()).pointer == ""
    with pytest.raises(ValueError, match="at most"):
        to_http_batch([Message(source="/a", type="org.openspp.a.v1")] * (MAX_BATCH + 1))


@pytest.mark.parametrize("form", ["list", "object"])
def test_json_is_nested_at_most_64_deep(form: str) -> None:
    def nested(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = [value] if form == "list" else {"a": value}
        return value

    # The event itself is the first level.
    structured(event(data=nested(MAX_DEPTH - 1)))
    assert (
        refusal({"content-type": STRUCTURED}, json.dumps(event(data=nested(MAX_DEPTH))).encode()).pointer
        == ""
    )
    structured(event(data=[nested(2)] * 500))
    opening, closing = (b"[", b"]") if form == "list" else (b'{"a":', b"}")
    for levels in (900, 5000):
        refusal({"content-type": STRUCTURED}, opening * levels + b"1" + closing * levels)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"specversion": "0.3"}, "/specversion"),
        ({"specversion": ...}, "/specversion"),
        ({"specversion": 1}, "/specversion"),
        ({"id": ...}, "/id"),
        ({"id": ""}, "/id"),
        ({"id": 7}, "/id"),
        ({"id": "x" * 501}, "/id"),
        ({"id": "a\nb"}, "/id"),
        ({"source": "a b"}, "/source"),
        ({"source": "x" * 257}, "/source"),
        ({"type": None}, "/type"),
        ({"subject": ""}, "/subject"),
        ({"subject": ["x"]}, "/subject"),
        ({"time": "2024-01-01"}, "/time"),
        ({"time": "2024-01-01T00:00:00"}, "/time"),
        ({"time": "2024-13-01T00:00:00Z"}, "/time"),
        ({"time": 5}, "/time"),
        ({"Bad-Name": "x"}, ""),
        ({"extension": {"a": 1}}, "/extension"),
        ({"extension": 1.5}, "/extension"),
        ({"data_base64": "e30="}, "/data_base64"),
        ({"data": ..., "data_base64": "%%"}, "/data_base64"),
        ({"data": ..., "data_base64": 5}, "/data_base64"),
        ({"data": ..., "data_base64": base64.b64encode(b"{").decode()}, "/data_base64"),
        ({"datacontenttype": "text/xml"}, "/datacontenttype"),
        ({"datacontenttype": "application/json; charset=latin-1"}, "/datacontenttype"),
        ({"data": {"a": "x\u0000y"}}, ""),
        ({"data": {"x\u0000y": 1}}, ""),
    ],
)
def test_an_invalid_event_is_refused_at_its_place(change: dict[str, Any], pointer: str) -> None:
    refused = refusal({"content-type": STRUCTURED}, json.dumps(event(**change)).encode())
    assert refused.pointer == pointer


def test_a_refusal_repeats_nothing_the_partner_sent() -> None:
    for change in (
        {"id": "Zzyzx\n"},
        {"source": "Zzyzx q"},
        {"time": "Zzyzx"},
        {"Zzyzx": "1"},
        {"datacontenttype": "Zzyzx"},
    ):
        refused = refusal({"content-type": STRUCTURED}, json.dumps(event(**change)).encode())
        assert "Zzyzx" not in f"{refused} {refused.pointer}"
    assert "Zzyzx" not in str(refusal({"content-type": STRUCTURED}, b'{"Zzyzx"'))
    got = structured(event(data={"name": "Zzyzx"}, subject="Zzyzx", id="Zzyzx-1", correlationid="c-1"))[0]
    assert "Zzyzx" not in repr(got)
    assert "Zzyzx" not in repr(to_message(got))
    assert "c-1" in repr(to_message(got))


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"{}"),
        ({"content-type": "application/json"}, b"{}"),
        ({"content-type": "application/cloudevents+xml"}, b"<a/>"),
        ({"content-type": "application/cloudevents+json; charset=utf-16"}, b"{}"),
        ({"content-type": STRUCTURED}, b""),
        ({"content-type": STRUCTURED}, b"\xff{}"),
        ({"content-type": STRUCTURED}, b"[]"),
        ({"content-type": STRUCTURED}, b'{"id": NaN}'),
        ({"content-type": STRUCTURED}, b'{"id": "\\ud800"}'),
        ({"ce-id": "1", "ce-data": "x"}, b"{}"),
        ({"ce-id": "1", "ce-datacontenttype": "application/json"}, b"{}"),
        ({"ce-id": "1", "ce-bad_name": "x"}, b"{}"),
        (
            {
                "ce-id": "1",
                "ce-source": "/a",
                "ce-type": "t",
                "ce-specversion": "1.0",
                "content-type": "text/plain",
            },
            b"hi",
        ),
    ],
)
def test_a_request_that_is_no_cloudevent_is_refused(headers: dict[str, str], body: bytes) -> None:
    refusal(headers, body)


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from([STRUCTURED, BATCH, "application/json"]))
def test_any_bytes_give_events_or_a_refusal(body: bytes, content_type: str) -> None:
    headers = {
        "content-type": content_type,
        "ce-id": "1",
        "ce-source": "/a",
        "ce-type": "t",
        "ce-specversion": "1.0",
    }
    try:
        assert isinstance(parse_http(headers, body), list)
    except Refused as refused:
        assert refused.pointer is not None  # noqa: PT017 - either outcome is right


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted({*event(), "time", "subject", "x", "data_base64"})), VALUES))
def test_any_object_gives_an_event_or_a_refusal(body: dict[str, Any]) -> None:
    try:
        assert structured(orjson.dumps(event() | body))
    except Refused as refused:
        assert refused.code == "cloudevent-invalid"  # noqa: PT017 - either outcome is right


def test_a_media_type_is_read_without_case_and_with_parameters() -> None:
    assert structured(event(), "Application/CloudEvents+JSON; charset=UTF-8")[0].id == "e-1"
    assert structured(event(datacontenttype="application/vnd.dci+json"))[0].data == {"sex": "female"}
    encoded = base64.b64encode(b'{"sex":"male"}').decode()
    assert structured(event(data=..., data_base64=encoded))[0].data == {"sex": "male"}
    assert structured(event(data=...))[0].data is None
    assert structured(event(unknownextension="kept out", flag=True, number=5))[0].id == "e-1"
    assert structured(event(time="2024-02-29t12:00:00.123456789+05:30"))[0].time is not None


@pytest.mark.parametrize(
    ("given_value", "kept"),
    [
        (TRACE, TRACE),
        (TRACE[:-2] + "ff", TRACE),
        (TRACE[:-2] + "02", TRACE[:-2] + "00"),
        ("cc" + TRACE[2:], TRACE),
        ("cc" + TRACE[2:] + "-what-the-future-will-be-like", TRACE),
        (TRACE + "-extra", None),
        ("cc" + TRACE[2:] + ".extra", None),
        ("ff" + TRACE[2:], None),
        (TRACE.upper(), None),
        (f"00-{'0' * 32}-{'b' * 16}-01", None),
        (f"00-{'a' * 32}-{'0' * 16}-01", None),
        (TRACE[:-1], None),
        ("", None),
        (None, None),
    ],
)
def test_an_invalid_traceparent_restarts_the_trace(given_value: str | None, kept: str | None) -> None:
    assert traceparent_or_none(given_value) == kept
    going_on = continued_traceparent(given_value)
    assert traceparent_or_none(going_on) == going_on
    assert kept is None or going_on == kept


def test_the_trace_of_the_event_comes_before_the_trace_of_the_hop() -> None:
    hop = TRACE.replace("0af7", "1111")
    body = json.dumps(event(traceparent=TRACE)).encode()
    assert parse_http({"content-type": STRUCTURED, "traceparent": hop}, body)[0].traceparent == TRACE
    bare = json.dumps(event(traceparent="broken")).encode()
    assert parse_http({"content-type": STRUCTURED, "traceparent": hop}, bare)[0].traceparent == hop


def test_a_partners_id_becomes_the_origin_id_of_a_message_of_the_hub() -> None:
    message = to_message(
        structured(event(subject="p-1", correlationid="c-1", time="2024-05-06T07:08:09Z"))[0]
    )
    assert message.originid == "e-1"
    assert message.id.version == 7
    assert (message.subject, message.correlationid, message.data) == ("p-1", "c-1", {"sex": "female"})
    assert message.time == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    for change, pointer in (({"data": [1]}, "/data"), ({"type": "com.example.Zzyzx"}, "/type")):
        with pytest.raises(Refused) as caught:
            to_message(structured(event(**change))[0])
        assert caught.value.pointer == pointer
        assert "Zzyzx" not in str(caught.value)


ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from(values)
        for name, values in {
            "specversion": ["1.0", "0.3", 1],
            "id": ["run-1", "", "a b", "a\tb", "é\u00a0", "x" * 501, 5, None],
            "source": ["/registry", "urn:a:b", "has space", "a<b", "ü", "", None],
            "type": ["org.openspp.person.upserted.v1", "", "t", True],
            "subject": ["UIN:1", "Ana Reyes", "x\u2028", "", 1.5, None],
            "time": [
                "2026-03-01T08:00:00Z", "2026-03-01t08:00:00z", "2026-03-01T08:00:00.123456789+03:00",
                "2026-03-01T080000.00Z", "2026-02-30T08:00:00Z", "2026-03-01T08:00:00", "2026-W01-1T08:00:00Z", "now",
            ],
            "datacontenttype": ["application/json", "application/fhir+json", "text/plain", "application/json; charset=x"],
            "dataschema": ["https://a.test/s", "not a uri", ""],
            "traceparent": [TRACE, "00-bad", "ff-" + TRACE[3:]],
            "correlationid": ["c-1", "\x7f"],
            "causationid": ["c-2", []],
            "data": [{"a": 1}, {}, [], "text", None],
            "data_base64": ["e30=", None],
            "partition1": ["p", None, 3, 2.5],
            "Bad_Name": ["p"],
        }.items()
    },
)  # fmt: skip


@settings(deadline=None, max_examples=500)
@given(ATTRIBUTES, st.sampled_from([None, TRACE.replace("b7ad", "c8be")]))
def test_an_event_is_read_alike_with_and_without_an_attribute_nobody_knows(
    event: dict[str, Any], hop: str | None
) -> None:
    ordinary = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t", "data": {}} | event
    read: list[object] = []
    # The unknown attribute, which is ignored, takes the event off the short way of the usual ones.
    for sent in (ordinary, ordinary | {"unknown": None}):
        headers = {"content-type": STRUCTURED} | ({"traceparent": hop} if hop else {})
        try:
            found = parse_http(headers, orjson.dumps(sent))[0]
        except Refused as refused:
            read.append((str(refused), refused.pointer))
        else:
            fresh = hop is None and event.get("traceparent") != TRACE
            read.append(replace(found, traceparent="new") if fresh else found)
    assert read[0] == read[1]
