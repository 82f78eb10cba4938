"""Callbacks of a scheme, from the bytes received to what they say: path, headers, signature and body checked in that order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import unquote

import orjson

from connectors.mojaloop.formats import FSP_ID, MAX_BODY, is_id
from connectors.mojaloop.headers import VERSIONS, error_body, parse_media_type
from connectors.mojaloop.settings import MojaloopSettings
from connectors.mojaloop.signing import Received, SignatureInvalid, Verifier

_RESOURCES: Final = frozenset({"parties", "quotes", "transfers", "bulkQuotes", "bulkTransfers"})
_PART: Final = re.compile(r"[^/?#\s]{1,400}")


class CallbackRefused(Exception):
    """A callback that is not acted on: the HTTP status, the error code and the reason it is answered with."""

    def __init__(self, status: int, code: str, why: str, versions: tuple[str, ...] = ()) -> None:
        super().__init__(why)
        self.status, self.code, self.why = status, code, why
        self.versions = versions

    def body(self) -> dict[str, Any]:
        """Return the answer as the standard has it, with the versions spoken here where the other one was not."""
        found = error_body(self.code, self.why)
        if self.versions:
            entries = [dict(zip(("key", "value"), v.split("."), strict=True)) for v in self.versions]
            found["errorInformation"]["extensionList"] = {"extension": entries}
        return found


@dataclass(frozen=True, slots=True)
class Told:
    """What a callback says: about which resource and id, who says so, and the body; `failed` for the error form."""

    resource: str
    id: str
    """The id of a quote, transfer or bulk; of a party, `TYPE/identifier` or `TYPE/identifier/sub`, decoded."""
    source: str
    body: Any
    failed: bool
    proven: bool
    """Whether a signature proves the source."""


class Reads(Protocol):
    """What a rail asks of the reader of its target's callbacks."""

    def read(self, method: str, uri: str, headers: Mapping[str, str], raw: bytes) -> Told:
        """Return what a callback says; raises `CallbackRefused`."""


class Reader:
    """Reads the callbacks of one target."""

    def __init__(self, settings: MojaloopSettings, verifier: Verifier | None) -> None:
        self._payer = settings.payer_fsp
        self._verify = settings.verify
        self._verifier = verifier
        self._iso = settings.version == "iso20022"
        self._versions = VERSIONS[settings.version] | settings.resource_versions

    def read(self, method: str, uri: str, headers: Mapping[str, str], raw: bytes) -> Told:
        """Return what a callback says; raises `CallbackRefused`.

        `uri` is the path really received from the service's segment on (`/transfers/…`), still encoded.
        """
        resource, key, failed = _place(method, uri)
        lower = {name.lower(): value for name, value in headers.items()}
        if len(raw) > MAX_BODY:
            raise CallbackRefused(400, "3104", "The body is larger than 5 MB.")
        self._check_version(resource, lower.get("content-type", ""))
        source = lower.get("fspiop-source", "")
        if not FSP_ID.fullmatch(source):
            raise CallbackRefused(400, "3102", "FSPIOP-Source is missing or malformed.")
        if lower.get("fspiop-destination", self._payer) != self._payer:
            raise CallbackRefused(400, "3201", "FSPIOP-Destination is another institution.")
        proven = self._prove(resource, Received(method, uri, lower, raw))
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise CallbackRefused(400, "3101", "The body is no JSON.") from None
        if not isinstance(body, dict):
            raise CallbackRefused(400, "3101", "The body is no object.")
        return Told(resource, key, source, body, failed, proven)

    def _check_version(self, resource: str, content_type: str) -> None:
        media, version = parse_media_type(content_type), self._versions[resource]
        if media is None or media.resource != resource:
            raise CallbackRefused(400, "3101", "Content-Type is missing or names another resource.")
        if media.iso != self._iso or (media.major is not None and str(media.major) != version.split(".")[0]):
            raise CallbackRefused(406, "3001", "That version is not spoken here.", (version,))

    def _prove(self, resource: str, message: Received) -> bool:
        wanted = self._verify == "all" or (self._verify == "not-parties" and resource != "parties")
        if self._verifier is None or (not wanted and "fspiop-signature" not in message.headers):
            return False
        if self._verify == "off":
            return False
        try:
            self._verifier.check(message)
        except SignatureInvalid as error:
            raise CallbackRefused(400, "3105", f"The signature does not hold: {error}.") from None
        return True


def _place(method: str, uri: str) -> tuple[str, str, bool]:
    """Return resource, id and whether it is the error form; raises `CallbackRefused` for another path or method."""
    parts = uri.split("/")
    if len(parts) < 3 or parts[0] or parts[1] not in _RESOURCES or not all(map(_PART.fullmatch, parts[2:])):
        raise CallbackRefused(404, "3002", "There is no such address.")
    resource, rest = parts[1], parts[2:]
    most = 3 if resource == "parties" else 1
    failed = rest[-1] == "error" and len(rest) > (2 if resource == "parties" else 1)
    rest = rest[:-1] if failed else rest
    if not (2 <= len(rest) <= most if resource == "parties" else len(rest) == 1):
        raise CallbackRefused(404, "3002", "There is no such address.")
    if method != "PUT" and not (method == "PATCH" and resource == "transfers"):
        raise CallbackRefused(405, "3000", "That method is not for this address.")
    if resource == "parties":
        return resource, "/".join(unquote(part) for part in rest), failed
    if not is_id(rest[0]):
        raise CallbackRefused(400, "3101", "The id in the address has no known form.")
    return resource, rest[0], failed
