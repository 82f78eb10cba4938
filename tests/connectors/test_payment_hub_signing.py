"""X-SIGNATURE as Payment Hub EE makes and checks it."""

import hashlib
import json
from pathlib import Path

import pytest

from connectors.errors import ConfigError
from connectors.payment_hub_ee.sandbox_http import key_pair
from connectors.payment_hub_ee.signing import Signer, Verifier, digest, part_text

VECTOR = json.loads(
    (Path(__file__).parents[1] / "samples/payment_hub_ee/x-signature-vector.json").read_text()
)
HEADERS = {name: VECTOR["inputs"][name] for name in ("X-CorrelationID", "Platform-TenantId")}
PAYLOAD = VECTOR["inputs"]["payload"]


def test_the_digest_is_that_of_the_vector() -> None:
    assert digest(HEADERS, PAYLOAD).decode() == VECTOR["sha3_256_hex"]


def test_the_vectors_signatures_hold_with_and_without_a_payload() -> None:
    verifier = Verifier(VECTOR["public_key_spki_der_base64"])
    assert verifier.holds(HEADERS, PAYLOAD, VECTOR["x_signature"])
    assert verifier.holds(HEADERS, "", VECTOR["empty_payload"]["x_signature"])


def test_a_signature_is_the_bare_private_key_operation_over_the_hexadecimal_digest() -> None:
    from base64 import b64decode

    from cryptography.hazmat.primitives.serialization import load_der_public_key

    private, public = key_pair(0)
    value = Signer(private).sign(HEADERS, PAYLOAD)
    numbers = load_der_public_key(b64decode(public)).public_numbers()
    opened = pow(int.from_bytes(b64decode(value), "big"), numbers.e, numbers.n).to_bytes(256, "big")
    text = hashlib.sha3_256(VECTOR["data_to_sign"].encode()).hexdigest().encode()
    assert opened == b"\x00\x01" + b"\xff" * (256 - 3 - len(text)) + b"\x00" + text


@pytest.mark.parametrize(
    ("headers", "payload"),
    [
        ({**HEADERS, "Platform-TenantId": "Gorilla"}, PAYLOAD),
        (HEADERS, PAYLOAD + " "),
        ({**HEADERS, "X-BatchID": "b"}, PAYLOAD),
        ({"X-CorrelationID": HEADERS["X-CorrelationID"]}, PAYLOAD),
    ],
)
def test_a_change_anywhere_is_seen(headers: dict[str, str], payload: str) -> None:
    assert not Verifier(VECTOR["public_key_spki_der_base64"]).holds(headers, payload, VECTOR["x_signature"])


@pytest.mark.parametrize("value", [None, "", "not base64 !", "bm90LWEtc2lnbmF0dXJl", "AAAA"])
def test_what_is_no_signature_does_not_hold(value: str | None) -> None:
    assert not Verifier(VECTOR["public_key_spki_der_base64"]).holds(HEADERS, PAYLOAD, value)


def test_the_order_of_headers_is_the_servers() -> None:
    order = ("Platform-TenantId", "X-CorrelationID")
    assert digest(HEADERS, "x", order) != digest(HEADERS, "x")


def test_a_part_is_read_by_lines_up_to_the_first_blank_one() -> None:
    assert part_text("a,b\r\n1,2\r\n\r\n3,4\r\n") == "a,b\n1,2"


@pytest.mark.parametrize(
    "key", ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
)
def test_an_unusable_key_is_a_mistake_of_configuration(key: str) -> None:
    with pytest.raises(ConfigError):
        Signer(key)
    with pytest.raises(ConfigError):
        Verifier(key)
