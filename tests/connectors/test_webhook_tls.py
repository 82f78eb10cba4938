"""Webhooks with mutual TLS: the endpoint knows the hub by its certificate, and the hub the endpoint by its authority."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from services.certificates import certificate

from canonical_model.message import Message
from connectors.errors import Unavailable
from connectors.runtime import ConnectorRuntime, OpenTarget, TargetConfig
from connectors.webhook import WebhookConnector


class Endpoint(ThreadingHTTPServer):
    """Takes events from callers with a certificate of one authority alone; a server of threads, which says why it refuses.

    (One of asyncio drops the connection before its alert has left.)
    """

    def __init__(self, folder: Path, newest: ssl.TLSVersion) -> None:
        super().__init__(("127.0.0.1", 0), Events)
        self.folder = folder
        self.authority = certificate(folder, "endpoint", "127.0.0.1")
        certificate(folder, "hub", "hub.example")
        certificate(folder, "stranger", "hub.example")
        self.newest = newest
        self.trust("hub")
        self.callers: list[str] = []
        self.url = f"https://127.0.0.1:{self.server_address[1]}/events"

    def trust(self, authority: str) -> None:
        self.tls = ssl.create_default_context(
            ssl.Purpose.CLIENT_AUTH, cafile=str(self.folder / f"{authority}-ca.pem")
        )
        self.tls.load_cert_chain(self.folder / "endpoint.pem", self.folder / "endpoint.key")
        self.tls.verify_mode = ssl.CERT_REQUIRED
        self.tls.maximum_version = self.newest

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(5)
        secured = self.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        with secured:
            try:
                secured.do_handshake()
            except ssl.SSLError:
                # Closed with bytes unread, the alert would be lost with the connection.
                with contextlib.suppress(OSError):
                    while os.read(secured.fileno(), 65536):
                        continue
                return
            self.RequestHandlerClass(secured, client_address, self)

    def shows(self, who: str) -> dict[str, str]:
        return {
            "client_cert_file": str(self.folder / f"{who}.pem"),
            "client_key_file": str(self.folder / f"{who}.key"),
        }


class Events(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint
    connection: ssl.SSLSocket

    def do_OPTIONS(self) -> None:
        self._answer(204)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        shown = self.connection.getpeercert() or {}
        ((name,),) = shown["subject"]
        self.server.callers.append(name[1])
        self._answer(202)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return None


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Endpoint]:
    with Endpoint(tmp_path, request.param) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


@pytest.fixture
async def runtime() -> AsyncIterator[ConnectorRuntime]:
    made = ConnectorRuntime([], connectors={})
    yield made
    await made.close()


async def target(runtime: ConnectorRuntime, endpoint: Endpoint, **settings: Any) -> OpenTarget:
    base: dict[str, Any] = {
        "url": endpoint.url,
        "allow_private_networks": ["127.0.0.0/8"],
        "signing": "none",
        "ca_file": str(endpoint.authority),
        # What leaves the outcome open would be a dead letter: a refused handshake must not.
        "recognises_repeats": False,
    }
    made = WebhookConnector(WebhookConnector.settings_model.model_validate(base | settings))
    opened = OpenTarget(TargetConfig("ministry", "webhook", timeout=3), made)
    runtime._targets["ministry"] = opened
    await runtime.open()
    return opened


def event() -> Message:
    return Message(source="/registry", type="org.openspp.civil_event.registered.v1", data={"n": 1})


def soon() -> float:
    return asyncio.get_running_loop().time() + 30


async def test_the_right_certificate_is_let_in(runtime: ConnectorRuntime, endpoint: Endpoint) -> None:
    opened = await target(runtime, endpoint, **endpoint.shows("hub"))
    for _ in range(2):
        (exchange,) = (await opened.send(event(), soon())).exchanges
        assert exchange.status == "202"
    assert endpoint.callers == ["hub.example"] * 2


@pytest.mark.parametrize("who", ["stranger", None])
async def test_without_the_right_certificate_nothing_is_sent_and_the_reason_is_said(
    runtime: ConnectorRuntime, endpoint: Endpoint, who: str | None
) -> None:
    opened = await target(runtime, endpoint, **(endpoint.shows(who) if who else {}))
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            await opened.send(event(), soon())
        assert caught.value.code == "target-tls-failed"
        assert "certificate" in (caught.value.remedy or "")
    assert endpoint.callers == []


async def test_a_certificate_no_longer_accepted_leaves_no_outcome_open(
    runtime: ConnectorRuntime, endpoint: Endpoint
) -> None:
    opened = await target(runtime, endpoint, **endpoint.shows("hub"))
    endpoint.trust("stranger")
    with pytest.raises(Unavailable) as caught:
        await opened.send(event(), soon())
    assert caught.value.code == "target-tls-failed"
    endpoint.trust("hub")
    await opened.send(event(), soon())
    assert endpoint.callers == ["hub.example"]


async def test_an_endpoint_of_an_unknown_authority_gets_nothing(
    runtime: ConnectorRuntime, endpoint: Endpoint
) -> None:
    opened = await target(
        runtime, endpoint, ca_file=str(endpoint.folder / "stranger-ca.pem"), **endpoint.shows("hub")
    )
    with pytest.raises(Unavailable) as caught:
        await opened.send(event(), soon())
    assert caught.value.code == "target-tls-failed"
    assert endpoint.callers == []
