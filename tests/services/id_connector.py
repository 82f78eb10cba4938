"""The sandbox of an ID system as a connector that is installed like anybody's, for processes put together by the hub itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from services.id_system import IdSystem

from canonical_model.message import Message
from connectors.contract import Callback, Context, Health, Manifest, Receipt, Repeat, Settings

TOKEN_TYPE = "urn:gov:xx:id:psut"
SYSTEM = IdSystem(TOKEN_TYPE)


class IdConnector:
    """Hands each question to the one sandbox of this process."""

    manifest: ClassVar[Manifest] = Manifest(
        name="id-sandbox", version="1", title="ID sandbox", sends=("org.openspp.verification.*",),
        repeat=Repeat.RECOGNISED,
    )  # fmt: skip
    settings_model: ClassVar[type[Settings]] = Settings

    def __init__(self, settings: Any) -> None:
        self._settings = settings

    async def open(self, ctx: Context) -> None:
        return None

    async def close(self) -> None:
        return None

    async def probe(self) -> Health:
        return Health(True)

    async def send(self, message: Message, deadline: float) -> Receipt:
        return await SYSTEM.answer(message, 1)

    async def ask(self, message: Message, deadline: float) -> Receipt | None:
        return None

    async def receive(self, callback: Callback) -> Sequence[Message]:
        return ()


def install(folder: Path) -> None:
    """Write what a package of this connector would leave in `folder`, which is to be on the path."""
    info = folder / "id_sandbox-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: id-sandbox\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[openspp.connectors]\nid-sandbox = services.id_connector:IdConnector\n"
    )
