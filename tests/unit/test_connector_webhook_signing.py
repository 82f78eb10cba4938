from __future__ import annotations

import base64
import re
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from connectors.errors import ConfigError, Refused
from connectors.webhook import verify
from connectors.webhook.sandbox import new_key_pair
from connectors.webhook.signing import es256_signer, hmac_signer

OLD, NEW = "the-old-secret-of-24-characters", "whsec_" + base64.b64encode(b"n" * 32).decode()
BODY = '{"data":"é"}'.encode()
DOCS = Path(__file__).parents[2] / "docs"


def signed(signer: Any, body: bytes = BODY, at: int | None = None) -> dict[str, str]:
    stamp = str(int(time.time()) if at is None else at)
    name, value = signer("msg-1", stamp, body)
    return {"Webhook-Id": "msg-1", "webhook-timestamp": stamp, name: value}


@pytest.mark.parametrize("layout", ["hub", "standard-webhooks"])
@pytest.mark.parametrize("known", [[OLD], [NEW], [NEW, OLD]])
def test_either_secret_verifies_while_keys_overlap(layout: str, known: list[str]) -> None:
    headers = signed(hmac_signer([NEW, OLD], layout))
    assert verify(headers, BODY, secrets=known, signed_content=layout).id == "msg-1"


@pytest.mark.parametrize(
    "change",
    [
        {"body": BODY + b" "},
        {"Webhook-Id": "msg-2"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": ""},
        {"webhook-signature": "v2," + "A" * 44},
        {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "1"},
    ],
)
def test_any_change_breaks_the_signature(change: dict[str, Any]) -> None:
    headers = signed(hmac_signer([OLD]))
    body = change.pop("body", BODY)
    with pytest.raises(Refused) as caught:
        verify(headers | change, body, secrets=[OLD])
    assert caught.value.code == "signature-invalid"


def test_a_signature_made_too_long_ago_is_refused() -> None:
    headers = signed(hmac_signer([OLD]), at=1_700_000_000)
    assert verify(headers, BODY, secrets=[OLD], now=1_700_000_299)
    with pytest.raises(Refused):
        verify(headers, BODY, secrets=[OLD], now=1_700_000_301)


def test_a_detached_jws_verifies_here_and_with_another_library() -> None:
    private, public = new_key_pair()
    headers = signed(es256_signer(private, "k1"))
    assert verify(headers, BODY, public_keys={"k1": public}).id == "msg-1"
    head, _, signature = headers["x-jws-signature"].split(".")
    payload = base64.urlsafe_b64encode(BODY).rstrip(b"=").decode()
    found = jws.deserialize_compact(
        f"{head}.{payload}.{signature}",
        ECKey.import_key(public),
        algorithms=["ES256"],
        registry=jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False),
    )
    assert found.payload == BODY


@pytest.mark.parametrize(
    "change", [{"Webhook-Id": "other"}, {"x-jws-signature": "a.b.c"}, {"x-jws-signature": "%..%"}]
)
def test_a_changed_jws_is_refused(change: dict[str, str]) -> None:
    private, public = new_key_pair()
    headers = signed(es256_signer(private, "k1"))
    with pytest.raises(Refused):
        verify(headers | change, BODY, public_keys={"k1": public})


def test_a_jws_of_another_key_or_another_body_is_refused() -> None:
    private, public = new_key_pair()
    headers = signed(es256_signer(private, "k1"))
    for keys, body in (({"k2": public}, BODY), ({"k1": new_key_pair()[1]}, BODY), ({"k1": public}, b"x")):
        with pytest.raises(Refused):
            verify(headers, body, public_keys=keys)


def test_verifying_with_nothing_agreed_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError):
        verify(signed(hmac_signer([OLD])), BODY)


def test_a_key_of_another_kind_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError) as caught:
        es256_signer("not a key", "k")
    assert caught.value.code == "signing-key-invalid"


def test_the_documented_receiver_accepts_what_the_hub_signs() -> None:
    page = (DOCS / "connect-webhook.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "def verified" in block)
    space: dict[str, Any] = {}
    exec(code, space)
    for secret in (OLD, NEW):
        headers = {name.lower(): value for name, value in signed(hmac_signer(["x" * 24, secret])).items()}
        assert space["verified"](headers, BODY, secret) == "msg-1"
        assert space["verified"](headers, BODY + b"!", secret) is None
