"""`hub mapping` shows an author what a file does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from adapters.cli.mapping import app
from canonical_model.errors import ConfigError, Refused

SAMPLES = Path(__file__).resolve().parents[1] / "samples" / "crvs"
EVENT = "dci.crvs_vital_event"


def run(*words: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
    assert result.exit_code == exit_code, result.output
    return result.stdout


def run_json(*words: str, exit_code: int = 0) -> Any:
    return orjson.loads(run(*words, "--json", exit_code=exit_code))


def test_list_names_every_packaged_mapping() -> None:
    assert EVENT in {entry["name"] for entry in run_json("list")}
    assert f"{EVENT}@1.0.0" in run("list")


def test_try_shows_the_result_and_where_each_field_came_from() -> None:
    found = run_json("try", EVENT, str(SAMPLES / "birth.json"), "--to-canonical")
    assert found["output"]["event_type"] == "birth"
    assert {"output": "/subject/sex", "source": "/reg_records/sex", "via": "codes dci.sex"} in found[
        "origins"
    ]
    assert "/reg_records/@type" in found["unused"]
    assert found["invalid"] == []
    text = run("try", EVENT, str(SAMPLES / "birth.json"))
    assert "/reg_records/birth_date" in text


def test_try_maps_back_to_the_dialect(tmp_path: Path) -> None:
    canonical = tmp_path / "canonical.json"
    canonical.write_bytes(orjson.dumps(run_json("try", EVENT, str(SAMPLES / "death.json"))["output"]))
    found = run_json("try", EVENT, str(canonical), "--to-dialect")
    assert found["output"]["reg_event_type"].endswith(":Death")


def test_try_says_what_the_canonical_model_refuses(tmp_path: Path) -> None:
    sample = tmp_path / "sample.json"
    sample.write_bytes(orjson.dumps({"reg_event_type": "Death", "reg_records": {"name": {"prefix": "Dr."}}}))
    found = run_json("try", EVENT, str(sample), exit_code=1)
    assert found["invalid"] == ["/subject/names/0: A name needs a family, given or full name"]


@pytest.mark.parametrize("name", ["malformed_date", "malformed_event"])
def test_try_lets_the_refusal_through(name: str) -> None:
    result = CliRunner().invoke(app, ["try", EVENT, str(SAMPLES / f"{name}.json")])
    assert isinstance(result.exception, Refused)


@pytest.mark.parametrize("content", [b"{", b"[]", None])
def test_a_sample_that_is_not_an_object_is_refused(tmp_path: Path, content: bytes | None) -> None:
    sample = tmp_path / "sample.json"
    if content is not None:
        sample.write_bytes(content)
    result = CliRunner().invoke(app, ["try", EVENT, str(sample)])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.code == "mapping-sample-invalid"


def test_loss_lists_reasons() -> None:
    found = run_json("loss", EVENT)
    assert {"path": "cause", "reason": "not mapped", "detail": "a DCI record has no cause of death"} in found[
        "canonical"
    ]
    assert "subject.accounts" in run("loss", EVENT)


def test_check_passes_what_is_packaged_and_fails_a_wrong_file(tmp_path: Path) -> None:
    assert run_json("check")["ok"] is True
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("mapping: {}\npairs: []\n")
    found = run_json("check", str(wrong), exit_code=2)
    assert found["ok"] is False
    assert "wrong.yaml, line " in found["files"][0]["problems"][0]
    run("check", str(tmp_path / "absent.yaml"), exit_code=2)
