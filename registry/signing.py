"""Prepared keys: parsed once, used for every token and checkpoint, tied to one algorithm."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jose import jwk as jose_jwk
from jose.exceptions import JOSEError
from joserfc import jws as joserfc_jws
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry

from canonical_model.errors import ConfigError

ALGORITHMS: Final = frozenset({"ES256", "RS256", "EdDSA", "PS256"})
"""Every algorithm the hub verifies; none of them is symmetric."""
_JOSE: Final = frozenset({"ES256", "RS256"})
_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "EC": ("crv", "kty", "x", "y"),
    "RSA": ("e", "kty", "n"),
    "OKP": ("crv", "kty", "x"),
}
_MIN_RSA_CHARS: Final = 342
"""Length of a 2048-bit modulus in base64url."""
_MAX_RSA_CHARS: Final = 1366


def encode(raw: bytes) -> str:
    """Return base64url text without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes of base64url text without padding; raises `ValueError` for any other text."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error


class KeyRefused(ValueError):
    """A JSON Web Key cannot be used to verify a signature here."""


def thumbprint(key: Mapping[str, Any]) -> str:
    """Return the RFC 7638 thumbprint (SHA-256, base64url) of a JSON Web Key."""
    members = _MEMBERS.get(str(key.get("kty")))
    if members is None or any(not isinstance(key.get(name), str) for name in members):
        raise KeyRefused("the key type is not supported or a member is missing")
    return encode(hashlib.sha256(orjson.dumps({name: key[name] for name in members})).digest())


def algorithms_of(key: Mapping[str, Any]) -> frozenset[str]:
    """Return the algorithms a public key may be used with: by its type, narrowed by its own `alg`."""
    kind = (key.get("kty"), key.get("crv"))
    possible: frozenset[str]
    if kind == ("EC", "P-256"):
        possible = frozenset({"ES256"})
    elif kind == ("OKP", "Ed25519"):
        possible = frozenset({"EdDSA"})
    elif key.get("kty") == "RSA" and _MIN_RSA_CHARS <= len(str(key.get("n", ""))) <= _MAX_RSA_CHARS:
        possible = frozenset({"RS256", "PS256"})
    else:
        raise KeyRefused("only P-256, Ed25519 and RSA keys of 2048 to 8192 bits are used")
    named = key.get("alg")
    if named is None:
        return possible
    wanted = "EdDSA" if named == "Ed25519" else str(named)
    if wanted not in possible:
        raise KeyRefused("the key names an algorithm that does not fit its type")
    return frozenset({wanted})


class VerifyKey:
    """One public key, prepared; it verifies with its own algorithms and no other."""

    __slots__ = ("_prepared", "algorithms", "kid")

    def __init__(self, key: Mapping[str, Any]) -> None:
        if any(name in key for name in ("k", "d")):
            raise KeyRefused("a secret or private key has no place among public keys")
        self.algorithms = algorithms_of(key)
        named = key.get("kid")
        self.kid = named if isinstance(named, str) and named else thumbprint(key)
        public = {name: key[name] for name in _MEMBERS[key["kty"]]}
        self._prepared: dict[str, Any] = {}
        try:
            for algorithm in self.algorithms:
                if algorithm == "EdDSA":
                    self._prepared[algorithm] = Ed25519PublicKey.from_public_bytes(decode(public["x"]))
                elif algorithm in _JOSE:
                    self._prepared[algorithm] = jose_jwk.construct({**public, "alg": algorithm}, algorithm)
                else:
                    self._prepared[algorithm] = JWKRegistry.import_key(public)
        except (JOSEError, JoseError, ValueError, TypeError, KeyError) as error:
            raise KeyRefused("the numbers of the key are wrong") from error

    def verify(self, compact: str, algorithm: str) -> bool:
        """Say whether the signature of a compact JWS is good; False for an algorithm this key is not for."""
        prepared = self._prepared.get(algorithm)
        if prepared is None:
            return False
        signed, _, signature = compact.rpartition(".")
        try:
            if algorithm == "EdDSA":
                prepared.verify(decode(signature), signed.encode("ascii"))
                return True
            if algorithm in _JOSE:
                return bool(prepared.verify(signed.encode("ascii"), decode(signature)))
            joserfc_jws.deserialize_compact(compact, prepared, algorithms=[algorithm])
        except (JOSEError, JoseError, InvalidSignature, ValueError):
            return False
        return True


def keys_of_set(document: Any, *, most: int = 100) -> dict[str, VerifyKey]:
    """Return the usable signing keys of a JWK set by `kid`; keys of other uses and kinds are passed over.

    Raises `KeyRefused` when the document is no key set or holds more than `most` keys.
    """
    found = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(found, list) or len(found) > most:
        raise KeyRefused("the document is not a JSON Web Key Set of a sensible size")
    return {key.kid: key for key in _usable(found)}


def _usable(found: Iterable[Any]) -> Iterable[VerifyKey]:
    for item in found:
        if not isinstance(item, Mapping) or item.get("use", "sig") != "sig":
            continue
        try:
            yield VerifyKey(item)
        except KeyRefused:
            # A set may carry keys for other readers (encryption, other curves); they are not ours to judge.
            continue


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The hub's ES256 key, prepared; `kid` is its RFC 7638 thumbprint."""

    kid: str
    public: Mapping[str, str]
    prepared: Any

    @classmethod
    def from_pem(cls, pem: bytes, place: str) -> SigningKey:
        """Prepare a P-256 private key; raises `ConfigError` naming `place`, never the key."""
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise _unusable(place) from error
        if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
            raise _unusable(place)
        point = private.public_key().public_numbers()
        public = {
            "kty": "EC",
            "crv": "P-256",
            "x": encode(point.x.to_bytes(32, "big")),
            "y": encode(point.y.to_bytes(32, "big")),
        }
        kid = thumbprint(public)
        text = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode("ascii")
        full = {**public, "kid": kid, "use": "sig", "alg": "ES256"}
        return cls(kid, full, jose_jwk.construct(text, "ES256"))

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a key that lives as long as this process."""
        return cls.from_pem(new_pem(), "the generated key")

    @classmethod
    def load(cls, path: Path | None, data_dir: Path) -> SigningKey:
        """Read the configured key, or the generated one of `data_dir`, making it (mode 0600) at the first start."""
        if path is not None:
            try:
                return cls.from_pem(path.read_bytes(), str(path))
            except OSError as error:
                raise _unusable(str(path)) from error
        own = data_dir / "keys" / "signing.pem"
        own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not own.exists():
            _write_once(own, new_pem())
        return cls.from_pem(own.read_bytes(), str(own))

    def sign(self, payload: bytes, typ: str = "at+jwt") -> str:
        """Return a compact JWS over the payload."""
        header = orjson.dumps({"alg": "ES256", "kid": self.kid, "typ": typ})
        signed = f"{encode(header)}.{encode(payload)}"
        return f"{signed}.{encode(self.prepared.sign(signed.encode('ascii')))}"


def new_pem() -> bytes:
    """Return a fresh P-256 private key in PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_once(path: Path, content: bytes) -> None:
    """Write a whole file that is not there yet; of two processes that start at once, one wins and both read its key."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()


def _unusable(place: str) -> ConfigError:
    return ConfigError(
        f"The signing key {place} cannot be read as a P-256 private key in PEM. Nothing was started.",
        code="signing-key-invalid",
        remedy="Make one with: openssl ecparam -name prime256v1 -genkey -noout -out signing.pem",
    )
