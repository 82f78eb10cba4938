"""The read side of a deployment: batches found again, transfers by request id, rows that never became a transfer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from connectors.errors import Unavailable
from connectors.payment_hub_ee.client import Answer, PaymentHubClient
from connectors.payment_hub_ee.model import Known, known_instruction, known_transfer

_BATCHES_PAGE: Final = 100
_MOST_PAGES: Final = 100
"""Pages of batches looked through for a lost one: the newest 10,000."""


class Operations:
    """Asks the operations app; every method raises `Unavailable` when it gives no usable answer, which changes nothing."""

    def __init__(self, client: PaymentHubClient, page_size: int) -> None:
        self._client, self._page = client, page_size

    async def find_batch(
        self, correlation_id: str, file_name: str, since: datetime | None, deadline: float
    ) -> str | None:
        """Return the id of the batch with our correlation id or file name; None while the server does not know it.

        The newest come first; batches begun an hour before `since` and earlier are not looked at.
        """
        oldest = (since.timestamp() - 3600) * 1000 if since is not None else 0
        for page in range(_MOST_PAGES):
            query = {"offset": page * _BATCHES_PAGE, "limit": _BATCHES_PAGE, "sort": "-startedAt"}
            answer = await self._client.operations("GET", "/batches", query, None, deadline)
            rows = _list(self._good(answer), "data")
            for row in rows:
                if _is_ours(row, correlation_id, file_name) and isinstance(row.get("batchId"), str):
                    return str(row["batchId"])
            started = [row.get("startedAt") for row in rows]
            if len(rows) < _BATCHES_PAGE or all(isinstance(at, int) and at < oldest for at in started):
                break
        return None

    async def request_of(self, batch_id: str, deadline: float) -> str | None:
        """Return the correlation id a batch was handed over with; None while the server does not know the batch."""
        answer = await self._client.operations("GET", "/batch", {"batchId": batch_id}, None, deadline)
        if answer.status == 404:
            return None
        body = self._good(answer)
        found = body.get("requestId") or body.get("correlationId")
        return found if isinstance(found, str) else None

    async def summary(self, batch_id: str, deadline: float) -> Mapping[str, Any] | None:
        """Return a batch's own figures, which decide nothing; None while the server does not know it."""
        answer = await self._client.operations("GET", "/batch", {"batchId": batch_id}, None, deadline)
        return None if answer.status == 404 else self._good(answer)

    async def transfers(self, request_ids: Sequence[str], deadline: float) -> list[Known]:
        """Return what is known of these payments; one may have several transfers, one without any is left out."""
        found: list[Known] = []
        wanted = set(request_ids)
        for start in range(0, len(request_ids), self._page):
            ids = list(request_ids[start : start + self._page])
            # A payment that was tried again has more than one transfer, so a page of as many as were asked for may not hold all.
            query = {"page": 0, "size": self._page}
            async for known in self._pages("POST", "/transfers", query, {"requestIds": ids}, deadline):
                if known.request_id in wanted:
                    found.append(known)
        return found

    async def detail(self, batch_id: str, deadline: float) -> list[Known] | None:
        """Return all transfers of a batch, its sub-batches' too; None while the server does not know the batch."""
        query = {"batchId": batch_id, "status": "ALL", "pageNo": 0, "pageSize": self._page}
        found: list[Known] | None = None
        async for known in self._pages("GET", "/batch/detail", query, None, deadline):
            found = found or []
            found.append(known)
        return found

    async def instructions(self, batch_id: str, currency: str, deadline: float) -> list[Known]:
        """Return all rows of a batch, those too that never became a transfer; empty while the server does not know it."""
        found: list[Known] = []
        offset = 0
        while offset < _MOST_PAGES * self._page:
            query = {
                "associations": "all", "offset": offset, "limit": self._page, "orderBy": "instructionId", "sortBy": "asc",
            }  # fmt: skip
            answer = await self._client.operations("GET", f"/batches/{batch_id}", query, None, deadline)
            if answer.status == 404:
                break
            rows = _list(self._good(answer), "instructionList")
            found += [known for row in rows if (known := known_instruction(row, currency)) is not None]
            if len(rows) < self._page:
                break
            offset += self._page
        return found

    async def _pages(
        self, method: str, path: str, query: Mapping[str, Any], body: Any, deadline: float
    ) -> AsyncIterator[Known]:
        number = "pageNo" if "pageNo" in query else "page"
        for page in range(_MOST_PAGES):
            answer = await self._client.operations(method, path, {**query, number: page}, body, deadline)
            if answer.status == 404:
                return
            content = self._good(answer)
            rows = _list(content, "content")
            for row in rows:
                if (known := known_transfer(row)) is not None:
                    yield known
            if content.get("last", len(rows) < self._page) is True or not rows:
                return

    def _good(self, answer: Answer) -> Mapping[str, Any]:
        if answer.status in {401, 403}:
            raise Unavailable(
                f"The operations app answered {answer.status}; nothing was learnt and nothing changed.",
                code="token-refused",
                remedy="Check the login of the target and what its user may see.",
            )
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise Unavailable(
                f"The operations app answered {answer.status} and nothing usable; nothing changed.",
                code="target-unavailable",
                retry_after=answer.wait,
            )
        return answer.body


def _list(body: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    rows = body.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _is_ours(row: Mapping[str, Any], correlation_id: str, file_name: str) -> bool:
    if row.get("subBatchId"):
        return False
    # The server puts an id of its own before the name of the file.
    file = row.get("requestFile")
    by_file = bool(file_name) and isinstance(file, str) and file.endswith(file_name)
    return by_file or correlation_id in (row.get("requestId"), row.get("correlationId"))
