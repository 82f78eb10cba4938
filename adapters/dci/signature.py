"""Envelope signatures in the two forms met in the field; each is checked over the JSON as received."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from registry.signing import VerifyKey, decode, keys_of_set

_PARAMETER: Final = re.compile(r'\s*(\w+)="([^"]*)"\s*(?:,|$)')
_NAMESPACES: Final = frozenset({"dci", "spdci", "g2p"})
_SIGNED: Final = "(created) (expires) digest"
_LONGEST_LIFE: Final = 86_400
_MAX_CHARS: Final = 1 << 20


class SignatureWrong(ValueError):
    """The signature of an envelope does not hold; the text says which check failed."""


class SignatureKeys:
    """The partner's public keys, prepared once."""

    def __init__(self, jwks: Mapping[str, Any]) -> None:
        self.keys: dict[str, VerifyKey] = keys_of_set(jwks)
        self.ed25519: dict[str, Ed25519PublicKey] = {
            VerifyKey(key).kid: Ed25519PublicKey.from_public_bytes(decode(key["x"]))
            for key in jwks["keys"]
            if isinstance(key, Mapping) and key.get("crv") == "Ed25519" and key.get("use", "sig") == "sig"
        }


def digest_of(header: Any, message: Any) -> str:
    """Return the digest an OpenSPP2 signature covers: base64 SHA-256 of header and message, sorted, ASCII, no spaces."""
    text = json.dumps({"header": header, "message": message}, sort_keys=True, separators=(",", ":"))
    return base64.b64encode(sha256(text.encode("ascii")).digest()).decode("ascii")


def check_dci_http(
    signature: str, raw: bytes, keys: SignatureKeys, *, sender_id: str | None, now: float, skew: float
) -> None:
    """Check an `ed25519` signature string of the DCI form; raises `SignatureWrong`.

    The form: `namespace="dci", kidId="sender|key|ed25519", algorithm, created, expires, headers, signature`, over three
    lines `(created): N`, `(expires): N`, `digest: B64`.
    """
    parameters = _parameters(signature.removeprefix("Signature:"))
    sender, key_id = _key_id(parameters.get("kidId", ""))
    if parameters.get("namespace") not in _NAMESPACES or parameters.get("algorithm") != "ed25519":
        raise SignatureWrong("only ed25519 signatures of the namespace dci are understood")
    if sender_id is not None and sender != sender_id:
        raise SignatureWrong("the key belongs to another sender")
    if parameters.get("headers", _SIGNED) != _SIGNED:
        raise SignatureWrong("the signature must cover (created) (expires) digest")
    created, expires = _moment(parameters, "created"), _moment(parameters, "expires")
    if created - skew > now:
        raise SignatureWrong("the signature was made in the future")
    if expires + skew < now or expires < created or expires - created > _LONGEST_LIFE:
        raise SignatureWrong("the signature has expired or its times are wrong")
    key = keys.ed25519.get(key_id)
    if key is None:
        raise SignatureWrong("the key is not one of the partner's")
    # The standard parser keeps every number as it was written, which the digest depends on.
    value = json.loads(raw)
    digest = digest_of(value["header"], value.get("message"))
    given = parameters.get("digest")
    if given is not None and not hmac.compare_digest(given, digest):
        raise SignatureWrong("the digest is another")
    signed = f"(created): {created}\n(expires): {expires}\ndigest: {digest}"
    try:
        key.verify(base64.b64decode(parameters.get("signature", ""), validate=True), signed.encode("ascii"))
    except (InvalidSignature, binascii.Error, ValueError):
        raise SignatureWrong("the signature does not fit the message") from None


def check_jws(
    signature: str, raw: bytes, keys: SignatureKeys, *, sender_id: str | None, now: float, skew: float
) -> None:
    """Check a compact JWS whose payload is the envelope without its signature; raises `SignatureWrong`."""
    pieces = signature.split(".")
    try:
        if len(pieces) != 3 or len(signature) > _MAX_CHARS:
            raise ValueError
        header, payload = orjson.loads(decode(pieces[0])), orjson.loads(decode(pieces[1]))
        algorithm, kid = header["alg"], header.get("kid")
        if "crit" in header or "b64" in header:
            raise ValueError
    except (ValueError, TypeError, KeyError):
        raise SignatureWrong("the signature is not a compact JWS") from None
    found = list(keys.keys.values())
    key = (
        keys.keys.get(kid)
        if isinstance(kid, str)
        else (found[0] if kid is None and len(found) == 1 else None)
    )
    if key is None:
        raise SignatureWrong("the key is not one of the partner's")
    if not isinstance(algorithm, str) or not key.verify(signature, algorithm):
        raise SignatureWrong("the signature does not fit the message")
    envelope = orjson.loads(raw)
    envelope.pop("signature", None)
    if payload != envelope:
        raise SignatureWrong("what was signed is not what was sent")


CHECKS: Final[Mapping[str, Callable[..., None]]] = {"dci-http": check_dci_http, "jws-compact": check_jws}


def _parameters(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _PARAMETER.match(text, at)
        if match is None or match[1] in found:
            raise SignatureWrong("the signature is not a list of named texts")
        found[match[1]] = match[2]
        at = match.end()
    return found


def _key_id(text: str) -> tuple[str, str]:
    parts = text.rsplit("|", 2)
    if len(parts) != 3 or parts[2] != "ed25519":
        raise SignatureWrong("kidId must be sender, key and ed25519, joined by |")
    return parts[0], parts[1]


def _moment(parameters: Mapping[str, str], name: str) -> int:
    text = parameters.get(name, "")
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise SignatureWrong(f"{name} is not a number of seconds")
    return int(text)
