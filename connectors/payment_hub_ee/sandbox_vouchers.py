"""The sandbox's voucher service: strict about headers and fields, and answering failures with 200."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Tell = Callable[[str, str, Any], Awaitable[None]]
_HEADERS: Final = frozenset(
    {
        "x-callbackurl", "x-registering-institution-id", "x-program-id", "user-agent", "accept", "host",
        "accept-encoding", "connection", "content-type", "content-length", "x-request-id", "x-real-ip",
    }
)  # fmt: skip
_MOVES: Final = {
    "activate": ({"01"}, "02"),
    "suspend": ({"02"}, "06"),
    "reactivate": ({"06"}, "02"),
    "cancel": ({"01", "02", "06", "07"}, "03"),
}


class VoucherDesk:
    """Vouchers by serial number; `authorized` False lets the funding side say no."""

    def __init__(self, tell: Tell, *, strict: bool = True) -> None:
        self._tell, self._strict = tell, strict
        self.authorized = True
        self.vouchers: dict[str, dict[str, Any]] = {}
        self._ids: set[str] = set()

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        """Return method, path and handler of each call."""
        return (
            ("POST", "/vouchers", self._post),
            ("PUT", "/vouchers", self._change),
            ("GET", "/voucher/validity", self._validity),
            ("GET", "/voucher/{serial}", self._status),
            ("GET", "/vouchers/{serial}", self._status),
        )

    async def _post(self, request: web.Request) -> web.Response:
        command = request.query.get("command")
        if command == "cancel":
            return await self._change(request)
        if command == "redeem":
            return await self._redeem(request)
        if (refused := self._refused(request)) is not None:
            return refused
        body = await request.json()
        unknown = set(body) - {"requestID", "batchID", "voucherInstructions"}
        if unknown:
            return _fault("error.msg.parameter.unsupported")
        rows = body["voucherInstructions"]
        for name in ("requestID", "batchID"):
            if not 0 < len(str(body.get(name) or "")) <= 12:
                return _fault(f"error.msg.schema.{name}.length.is.invalid")
        for field, value in [(n, body[n]) for n in ("requestID", "batchID")] + [
            ("instructionID", row["instructionID"]) for row in rows
        ]:
            if value in self._ids:
                conflict = {
                    "responseCode": "01", "responseDescription": "Request not acknowledged",
                    "conflictingFieldName": field, "conflictingFieldValue": value,
                }  # fmt: skip
                return web.json_response(conflict, status=409)
        self._ids |= {body["requestID"], body["batchID"], *(row["instructionID"] for row in rows)}
        await self._tell("PUT", request.headers["X-CallbackURL"], self._made(body, rows))
        return web.json_response(
            {"responseCode": "00", "responseDescription": "Received", "requestID": body["requestID"]},
            status=202,
        )

    def _made(self, body: dict[str, Any], rows: list[dict[str, Any]]) -> Any:
        if not self.authorized:
            return "Voucher Creation Failed!"  # these words alone, without an id
        told = []
        for row in rows:
            serial = str(secrets.randbelow(9 * 10**13) + 10**13)
            secret = secrets.token_urlsafe(24)
            self.vouchers[serial] = {**row, "status": "01", "secret": secret}
            told.append(
                {
                    "instructionID": row["instructionID"], "currency": row["currency"], "amount": row["amount"],
                    "narration": row.get("narration"), "serialNumber": serial, "voucherNumber": secret,
                }
            )  # fmt: skip
        return {"requestID": body["requestID"], "batchID": body["batchID"], "voucherInstructions": told}

    async def _change(self, request: web.Request) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        body = await request.json()
        sources, result = _MOVES[request.query["command"]]
        failed = []
        for row in body["voucherInstructions"]:
            voucher = self.vouchers.get(row["serialNumber"])
            if voucher is None:
                reason = "Voucher with serial number does not exist."
            elif voucher["status"] not in sources:
                reason = (
                    "Voucher Already Active." if voucher["status"] == result else "Voucher validation failed."
                )
            else:
                voucher["status"] = result
                continue
            failed.append({"serialNumber": row["serialNumber"], "failureReason": reason})
        told = {
            "requestID": str(secrets.randbelow(10**12)), "registerRequestID": body["requestID"],
            "numberFailedCases": len(failed), "failedCases": failed,
        }  # fmt: skip
        await self._tell("PUT", request.headers["X-CallbackURL"], told)
        return web.json_response({"responseCode": "00", "requestID": body["requestID"]}, status=202)

    async def _redeem(self, request: web.Request) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        body = await request.json()
        voucher = self.vouchers.get(body["voucherSerialNumber"])
        answer = {
            "status": "00", "serialNumber": body["voucherSecretNumber"], "value": None, "transactionId": "1795359612",
        }  # fmt: skip
        if voucher is None:
            answer["message"] = "Voucher Not Found!"
        elif voucher["secret"] != body["voucherSecretNumber"]:
            answer["message"] = "Voucher number invalid!"
        elif voucher["status"] != "02":
            answer["message"] = "Voucher Details Invalid!"
        else:
            voucher["status"] = "05"
            answer |= {
                "status": "01",
                "message": "Voucher redemption successful!",
                "value": f"{voucher['amount']}",
            }
        return web.json_response(answer)

    async def _status(self, request: web.Request) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        serial = request.match_info["serial"]
        voucher = self.vouchers.get(serial)
        if voucher is None:
            return web.Response(status=400)
        return web.json_response(
            {"serialNumber": serial, "status": voucher["status"], "value": voucher["amount"]}
        )

    async def _validity(self, request: web.Request) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        serial = request.query.get("serialNumber", "")
        valid = self.vouchers.get(serial, {}).get("status") == "02"
        await self._tell("PUT", request.headers["X-CallbackURL"], {"serialNumber": serial, "isValid": valid})
        return web.json_response({"responseCode": "00"}, status=202)

    def _refused(self, request: web.Request) -> web.Response | None:
        names = {name.lower() for name in request.headers if not name.lower().startswith("x-forwarded-")}
        if self._strict and names - _HEADERS:
            return _fault("error.msg.header.validation.errors")
        bounds = (("X-CallbackURL", 100), ("X-Registering-Institution-ID", 20), ("X-Program-ID", 20))
        if any(not 0 < len(request.headers.get(name, "")) <= most for name, most in bounds):
            return _fault("error.msg.header.validation.errors")
        return None


def _fault(code: str) -> web.Response:
    return web.json_response({"errorCategory": "Validation", "errorCode": code}, status=400)
