"""Reading a file of a bank back from the command line."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from adapters.hub import Hub
from canonical_model.errors import ConfigError, Refused
from connectors.discovery import discover
from connectors.targets import build_settings, load_targets
from registry.audit import AuditEvent, insert_many
from registry.storage.database import database_errors

COUNTS: Final = ("paid", "failed", "review", "open", "unchanged", "unmatched")


async def read_file(hub: Hub, target: str, path: Path, actor: str, *, dry_run: bool) -> dict[str, Any]:
    """Read a file for a target and return what it comes to; with `dry_run` nothing is changed.

    Raises `ConfigError` (`target-unknown`), `Refused`: `read-back-unsupported`, `file-unreadable`, `bank-file-invalid`.
    """
    config = next((one for one in load_targets(hub.config_dir / "targets") if one.name == target), None)
    if config is None:
        raise ConfigError(
            f"No target named {target} is configured.",
            code="target-unknown",
            remedy="See the folder targets.",
        )
    kind: Any = discover().get(config.connector)
    if not hasattr(kind, "read_back"):
        raise Refused(
            f"The connector {config.connector} of target {target} reads no files back. Nothing was read.",
            code="read-back-unsupported",
            remedy="Name a target of the connector bank_file.",
        )
    settings: Any = build_settings(config, kind)
    try:
        # One byte more than is read tells a file that is too large, which the connector refuses.
        data = await asyncio.to_thread(_bytes, path, settings.most_bytes + 1)
    except OSError as error:
        raise Refused(
            f"The file could not be read ({type(error).__name__}). Nothing was changed.",
            code="file-unreadable",
            remedy="Give the path of a file that this user may read.",
        ) from None
    done: dict[str, Any] = (
        await kind.read_back(hub.books.transfers(target), data, settings, dry_run=dry_run)
    ).as_dict()
    if not dry_run:
        details = {name: done[name] for name in COUNTS}
        async with database_errors("noting a file read back"), hub.pool.acquire() as connection:
            event = AuditEvent(actor, "payment.read-back", "target", target, details=details)
            await insert_many(connection, [event])
    return done


def _bytes(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        return file.read(most)
