"""The kinds of jobs a hub runs; each floor below has the work, and here it gets its name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from registry.audit import Verifier
from registry.duplicates.job import KIND as DUPLICATES
from registry.duplicates.job import FindDuplicates
from registry.imports.job import ImportJobs
from registry.jobs import JobContext, Kinds
from registry.programs import Programs
from registry.programs.uses import APPLY, apply_attributes
from registry.vault import Vault

VERIFY = "audit.verify"


def kinds(vault: Vault, programs: Programs, imports: ImportJobs | None = None) -> Kinds:
    """Return the handler of every kind."""

    async def verify(context: JobContext) -> Mapping[str, Any]:
        since, until = (
            None if (text := context.params.get(name)) is None else datetime.fromisoformat(text)
            for name in ("from", "to")
        )
        report = await Verifier(context.pool, vault).verify(since=since, until=until, progress=context.show)
        return report.as_json()

    return {
        VERIFY: verify,
        APPLY: apply_attributes,
        DUPLICATES: FindDuplicates(vault).run,
        **programs.kinds,
        **({} if imports is None else imports.kinds),
    }
