"""The sandbox's account mapper: takes rows, tells the failed ones by callback, before it answers 202."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from aiohttp import web

from connectors.payment_hub_ee.sandbox_books import Books

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Tell = Callable[[str, str, Any], Awaitable[None]]
_WITH_INSTITUTION: Final = frozenset({"00", "01", "03"})
_RECEIVED: Final = "Request successfully received by Pay-BB"


class MapperDesk:
    """Records by identity in the books; GovStack's spellings are understood too, and answered by POST."""

    def __init__(self, books: Books, tell: Tell) -> None:
        self._books, self._tell = books, tell
        self.silent = False

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        """Return method, path and handler of each call."""
        found: list[tuple[str, str, Handler]] = [
            ("POST", "/paymentModality", self._change),
            ("PUT", "/paymentModality", self._change),
            ("POST", "/accountLookup", self._look_up_many),
            ("GET", "/beneficiaries/{id}", self._fetch),
        ]
        for base in ("", "/identityAccountMapper"):
            found += [
                ("POST", f"{base}/beneficiary", self._change),
                ("PUT", f"{base}/beneficiary", self._change),
                ("GET", f"{base}/beneficiary", self._look_up),
            ]
        return found

    async def _change(self, request: web.Request) -> web.Response:
        body = await request.json()
        govstack = "identityAccountMapper" in request.path
        names = ("RequestID", "Beneficiaries") if govstack else ("requestID", "beneficiaries")
        callback = request.headers.get("X-Callback-URL" if govstack else "X-CallbackURL")
        request_id, rows = body.get(names[0]), body.get(names[1])
        if not callback or not isinstance(rows, list) or not 0 < len(str(request_id or "")) <= 12:
            return web.json_response({"errorCode": "error.msg.schema.validation.errors"}, status=400)
        failed = []
        new = request.method == "POST" and request.path.endswith("beneficiary")
        for row in rows:
            plain = {name[0].lower() + name[1:]: value for name, value in row.items()}
            reason = self._fault(plain, new)
            if reason is None:
                self._books.mapper[plain["payeeIdentity"]] = plain
            else:
                failed.append(
                    {
                        "payeeIdentity": plain.get("payeeIdentity"),
                        "paymentModality": plain.get("paymentModality"),
                        "failureReason": reason,
                    }
                )
        told = {
            "requestID": str(secrets.randbelow(10**12)).rjust(12, "0"), "registerRequestID": request_id,
            "numberFailedCases": len(failed), "failedCases": failed,
        }  # fmt: skip
        if not self.silent:
            await self._tell("POST" if govstack else "PUT", callback, told)
        ack = {"responseCode": "00", "responseDescription": _RECEIVED, "requestID": request_id}
        return web.json_response(ack, status=200 if govstack else 202)

    async def _look_up(self, request: web.Request) -> web.Response:
        row = self._books.mapper.get(request.query.get("payeeIdentity", ""))
        if row is None:
            return web.Response(status=500)
        modality = {n: row.get(n) for n in ("paymentModality", "financialAddress", "bankingInstitutionCode")}
        body = {
            "requestId": request.query.get("requestId"), "payeeIdentity": row["payeeIdentity"],
            "paymentModalityList": [modality], "isValidated": True,
        }  # fmt: skip
        if request.query.get("isExternalLookup") == "false":
            return web.json_response(body)
        await self._tell("PUT", request.headers["X-CallbackURL"], body)
        return web.json_response({"responseCode": "00", "responseDescription": _RECEIVED}, status=202)

    async def _look_up_many(self, request: web.Request) -> web.Response:
        body = await request.json()
        found = [
            self._books.mapper[row["payeeIdentity"]]
            for row in body["beneficiaries"]
            if row["payeeIdentity"] in self._books.mapper
        ]
        told = {
            "requestID": body["requestID"], "beneficiaryDTOList": found,
            "registeringInstitutionId": request.headers.get("X-Registering-Institution-ID"),
        }  # fmt: skip
        await self._tell("PUT", request.headers["X-CallbackURL"], told)
        ack = {"responseCode": "00", "responseDescription": _RECEIVED, "requestID": body["requestID"]}
        return web.json_response(ack, status=202)

    async def _fetch(self, request: web.Request) -> web.Response:
        row = self._books.mapper.get(request.match_info["id"])
        return web.Response(status=500) if row is None else web.json_response(row)

    def _fault(self, row: dict[str, Any], new: bool) -> str | None:
        identity, modality = str(row.get("payeeIdentity") or ""), row.get("paymentModality")
        code = str(row.get("bankingInstitutionCode") or "")
        if not 1 <= len(identity) <= 20:
            return "Payee Identity Invalid"
        if modality not in {"00", "01", "02", "03", "04"}:
            return "Payment Modality Invalid"
        if len(str(row.get("financialAddress") or "")) > 30:
            return "Financial Address Invalid"
        if modality in _WITH_INSTITUTION and not 1 <= len(code) <= 11:
            return "Banking Institution Code Invalid"
        if new and identity in self._books.mapper:
            return "Beneficiary already registered"
        if not new and identity not in self._books.mapper:
            return "Beneficiary is not registered"
        return None
