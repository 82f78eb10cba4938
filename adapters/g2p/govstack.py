"""GovStack Payments as a server: the same orders in the words of another standard, whole batches or nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from adapters.dci.envelope import refuse
from adapters.g2p.disburse import refuse_confined
from adapters.g2p.disburse_callbacks import Answers
from adapters.g2p.disburse_profile import callback_of
from adapters.g2p.govstack_answers import REQUEST, batch_state, refused, registered, response
from adapters.g2p.govstack_beneficiaries import Beneficiaries
from adapters.g2p.govstack_profile import GovstackProfile, govstack_profile_of
from adapters.g2p.govstack_reading import (
    INVALID,
    Instruction,
    orders_of,
    read_batch,
    read_beneficiaries,
    read_credits,
    read_json,
    text_of,
)
from adapters.g2p.govstack_schemas import (
    ANSWER,
    BATCH,
    BATCH_ANSWER,
    BENEFICIARIES,
    BENEFICIARIES_8,
    BULK,
    EXAMPLES,
)
from adapters.http.app import add_operations
from adapters.http.operations import Answer, Body, Call, Operation
from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.http.services import Services
from canonical_model.errors import Refused
from canonical_model.tracing import continued_traceparent
from routing.disbursements import Asked, Disbursements, Item, Taken

NAMESPACE: Final = "/govstack"
_SHOWN: Final = 5
_OLDER: Final = "PayeeFunctionalID"
_NEWER: Final = "payeeIdentity"
Handler = Callable[[web.Request, Call], Awaitable[web.Response]]


class BatchQuery(BaseModel):
    """What the address of a batch says."""

    model_config = ConfigDict(extra="forbid")

    type: str | None = Field(None, max_length=20, description="`raw`.")


class Payer:
    """Answers the requests of this dialect; what is ordered is stored before it is acknowledged."""

    def __init__(self, services: Services, store: Disbursements, beneficiaries: Beneficiaries) -> None:
        self._store, self._beneficiaries = store, beneficiaries
        self._profiles = {name: govstack_profile_of(partner) for name, partner in services.partners.items()}

    async def validate(self, request: web.Request, call: Call) -> web.Response:
        """Say whether every instruction of a bulk could be paid; nothing is stored."""
        body, profile, request_id = self._flat(request, call)
        text_of(body.get("BatchID"), "/BatchID", 12, profile)
        found = read_credits(body, profile)
        call.count_messages(len(found))
        await self._payable(found, profile, call)
        return response(request_id, f"All {len(found)} instructions can be paid")

    async def bulk(self, request: web.Request, call: Call) -> web.Response:
        """Order every payment of a bulk, or none."""
        body, profile, request_id = self._flat(request, call)
        batch_id = text_of(body.get("BatchID"), "/BatchID", 12, profile)
        found = read_credits(body, profile)
        uri = callback_of(None, profile.callbacks, "/api/v1/batch")
        words = {"batch": batch_id, "query": {"batchId": batch_id, "X-CorrelationID": request_id}}
        await self._order(request, call, profile, found, batch_id, f"bulk/{request_id}", words, uri)
        return response(request_id, f"{len(found)} instructions were received")

    async def batch(self, request: web.Request, call: Call) -> web.Response:
        """Order every payment of a batch of chapter 8, or none."""
        refuse_confined(call.partner)
        profile = self._profiles[call.partner.name]
        correlation = self._header(request, "X-CorrelationID", profile)
        request[REQUEST] = correlation
        tenant = self._header(request, "Platform-TenantId", profile)
        if profile.tenant is not None and tenant != profile.tenant:
            refuse("/Platform-TenantId", "the tenant is not the one of the partner", INVALID)
        asked = call.query
        # Payment Hub EE reads the type as a header, the description has it in the query.
        kind = asked.type if isinstance(asked, BatchQuery) else None
        if (kind or request.headers.get("type")) != "raw":
            refuse("/type", "the type of a batch is raw", INVALID)
        found = read_batch(read_json(call.body), profile)
        uri = self._callback(request, profile, needed=True)
        words = {"query": {"batchId": None, "X-CorrelationID": correlation}}
        origin = f"batch/{correlation}"
        taken = await self._order(request, call, profile, found, correlation, origin, words, uri)
        return web.json_response({"batchId": str(taken.id)}, status=202)

    async def register(self, request: web.Request, call: Call) -> web.Response:
        """Register beneficiaries: all, or none."""
        return await self._register_all(request, call, update=False)

    async def update(self, request: web.Request, call: Call) -> web.Response:
        """Give beneficiaries other addresses: all, or none."""
        return await self._register_all(request, call, update=True)

    async def register_8(self, request: web.Request, call: Call) -> web.Response:
        """Register beneficiaries as chapter 8 has it; who could not be is told by callback."""
        return await self._register_each(request, call, update=False)

    async def update_8(self, request: web.Request, call: Call) -> web.Response:
        """Update beneficiaries as chapter 8 has it; who could not be is told by callback."""
        return await self._register_each(request, call, update=True)

    # Ordering

    async def _order(
        self,
        request: web.Request,
        call: Call,
        profile: GovstackProfile,
        found: Sequence[Instruction],
        batch_id: str,
        origin: str,
        words: Mapping[str, Any],
        uri: str | None,
    ) -> Taken:
        call.count_messages(len(found))
        payable = await self._payable(found, profile, call)
        trace = continued_traceparent(request.headers.get("traceparent"))
        partner = call.partner.name
        orders = orders_of(payable, profile, partner, batch_id, datetime.now(UTC), trace)
        wrong = [number for number, one in enumerate(orders) if isinstance(one, Item)]
        if wrong:
            raise _unpayable([f"entry {number}" for number in wrong])
        same = orjson.dumps([origin, [one.words for one in found]], option=orjson.OPT_SORT_KEYS)
        due = None if uri is None else 0.0
        kept = {"dialect": "govstack", "uri": uri, **words}
        asked = Asked(partner, "disburse", origin, same, batch_id, kept, due)
        return await self._store.order(asked, orders, call.request_id, whole=True)

    async def _payable(
        self, found: Sequence[Instruction], profile: GovstackProfile, call: Call
    ) -> list[Instruction]:
        """Return instructions with the accounts of their payees; raises `Refused` that names those that cannot be paid."""
        wrong = [f"{one.reference} ({one.fault})" for one in found if one.fault is not None]
        named = [one for one in found if one.fault is None and one.functional_id is not None]
        accounts = await self._beneficiaries.accounts_of(
            [one.functional_id or "" for one in named],
            profile,
            actor=f"partner:{call.partner.name}",
            request_id=call.request_id,
        )
        by_reference = {one.reference: account for one, account in zip(named, accounts, strict=True)}
        if profile.registered_only:
            wrong += [
                f"{reference} (not registered)"
                for reference, account in by_reference.items()
                if account is None
            ]
        if wrong:
            raise _unpayable(wrong)
        return [replace(one, account=by_reference.get(one.reference, one.account)) for one in found]

    # Registering

    async def _register_all(self, request: web.Request, call: Call, *, update: bool) -> web.Response:
        body, profile, request_id = self._flat(request, call)
        taken = await self._register(call, body, profile, request_id, _OLDER, None, update=update, whole=True)
        return response(
            request_id,
            f"{len(taken.words['codes'])} beneficiaries were {'updated' if update else 'registered'}",
        )

    async def _register_each(self, request: web.Request, call: Call, *, update: bool) -> web.Response:
        refuse_confined(call.partner)
        profile = self._profiles[call.partner.name]
        body = self._object(call)
        request_id = str(body.get("RequestID") or body.get("requestID") or "")
        if not 0 < len(request_id) <= 50 or not request_id.isprintable():
            refuse("/RequestID", "the request has an id", INVALID)
        request[REQUEST] = request_id
        self._header(request, "X-Registering-Institution-ID", profile)
        uri = self._callback(request, profile, needed=True)
        await self._register(call, body, profile, request_id, _NEWER, uri, update=update, whole=False)
        return response(request_id, "The request was received", camel=True)

    async def _register(
        self,
        call: Call,
        body: Mapping[str, Any],
        profile: GovstackProfile,
        request_id: str,
        id_name: str,
        uri: str | None,
        *,
        update: bool,
        whole: bool,
    ) -> Taken:
        found = read_beneficiaries(body, profile, id_name)
        call.count_messages(len(found))
        partner, kind = call.partner.name, "update" if update else "register"

        async def work(connection: Any) -> dict[str, Any]:
            items = await self._beneficiaries.register(
                found,
                profile,
                connection,
                update=update,
                actor=f"partner:{partner}",
                request_id=call.request_id,
            )
            wrong = [f"entry {one.reference_id} ({one.code})" for one in items if one.code is not None]
            if whole and wrong:
                raise Refused(
                    f"{_listed(wrong)}. No beneficiary was changed.",
                    code="govstack-beneficiaries-refused",
                    remedy="Correct the entries named and send the request again, under a new id.",
                )
            return {"codes": [one.code for one in items]}

        asked = [{"id": one.functional_id, "modality": one.modality} for one in found]
        words = {
            "dialect": "govstack", "uri": uri, "request_id": request_id, "asked": asked,
            "id_name": _OLDER[:1].lower() + _OLDER[1:] if update else id_name,
        }  # fmt: skip
        same = orjson.dumps([kind, body], option=orjson.OPT_SORT_KEYS, default=str)
        due = None if uri is None else 0.0
        await self._beneficiaries.prepare()
        return await self._store.do_once(
            Asked(partner, kind, f"{kind}/{request_id}", same, request_id, words, due), work
        )

    # Reading

    def _flat(self, request: web.Request, call: Call) -> tuple[dict[str, Any], GovstackProfile, str]:
        refuse_confined(call.partner)
        profile = self._profiles[call.partner.name]
        body = self._object(call)
        request_id = text_of(body.get("RequestID"), "/RequestID", 12, profile)
        request[REQUEST] = request_id
        source = text_of(body.get("SourceBBID"), "/SourceBBID", 12, profile)
        if profile.source_id is not None and source != profile.source_id:
            refuse("/SourceBBID", "the source is not the one of the partner", INVALID)
        return body, profile, request_id

    @staticmethod
    def _object(call: Call) -> dict[str, Any]:
        body = read_json(call.body)
        if not isinstance(body, dict):
            refuse("", "the body is a JSON object", INVALID)
        return body

    @staticmethod
    def _header(request: web.Request, name: str, profile: GovstackProfile) -> str:
        value = request.headers.get(name, "")
        if not 0 < len(value) <= (20 if profile.exact_lengths else 100):
            refuse(f"/{name}", "the header is missing or too long", INVALID)
        return value

    @staticmethod
    def _callback(request: web.Request, profile: GovstackProfile, *, needed: bool) -> str | None:
        asked = request.headers.get("X-Callback-URL") or request.headers.get("X-CallbackURL")
        uri = None if asked is None else callback_of(asked, profile.callbacks, "")
        if uri is None and needed:
            refuse("/X-Callback-URL", "callbacks of this partner do not go there", "dci-sender-uri-invalid")
        return uri


def _unpayable(wrong: Sequence[str]) -> RequestRefused:
    return RequestRefused(
        f"{_listed(wrong)}. Nothing was ordered.",
        code="govstack-instructions-invalid",
        remedy="Correct or leave out the instructions named and send the rest under a new id.",
    )


def _listed(wrong: Sequence[str]) -> str:
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return f"{', '.join(wrong[:_SHOWN])}{more}"


def answers_of(store: Disbursements) -> Answers:
    """Return what writes the callbacks of this dialect."""

    async def answers(taken: Taken, settled: bool) -> bytes | None:
        if taken.kind == "disburse":
            return await batch_state(store, taken, settled=settled)
        return registered(taken)

    return answers


def operations(services: Services, store: Disbursements, beneficiaries: Beneficiaries) -> list[Operation]:
    """Return the operations of this dialect."""
    payer = Payer(services, store, beneficiaries)
    mapper = "/identityAccountMapper/beneficiary"
    spoken: Sequence[tuple[str, str, str, str, Handler, Any]] = (
        (
            "Validate",
            "POST",
            "/prepayment-validation",
            "Ask whether a bulk could be paid",
            payer.validate,
            BULK,
        ),
        ("Bulk", "POST", "/bulk-payment", "Order a bulk of payments", payer.bulk, BULK),
        ("Batch", "POST", "/batchtransactions", "Order a batch of payments (chapter 8)", payer.batch, BATCH),
        (
            "Register",
            "POST",
            "/register-beneficiary",
            "Register beneficiaries",
            payer.register,
            BENEFICIARIES,
        ),
        (
            "Update",
            "POST",
            "/update-beneficiary-details",
            "Update beneficiaries",
            payer.update,
            BENEFICIARIES,
        ),
        (
            "Register8",
            "POST",
            mapper,
            "Register beneficiaries (chapter 8)",
            payer.register_8,
            BENEFICIARIES_8,
        ),
        ("Update8", "PUT", mapper, "Update beneficiaries (chapter 8)", payer.update_8, BENEFICIARIES_8),
    )
    return [_operation(*one) for one in spoken]


def _operation(name: str, method: str, path: str, summary: str, handler: Handler, schema: Any) -> Operation:
    taken = 202 if name == "Batch" else 200
    body = BATCH_ANSWER if name == "Batch" else ANSWER
    paying = name in {"Validate", "Bulk", "Batch"}
    refusals = {code: Answer("Refused; code 01.", {"application/json": ANSWER}) for code in _REFUSALS}
    return Operation(
        name=f"govstack{name}",
        method=method,
        path=f"{NAMESPACE}{path}",
        tag="govstack",
        scope=Scope.PAYMENTS_ORDER if paying else Scope.ACCOUNTS_WRITE,
        summary=f"{summary} (GovStack Payments)",
        description="A repeat of an id with the same content gets the first answer, with other content it is refused.",
        handler=handler,
        body=Body.WHOLE,
        query=BatchQuery if name == "Batch" else None,
        requests={"application/json": schema},
        example=EXAMPLES[name],
        render=refused,
        answers={taken: Answer("Code 00.", {"application/json": body}), **refusals},
    )


_REFUSALS: Final = (400, 401, 403, 406, 408, 413, 415, 429, 500, 503)


def extension(
    store: Disbursements, beneficiaries: Beneficiaries
) -> Callable[[web.Application, Services], None]:
    """Return what `Services.extra` needs to take orders of GovStack Payments."""
    return lambda app, services: add_operations(app, operations(services, store, beneficiaries))
