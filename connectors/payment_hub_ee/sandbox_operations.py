"""The read side of the sandbox: batches and transfers as the operations app shows them, lagging and unreliable as it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from connectors.payment_hub_ee.sandbox_books import Batch, Books, public

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class OperationsDesk:
    """Answers questions about what the books hold."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        """Return method, path and handler of each call."""
        return (
            ("GET", "/api/v1/batch", self._batch),
            ("GET", "/api/v1/batch/detail", self._detail),
            ("GET", "/api/v1/batch/{id}", self._aggregate),
            ("GET", "/api/v1/batches", self._batches),
            ("GET", "/api/v1/batches/{id}", self._payment_batch),
            ("GET", "/api/v1/transfers", self._transfers),
            ("POST", "/api/v1/transfers", self._transfers_of),
        )

    async def _batch(self, request: web.Request) -> web.Response:
        batch_id = request.query.get("batchId", "")
        batch = self._known(batch_id)
        if batch is None:
            return web.Response(
                status=404, text=f"Batch corresponding to batchId: {batch_id} does not exist."
            )
        return web.json_response(self._summary(batch))

    async def _aggregate(self, request: web.Request) -> web.Response:
        batch = self._known(request.match_info["id"])
        return web.Response(status=404) if batch is None else web.json_response(self._summary(batch))

    async def _detail(self, request: web.Request) -> web.Response:
        batch = self._known(request.query.get("batchId", ""))
        if batch is None:
            return web.Response(status=404)
        status = request.query.get("status", "ALL")
        rows = self._books.transfers(dict.fromkeys(row["request_id"] for row in batch.rows))
        if status != "ALL":
            # With a filter only rows of the id itself are matched, none of its sub-batches.
            sub = {t["transactionId"] for t in batch.transfers if t["_sub"]}
            rows = [row for row in rows if row["status"] == status and row["transactionId"] not in sub]
        page, size = int(request.query.get("pageNo", 0)), int(request.query.get("pageSize", 10))
        return web.json_response(_page(rows, page, size))

    async def _batches(self, request: web.Request) -> web.Response:
        offset, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", 10))
        start = offset // limit * limit  # an offset that is no multiple of the limit repeats rows
        wanted = request.query.get("batchId")
        found = [
            b for b in self._books.batches.values() if wanted in {None, b.id} and self._books.question(b)
        ]
        found.reverse()
        data = [self._listed(batch) for batch in found[start : start + limit]]
        return web.json_response({"totalBatches": len(found), "data": data})

    async def _payment_batch(self, request: web.Request) -> web.Response:
        if "X-Correlation-ID" not in request.headers:
            return web.Response(status=400)
        batch = self._known(request.match_info["id"])
        if batch is None:
            return web.Response(status=404)
        if request.query.get("associations") != "all":
            figures = self._summary(batch)
            figures["status"] = "COMPLETED" if figures["status"] == "COMPLETED" else "Failed"
            return web.json_response(figures)
        rows = [
            {
                "instructionId": t["clientCorrelationId"], "payerFsp": t["payerDfspId"], "amount": t["amount"],
                "payeeFunctionalId": t["payeePartyId"], "status": t["status"], "reason": None,
                "startedAt": t["startedAt"], "completedAt": t["completedAt"], "subBatchId": t["_sub"] or None,
            }
            for t in batch.transfers
        ]  # fmt: skip
        rows += [
            {
                "instructionId": row["request_id"], "payerFsp": self._books.tenant, "amount": float(row["amount"]),
                "payeeFunctionalId": row["payee_identifier"], "status": "Failed", "reason": reason,
                "startedAt": batch.started_at, "completedAt": None, "subBatchId": None,
            }
            for row, reason in batch.failed_rows
        ]  # fmt: skip
        rows.sort(key=lambda row: str(row["instructionId"]))
        offset, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", 10))
        start = offset // limit * limit
        return web.json_response({**self._summary(batch), "instructionList": rows[start : start + limit]})

    async def _transfers(self, request: web.Request) -> web.Response:
        rows = self._books.transfers([request.query.get("clientCorrelationId", "")])
        return web.json_response(
            _page(rows, int(request.query.get("page", 0)), int(request.query.get("size", 1)))
        )

    async def _transfers_of(self, request: web.Request) -> web.Response:
        body = await request.json()
        rows = self._books.transfers(dict.fromkeys(body.get("requestIds", ())))
        page, size = int(request.query.get("page", 0)), int(request.query.get("size", 10_000))
        return web.json_response(_page(rows, page, size))

    def _known(self, batch_id: str) -> Batch | None:
        batch = self._books.batches.get(batch_id)
        return batch if batch is not None and self._books.question(batch) else None

    def _summary(self, batch: Batch) -> dict[str, Any]:
        figures = self._books.figures(batch)
        figures.pop("rate")
        return {
            "batchId": batch.id, "requestId": batch.request_id, "correlationId": batch.request_id, **figures,
            "payerFsp": self._books.tenant, "registeringInstitutionId": batch.institution, "notes": None,
        }  # fmt: skip

    def _listed(self, batch: Batch) -> dict[str, Any]:
        figures = self._books.figures(batch)
        return {
            "batchId": batch.id, "subBatchId": None, "requestId": batch.request_id, "requestFile": batch.file,
            "totalTransactions": figures["total"], "ongoing": figures["ongoing"], "failed": figures["failed"],
            "completed": figures["successful"], "totalAmount": figures["totalAmount"], "startedAt": batch.started_at,
            "payerFsp": self._books.tenant, "correlationId": batch.request_id, "status": "FAILED",
        }  # fmt: skip


def _page(rows: list[dict[str, Any]], page: int, size: int) -> dict[str, Any]:
    content = [public(row) for row in rows[page * size : (page + 1) * size]]
    return {
        "content": content, "last": (page + 1) * size >= len(rows), "totalElements": len(rows), "size": size,
        "number": page, "numberOfElements": len(content), "first": page == 0, "empty": not content,
    }  # fmt: skip
