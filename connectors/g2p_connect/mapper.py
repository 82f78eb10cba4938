"""Another account mapper of G2P Connect, asked by the hub: ids linked and resolved there, at once or with the answer by callback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import uuid4

from connectors.errors import ConfigError, HubError, Refused, Unavailable, Unknown
from connectors.g2p_connect.disburse_client import DisburseClient, Reaction
from connectors.g2p_connect.disburse_messages import Envelopes
from connectors.g2p_connect.disburse_settings import DisburseSettings
from connectors.replies import Replies

Verb = Literal["link", "update", "unlink", "resolve"]
MANY: Final = 1000
_ANSWER: Final = 8 << 20
"""Bytes of an answer about a thousand items, with the additional information of each."""
_KIND: Final = "mapper"
ENDINGS: Final = ("/on-link", "/on-update", "/on-unlink", "/on-resolve")
_STATES: Final[Mapping[str, str]] = {
    "succ.id.active": "active", "succ.fa.active": "active", "succ.id.inactive": "inactive", "succ.fa.inactive": "inactive",
    "succ.id.not_found": "absent", "succ.fa.not_found": "absent",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a message to the other mapper: an id, an address, or both."""

    id: str | None = field(default=None, repr=False)
    address: str | None = field(default=None, repr=False)
    name: str | None = field(default=None, repr=False)
    phone_number: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answered:
    """What the other mapper said of one item.

    `state` is `done` for what was linked, changed or ended; `active`, `inactive`, `absent` or `elsewhere` (another address than
    the one asked about) for what was resolved; `refused` with its code; `unclear` for what it did not say, or said of another id.
    """

    state: str
    code: str | None = None
    address: str | None = field(default=None, repr=False)
    provider: str | None = None


_UNCLEAR: Final = Answered("unclear")


class Mapper:
    """Calls the account mapper of one target; `deliver` takes its callbacks."""

    def __init__(self, settings: DisburseSettings, client: DisburseClient) -> None:
        self._settings, self._client = settings, client
        self._envelopes, self._replies = Envelopes(settings), Replies()

    async def resolve(self, items: Sequence[Item], deadline: float) -> list[Answered]:
        """Return where ids are paid there, in their order; nothing is kept.

        Raises `Refused` (`target-refused`) for a message that is not taken, `Unavailable` while there is no answer to be had.
        """
        try:
            return await self._ask("resolve", items, deadline)
        except Unknown as error:
            # A question may be asked again, whatever became of the first.
            raise Unavailable(error.detail, code=error.code, remedy=error.remedy) from None

    async def link(self, items: Sequence[Item], deadline: float) -> list[Answered]:
        """Link ids there; as `resolve`, and `Unknown` when it is open what was done: `resolve` tells."""
        return await self._ask("link", items, deadline)

    async def update(self, items: Sequence[Item], deadline: float) -> list[Answered]:
        """Give linked ids another address there; as `link`."""
        return await self._ask("update", items, deadline)

    async def unlink(self, items: Sequence[Item], deadline: float) -> list[Answered]:
        """End the links of ids there; as `link`."""
        return await self._ask("unlink", items, deadline)

    def deliver(self, body: Mapping[str, Any]) -> str | None:
        """Take a callback that is signed by the other mapper; return the standard's code of what is wrong with it, or None."""
        if not self._envelopes.believed(body):
            return "err.signature.invalid"
        message = body["message"]
        ids = [value for value in (message.get("transaction_id"),) if isinstance(value, str)]
        return None if self._replies.deliver(_KIND, ids, message) else "err.request.not_found"

    async def _ask(self, verb: Verb, items: Sequence[Item], deadline: float) -> list[Answered]:
        if not items:
            return []
        if len(items) > MANY:
            raise Refused(
                f"A message to an account mapper holds at most {MANY} items. Nothing was sent.",
                code="account-list-too-long",
                remedy=f"Send lists of at most {MANY}.",
            )
        if self._settings.mapper_url is None:
            raise ConfigError(
                "This target has no account mapper: it needs mapper_url.", code="config-invalid"
            )
        transaction, later = str(uuid4()), self._settings.mapper_callbacks
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        message = {
            "transaction_id": transaction,
            f"{verb}_request": [_written(verb, number, one, at) for number, one in enumerate(items)],
        }
        raw = self._envelopes.about(verb, str(uuid4()), len(items), message, f"on-{verb}" if later else None)
        path = f"{self._settings.mapper_url}/mapper/{verb if later else f'sync/{verb}'}"
        if not later:
            reaction = await self._client.post(path, raw, deadline, most=_ANSWER)
            _check(reaction)
            answer = self._answer(reaction, verb)
            return _read(verb, items, answer)
        with self._replies.expect(_KIND, transaction) as future:
            try:
                _check(await self._client.post(path, raw, deadline, most=_ANSWER))
            except Unknown:
                if not future.done():
                    raise
            return _read(verb, items, await self._replies.wait(future, deadline))

    def _answer(self, reaction: Reaction, verb: Verb) -> Any:
        body = reaction.body or {}
        if self._settings.peer_jwks and not self._envelopes.believed(body):
            raise Unknown(
                "The account mapper gave an answer that its keys did not sign; it was not believed.",
                code="answer-unsigned",
                remedy="Correct peer_jwks of the target, or leave it out for a mapper that signs nothing.",
            )
        message = body.get("message")
        if not isinstance(message, dict) or not isinstance(message.get(f"{verb}_response"), list):
            raise Unknown("The account mapper gave an answer that cannot be read.", code="answer-invalid")
        return message


