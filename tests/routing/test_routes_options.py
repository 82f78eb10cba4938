"""A route has no option that would be read and do nothing."""

from __future__ import annotations

import pytest

from canonical_model.errors import ConfigError
from routing.routes import parse_route

ROUTE = "route: r\nwhen: {type: [org.openspp.civil_event.*]}\nto: registry\n"


@pytest.mark.parametrize("value", ["true", "false"])
def test_check_is_no_option_since_data_is_always_checked_at_the_door(value: str) -> None:
    assert parse_route(ROUTE, "r.yaml")
    with pytest.raises(ConfigError) as caught:
        parse_route(f"{ROUTE}check: {value}\n", "r.yaml")
    assert "check" in caught.value.detail
