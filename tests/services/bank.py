"""A bank that takes files, with the rail of files, its driver and the ledger."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from services.payments import PayPath, Peer

from connectors.bank_file import BankFileConnector, BankFileSettings
from connectors.bank_file import rail as rails
from connectors.bank_file.sandbox import Bank
from connectors.payments.driver import Driver
from connectors.runtime import ConnectorRuntime
from connectors.targets import TargetConfig
from routing.ledger_results import Results
from routing.outbox import HubOutbox

PAIN = {
    "format": "pain.001",
    "debtor_name": "Ministry of Social Affairs & Labour",
    "debtor_account": "KE11 1111 2222 3333 4444 55".replace(" ", ""),
    "debtor_agent": "BANKKENA",
    "initiating_id": "GOV-7",
    "charges": "SLEV",
}


class BankPath(PayPath):
    """The ledger with the target `bank-file` and the bank behind its folders."""

    def __init__(self, database_url: str, folder: Path, **settings: Any) -> None:
        super().__init__(database_url, folder, Peer(), due=0.5)
        self.out, self.back = folder / "out", folder / "back"
        for one in (self.out, self.back):
            one.mkdir(mode=0o700, exist_ok=True)
        self.settings_of = {"folder": str(self.out), "results": str(self.back), "poll": 0.05, **settings}
        self.desk = Bank(self.out, self.back)

    async def open_targets(self) -> None:
        """Open the target and its driver."""
        config = TargetConfig("bank-file", "bank_file", self.settings_of)
        services = {"ledger": self.books, "rows": self.rows}
        runtime = ConnectorRuntime([config], services, connectors={"bank_file": BankFileConnector})
        await runtime.open()
        self._stack.push_async_callback(runtime.close)
        self.target = runtime.get("bank-file")
        self.results = Results(self.pool, HubOutbox(self.intake))
        self.driver = Driver("bank-file", self.books, self.target, settle=self.results.settle)
        self.driver.start()
        self._stack.push_async_callback(self.driver.stop)

    @property
    def read_settings(self) -> BankFileSettings:
        """The settings as the connector reads them."""
        return BankFileSettings.model_validate(self.settings_of)

    async def written(self, count: int) -> list[Path]:
        """Wait until this many files lie in the folder."""
        deadline = asyncio.get_running_loop().time() + 45
        while True:
            found = [one for one in sorted(self.out.iterdir()) if not one.name.startswith(".")]
            if len(found) >= count:
                return found
            assert asyncio.get_running_loop().time() < deadline, list(self.out.iterdir())
            await asyncio.sleep(0.02)


async def work(database_url: str, folder: str, moment: str) -> None:
    """Drive payments into a file until the process kills itself at the moment named."""
    land = rails.Folder.land

    async def landing(self: Any, part: Path, name: str) -> None:
        beside = name.startswith(".")
        if not beside and moment == "landing":
            os.kill(os.getpid(), signal.SIGKILL)
        await land(self, part, name)
        if (beside and moment == "beside") or (not beside and moment == "landed"):
            os.kill(os.getpid(), signal.SIGKILL)

    rails.Folder.land = landing  # type: ignore[method-assign]
    async with BankPath(database_url, Path(folder), **PAIN):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:4]))
