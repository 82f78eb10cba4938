"""The bank file connector: orders into the ledger, files into a folder, the bank's files back."""

from __future__ import annotations

import time
from typing import ClassVar

from connectors.bank_file.pickup import PickUp, read_back
from connectors.bank_file.rail import FileRail
from connectors.bank_file.results import ReadBack
from connectors.bank_file.settings import BankFileSettings
from connectors.contract import Context, Health, Manifest, Settings
from connectors.errors import ConfigError, HubError
from connectors.file.client import Folder, FolderOpen
from connectors.file.connector import mapped
from connectors.manifests import manifest_beside
from connectors.payments.connector import Paying
from connectors.payments.contract import Ledger
from connectors.payments.orders import Orders


class BankFileConnector(Paying[FileRail]):
    """Pays by files: a cash-out list or a pain.001, handed over once and reconciled payment by payment."""

    manifest: ClassVar[Manifest] = manifest_beside(__file__)
    settings_model: ClassVar[type[Settings]] = BankFileSettings
    library_errors: ClassVar[tuple[type[BaseException], ...]] = (OSError, FolderOpen)

    def __init__(self, settings: BankFileSettings) -> None:
        super().__init__("bank-file")
        self._settings = settings
        self._folder: Folder | None = None
        self._pick_up: PickUp | None = None

    @staticmethod
    def map_error(error: BaseException) -> HubError:
        """Return the hub error for what the file system raised."""
        return mapped(error, "the file", handed=True)

    async def open(self, ctx: Context) -> None:
        """Prove that files can be put into the folder.

        Raises `ConfigError` (`folder-open`, `ledger-service-missing`) or `Unavailable`.
        """
        await self.close()
        self._target = ctx.target
        orders = Orders.of(ctx)
        lent = ctx.services.get("folder")
        folder = lent if isinstance(lent, Folder) else Folder(self._settings.folder)
        for one in (folder, *([Folder(self._settings.results)] if self._settings.results else [])):
            try:
                await one.check()
            except FolderOpen as error:
                raise ConfigError(
                    f"A folder of target {ctx.target} may be read by other users of the machine; nothing was written.",
                    code="folder-open",
                    remedy="Take their rights away: chmod o-rwx FOLDER.",
                ) from error
            except OSError as error:
                raise mapped(error, f"target {ctx.target}", handed=False) from None
        ledger = orders.ledger.transfers(ctx.target)
        self._folder, self._orders = folder, orders
        self._rail = FileRail(self._settings, ledger, folder)
        if self._settings.results is not None:
            self._pick_up = PickUp(ctx.target, self._settings.results, ledger, self._settings)

    @property
    def rail(self) -> FileRail:
        """The rail of this target; the process that drives it reads what the bank puts back, no other."""
        found = super().rail
        if self._pick_up is not None:
            self._pick_up.start()
        return found

    async def close(self) -> None:
        """Read nothing more; safe to call twice, the ledger knows where everything is."""
        pick_up, self._pick_up = self._pick_up, None
        if pick_up is not None:
            await pick_up.stop()
        self._folder = self._orders = self._rail = None

    async def probe(self) -> Health:
        """Look whether the folder still takes files."""
        began = time.monotonic()
        if self._folder is None:
            return Health(False, f"Target {self._target} is not open.")
        try:
            await self._folder.check()
        except (OSError, FolderOpen) as error:
            found = mapped(error, f"target {self._target}", handed=False)
            return Health(False, found.detail, time.monotonic() - began)
        return Health(True, "The folder takes files.", time.monotonic() - began)

    @staticmethod
    async def read_back(
        ledger: Ledger, data: bytes, settings: BankFileSettings, *, dry_run: bool
    ) -> ReadBack:
        """Read a file that came back; raises `Refused` (`bank-file-invalid`)."""
        return await read_back(ledger, data, settings, dry_run=dry_run)
