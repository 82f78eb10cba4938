"""Orders to pay go to one target: what is refused before the start, at the message, and what passes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from services.path import route
from services.programs import World

from adapters.fitting import check
from canonical_model.errors import ConfigError, Refused
from canonical_model.message import Message
from routing.exclusion import twice
from routing.routes import RouteBook, parse_route

BATCH = "org.openspp.payment.batch_instructed.v1"


def pair(first: str | None, second: str | None, **more: object) -> list[str]:
    """Return the codes of what is wrong with two routes of these conditions."""
    routes = []
    for name, condition in (("one", first), ("two", second)):
        when = {"type": "org.openspp.payment.*"} | ({} if condition is None else {"condition": condition})
        own = {key: value[name == "two"] for key, value in more.items()}  # type: ignore[index]
        when |= own.pop("when", {})
        routes.append(parse_route(yaml.safe_dump({"route": name, "when": when, "to": name, **own}), name))
    return [one.code for one in twice(routes)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("data.program_id == 'a'", "data.program_id == 'b'"),
        ("'a' == data.program_id && data.count > 2", "data.program_id in ['b', 'c']"),
        ("data.program_id == 'a'", "data.program_id != 'a'"),
        ("data.program_id == 'a' || data.program_id == 'b'", "!(data.count > 2) && data.program_id == 'c'"),
        ("data.program_id == 'a' && data.program_id == 'b'", None),
        ("kind == 'payment.result'", None),
        ("type == 'org.openspp.payment.batch_instructed.v1'", "type == 'org.openspp.payment.instructed.v1'"),
    ],
)
def test_routes_whose_conditions_cannot_hold_together_pass(first: str, second: str | None) -> None:
    assert pair(first, second) == []
    assert pair(second, first) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (None, None),
        ("data.program_id == 'a'", None),
        ("data.program_id == 'a'", "data.program_id in ['b', 'a']"),
        ("data.program_id == 'a'", "data.cycle_id == 'b'"),
        ("data.program_id == 'a' || data.count > 2", "data.program_id == 'b'"),
        ("data.program_id != 'a'", "data.program_id != 'b'"),
        ("data.count < 10", "data.count >= 10"),
        ("data.program_id == 'a'", "data.program_id == data.program_id"),
        ("data['program_id'] == 'a'", "data['program_id'] == 'b'"),
    ],
)
def test_routes_that_may_both_pay_are_refused(first: str | None, second: str | None) -> None:
    assert pair(first, second) == ["routes-pay-twice"]


def test_a_copy_an_order_another_source_and_a_route_that_is_off_pass() -> None:
    assert pair(None, None, copies=(False, True)) == []
    assert pair(None, None, enabled=(False, True)) == []
    assert pair(None, None, when=({"source": "hub"}, {"source": "partner"})) == []
    assert pair(None, None, when=({"source": "hub"}, {"source": "*"})) == ["routes-pay-twice"]
    group = "pay"
    places = ({"group": group, "place": 1}, {"group": group, "place": 2})
    assert pair(None, None, exclusive=places) == []
    assert pair(None, None, exclusive=({"group": group, "place": 1}, {"group": "other", "place": 2})) == [
        "routes-pay-twice"
    ]
    assert pair(None, None, exclusive=(places[0], places[0])) == ["route-invalid"]


def test_the_hub_does_not_start_with_two_routes_that_pay() -> None:
    routes = [parse_route(route(name), name) for name in ("one", "two")]
    with pytest.raises(ConfigError) as refused:
        check(routes)
    assert refused.value.code == "routes-pay-twice"
    assert "one" in refused.value.detail
    assert "two" in refused.value.detail


def test_of_a_group_the_lowest_place_that_takes_a_message_has_it() -> None:
    book = RouteBook(
        [
            parse_route(route("rest", exclusive={"group": "pay", "place": 9}), "rest"),
            parse_route(
                route(
                    "big",
                    when={"type": BATCH, "condition": "data.count > 5"},
                    exclusive={"group": "pay", "place": 1},
                ),
                "big",
            ),
            parse_route(route("log", copies=True), "log"),
        ]
    )

    def taking(count: object) -> list[str]:
        message = Message(source="hub", type=BATCH, data={"count": count})
        assert sorted(one.route for one in book.explain(message) if one.matched) == sorted(
            one.name for one, _ in book.match(message)
        )
        return sorted(one.name for one, _ in book.match(message))

    assert taking(9) == ["big", "log"]
    assert taking(3) == ["log", "rest"]
    # What cannot be decided is a dead letter of its own route and goes to no other.
    assert taking("many") == ["big", "log"]


async def test_a_distribution_that_two_routes_would_pay_orders_nothing(
    database_url: str, tmp_path: Path
) -> None:
    async with World(database_url, tmp_path, routes=[route("one"), route("two")]) as world:
        await world.persons(2)
        await world.program()
        await world.enroll()
        cycle = await world.approved()
        with pytest.raises(Refused) as refused:
            await world.distribute(cycle)
        assert refused.value.code == "routes-pay-twice"
        assert await world.payments(cycle) == []


async def test_a_route_that_only_copies_is_no_route_for_payments(database_url: str, tmp_path: Path) -> None:
    async with World(database_url, tmp_path, routes=[route("log", copies=True)]) as world:
        await world.persons(2)
        await world.program()
        await world.enroll()
        cycle = await world.approved()
        with pytest.raises(Refused) as refused:
            await world.distribute(cycle)
        assert refused.value.code == "no-route"