def _written(verb: Verb, number: int, one: Item, at: str) -> dict[str, Any]:
    item: dict[str, Any] = {"reference_id": str(number), "timestamp": at}
    item |= {name: value for name, value in (("id", one.id), ("fa", one.address)) if value is not None}
    if verb == "resolve":
        return {**item, "scope": "details"}
    if verb in {"link", "update"}:
        more = (("name", one.name), ("phone_number", one.phone_number))
        item |= {name: value for name, value in more if value is not None}
    return item


def _check(reaction: Reaction) -> None:
    """Raise what an answer means that takes no message."""
    if 200 <= reaction.status < 300 and reaction.acknowledgement != "ERR":
        return
    if reaction.status in {429, 503}:
        raise Unavailable(
            f"The account mapper answered {reaction.status}; nothing was done.",
            code="target-unavailable",
            retry_after=reaction.wait,
        )
    if reaction.acknowledgement == "ERR" or 400 <= reaction.status < 500:
        raise Refused(
            f"The account mapper refused a message with {reaction.status} ({reaction.code or 'no code'}).",
            code="target-refused",
            remedy="Check sender_id, the keys and the login of the target.",
        )
    error: HubError = Unknown(
        f"The account mapper answered {reaction.status}, which leaves open what it did.",
        code="outcome-unknown",
        remedy="Resolve the ids to see what became of them.",
    )
    raise error


def _read(verb: Verb, items: Sequence[Item], message: Any) -> list[Answered]:
    """Return what was said of each item; of what was said twice nothing is believed."""
    listed = message.get(f"{verb}_response") if isinstance(message, dict) else None
    told: dict[str, Any] = {}
    twice: set[str] = set()
    for entry in listed if isinstance(listed, list) else ():
        reference = entry.get("reference_id") if isinstance(entry, dict) else None
        if isinstance(reference, str) and told.setdefault(reference, entry) is not entry:
            twice.add(reference)
    found = []
    for number, one in enumerate(items):
        entry = None if str(number) in twice else told.get(str(number))
        found.append(_UNCLEAR if entry is None else _one(verb, one, entry))
    return found


def _one(verb: Verb, asked: Item, entry: Mapping[str, Any]) -> Answered:
    status, said = entry.get("status"), entry.get("status_reason_code")
    code = said if isinstance(said, str) and len(said) <= 60 and said.isprintable() else None
    if not _same(asked.id, entry.get("id")):
        return _UNCLEAR  # an address of somebody else must not be paid
    if status == "rjct":
        return Answered("refused", code)
    if status != "succ":
        return Answered("unclear", code)
    if verb != "resolve":
        return Answered("done", code)
    address = entry.get("fa") if isinstance(entry.get("fa"), str) and entry.get("fa") else None
    if code == "succ.fa.not_linked_to_id":
        return Answered("absent" if asked.address is None else "elsewhere", code)
    state = _STATES.get(code or "", "active" if code is None and address else "unclear")
    if state in {"absent", "unclear"}:
        return Answered(state, code)
    if not _same(asked.address, address):
        return Answered("elsewhere", code)
    info = entry.get("account_provider_info")
    provider = info.get("code") if isinstance(info, dict) else None
    return Answered(state, code, address, provider if isinstance(provider, str) else None)


def _same(asked: str | None, told: Any) -> bool:
    """Say whether what is told can be what was asked about: ids and addresses are the same in any case of their letters."""
    if asked is None or told is None or told == "":
        return True
    return isinstance(told, str) and told.strip().lower() == asked.strip().lower()
