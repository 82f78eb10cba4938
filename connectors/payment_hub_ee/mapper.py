"""The identity account mapper: beneficiaries registered, changed and looked up, with failed rows told by callback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import orjson

from connectors.errors import ConfigError, Refused, Unavailable, Unknown
from connectors.payment_hub_ee.client import Answer, PaymentHubClient
from connectors.payment_hub_ee.dialects import digits, renamed
from connectors.replies import Replies

ACCOUNT: Final = "00"
MSISDN: Final = "01"
VIRTUAL_ADDRESS: Final = "02"
WALLET: Final = "03"
VOUCHER: Final = "04"
_WITH_INSTITUTION: Final = frozenset({ACCOUNT, MSISDN, WALLET})
_MODALITIES: Final = frozenset({ACCOUNT, MSISDN, VIRTUAL_ADDRESS, WALLET, VOUCHER})
_ADDRESS_LENGTH: Final = 30
_INSTITUTION_LENGTH: Final = 11


@dataclass(frozen=True, slots=True)
class Beneficiary:
    """A functional id and where it is paid; `institution` is needed for accounts, phones and wallets."""

    identity: str
    modality: str
    address: str | None = None
    institution: str | None = None


@dataclass(frozen=True, slots=True)
class FailedCase:
    """A row the mapper did not take, and its reason in the mapper's words."""

    identity: str
    reason: str


