"""The pages that connect a payment rail, typed as they stand: sandbox, route, payment, fault."""

from __future__ import annotations

import json
import re
import shlex
import socket
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import documents
import pytest
from services.typed import SECONDS, Desk


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Page:
    """The blocks of one page, with the ports of the test in place of the usual ones."""

    def __init__(self, name: str, sandbox_port: str) -> None:
        self._blocks = re.findall(
            r"^```(\w+)[^\n]*\n(.*?)^```", (documents.ROOT / "docs" / name).read_text("utf-8"), re.M | re.S
        )
        self.hub, self.sandbox = _free_port(), _free_port()
        self._ports = {"8080": str(self.hub), sandbox_port: str(self.sandbox)}

    def block(self, kind: str, holding: str) -> str:
        text = next(text for of, text in self._blocks if of == kind and holding in text)
        for usual, ours in self._ports.items():
            text = text.replace(f":{usual}", f":{ours}")
        return text

    def command(self, holding: str) -> Sequence[str]:
        line = next(line for line in self.block("sh", holding).splitlines() if holding in line)
        return shlex.split(line)


def _post(desk: Desk, url: str, message: str) -> None:
    token = desk.run("token", "civil-registry").split()[-1]
    asked = urllib.request.Request(
        f"{url}/v1/messages", message.encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/cloudevents+json"},
    )  # fmt: skip
    with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
        assert answer.status == 202, json.load(answer)


def _ends(desk: Desk, show: Sequence[str], word: str) -> None:
    until, said = time.monotonic() + SECONDS, ""
    while word not in said:
        assert time.monotonic() < until, said
        time.sleep(0.3)
        said = desk.run(*show[1:])


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("page", "module", "port", "ends"),
    [
        ("connect-mojaloop.md", "connectors.mojaloop", "4003", "silent"),
        ("connect-payment-hub-ee.md", "connectors.payment_hub_ee", "4004", "PayeeNotFound"),
    ],
)
def test_a_rail_is_connected_as_its_page_says(
    tmp_path: Path, page: str, module: str, port: str, ends: str
) -> None:
    typed = Page(page, port)
    desk = Desk(tmp_path, HUB_PORT=str(typed.hub))
    with desk.serving():
        pass
    # The folder as the quickstart makes it, without the examples.
    config = tmp_path / "my-hub"
    (tmp_path / ".hub" / "config").rename(config)
    for folder in ("routes", "targets"):
        for path in (config / folder).iterdir():
            path.unlink()
    (config / "routes" / "pay.yaml").write_text(typed.block("yaml", "route: pay"), encoding="utf-8")
    desk.settings["HUB_CONFIG_DIR"] = str(config)
    sandbox = [
        "--port", str(typed.sandbox), "--callbacks", f"http://127.0.0.1:{typed.hub}/callbacks",
    ]  # fmt: skip
    started = [sys.executable, *typed.command(f"-m {module}")[1:], *sandbox]
    order = typed.block("json", "specversion")
    show = typed.command("hub payments show")
    with desk.background(*started, until="listens") as address:
        assert "✗" not in desk.run("routes", "check")
        assert "✗" not in desk.run("doctor", "--probe")
        with desk.serving() as url:
            _post(desk, url, order)
            _ends(desk, show, " paid")
        state = typed.command("/sandbox/state")[-1]
        with urllib.request.urlopen(state, timeout=SECONDS) as answer:
            books = answer.read().decode()
        assert address in state
        assert json.loads(books)
    faulty = [sys.executable, *typed.command("--fault")[1:], *sandbox]
    again = order.replace("-000", "-100")
    with desk.background(*faulty, until="listens"), desk.serving() as url:
        _post(desk, url, again)
        show = [word.replace("-000", "-100") for word in show]
        _ends(desk, show, " paid" if ends == "silent" else ends)
