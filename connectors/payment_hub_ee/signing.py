"""X-SIGNATURE of Payment Hub EE: named after JWS, but a private-key operation over a digest written as text.

The value is `base64(RSA private-key operation, PKCS#1 v1.5 block type 1, over the 64 hex characters of SHA3-256(data))`, where
`data` are the header values in the server's order and the payload, joined by colons; a header that is absent is skipped with
its colon, an empty payload too. There is no DigestInfo, so it is no RSASSA signature (payment-hub-ee/FACTS.md, section 3).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509 import load_der_x509_certificate, load_pem_x509_certificate

from connectors.errors import ConfigError

HEADER: Final = "X-SIGNATURE"
ORDER: Final = ("X-BatchID", "X-CorrelationID", "Platform-TenantId")
"""The server's default order of headers; it is configuration there (`jws.header.order`)."""
_SMALLEST: Final = 2048


class Signer:
    """Signs requests with the private key of a tenant: PEM, or the bare base64 of PKCS#8 that the server's own tools use."""

    def __init__(self, key: str, order: Sequence[str] = ORDER) -> None:
        self._key = _private_key(key)
        self._order = tuple(order)

    def sign(self, headers: Mapping[str, str], payload: str) -> str:
        """Return the header's value; `payload` is the text as the server will read it (see `part_text`)."""
        signature = self._key.sign(digest(headers, payload, self._order), PKCS1v15(), NoDigestInfo())
        return base64.b64encode(signature).decode()


class Verifier:
    """Checks the signatures of answers by the server's certificate or public key: PEM or base64 of DER."""

    def __init__(self, key: str, order: Sequence[str] = ORDER) -> None:
        self._key = _public_key(key)
        self._order = tuple(order)

    def holds(self, headers: Mapping[str, str], payload: str, value: str | None) -> bool:
        """Say whether `value` signs these headers and this payload; never raises."""
        if not value:
            return False
        try:
            signature = base64.b64decode(value, validate=True)
            signed = self._key.recover_data_from_signature(signature, PKCS1v15(), None)
        except (InvalidSignature, ValueError, binascii.Error):
            return False
        return signed == digest(headers, payload, self._order)


def digest(headers: Mapping[str, str], payload: str, order: Sequence[str] = ORDER) -> bytes:
    """Return the 64 ASCII characters that are signed; header names are case-blind."""
    known = {name.lower(): value for name, value in headers.items()}
    parts = [known[name.lower()] for name in order if known.get(name.lower())]
    if payload:
        parts.append(payload)
    return hashlib.sha3_256(":".join(parts).encode()).hexdigest().encode()


def part_text(part: str) -> str:
    """Return a multipart part's text as the server reads it: lines joined by LF, up to the first blank one, trimmed."""
    kept: list[str] = []
    for line in part.replace("\r\n", "\n").split("\n"):
        if not line:
            break
        kept.append(line)
    return "\n".join(kept).strip()


def _private_key(text: str) -> RSAPrivateKey:
    try:
        if "-----BEGIN" in text:
            key = load_pem_private_key(text.encode(), None)
        else:
            key = load_der_private_key(base64.b64decode("".join(text.split()), validate=True), None)
    except (ValueError, TypeError, binascii.Error):
        key = None
    if not isinstance(key, RSAPrivateKey) or key.key_size < _SMALLEST:
        raise ConfigError(
            "signing_key of a Payment Hub EE target is no usable RSA key.",
            code="config-invalid",
            remedy=f"Give an RSA key of at least {_SMALLEST} bits without passphrase: PEM, or base64 of PKCS#8.",
        )
    return key


def _public_key(text: str) -> RSAPublicKey:
    key: object = None
    try:
        if "-----BEGIN CERTIFICATE" in text:
            key = load_pem_x509_certificate(text.encode()).public_key()
        elif "-----BEGIN" in text:
            key = load_pem_public_key(text.encode())
        else:
            key = _der_key(base64.b64decode("".join(text.split()), validate=True))
    except (ValueError, TypeError, binascii.Error):
        key = None
    if not isinstance(key, RSAPublicKey):
        raise ConfigError(
            "server_certificate of a Payment Hub EE target is no usable RSA certificate or public key.",
            code="config-invalid",
            remedy="Give the tenant's X.509 certificate as the server holds it: PEM, or base64 of DER.",
        )
    return key


def _der_key(der: bytes) -> object:
    try:
        return load_der_x509_certificate(der).public_key()
    except ValueError:
        return load_der_public_key(der)
