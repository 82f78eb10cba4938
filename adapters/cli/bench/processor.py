"""Processor time, which unlike the time on the wall does not depend on what else the machine does."""

from __future__ import annotations

import resource
from typing import Any

import psutil

_BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"


def own() -> float:
    """Return the seconds of processor time this process and the children it has waited for have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


async def backends(connection: Any) -> dict[int, float]:
    """Return the seconds of processor time of every backend of the database, by process id.

    Empty where the server is on another machine, or its processes may not be looked at.
    """
    found: dict[int, float] = {}
    for row in await connection.fetch(_BACKENDS):
        try:
            process = psutil.Process(row["pid"])
            if process.name().startswith("postgres"):
                times = process.cpu_times()
                found[row["pid"]] = times.user + times.system
        except psutil.Error:
            continue
    return found


def spent(before: dict[int, float], after: dict[int, float]) -> float | None:
    """Return the seconds used between two looks at `backends`, None where there was nothing to look at."""
    if not after:
        return None
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())
