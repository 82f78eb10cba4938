"""The page about bank files, typed as it stands, beside a running hub."""

from __future__ import annotations

import csv
import json
import re
import shlex
import socket
import urllib.request
from pathlib import Path

import documents
import pytest
from services.typed import SECONDS, Desk, plain, wait

FILE = re.compile(r"file:(\S+)")
BLOCKS = [one for one in documents.blocks() if one.place.startswith("docs/connect-bank-files.md")]
with socket.create_server(("127.0.0.1", 0)) as _free:
    # A token names the hub's address, so that the port is chosen before it starts.
    PORT = _free.getsockname()[1]


def _only(folder: Path) -> Path:
    wait(lambda: any(not one.name.startswith(".") for one in folder.iterdir()), folder)
    return next(one for one in folder.iterdir() if not one.name.startswith("."))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_bank_files_work_as_their_page_says(tmp_path: Path) -> None:
    desk = Desk(tmp_path, HUB_PORT=str(PORT))
    with desk.serving():
        pass
    for kind in ("bank", "desk"):
        for way in ("out", "back"):
            (tmp_path / kind / way).mkdir(mode=0o700, parents=True)
    for block in BLOCKS:
        for word in block.words:
            if found := FILE.fullmatch(word):
                (tmp_path / found[1]).write_text(
                    block.text.replace("/srv/hub", str(tmp_path)), encoding="utf-8"
                )
    typed = [
        part.rstrip("\n").split("\n")
        for one in BLOCKS
        if "bank" in one.words
        for part in one.text.split("$ ")[1:]
    ]
    with desk.serving() as url:
        token = desk.run("token", "civil-registry").split()[-1]
        asked = urllib.request.Request(
            f"{url}/v1/messages", (tmp_path / "pay.json").read_bytes(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/cloudevents+json"},
        )  # fmt: skip
        with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
            assert answer.status == 202, json.load(answer)
        for command, *expected in typed:
            words = shlex.split(command)[1:]
            if words[-1] == "--dry-run":
                reference = re.search(r"<EndToEndId>(\w+)<", _only(tmp_path / "bank" / "out").read_text())
                assert reference
                _put(tmp_path / "report.xml", reference[1])
            if "list.csv" in words:
                rows = list(csv.DictReader(_only(tmp_path / "desk" / "out").read_text().splitlines()))
                _put(tmp_path / "list.csv", rows[0]["reference"])
            said = desk.run(*words)
            for one in expected:
                assert plain(one) in said, (command, said)


def _put(path: Path, reference: str) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace("REFERENCE", reference), encoding="utf-8")
