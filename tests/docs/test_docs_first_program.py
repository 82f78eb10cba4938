"""The page for programme staff, typed command after command as it stands, beside a running hub."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import documents
import pytest
from services.typed import Desk, plain, wait

FILE = re.compile(r"file:(\S+)")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_first_program_works_as_its_page_says(tmp_path: Path) -> None:
    desk = Desk(tmp_path, HUB_PORT="0")
    blocks = [one for one in documents.blocks() if one.place.startswith("docs/first-program.md")]
    for block in blocks:
        for word in block.words:
            if found := FILE.fullmatch(word):
                (tmp_path / found[1]).write_text(block.text, encoding="utf-8")
    ids: dict[str, str] = {}

    def run(line: str) -> str:
        for name, id_ in ids.items():
            line = re.sub(rf"\b{name}\b", id_, line)
        if "mend.csv --mapping" in line:
            _mend(tmp_path / "mend.csv")
        if "paid.txt" in line:
            (tmp_path / "paid.txt").write_text("\n".join(_ordered(tmp_path / ".hub" / "bank")))
        said = desk.run(*shlex.split(line)[1:])
        if "people find" in line:
            found = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", said)
            assert found, said
            ids["HOUSEHOLD" if "--type HH" in line else "PERSON"] = found[0]
        return said

    with desk.serving():
        for block in blocks:
            if "staff" in block.words:
                for command, *expected in _typed(block.text):
                    said = run(command)
                    assert ("✗" in said) == any("✗" in one for one in expected), (command, said)
                    for one in expected:
                        assert plain(one) in said, (command, said)


def _typed(text: str) -> list[list[str]]:
    return [part.rstrip("\n").split("\n") for part in text.split("$ ")[1:]]


def _mend(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace("2019-02-30", "2019-02-03"), encoding="utf-8")


def _ordered(folder: Path) -> list[str]:
    wait(lambda: any(folder.glob("*.csv")), folder)
    return [line.split(",")[0] for line in next(folder.glob("*.csv")).read_text().splitlines()[1:]]
