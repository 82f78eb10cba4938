"""Signatures of webhooks: made by the hub, verified by receivers."""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from connectors.errors import ConfigError, Refused

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"
JWS_HEADER: Final = "x-jws-signature"
_ALGORITHM: Final = ec.ECDSA(hashes.SHA256())
_MAX_SIGNATURES: Final = 16

Signer = Callable[[str, str, bytes], tuple[str, str]]
"""Takes message id, timestamp (decimal seconds) and body; returns header name and value."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a receiver knows once a signature holds; keep `id` to recognise repeats."""

    id: str
    timestamp: int


def secret_bytes(secret: str) -> bytes:
    """Return the key of a secret: the base64 after `whsec_` (Standard Webhooks), or the text in UTF-8."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret[6:], validate=True)
    except binascii.Error:
        raise ConfigError(
            "A webhook secret starts with whsec_ but what follows is not base64.",
            code="signing-key-invalid",
            remedy="Take the secret over exactly as it was issued.",
        ) from None


def _content(layout: str, message_id: str, timestamp: str, body: bytes) -> bytes:
    if layout == "standard-webhooks":
        return b"".join((message_id.encode(), b".", timestamp.encode(), b".", body))
    return b"".join((b"v1:", message_id.encode(), b":", timestamp.encode(), b":", body))


def _mac(key: bytes, content: bytes) -> str:
    return base64.b64encode(hmac.digest(key, content, "sha256")).decode()


def hmac_signer(secrets: Sequence[str], layout: str = "hub") -> Signer:
    """Return a signer that gives one `v1,<base64>` signature per secret, blank between."""
    keys = [secret_bytes(secret) for secret in secrets]

    def sign(message_id: str, timestamp: str, body: bytes) -> tuple[str, str]:
        content = _content(layout, message_id, timestamp, body)
        return SIGNATURE_HEADER, " ".join([f"v1,{_mac(key, content)}" for key in keys])

    return sign


def _b64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _unb64url(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def es256_signer(private_key_pem: str, key_id: str) -> Signer:
    """Return a signer that gives a detached JWS (RFC 7515 appendix F) whose header holds id and time.

    Raises `ConfigError` when the key is not a P-256 private key in PEM.
    """
    try:
        key = serialization.load_pem_private_key(private_key_pem.encode(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(
            "The webhook private key is not a P-256 private key in PEM form.",
            code="signing-key-invalid",
            remedy="Make one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
        )
    signing_key = key

    def sign(message_id: str, timestamp: str, body: bytes) -> tuple[str, str]:
        header = _b64url(
            orjson.dumps({"alg": "ES256", "kid": key_id, "jti": message_id, "iat": int(timestamp)})
        )
        r, s = decode_dss_signature(signing_key.sign(header + b"." + _b64url(body), _ALGORITHM))
        raw = _b64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        return JWS_HEADER, f"{header.decode()}..{raw.decode()}"

    return sign


def verify(
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: Sequence[str] = (),
    public_keys: Mapping[str, str | bytes] | None = None,
    tolerance: float = 300,
    now: float | None = None,
    signed_content: str = "hub",
) -> Verified:
    """Check a webhook as its receiver does and return its id and time.

    `body` is the body as received, byte for byte. Give `secrets` (shared ones) or `public_keys` (PEM by `kid`).
    `tolerance` is in seconds. Raises `Refused` with the code `signature-invalid`.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    message_id, stamp = lower.get(ID_HEADER, ""), lower.get(TIMESTAMP_HEADER, "")
    if not message_id or not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise _invalid("webhook-id or webhook-timestamp is missing or malformed")
    if abs((time.time() if now is None else now) - int(stamp)) > tolerance:
        raise _invalid("webhook-timestamp is too far from the present")
    if public_keys:
        _verify_jws(lower.get(JWS_HEADER, ""), message_id, int(stamp), body, public_keys)
    elif secrets:
        _verify_hmac(
            lower.get(SIGNATURE_HEADER, ""), _content(signed_content, message_id, stamp, body), secrets
        )
    else:
        raise ConfigError(
            "Verifying a webhook needs secrets or public_keys.",
            code="signing-key-invalid",
            remedy="Pass the secret or the public key that was agreed with the hub.",
        )
    return Verified(message_id, int(stamp))


def _verify_hmac(header: str, content: bytes, secrets: Sequence[str]) -> None:
    given = [
        part[3:] for part in header.split(" ", _MAX_SIGNATURES)[:_MAX_SIGNATURES] if part.startswith("v1,")
    ]
    matched = False
    for secret in secrets:
        expected = _mac(secret_bytes(secret), content)
        for signature in given:
            matched |= hmac.compare_digest(expected.encode(), signature.encode())
    if not matched:
        raise _invalid("no signature matches")


def _verify_jws(
    header: str, message_id: str, timestamp: int, body: bytes, public_keys: Mapping[str, str | bytes]
) -> None:
    parts = header.split(".")
    if len(parts) != 3 or parts[1]:
        raise _invalid(f"{JWS_HEADER} is missing or not a detached JWS")
    try:
        claims, raw = orjson.loads(_unb64url(parts[0])), _unb64url(parts[2])
    except ValueError:
        raise _invalid(f"{JWS_HEADER} is unreadable") from None
    if not isinstance(claims, dict) or claims.get("alg") != "ES256" or "crit" in claims or len(raw) != 64:
        raise _invalid("the algorithm is not ES256")
    if claims.get("jti") != message_id or claims.get("iat") != timestamp:
        raise _invalid("the signed id or time differs from the headers")
    pem = public_keys.get(str(claims.get("kid")))
    if pem is None:
        raise _invalid("the key id is not known")
    key = serialization.load_pem_public_key(pem.encode() if isinstance(pem, str) else pem)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _invalid("the key is not an elliptic-curve key")
    signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    try:
        key.verify(signature, parts[0].encode() + b"." + _b64url(body), _ALGORITHM)
    except InvalidSignature:
        raise _invalid("no signature matches") from None


def _invalid(why: str) -> Refused:
    return Refused(
        f"The webhook was not accepted: {why}.",
        code="signature-invalid",
        remedy="Check the secret or key, the clock, and that the body is verified byte for byte.",
    )
