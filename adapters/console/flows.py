"""The flows as all viewers share them: counted once for everybody with the same rights, at most every few seconds."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from routing.trace import RouteFlow, Trace

__all__ = ["SharedFlows"]

_KEPT: Final = 50
_LEAST_SECONDS: Final = 1.0
_SHARE: Final = 10
"""A count is kept for this many times as long as it took, so that counting takes a tenth of one connection at most."""


class SharedFlows:
    """Remembers the flows for each set of scopes; viewers that ask at once wait for the same count."""

    def __init__(self, trace: Trace, minutes: int) -> None:
        self._trace = trace
        self._minutes = minutes
        self._known: OrderedDict[frozenset[str] | None, tuple[float, Sequence[RouteFlow]]] = OrderedDict()
        self._lock = asyncio.Lock()

    async def get(self, visible: frozenset[str] | None) -> Sequence[RouteFlow]:
        """Return the flows of the routes visible with these scopes."""
        async with self._lock:
            found = self._known.get(visible)
            started = time.monotonic()
            if found is None or found[0] <= started:
                flows = await self._trace.flow(self._minutes, visible=visible)
                done = time.monotonic()
                found = (done + max(_LEAST_SECONDS, _SHARE * (done - started)), flows)
                self._known[visible] = found
                self._known.move_to_end(visible)
                if len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            return found[1]
