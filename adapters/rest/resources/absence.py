"""Answers about what a caller may not see take as long as answers about what is not there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from canonical_model.errors import Refused

STEP: Final = 0.02
"""Seconds: a refusal is held back to the next multiple, far above what one statement varies by."""


@asynccontextmanager
async def evenly(constant: bool) -> AsyncIterator[None]:
    """Hold a refusal back to the end of its step of time, counted from the beginning of the work."""
    started = time.monotonic()
    try:
        yield
    except Refused:
        if constant:
            await asyncio.sleep(STEP - (time.monotonic() - started) % STEP)
        raise