class Mapper:
    """Calls the mapper of one deployment; every change waits for its callback, which may come before the 202."""

    def __init__(self, client: PaymentHubClient, replies: Replies) -> None:
        self._client, self._replies, self._dialect = client, replies, client.dialect

    async def register(self, rows: Sequence[Beneficiary], deadline: float) -> list[FailedCase]:
        """Register beneficiaries and return those not taken.

        Raises `Refused` (`target-refused`), `Unknown` (`callback-missing`, or when the 202 was lost) after which `look_up` tells.
        """
        return await self._change(self._dialect.mapper_register, rows, deadline)

    async def update(self, rows: Sequence[Beneficiary], deadline: float) -> list[FailedCase]:
        """Change the addresses of registered beneficiaries; as `register`."""
        return await self._change(self._dialect.mapper_update, rows, deadline)

    async def add_modality(self, rows: Sequence[Beneficiary], deadline: float) -> list[FailedCase]:
        """Add a way of payment to registered beneficiaries; as `register`."""
        return await self._change(self._dialect.mapper_add_modality, rows, deadline)

    async def change_modality(self, rows: Sequence[Beneficiary], deadline: float) -> list[FailedCase]:
        """Change the way of payment of registered beneficiaries; as `register`."""
        return await self._change(self._dialect.mapper_change_modality, rows, deadline)

    async def look_up(self, identity: str, modality: str, deadline: float) -> list[Beneficiary]:
        """Return how one beneficiary is paid; empty when the mapper does not know it."""
        query = urlencode(
            {
                "payeeIdentity": identity,
                "paymentModality": modality,
                "requestId": digits(self._dialect.mapper_request_length),
                "isExternalLookup": "false",
            }
        )
        answer = await self._call("GET", f"{self._dialect.mapper_register[1]}?{query}", None, deadline)
        if answer.status in {400, 404, 500}:
            return []  # 400: not validated; 500: the mapper's word for an unknown payee
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise _unusable(answer)
        rows = answer.body.get("paymentModalityList")
        return [
            Beneficiary(
                identity,
                str(row.get("paymentModality")),
                row.get("financialAddress"),
                row.get("bankingInstitutionCode"),
            )
            for row in (rows if isinstance(rows, list) else ())
            if isinstance(row, dict)
        ]

    async def look_up_many(self, identities: Sequence[str], deadline: float) -> dict[str, Beneficiary]:
        """Return how these beneficiaries are paid, by identity; those the mapper does not know are left out."""
        rows = [{"payeeIdentity": identity} for identity in identities]
        body = await self._ask("POST", "/accountLookup", rows, deadline)
        found = body.get("beneficiaryDTOList") if isinstance(body, dict) else None
        return {
            str(row.get("payeeIdentity")): Beneficiary(
                str(row.get("payeeIdentity")),
                str(row.get("paymentModality")),
                row.get("financialAddress"),
                row.get("bankingInstitutionCode"),
            )
            for row in (found if isinstance(found, list) else ())
            if isinstance(row, dict)
        }

    async def fetch(self, identity: str, deadline: float) -> Any:
        """Return a beneficiary as the mapper has it; None when it has none."""
        answer = await self._call("GET", f"/beneficiaries/{quote(identity, safe='')}", None, deadline)
        if answer.status in {400, 404, 500}:
            return None
        if answer.status != 200:
            raise _unusable(answer)
        return answer.body

    async def _change(
        self, call: tuple[str, str], rows: Sequence[Beneficiary], deadline: float
    ) -> list[FailedCase]:
        body = await self._ask(call[0], call[1], [self._row(row) for row in rows], deadline)
        cases = body.get("failedCases") if isinstance(body, dict) else None
        return [
            FailedCase(
                str(case.get("payeeIdentity") or case.get("payeeFunctionalID") or ""),
                str(case.get("failureReason") or "failed"),
            )
            for case in (cases if isinstance(cases, list) else ())
            if isinstance(case, dict)
        ]

    async def _ask(self, method: str, path: str, rows: list[dict[str, str]], deadline: float) -> Any:
        request_id = digits(self._dialect.mapper_request_length)
        body = {
            "requestID": request_id,
            "sourceBBID": self._client.settings.registering_institution,
            "beneficiaries": rows,
        }
        with self._replies.expect("mapper", request_id) as future:
            content = orjson.dumps(renamed(body, self._dialect.mapper_fields))
            try:
                answer = await self._call(method, path, content, deadline)
            except Unknown:
                if not future.done():
                    raise
                return future.result()  # the 202 was lost, the callback was not
            if answer.status not in {200, 202}:
                raise _refused(answer) if 400 <= answer.status < 500 else _unusable(answer)
            return await self._replies.wait(future, deadline)

    async def _call(self, method: str, path: str, content: bytes | None, deadline: float) -> Answer:
        settings = self._client.settings
        callback = settings.callback("mapper")
        if settings.mapper_url is None or callback is None or settings.registering_institution is None:
            raise ConfigError(
                "This target has no account mapper: it needs mapper_url, callback_url and registering_institution.",
                code="config-invalid",
            )
        headers = {
            self._dialect.callback_header: callback,
            self._dialect.institution_header: settings.registering_institution,
        }
        if content is not None:
            headers["Content-Type"] = "application/json"
        return await self._client.request("mapper", method, path, headers, content, deadline)

    def _row(self, row: Beneficiary) -> dict[str, str]:
        lengths = (
            1 <= len(row.identity) <= self._dialect.payee_identity_length
            and len(row.address or "") <= _ADDRESS_LENGTH
            and len(row.institution or "") <= _INSTITUTION_LENGTH
        )
        needs = row.modality in _WITH_INSTITUTION and not row.institution
        if row.modality not in _MODALITIES or needs or not lengths:
            raise Refused(
                "A beneficiary cannot be registered: its id, address or institution is missing or too long, "
                "or its modality is unknown. Nothing was sent.",
                code="beneficiary-invalid",
                remedy="Ids have 1 to 20 characters, addresses at most 30, institution codes at most 11; 00, 01 and 03 need one.",
            )
        found = {"payeeIdentity": row.identity, "paymentModality": row.modality}
        if row.address is not None:
            found["financialAddress"] = row.address
        if row.institution is not None:
            found["bankingInstitutionCode"] = row.institution
        return found


def _refused(answer: Answer) -> Refused:
    return Refused(
        f"The payment hub's service refused a request with {answer.status} ({answer.code or 'no code'}).",
        code="target-refused",
        remedy="Check registering_institution, program and the lengths of ids; the service's own log names the field.",
    )


def _unusable(answer: Answer) -> Unavailable | Unknown:
    if answer.status in {429, 503}:
        return Unavailable(
            f"The payment hub's service answered {answer.status}; nothing was taken.",
            code="target-unavailable",
            retry_after=answer.wait,
        )
    return Unknown(
        f"The payment hub's service answered {answer.status}, which leaves open what it did.",
        code="outcome-unknown",
        remedy="Look up what became of it before sending it again.",
    )
