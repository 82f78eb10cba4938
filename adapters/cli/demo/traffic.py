"""What a civil registry sends on an ordinary day: births, deaths, mistakes and repeats, in DCI's own words."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import orjson

_FAMILY: Final = (
    "Adan",
    "Barasa",
    "Chirwa",
    "Diallo",
    "Escobar",
    "Faye",
    "Gurung",
    "Haile",
    "Imani",
    "Jallow",
    "Kamau",
)
_GIVEN: Final = (
    "Amina",
    "Bilal",
    "Chipo",
    "Dawit",
    "Esther",
    "Fatou",
    "Grace",
    "Hassan",
    "Ines",
    "José",
    "Kofi",
    "ሰላም",
)
_OFFICIAL: Final = Path("shared/standards/spdci/samples/crvs/processflow1res.json")


@dataclass(frozen=True, slots=True)
class Sending:
    """One HTTP request of the civil registry and what it should be answered."""

    kind: str
    """`event`, `repeat`, `reuse` (an id used again for something else) or `malformed`."""
    body: bytes
    origin: str | None
    """The id by which both sides know the event, None where the request cannot be used."""


def sample_record() -> tuple[dict[str, Any], str]:
    """Return the record all events are shaped after, and where it is from: the official sample where it is at hand."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        official = folder / _OFFICIAL
        if official.is_file():
            body = orjson.loads(official.read_bytes())
            return body["message"]["search_response"][0]["data"]["reg_records"][
                0
            ], "the official DCI CRVS sample"
    own = files("adapters.cli.demo").joinpath("record.json").read_bytes()
    return orjson.loads(own), "the project's own sample in the shape of DCI CRVS"


def _event(
    number: int, record: dict[str, Any], chance: random.Random, now: datetime
) -> tuple[str, dict[str, Any]]:
    person = copy.deepcopy(record)
    death = number % 5 == 4
    given, family = chance.choice(_GIVEN), chance.choice(_FAMILY)
    person["identifier"] = [{"identifier_type": "UIN", "identifier_value": f"77{number:07d}"}]
    if not death:
        person["identifier"].append({"identifier_type": "BRN", "identifier_value": f"B-2026-{number:05d}"})
    person["name"] = {
        "surname": family,
        "given_name": given,
        "second_name": "",
        "maiden_name": "",
        "prefix": "",
        "suffix": "",
    }
    person["sex"] = chance.choice(("female", "male"))
    born = now - timedelta(days=chance.randint(20_000, 30_000) if death else chance.randint(1, 30))
    person["birth_date"] = born.date().isoformat()
    person["death_date"] = (now - timedelta(days=chance.randint(0, 9))).date().isoformat() if death else ""
    person["phone_number"], person["email"] = [], []
    person["marital_status"] = "M" if death else "S"
    person["marriage_date"], person["divorce_date"] = [], []
    return ("Death" if death else "LiveBirth"), person


def _envelope(number: int, record: dict[str, Any], chance: random.Random, now: datetime) -> dict[str, Any]:
    kind, person = _event(number, record, chance, now)
    return {
        "signature": "",
        "header": {
            "version": "1.0.0",
            "message_id": f"crvs-{number:05d}",
            "message_ts": now.isoformat(),
            "action": "notify",
            "status": "succ",
            "total_count": 1,
            "sender_id": "civil-registry",
            "receiver_id": "openspp-hub",
            "is_msg_encrypted": False,
        },
        "message": {
            "transaction_id": f"txn-{number:05d}",
            "notify_event": [
                {
                    "reference_id": f"ref-{number:05d}",
                    "timestamp": now.isoformat(),
                    "data": {
                        "version": "1.0.0",
                        "reg_type": "ns:org:RegistryType:Civil",
                        "reg_event_type": f"spdci-common:RegistryEventType:{kind}",
                        "reg_record_type": "spdci-extensions-dci:Person",
                        "reg_records": person,
                    },
                    "locale": "eng",
                }
            ],
        },
    }


def _break(envelope: dict[str, Any], way: int) -> bytes:
    """Spoil a request in one of six ways seen in the field."""
    event = envelope["message"]["notify_event"][0]
    match way % 6:
        case 0:
            return orjson.dumps(envelope)[:-40]
        case 1:
            del envelope["header"]["message_id"]
        case 2:
            event["data"]["reg_event_type"] = "spdci-common:RegistryEventType:Unheard"
        case 3:
            event["data"]["reg_records"]["birth_date"] = "the 31st of February"
        case 4:
            envelope["header"]["total_count"] = 7
        case _:
            del event["data"]["reg_records"]
    return orjson.dumps(envelope)


def day(events: int, *, seed: int = 7) -> Iterator[Sending]:
    """Yield the requests of one day: `events` births and deaths, of which a few come broken, twice or under a used id."""
    chance = random.Random(seed)  # noqa: S311 - invented people, the same every time
    record, _ = sample_record()
    now = datetime.now(UTC).replace(microsecond=0)
    for number in range(events):
        envelope = _envelope(number, record, chance, now)
        if number % 16 == 9:
            yield Sending("malformed", _break(envelope, number // 16), None)
            continue
        body = orjson.dumps(envelope)
        origin = f"crvs-{number:05d}/ref-{number:05d}"
        yield Sending("event", body, origin)
        if number % 20 == 3:
            yield Sending("repeat", body, origin)
        if number % 80 == 45:
            envelope["message"]["notify_event"][0]["data"]["reg_records"]["sex"] = "unknown"
            yield Sending("reuse", orjson.dumps(envelope), origin)


def death_of(uin: str, given: str, family: str, sex: str, born: str) -> Sending:
    """Return the notice of the death of somebody the hub knows by this UIN."""
    number = 99_999
    record, _ = sample_record()
    now = datetime.now(UTC).replace(microsecond=0)
    envelope = _envelope(number, record, random.Random(number), now)  # noqa: S311 - invented
    person = envelope["message"]["notify_event"][0]["data"]["reg_records"]
    person["identifier"] = [{"identifier_type": "UIN", "identifier_value": uin}]
    person["name"] |= {"given_name": given, "surname": family}
    person["sex"], person["birth_date"] = sex, born
    return Sending("event", orjson.dumps(envelope), f"crvs-{number:05d}/ref-{number:05d}")
