"""Route files, conditions, opening hours and waits: what they say, and how they refuse what they do not understand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from services.path import message, route

from canonical_model.errors import ConfigError
from routing.breaker import Breaker, BreakerState
from routing.conditions import Condition, ConditionError
from routing.retry import RetryBudget, RetryPolicy, seconds
from routing.routes import RouteBook, load_routes, parse_route
from routing.schedule import Schedule

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (route(surprise=1), "surprise"),
        (route("Bad Name"), "route"),
        (route(to="Bank!"), "to"),
        (route(retry={"attempts": 0}), "retry.attempts"),
        (route(retry={"first": "soon"}), "retry.first"),
        (route(when={"type": []}), "when.type"),
        (route(when={}), "when.type"),
        (route(schedule={"open": []}), "schedule.open"),
        (route(schedule={"open": ["Mon-Fri 22:00-06:00"]}), "schedule.open.0"),
        (route(schedule={"open": ["Mon-Fri 8-18"]}), "schedule.open.0"),
        (route(schedule={"open": ["Mon 08:00-25:00"]}), "schedule.open.0"),
        (route(schedule={"open": ["Mon 08:00-09:00"], "timezone": "Mars/Base"}), "schedule.timezone"),
        ("just text", "file"),
    ],
)
def test_a_wrong_route_names_the_file_and_the_key(text: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_route(text, "pay.yaml")
    assert caught.value.code == "route-invalid"
    assert "pay.yaml" in caught.value.detail
    assert f"{key}:" in caught.value.detail


def test_text_that_is_not_yaml_names_the_file_and_the_line() -> None:
    with pytest.raises(ConfigError, match=r"pay.yaml line 2"):
        parse_route("route: pay\nwhen: [", "pay.yaml")


def test_a_condition_that_does_not_compile_names_the_route() -> None:
    with pytest.raises(ConfigError, match=r"Route pay in pay.yaml"):
        parse_route(route(when={"type": "*", "condition": "data.x >"}), "pay.yaml")
    with pytest.raises(ConfigError, match="names partner"):
        parse_route(route(when={"type": "*", "condition": "partner == 'x'"}), "pay.yaml")


def test_two_files_with_one_route_are_refused(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(route("pay"))
    with pytest.raises(ConfigError, match=r"b.yaml and a.yaml both declare the route pay"):
        load_routes(tmp_path)


def test_every_route_says_why_it_takes_a_message_or_not() -> None:
    book = RouteBook(
        [
            parse_route(text, "x.yaml")
            for text in (
                route("all"),
                route("off", enabled=False),
                route("other-type", when={"type": "org.openspp.household.*"}),
                route("other-source", when={"type": "*", "source": "urn:civil:*"}),
                route("rich", when={"type": "*", "condition": "data.amount > 100"}),
                route("poor", when={"type": "*", "condition": "data.amount < 100"}),
                route("absent", when={"type": "*", "condition": "data.nobody == 1"}),
                route("broken", when={"type": "*", "condition": "data.amount"}),
            )
        ]
    )
    found = {one.route: one for one in book.explain(message("p-1", amount=500))}
    assert len(found) == 8
    assert all(one.why for one in found.values())
    assert {name for name, one in found.items() if one.matched} == {"all", "rich", "broken"}
    assert found["broken"].broken
    assert "switched off" in found["off"].why
    assert "fits none of" in found["other-type"].why
    assert "is none of" in found["other-source"].why
    assert "lacks" in found["absent"].why
    assert {route.name for route, _ in book.match(message("p-1", amount=500))} == {"all", "rich", "broken"}


@pytest.mark.parametrize(
    ("text", "data", "wanted"),
    [
        ("data.members.exists(m, m.age < 5)", {"members": [{"age": 40}, {"age": 3}]}, True),
        ("data.members.all(m, m.age < 5)", {"members": [{"age": 40}, {"age": 3}]}, False),
        ("size(data.members.filter(m, m.age < 5)) == 1", {"members": [{"age": 40}, {"age": 3}]}, True),
        ("data.missing == 1", {"n": 1}, False),
        ("data.list[5] == 1", {"list": [1]}, False),
        ("has(data.a) && data.a == 1", {"b": 1}, False),
        ("kind == 'payment.instructed'", {"n": 1}, True),
        ("subject == 'p-1' && type.endsWith('.v1')", {"n": 1}, True),
        ("time > timestamp('2020-01-01T00:00:00Z')", {"n": 1}, True),
    ],
)
def test_conditions_decide(text: str, data: dict[str, Any], wanted: bool) -> None:
    assert Condition(text).decide(message("p-1", **data))[0] is wanted


@pytest.mark.parametrize(
    "text",
    ["data.a > 5", "data.a.b == 'x'", "data.a / data.b > 1", "data.a[0] + 1 > data.b", "int(data.a) > 1"],
)
@settings(max_examples=60, deadline=None)
@given(data=st.dictionaries(st.sampled_from("ab"), JSON, min_size=1, max_size=2))
def test_whatever_a_message_holds_a_condition_decides_or_says_it_cannot(
    text: str, data: dict[str, Any]
) -> None:
    verdict = parse_route(route(when={"type": "*", "condition": text}), "x.yaml").verdict(
        message("p-1", **data)
    )
    assert text in verdict.why
    assert verdict.matched or not verdict.broken


def test_what_cannot_be_decided_does_not_quote_the_message() -> None:
    with pytest.raises(ConditionError) as caught:
        Condition("data.name > 5").decide(message("p-1", name="Zephyrine Oyelaran"))
    assert "Zephyrine" not in str(caught.value)


NAIROBI = ZoneInfo("Africa/Nairobi")
BERLIN = ZoneInfo("Europe/Berlin")


def test_inside_the_hours_a_target_is_open() -> None:
    hours = Schedule(open=("Mon-Fri 08:00-18:00",), timezone="Africa/Nairobi")
    assert hours.next_open(datetime(2026, 3, 2, 8, 0, tzinfo=NAIROBI)) is None
    assert hours.next_open(datetime(2026, 3, 2, 17, 59, 59, tzinfo=NAIROBI)) is None


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        (datetime(2026, 3, 2, 7, 59, tzinfo=NAIROBI), datetime(2026, 3, 2, 8, 0, tzinfo=NAIROBI)),
        (datetime(2026, 3, 2, 18, 0, tzinfo=NAIROBI), datetime(2026, 3, 3, 8, 0, tzinfo=NAIROBI)),
        (datetime(2026, 3, 6, 19, 0, tzinfo=NAIROBI), datetime(2026, 3, 9, 8, 0, tzinfo=NAIROBI)),
    ],
)
def test_outside_the_hours_the_next_opening_is_told(now: datetime, opens: datetime) -> None:
    hours = Schedule(open=("Mon-Fri 08:00-18:00",), timezone="Africa/Nairobi")
    assert hours.next_open(now.astimezone(UTC)) == opens


def test_a_week_may_be_waited_for_its_only_window() -> None:
    hours = Schedule(open=("Mon 08:00-09:00",))
    assert hours.next_open(datetime(2026, 3, 2, 9, 0, tzinfo=UTC)) == datetime(2026, 3, 9, 8, 0, tzinfo=UTC)


def test_a_night_is_two_windows() -> None:
    hours = Schedule(open=("Mon-Sun 22:00-24:00", "Mon-Sun 00:00-06:00"))
    assert hours.next_open(datetime(2026, 3, 2, 23, 59, 59, 999999, tzinfo=UTC)) is None
    assert hours.next_open(datetime(2026, 3, 3, 0, 0, tzinfo=UTC)) is None
    assert hours.next_open(datetime(2026, 3, 3, 6, 0, tzinfo=UTC)) == datetime(2026, 3, 3, 22, 0, tzinfo=UTC)


def test_days_may_run_over_the_end_of_the_week() -> None:
    hours = Schedule(open=("Sat-Mon 08:00-09:00",))
    assert hours.next_open(datetime(2026, 3, 1, 8, 30, tzinfo=UTC)) is None  # a Sunday
    assert hours.next_open(datetime(2026, 3, 2, 9, 0, tzinfo=UTC)) == datetime(2026, 3, 7, 8, 0, tzinfo=UTC)


def test_opening_hours_follow_the_clock_on_the_wall_when_it_is_put_forward() -> None:
    hours = Schedule(open=("Mon-Sun 08:00-18:00",), timezone="Europe/Berlin")
    # 29 March 2026: 02:00 becomes 03:00; eight o'clock is 06:00 UTC, the day before it was 07:00.
    assert hours.next_open(datetime(2026, 3, 27, 23, 0, tzinfo=UTC)) == datetime(
        2026, 3, 28, 7, 0, tzinfo=UTC
    )
    assert hours.next_open(datetime(2026, 3, 28, 23, 30, tzinfo=UTC)) == datetime(
        2026, 3, 29, 6, 0, tzinfo=UTC
    )


def test_opening_hours_follow_the_clock_on_the_wall_when_it_is_put_back() -> None:
    hours = Schedule(open=("Mon-Sun 08:00-18:00",), timezone="Europe/Berlin")
    assert hours.next_open(datetime(2026, 10, 24, 23, 0, tzinfo=UTC)) == datetime(
        2026, 10, 25, 7, 0, tzinfo=UTC
    )


@settings(max_examples=150, deadline=None)
@given(
    now=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),  # noqa: DTZ001 - made aware below
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Africa/Nairobi", "Asia/Kathmandu", "America/New_York"]),
    opens=st.integers(3, 20),
    hours=st.integers(1, 3),
)
def test_at_the_next_opening_a_target_is_open(now: datetime, zone: str, opens: int, hours: int) -> None:
    schedule = Schedule(open=(f"Tue-Thu {opens:02}:00-{opens + hours:02}:00",), timezone=zone)
    at = now.replace(tzinfo=UTC)
    found = schedule.next_open(at)
    if found is not None:
        assert at < found <= at + timedelta(days=8)
        assert schedule.next_open(found.astimezone(UTC)) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("500ms", 0.5), ("2s", 2), ("1h30m", 5400), ("90d", 7776000), ("1w", 604800), ("1.5s", 1.5), (7, 7)],
)
def test_durations_are_read(text: object, wanted: float) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "soon", "5", "5 parsecs", "-5s", "5s later", "m5"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises((ValueError, ValidationError)):
        RetryPolicy(first=text)  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(
    attempt=st.integers(1, 1000),
    attempts=st.integers(1, 1000),
    factor=st.floats(1, 10),
    first=st.floats(0, 100000),
    longest=st.floats(0, 100000),
    jitter=st.floats(0, 1),
    after=st.none() | st.floats(0, 1e7),
    age=st.floats(0, 1e6),
)
def test_a_wait_is_bounded_whatever_the_policy(
    attempt: int,
    attempts: int,
    factor: float,
    first: float,
    longest: float,
    jitter: float,
    after: float | None,
    age: float,
) -> None:
    policy = RetryPolicy(attempts=attempts, first=first, factor=factor, longest=longest, jitter=jitter)
    wait = policy.delay(attempt, age=age, retry_after=after)
    if attempt >= attempts:
        assert wait is None
    if wait is not None:
        assert 0 <= wait <= max(longest * (1 + jitter), after or 0)
        assert age + wait <= policy.within
        if after is not None:
            assert wait >= min(after, policy.within)


def test_a_budget_of_retries_runs_out_and_fills_again() -> None:
    budget = RetryBudget(floor=0.0)
    taken = 0
    while budget.take():
        taken += 1
    assert taken == 50
    for _ in range(4):
        budget.sent()
    assert [budget.take() for _ in range(3)] == [True, True, False]


async def test_a_refusal_or_an_answer_closes_a_breaker_and_faults_in_a_row_open_it() -> None:
    breaker = Breaker("bank", threshold=3, first=0.05)
    for _ in range(2):
        breaker.bad()
    breaker.good()
    for _ in range(2):
        breaker.bad()
    assert breaker.state is BreakerState.CLOSED
    breaker.bad()
    assert breaker.state is BreakerState.OPEN
    await breaker.admit()
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.abandoned()
    await breaker.admit()  # the trial that never happened does not count
    breaker.bad()
    assert breaker.state is BreakerState.OPEN
    await breaker.admit()
    breaker.good()
    assert breaker.state is BreakerState.CLOSED
