import base64
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from connectors.errors import ConfigError
from connectors.mojaloop.signing import Received, SignatureInvalid, Signer, Verifier
from tests.connectors.mojaloop_files import vectors


def private_pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def public_pem(key):
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
DATE = "Sun, 22 Nov 2026 15:00:00 GMT"
BODY = '{"note":"Bénéfice € /","transferId":"1"}'.encode()


def signed(key=RSA, method="PUT", uri="/transfers/1", body=BODY, destination="payerfsp", date=DATE, **change):
    headers = Signer(private_pem(key), "payeefsp").headers(method, uri, body, destination, date)
    lower = {name.lower(): value for name, value in headers.items()}
    lower |= {"fspiop-source": "payeefsp", "date": date}
    if destination is not None:
        lower["fspiop-destination"] = destination
    return Received(
        change.get("real_method", method),
        change.get("real_uri", uri),
        lower | change.get("headers", {}),
        change.get("real_body", body),
    )


VERIFIER = Verifier({"payeefsp": [public_pem(RSA), public_pem(P256)], "otherfsp": [public_pem(OTHER)]})


@pytest.mark.parametrize("key", [RSA, P256], ids=["RS256", "ES256"])
@pytest.mark.parametrize("destination", ["payerfsp", None])
def test_what_the_hub_signs_verifies_with_either_key_of_the_sender(key, destination):
    assert VERIFIER.check(signed(key, destination=destination)) == "payeefsp"


def test_the_reference_librarys_signature_verifies_and_is_made_the_same():
    found = vectors()["jws"]
    numbers = [int.from_bytes(base64.urlsafe_b64decode(found["public_jwk"][n] + "=="), "big") for n in "en"]
    key = rsa.RSAPublicNumbers(*numbers).public_key()
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()
    body = found["wire_body"].encode()
    message = Received("POST", "/transfers", found["headers"], body)
    assert Verifier({"userdfsp": [pem]}).check(message) == "userdfsp"
    ours = Signer(private_pem(RSA), "userdfsp").headers(
        "POST", "/transfers", body, "payeefsp", found["headers"]["date"]
    )
    heads = [
        json.loads(headers)["protectedHeader"]
        for headers in (ours["FSPIOP-Signature"], found["headers"]["fspiop-signature"])
    ]
    assert heads[0] == heads[1]


def forged(**change):
    protected = {
        "alg": "RS256",
        "FSPIOP-URI": "/transfers/1",
        "FSPIOP-HTTP-Method": "PUT",
        "FSPIOP-Source": "payeefsp",
        "FSPIOP-Destination": "payerfsp",
        "Date": DATE,
    } | change
    head = base64.urlsafe_b64encode(json.dumps(protected).encode()).rstrip(b"=").decode()
    return {"fspiop-signature": json.dumps({"signature": "AAAA", "protectedHeader": head})}


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (signed(real_body=BODY.replace(b"1", b"2")), "fits"),
        (signed(real_uri="/transfers/2"), "address"),
        (signed(real_uri="/transfers/1?x=1"), "address"),
        (signed(real_method="PATCH"), "method"),
        (signed(headers={"fspiop-destination": "someone"}), "destination"),
        (signed(destination=None, headers={"fspiop-destination": "payerfsp"}), "destination"),
        (signed(headers={"fspiop-source": "otherfsp"}), "sender"),
        (signed(headers={"fspiop-source": "strangerfsp"}), "no key"),
        (signed(headers={"date": "Sun, 22 Nov 2026 15:00:01 GMT"}), "date"),
        (signed(headers={"fspiop-uri": "/transfers/9"}), "address"),
        (signed(headers={"fspiop-http-method": "POST"}), "method"),
        (signed(headers={"fspiop-signature": ""}), "no signature"),
        (signed(headers={"fspiop-signature": "x" * 70_000}), "no signature"),
        (signed(headers={"fspiop-signature": "[]"}), "object"),
        (signed(headers={"fspiop-signature": "{"}), "JSON"),
        (signed(headers={"fspiop-signature": '{"signature":"*","protectedHeader":"e30"}'}), "base64url"),
        (signed(headers={"fspiop-signature": '{"signature":"AA","protectedHeader":"*"}'}), "unreadable"),
        (signed(headers={"fspiop-signature": '{"signature":"AA"}'}), "member"),
        (signed(headers=forged(alg="none")), "algorithm"),
        (signed(headers=forged(alg="HS256")), "algorithm"),
        (signed(headers=forged(alg="RS512")), "algorithm"),
        (signed(headers=forged(crit=["x"])), "algorithm"),
        (signed(headers=forged(alg="ES256")), "fits"),
        (signed(OTHER), "fits"),
    ],
)
def test_whatever_does_not_hold_is_refused_with_the_reason(message, why):
    with pytest.raises(SignatureInvalid, match=why):
        VERIFIER.check(message)


def test_a_body_signed_in_another_order_of_members_verifies_over_the_bytes_received():
    assert VERIFIER.check(signed(body=b'{"z": 1, "a":  2}')) == "payeefsp"


def test_a_key_too_small_or_of_another_kind_is_refused_at_the_start():
    for key in (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP384R1())):
        with pytest.raises(ConfigError):
            Signer(private_pem(key), "payerfsp")
        with pytest.raises(ConfigError):
            Verifier({"payeefsp": [public_pem(key)]})
    with pytest.raises(ConfigError):
        Signer("no key", "payerfsp")
