"""Privacy classes: every field has one, redaction obeys them, schemas and documentation say them."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from adapters.cli.schemas import app
from canonical_model import CanonicalModel, Message, Privacy, private, redact, to_data
from canonical_model.redaction import _plan
from canonical_model.schemas import (
    SCHEMA_BASE,
    all_models,
    envelope_name,
    export,
    markdown_tables,
    schema_for,
    schema_of,
)
from canonical_model.types import MESSAGE_TYPES
from canonical_model.walk import models_in, nested_model, privacy_of

EVENT = {
    "event_type": "birth",
    "subject": {
        "identifiers": [{"id_type": "BRN", "value": "BRN-778899", "status": "valid"}],
        "names": [{"family_name": "Quispe", "given_name": "Wayra", "use": "official"}],
        "birthdate": "1987-06-05",
        "birth_place": {"name": "Puno", "contains_place": [{"name": "Juliaca"}]},
        "contact_points": [{"kind": "mobile", "value": "+51987654321"}],
        "accounts": [{"kind": "bank", "provider": "BCP", "account_number": "00219"}],
        "income": {"minor_units": 123456, "currency": "PEN"},
        "attributes": {"disability": "deaf"},
        "occupation": "weaver",
    },
    "parent1_identifier": {"id_type": "UIN", "value": "UIN-5"},
    "event_date": "1987-06-05",
}
SECRET = (
    "778899",
    "Quispe",
    "Wayra",
    "1987",
    "Puno",
    "Juliaca",
    "987654321",
    "00219",
    "123456",
    "deaf",
    "weaver",
    "UIN-5",
)
BIRTH = "org.openspp.civil_event.registered.v1"


def unclassed(model: type[CanonicalModel]) -> list[str]:
    """Return the fields of a model that hold a value themselves and have no privacy class."""
    fields = model.model_fields.items()
    return [
        name for name, field in fields if nested_model(field.annotation) is None and privacy_of(field) is None
    ]


@pytest.mark.parametrize("model", all_models(), ids=lambda model: model.__name__)
def test_every_field_has_a_privacy_class(model: type[CanonicalModel]) -> None:
    assert unclassed(model) == []


def test_a_field_without_a_class_is_found_and_redacted_as_the_strictest() -> None:
    class Careless(CanonicalModel):
        """A model whose author forgot."""

        note: str

    assert unclassed(Careless) == ["note"]
    assert redact(Careless, {"note": "Zzyzx"}, frozenset({Privacy.PUBLIC, Privacy.PERSONAL})) == {
        "note": "•sensitive"
    }


def test_no_planted_value_survives_redaction() -> None:
    shown = redact(BIRTH, EVENT)
    text = json.dumps(shown, ensure_ascii=False)
    assert [secret for secret in SECRET if secret in text] == []
    assert shown["event_type"] == "birth"
    assert shown["subject"]["names"] == [
        {"family_name": "•personal", "given_name": "•personal", "use": "official"}
    ]
    assert shown["subject"]["identifiers"][0]["id_type"] == "BRN"
    assert shown["subject"]["income"] == {"minor_units": "•financial", "currency": "PEN"}
    assert shown["subject"]["attributes"] == "•sensitive"
    assert shown["subject"]["birth_place"]["contains_place"] == [{"name": "•personal"}]


@pytest.mark.parametrize("message_type", sorted(MESSAGE_TYPES))
def test_no_value_planted_anywhere_in_a_message_survives_redaction(message_type: str) -> None:
    numbers = count()

    def plant(model: type[CanonicalModel], depth: int = 0) -> dict[str, Any]:
        made: dict[str, Any] = {f"Zzyzx {next(numbers)}": "Zzyzx"}
        for name, field in model.model_fields.items():
            nested = nested_model(field.annotation)
            if nested is not None and depth < 5:
                made[name] = (
                    [plant(nested, depth + 1), "Zzyzx \n"] if next(numbers) % 2 else plant(nested, depth + 1)
                )
            elif nested is not None or next(numbers) % 3 == 0:
                made[name] = {"Zzyzx": ["Zzyzx \n"]}
            else:
                made[name] = "Zzyzx \n"
        return made

    shown = redact(message_type, plant(MESSAGE_TYPES[message_type]))
    assert "Zzyzx" not in json.dumps(shown)
    assert "Zzyzx" not in json.dumps(redact(Message, {"data": "Zzyzx", "subject": "Zzyzx"}))


def test_redaction_shows_what_is_allowed_and_changes_nothing_when_all_is() -> None:
    everything = frozenset(Privacy)
    assert redact(BIRTH, EVENT, everything) == EVENT
    shown = redact(BIRTH, EVENT, frozenset({Privacy.PUBLIC, Privacy.PERSONAL}))
    assert shown["subject"]["names"][0]["family_name"] == "Quispe"
    assert shown["subject"]["contact_points"][0]["value"] == "•contact"
    before = json.dumps(EVENT)
    redact(BIRTH, EVENT)
    assert json.dumps(EVENT) == before


def test_redaction_survives_any_depth() -> None:
    place: dict[str, Any] = {"name": "Puno"}
    for _ in range(5000):
        place = {"contains_place": [place]}
    shown = redact(BIRTH, {"event_place": place})
    while isinstance(shown, dict):
        shown = next(iter(shown.values()))  # type: ignore[assignment]
        shown = shown[0] if isinstance(shown, list) else shown
    assert shown == "•invalid"


def test_redaction_plans_of_every_model_can_be_made() -> None:
    for model in all_models():
        plan = _plan(model)
        assert set(plan.leaves) | set(plan.nested) == set(model.model_fields)


def test_exported_schemas_are_valid_and_the_same_every_time(tmp_path: Path) -> None:
    paths = export(tmp_path / "one")
    assert len(paths) == len(all_models()) + len(MESSAGE_TYPES)
    for path in paths:
        schema = json.loads(path.read_text(encoding="utf-8"))
        Draft202012Validator.check_schema(schema)
        assert schema["$id"] == f"{SCHEMA_BASE}{path.name}"
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    again = export(tmp_path / "two")
    assert [p.name for p in again] == [p.name for p in paths]
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in paths]


def test_schemas_say_the_privacy_class_of_every_field() -> None:
    for model in all_models():
        properties = (
            schema_of(model).get("properties") or schema_of(model)["$defs"][model.__name__]["properties"]
        )
        for name, field in model.model_fields.items():
            said = privacy_of(field)
            assert properties[name].get("x-privacy") == (said.value if said else None)
            assert "privacy" not in properties[name]


def test_the_envelope_schema_accepts_what_a_message_writes_and_no_other_data() -> None:
    validator = Draft202012Validator(schema_for(BIRTH))
    message = Message(
        source="/crvs", type=BIRTH, subject="x", data=EVENT, traceparent=f"00-{'a' * 32}-{'b' * 16}-01"
    )
    body = json.loads(message.to_json())
    validator.validate(body)
    assert not validator.is_valid(body | {"type": "org.openspp.person.upserted.v1"})
    assert not validator.is_valid(body | {"data": EVENT | {"event_type": "party"}})
    assert not validator.is_valid({name: value for name, value in body.items() if name != "data"})
    assert envelope_name(BIRTH) == "CivilEventRegisteredV1Message"


def test_the_schemas_command_writes_them_and_says_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(tmp_path / "schemas"), "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert "Person.json" in answer["files"]
    assert (tmp_path / "schemas" / "Person.json").is_file()
    assert CliRunner().invoke(app, ["export", str(tmp_path / "plain")]).stdout.startswith("Wrote ")
    (tmp_path / "file").write_text("x")
    assert CliRunner().invoke(app, ["export", str(tmp_path / "file")]).exit_code == 2


def test_the_documentation_has_the_tables_of_the_models() -> None:
    page = Path(__file__).parents[2] / "docs" / "canonical-model.md"
    text = page.read_text(encoding="utf-8")
    assert markdown_tables() in text, (
        "write the output of canonical_model.schemas.markdown_tables() into the page"
    )


def test_fields_that_say_nothing_do_not_travel() -> None:
    model = MESSAGE_TYPES[BIRTH].model_validate(EVENT)
    assert to_data(model) == EVENT
    assert {m.__name__ for m in models_in(MESSAGE_TYPES[BIRTH])} >= {"Person", "Place", "Account", "Money"}
    assert private(Privacy.PUBLIC, default=1).json_schema_extra == {"privacy": "public"}
