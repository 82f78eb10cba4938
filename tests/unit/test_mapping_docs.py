"""The page for implementers lists everything a mapping file may say, and its example works."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from mappings.engine import FUNCTIONS, MappingStore, loss_report
from mappings.engine.source import validator

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "mappings.md").read_text(encoding="utf-8")
SCHEMA = validator("mapping.schema.json").schema
CODES = validator("code_list.schema.json").schema


def test_every_function_and_option_is_on_the_page() -> None:
    for kind in FUNCTIONS.values():
        row = next((line for line in PAGE.splitlines() if line.startswith(f"| `{kind.name}` |")), "")
        assert kind.summary in row
        for option, sentence in kind.options.items():
            assert f"`{option}`: {sentence}" in row


@pytest.mark.parametrize(
    "keys",
    [
        SCHEMA["properties"],
        SCHEMA["$defs"]["header"]["properties"],
        SCHEMA["$defs"]["pair"]["properties"],
        SCHEMA["$defs"]["condition"]["properties"],
        CODES["properties"],
        CODES["properties"]["codes"]["items"]["properties"],
    ],
)
def test_every_key_of_a_file_is_on_the_page(keys: dict[str, object]) -> None:
    missing = [key for key in keys if f"`{key}`" not in PAGE]
    assert missing == []


def test_the_first_mapping_of_the_page_works_as_written(tmp_path: Path) -> None:
    sample = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    text = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert sample is not None
    assert text is not None
    file = tmp_path / "address.yaml"
    file.write_text(text[1], encoding="utf-8")
    mapping = MappingStore.load().add_file(file)
    assert mapping.to_canonical(orjson.loads(sample[1])) == {
        "address_line_1": "4 Mill Lane",
        "locality": "lakeside",
        "country_code": "UG",
        "use": "home",
    }
    assert "temporary" in next(each.values for each in loss_report(mapping).canonical if each.path == "use")


def test_every_error_code_of_the_engine_has_a_page() -> None:
    sources = [*(ROOT / "mappings").rglob("*.py"), ROOT / "adapters" / "cli" / "mapping.py"]
    text = "".join(file.read_text(encoding="utf-8") for file in sources)
    codes = set(re.findall(r'code(?:: str)? ?= ?"(mapping-[a-z-]+)"', text))
    assert len(codes) >= 6
    for code in codes:
        assert (ROOT / "docs" / "errors" / f"{code}.md").is_file(), code
