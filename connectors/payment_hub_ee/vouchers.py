"""The voucher service: created, activated, redeemed, cancelled and asked about, with no header it does not know."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

import orjson

from connectors.errors import ConfigError, Refused, Unavailable, Unknown
from connectors.payment_hub_ee.client import Answer, PaymentHubClient
from connectors.payment_hub_ee.dialects import digits, renamed
from connectors.replies import Replies

INACTIVE: Final = "01"
ACTIVE: Final = "02"
CANCELLED: Final = "03"
EXPIRED: Final = "04"
UTILIZED: Final = "05"
SUSPENDED: Final = "06"
_ID: Final = 12
_INSTRUCTION_ID: Final = 16
_AMOUNT: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,4})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class VoucherOrder:
    """A voucher to create: `instruction_id` of 16 characters at most, `amount` a decimal text, `group` three characters."""

    instruction_id: str
    payee: str
    amount: str
    currency: str
    group: str
    narration: str = ""


@dataclass(frozen=True, slots=True)
class Voucher:
    """A voucher that was created; `secret` is encrypted and goes to the payee, never to a log."""

    instruction_id: str
    serial: str
    secret: str


@dataclass(frozen=True, slots=True)
class Redemption:
    """What became of a redemption: failures come with the same HTTP status as success."""

    redeemed: bool
    message: str
    value: str | None
    transaction_id: str | None


class Vouchers:
    """Calls the voucher service of one deployment."""

    def __init__(self, client: PaymentHubClient, replies: Replies) -> None:
        self._client, self._replies, self._dialect = client, replies, client.dialect

    async def create(
        self, request_id: str, batch_id: str, orders: Sequence[VoucherOrder], deadline: float
    ) -> list[Voucher]:
        """Create vouchers under ids the caller has stored before (12 digits each), and return them once they are authorised.

        The service recognises repeats. Raises `Refused`: `voucher-known` for an id seen before, `voucher-unauthorized` when the
        funding side said no, `voucher-invalid` before anything is sent; `Unknown` when no callback came.
        """
        rows = [self._instruction(order) for order in orders]
        body = {"requestID": request_id, "batchID": batch_id, "voucherInstructions": rows}
        told = await self._ask("POST", "/vouchers", body, request_id, deadline)
        found = told.get("voucherInstructions") if isinstance(told, dict) else None
        if not isinstance(found, list):
            raise Refused(
                "The vouchers of a request were not authorised; none was made.",
                code="voucher-unauthorized",
                remedy="Ask the funding side why it did not authorise the batch.",
            )
        return [
            Voucher(
                str(row.get("instructionID")), str(row.get("serialNumber")), str(row.get("voucherNumber"))
            )
            for row in found
            if isinstance(row, dict)
        ]

    async def change(
        self,
        command: Literal["activate", "suspend", "reactivate", "cancel"],
        serials: Sequence[str],
        batch_id: str,
        deadline: float,
    ) -> dict[str, str]:
        """Move vouchers to another state and return the serial numbers that did not move, with the service's reasons."""
        request_id = digits(_ID)
        status = {"activate": ACTIVE, "suspend": SUSPENDED, "reactivate": ACTIVE, "cancel": CANCELLED}[
            command
        ]
        rows = [
            {"serialNumber": serial} | ({"status": status} if self._dialect.name != "govstack" else {})
            for serial in serials
        ]
        body = {"requestID": request_id, "batchID": batch_id, "voucherInstructions": rows}
        method = "POST" if command == "cancel" else "PUT"
        content = renamed(body, self._dialect.lifecycle_fields)
        told = await self._ask(method, f"/vouchers?command={command}", content, request_id, deadline)
        cases = told.get("failedCases") if isinstance(told, dict) else None
        return {
            str(case.get("serialNumber")): str(case.get("failureReason"))
            for case in (cases if isinstance(cases, list) else ())
            if isinstance(case, dict)
        }

    async def redeem(self, serial: str, secret: str, agent: str, deadline: float) -> Redemption:
        """Redeem a voucher; a second time fails, so after `Unknown` its `status` tells what happened."""
        body = {
            "requestId": digits(_ID),
            "agentId": agent,
            "voucherSerialNumber": serial,
            "voucherSecretNumber": secret,
        }
        content = orjson.dumps(renamed(body, self._dialect.redeem_fields))
        answer = await self._call("POST", "/vouchers?command=redeem", content, deadline)
        found = self._good(answer)
        return Redemption(
            str(found.get("status")) in self._dialect.voucher_redeemed,
            str(found.get("message") or ""),
            None if found.get("value") is None else str(found["value"]),
            None if found.get("transactionId") is None else str(found["transactionId"]),
        )

    async def status(self, serial: str, deadline: float) -> str | None:
        """Return a voucher's status code, 01 to 07; None for a serial number the service does not know."""
        path = self._dialect.voucher_status.format(serial=quote(serial, safe=""))
        answer = await self._call("GET", f"{path}?fields=status", None, deadline)
        if answer.status in {400, 404}:
            return None
        return str(self._good(answer).get("status"))

    async def valid(self, serial: str, deadline: float) -> bool:
        """Ask whether a voucher may be redeemed; the answer comes by callback."""
        query = urlencode({"serialNumber": serial, "isValid": "true"})
        with self._replies.expect("vouchers", serial) as future:
            answer = await self._call("GET", f"/voucher/validity?{query}", None, deadline)
            self._good(answer)
            told = await self._replies.wait(future, deadline)
        return isinstance(told, dict) and str(told.get("isValid")).lower() == "true"

    async def _ask(self, method: str, path: str, body: Any, request_id: str, deadline: float) -> Any:
        with self._replies.expect("vouchers", request_id) as future:
            try:
                answer = await self._call(method, path, orjson.dumps(body), deadline, request_id)
            except Unknown:
                if not future.done():
                    raise
                return future.result()
            self._good(answer)
            return await self._replies.wait(future, deadline)

    async def _call(
        self, method: str, path: str, content: bytes | None, deadline: float, request_id: str | None = None
    ) -> Answer:
        s, d = self._client.settings, self._dialect
        # A creation that was not authorised is told by a text alone, so its id stands in the address.
        callback = s.callback("vouchers", request_id)
        if (
            s.vouchers_url is None
            or callback is None
            or s.registering_institution is None
            or s.program is None
        ):
            raise ConfigError(
                "This target has no vouchers: it needs vouchers_url, callback_url, registering_institution and program.",
                code="config-invalid",
            )
        # Any other header is a 400 here: no token, no tenant, no trace context.
        headers = {
            d.callback_header: callback,
            d.institution_header: s.registering_institution,
            d.program_header: s.program,
        }
        if content is not None:
            headers["Content-Type"] = "application/json"
        return await self._client.call("vouchers", method, path, headers, content, deadline)

    def _good(self, answer: Answer) -> dict[str, Any]:
        body = answer.body if isinstance(answer.body, dict) else {}
        if answer.status == 409:
            raise Refused(
                "The voucher service has seen an id of this request before; nothing was made a second time.",
                code="voucher-known",
                remedy="Ask for the status of the vouchers of the first request.",
            )
        if 400 <= answer.status < 500 and answer.status != 429:
            raise Refused(
                f"The voucher service refused a request with {answer.status}.",
                code="target-refused",
                remedy="Check registering_institution and program (20 characters each) and the lengths of ids.",
            )
        if answer.status in {429, 503}:
            raise Unavailable("The voucher service is busy.", code="target-busy", retry_after=answer.wait)
        if answer.status not in {200, 202}:
            raise Unknown(
                f"The voucher service answered {answer.status}, which leaves open what it did.",
                code="outcome-unknown",
            )
        return body

    @staticmethod
    def _instruction(order: VoucherOrder) -> dict[str, Any]:
        lengths = (
            1 <= len(order.instruction_id) <= _INSTRUCTION_ID
            and len(order.group) == 3
            and len(order.currency) == 3
            and 1 <= len(order.payee) <= 20
            and len(order.narration) <= 50
            and _AMOUNT.fullmatch(order.amount) is not None
        )
        if not lengths:
            raise Refused(
                "A voucher's id, group, currency, payee, narration or amount has a form the service does not take. Nothing was sent.",
                code="voucher-invalid",
                remedy="At most 16 characters for its id, 20 for the payee, 50 for the narration; group and currency have 3.",
            )
        amount = orjson.Fragment(order.amount)  # exact, as a number
        return {
            "instructionID": order.instruction_id,
            "groupCode": order.group,
            "currency": order.currency,
            "amount": amount,
            "payeeFunctionalID": order.payee,
            "narration": order.narration,
        }
