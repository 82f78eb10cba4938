"""Nothing that could name a person gets into a log line."""

from __future__ import annotations

import logging
from uuid import UUID

import orjson
import pytest

from canonical_model.errors import Refused
from registry.logs import LogFormatter, log, log_context

PLANTED = (
    "Amina Diallo",
    "amina@example.org",
    "+221771234567",
    "771234567",
    "4 Rue des Fleurs",
    "1-29384-7781234",
    "CRVS-19840317",
)


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(LogFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def lines() -> list[str]:
    handler = Lines()
    logger = logging.getLogger("hubtest")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)
    return handler.lines


LOGGER = logging.getLogger("hubtest")


def test_allowed_fields_pass_and_others_are_only_counted(lines: list[str]) -> None:
    id_ = UUID(int=7)
    log(
        LOGGER,
        logging.INFO,
        "delivery-dead",
        message_id=id_,
        route="crvs-to-registry",
        seconds=1.5,
        name_of_person="x",
        data={},
    )
    line = orjson.loads(lines[0])
    assert line.pop("time")
    assert line == {
        "level": "info",
        "logger": "hubtest",
        "event": "delivery-dead",
        "message_id": str(id_),
        "route": "crvs-to-registry",
        "seconds": 1.5,
        "dropped": 2,
    }


@pytest.mark.parametrize("value", PLANTED)
def test_a_value_that_is_no_identifier_is_hidden_in_every_allowed_field(lines: list[str], value: str) -> None:
    log(LOGGER, logging.INFO, "x", partner=value, code=value, state=[value], key={"a": value})
    log(LOGGER, logging.INFO, f"hello {value}")
    assert value not in "".join(lines)
    assert orjson.loads(lines[1])["event"] == "hidden"


def test_an_exception_is_its_class_its_code_and_its_places_never_its_text(lines: list[str]) -> None:
    try:
        try:
            raise ValueError(PLANTED[0])
        except ValueError as error:
            raise Refused(PLANTED[1], code="filter-invalid") from error
    except Refused as error:
        log(LOGGER, logging.ERROR, "request-failed", error=error)
    assert not [value for value in PLANTED if value in lines[0]]
    first, second = orjson.loads(lines[0])["exception"]
    assert (first["class"], first["code"]) == ("canonical_model.errors.Refused", "filter-invalid")
    assert second["class"] == "builtins.ValueError"
    assert "test_an_exception_is" in first["frames"][0]


def test_a_record_of_another_library_keeps_its_template_and_loses_its_values(lines: list[str]) -> None:
    LOGGER.warning("Error handling request from %s", PLANTED[0])
    LOGGER.warning(f"Prepared text about {PLANTED[0]}")
    one, two = (orjson.loads(line) for line in lines)
    assert (one["event"], one["template"]) == ("third-party", "Error handling request from %s")
    assert "template" not in two
    assert PLANTED[0] not in "".join(lines)


def test_fields_of_a_context_are_on_every_line_inside_it_only(lines: list[str]) -> None:
    with log_context(request_id="req-1"):
        log(LOGGER, logging.INFO, "inside")
    log(LOGGER, logging.INFO, "outside")
    assert orjson.loads(lines[0])["request_id"] == "req-1"
    assert "request_id" not in orjson.loads(lines[1])


def test_the_text_form_obeys_the_same_list() -> None:
    record = logging.LogRecord("a", logging.INFO, "f", 1, "started", None, None)
    record.hub_fields = {"partner": PLANTED[0], "port": 8080, "note": "x"}
    text = LogFormatter("text").format(record)
    assert "port=8080" in text
    assert PLANTED[0] not in text
