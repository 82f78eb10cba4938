"""Signatures of FSPIOP messages (JWS with a detached envelope): made over what is sent, checked over what was received."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from connectors.errors import ConfigError

SIGNATURE: Final = "FSPIOP-Signature"
URI: Final = "FSPIOP-URI"
METHOD: Final = "FSPIOP-HTTP-Method"
SOURCE: Final = "FSPIOP-Source"
DESTINATION: Final = "FSPIOP-Destination"
_MAX_HEADER: Final = 65_536
_PADDING: Final = padding.PKCS1v15()
_SHA256: Final = hashes.SHA256()
_ECDSA: Final = ec.ECDSA(_SHA256)
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class SignatureInvalid(Exception):
    """A signature that does not hold; the text says why in words that quote nothing of the message."""


def _b64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _unb64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


class Signer:
    """Signs what one institution sends; the key is parsed once. RSA keys give RS256, P-256 keys ES256.

    Raises `ConfigError` when the key is neither an RSA key of 2048 bits or more nor a P-256 key, in PEM without passphrase.
    """

    def __init__(self, private_key_pem: str, source: str) -> None:
        try:
            key = serialization.load_pem_private_key(private_key_pem.encode(), password=None)
        except (ValueError, TypeError):
            key = None
        self._rsa = key if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048 else None
        self._ec = (
            key
            if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
            else None
        )
        if self._rsa is None and self._ec is None:
            raise ConfigError(
                "The signing key is neither an RSA private key of at least 2048 bits nor a P-256 key in PEM form.",
                code="signing-key-invalid",
                remedy="Make one with: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048",
            )
        self.algorithm = "RS256" if self._rsa is not None else "ES256"
        self._source = source

    def headers(
        self, method: str, uri: str, body: bytes, destination: str | None, date: str | None
    ) -> dict[str, str]:
        """Return the three signature headers for one request.

        `uri` starts at the service's segment (`/transfers`), without host or base path; `body` are the bytes of the wire.
        """
        protected: dict[str, str] = {
            "alg": self.algorithm,
            URI: uri,
            METHOD: method,
            SOURCE: self._source,
        }
        if destination is not None:
            protected[DESTINATION] = destination
        if date is not None:
            protected["Date"] = date
        head = _b64(orjson.dumps(protected))
        signature = self._sign(head + b"." + _b64(body))
        return {
            SIGNATURE: f'{{"signature":"{_b64(signature).decode()}","protectedHeader":"{head.decode()}"}}',
            URI: uri,
            METHOD: method,
        }

    def _sign(self, data: bytes) -> bytes:
        if self._rsa is not None:
            return self._rsa.sign(data, _PADDING, _SHA256)
        assert self._ec is not None  # one of the two is there, see the constructor
        r, s = decode_dss_signature(self._ec.sign(data, _ECDSA))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class Received:
    """One message as it came in: what is signed and what it is checked against. Header names are lower case."""

    method: str
    uri: str
    """The path really received, from the service's segment on, with its query if it had one."""
    headers: Mapping[str, str]
    body: bytes


class Verifier:
    """Checks messages by the public keys of their senders; several keys of one sender hold while keys change over.

    Raises `ConfigError` for a key that is neither RSA of 2048 bits or more nor P-256.
    """

    def __init__(self, keys: Mapping[str, Sequence[str]]) -> None:
        self._keys = {
            source: tuple(_public_key(pem, source) for pem in pems) for source, pems in keys.items()
        }

    def knows(self, source: str) -> bool:
        """Say whether a public key of this institution is configured."""
        return source in self._keys

    def check(self, message: Received) -> str:
        """Return the proven sender; raises `SignatureInvalid` when anything does not hold.

        The algorithm is looked at first and only RS256 and ES256 pass. Then the protected header must say the same as the
        headers and as the request line, and a key of the sender must fit the bytes received.
        """
        headers = message.headers
        source = headers.get("fspiop-source", "")
        keys = self._keys.get(source)
        if not keys:
            raise SignatureInvalid("no key of the sender is known")
        head, signature = _envelope(headers.get("fspiop-signature", ""))
        protected = _object(head)
        algorithm = protected.get("alg")
        if algorithm not in {"RS256", "ES256"} or "crit" in protected:
            raise SignatureInvalid("the algorithm is not one of RS256 and ES256")
        if protected.get(SOURCE) != source:
            raise SignatureInvalid("the signed sender differs from the header")
        if protected.get(METHOD) != message.method or headers.get("fspiop-http-method") != message.method:
            raise SignatureInvalid("the signed method differs from the request")
        if protected.get(URI) != message.uri or headers.get("fspiop-uri") != message.uri:
            raise SignatureInvalid("the signed address differs from the request")
        if protected.get(DESTINATION) != headers.get("fspiop-destination"):
            raise SignatureInvalid("the signed destination differs from the header")
        if "Date" in protected and protected["Date"] != headers.get("date"):
            raise SignatureInvalid("the signed date differs from the header")
        data = head.encode() + b"." + _b64(message.body)
        if not any(_holds(key, algorithm, signature, data) for key in keys):
            raise SignatureInvalid("no key of the sender fits the signature")
        return source


def _envelope(header: str) -> tuple[str, bytes]:
    if not header or len(header) > _MAX_HEADER:
        raise SignatureInvalid("there is no signature")
    try:
        envelope = orjson.loads(header)
    except orjson.JSONDecodeError:
        raise SignatureInvalid("the signature header is not JSON") from None
    if not isinstance(envelope, dict):
        raise SignatureInvalid("the signature header is not an object")
    head, signature = envelope.get("protectedHeader"), envelope.get("signature")
    if not isinstance(head, str) or not isinstance(signature, str) or not head.isascii():
        raise SignatureInvalid("the signature header lacks a member")
    try:
        return head, _unb64(signature)
    except (ValueError, binascii.Error):
        raise SignatureInvalid("the signature is not base64url") from None


def _object(head: str) -> dict[str, object]:
    try:
        protected = orjson.loads(_unb64(head))
    except (ValueError, binascii.Error):
        raise SignatureInvalid("the protected header is unreadable") from None
    if not isinstance(protected, dict):
        raise SignatureInvalid("the protected header is not an object")
    return protected


def _holds(key: PublicKey, algorithm: str, signature: bytes, data: bytes) -> bool:
    # The key decides what kind of signature may be checked with it; the sender's word alone never does.
    try:
        if isinstance(key, rsa.RSAPublicKey):
            if algorithm != "RS256":
                return False
            key.verify(signature, data, _PADDING, _SHA256)
            return True
        if algorithm != "ES256" or len(signature) != 64:
            return False
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        key.verify(encode_dss_signature(r, s), data, _ECDSA)
    except InvalidSignature:
        return False
    return True


def _public_key(pem: str, source: str) -> PublicKey:
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, TypeError):
        key = None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ConfigError(
        f"The public key of institution {source} is neither RSA of at least 2048 bits nor P-256 in PEM form.",
        code="signing-key-invalid",
        remedy="Take the key over as the scheme's connection manager gives it out.",
    )


def same(one: str, other: str) -> bool:
    """Say whether two texts are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())
