"""Tokens, the built-in issuer, outside issuers and partners."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from joserfc import jws
from joserfc.jwk import OKPKey, RSAKey

from adapters.http.security import (
    OutsideIssuer,
    OwnIssuer,
    Partner,
    Partners,
    SigningKey,
    TokenIssuer,
    TokenVerifier,
    VerifyKey,
    hash_secret,
    load_partners,
    verify_secret,
)
from adapters.http.security.tokens import TokenRefused
from canonical_model.errors import ConfigError, Unavailable

ISSUER, AUDIENCE = "http://hub.example", "openspp-hub"
SECRET = "correct horse battery staple"


class Nobody:
    """An intake nothing may reach."""

    async def accept(self, message: Any, **rest: Any) -> Any:
        raise AssertionError("a request without rights reached the intake")

    accept_many = accept_all = accept


@pytest.fixture
async def closed(serve_with: Any) -> Any:
    return await serve_with(Nobody())


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    body = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "civil-registry", "client_id": "civil-registry", "iat": now,
        "exp": now + 600, "scope": "messages:write",
    }  # fmt: skip
    return {name: value for name, value in {**body, **changes}.items() if value is not None}


def compact(header: dict[str, Any], payload: dict[str, Any], signature: bytes = b"") -> str:
    return f"{b64(orjson.dumps(header))}.{b64(orjson.dumps(payload))}.{b64(signature)}"


def signed(key: SigningKey, **changes: Any) -> str:
    return key.sign(orjson.dumps(claims(**changes)))


async def refusal(hub: Any, token: str) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    answer = await hub.client.post("/v1/messages", data=b"{}", headers=headers)
    text = await answer.text()
    if len(token) > 20:
        assert token[:20] not in text + str(answer.headers)
    if answer.status == 401:
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="openspp-hub"')
    return answer.status, orjson.loads(text)["code"]


async def test_a_request_without_a_token_is_asked_for_one(closed: Any) -> None:
    answer = await closed.client.post(
        "/v1/messages", data=b"{}", headers={"Content-Type": "application/json"}
    )
    assert (answer.status, (await answer.json())["code"]) == (401, "token-missing")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="openspp-hub"'


async def test_unsigned_and_wrongly_signed_tokens_are_refused(closed: Any) -> None:
    good = signed(closed.key)
    head, body, _ = good.split(".")
    kid = closed.key.kid
    none = compact({"alg": "none", "kid": kid}, claims())
    pem = closed.key.prepared.public_key().to_pem()
    mixed = f"{b64(orjson.dumps({'alg': 'HS256', 'kid': kid}))}.{b64(orjson.dumps(claims()))}"
    for secret in (pem, orjson.dumps(dict(closed.key.public))):
        confused = f"{mixed}.{b64(hmac.new(secret, mixed.encode(), hashlib.sha256).digest())}"
        assert await refusal(closed, confused) == (401, "token-invalid")
    other = SigningKey.generate()
    stranger = other.sign(orjson.dumps(claims()))
    forged = compact({"alg": "ES256", "kid": kid}, claims(), b"\0" * 64)
    for token in (
        none,
        f"{head}.{body}.",
        stranger,
        forged,
        f"{head}.{b64(orjson.dumps(claims(sub='x')))}.AAAA",
        "a.b",
        "é.b.c",
    ):
        assert await refusal(closed, token) == (401, "token-invalid")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aud": "another-api"}, "token-invalid"),
        ({"aud": ["x", "y"]}, "token-invalid"),
        ({"aud": None}, "token-invalid"),
        ({"iss": "http://elsewhere.example"}, "token-invalid"),
        ({"exp": None}, "token-invalid"),
        ({"exp": "never"}, "token-invalid"),
    ],
)
async def test_a_token_of_other_places_is_refused(closed: Any, changes: dict[str, Any], code: str) -> None:
    assert await refusal(closed, signed(closed.key, **changes)) == (401, code)


@pytest.mark.parametrize(
    ("claim", "seconds", "code"),
    [("exp", -120, "token-expired"), ("nbf", 600, "token-invalid"), ("iat", 600, "token-invalid")],
)
async def test_a_token_of_other_times_is_refused(closed: Any, claim: str, seconds: int, code: str) -> None:
    # The clock is read here: the list of cases is made when tests are collected, minutes before.
    changes = {claim: int(time.time()) + seconds}
    assert await refusal(closed, signed(closed.key, **changes)) == (401, code)


async def test_clocks_may_differ_by_a_minute_and_no_more(closed: Any) -> None:
    now = int(time.time())
    assert await refusal(closed, signed(closed.key, exp=now - 30)) == (400, "cloudevent-invalid")
    assert await refusal(closed, signed(closed.key, exp=now - 65)) == (401, "token-expired")


async def test_a_scope_must_be_in_the_token_and_with_the_partner(closed: Any) -> None:
    for token in (closed.token("civil-registry", "messages:read"), closed.token("reader", "messages:write")):
        assert await refusal(closed, token) == (403, "scope-missing")
    headers = {**closed.auth("reader"), "Content-Type": "application/json"}
    answer = await closed.client.post("/v1/messages", data=b"{}", headers=headers)
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
    assert 'scope="messages:write"' in answer.headers["WWW-Authenticate"]


async def test_a_disabled_or_unknown_partner_is_refused(closed: Any) -> None:
    for client in ("gone", "never-heard-of"):
        assert await refusal(closed, closed.token(client)) == (403, "partner-unknown")


async def test_a_remembered_token_is_forgotten_when_it_expires() -> None:
    now = [1_000_000.0]
    key = SigningKey.generate()
    verifier = TokenVerifier([OwnIssuer.of(ISSUER, AUDIENCE, key)], clock=lambda: now[0], cache_entries=2)
    tokens = [signed(key, iat=1_000_000, exp=1_000_030, jti=str(number)) for number in range(3)]
    for token in tokens:
        await verifier.verify(token)
    assert [verifier.remembered(token) is not None for token in tokens] == [False, True, True]
    now[0] += 31
    assert verifier.remembered(tokens[2]) is None
    now[0] += 60
    with pytest.raises(TokenRefused):
        await verifier.verify(tokens[2])


async def test_without_a_key_id_two_keys_are_too_many() -> None:
    first, second = SigningKey.generate(), SigningKey.generate()
    signing = f"{b64(orjson.dumps({'alg': 'ES256'}))}.{b64(orjson.dumps(claims()))}"
    token = f"{signing}.{b64(first.prepared.sign(signing.encode()))}"
    assert (
        await TokenVerifier([OwnIssuer.of(ISSUER, AUDIENCE, first)]).verify(token)
    ).client_id == "civil-registry"
    with pytest.raises(TokenRefused):
        await TokenVerifier([OwnIssuer.of(ISSUER, AUDIENCE, first, second)]).verify(token)


def test_keys_verify_their_own_algorithms_and_no_other() -> None:
    rsa_key = RSAKey.import_key(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    private = ed25519.Ed25519PrivateKey.generate()
    okp = OKPKey.import_key(private)
    public = rsa_key.as_dict(private=False)
    either, only = VerifyKey(public), VerifyKey({**public, "alg": "RS256"})
    for algorithm in ("RS256", "PS256"):
        token = jws.serialize_compact({"alg": algorithm}, b"{}", rsa_key, algorithms=[algorithm])
        assert either.verify(token, algorithm)
        assert only.verify(token, algorithm) == (algorithm == "RS256")
        assert not either.verify(token[:-8] + "AAAAAAAA", algorithm)
    text = f"{b64(orjson.dumps({'alg': 'EdDSA'}))}.{b64(b'{}')}"
    eddsa = f"{text}.{b64(private.sign(text.encode()))}"
    assert VerifyKey(okp.as_dict(private=False)).verify(eddsa, "EdDSA")
    for bad in (
        okp.as_dict(private=True),
        {"kty": "oct", "k": "AAAA"},
        {**public, "alg": "HS256"},
        {**public, "n": "AQAB"},
    ):
        with pytest.raises(ValueError, match=r"."):
            VerifyKey(bad)


async def get_token(hub: Any, path: str = "/oauth2/token", **request: Any) -> tuple[int, dict[str, Any], Any]:
    answer = await hub.client.post(path, **request)
    return answer.status, await answer.json(), answer.headers


FORM = {"grant_type": "client_credentials", "client_id": "civil-registry", "client_secret": SECRET}


async def test_a_client_gets_a_token_that_works(closed: Any) -> None:
    status, body, headers = await get_token(closed, data={**FORM, "scope": "messages:read"})
    assert (status, body["token_type"], body["scope"], body["expires_in"]) == (
        200,
        "Bearer",
        "messages:read",
        3600,
    )
    assert headers["Cache-Control"] == "no-store"
    assert await refusal(closed, body["access_token"]) == (403, "scope-missing")
    coded = base64.b64encode(f"civil-registry:{SECRET.replace(' ', '+')}".encode()).decode()
    basic = {"Authorization": f"Basic {coded}"}
    status, body, _ = await get_token(closed, data={"grant_type": "client_credentials"}, headers=basic)
    assert status == 200
    assert await refusal(closed, body["access_token"]) == (400, "cloudevent-invalid")


async def test_the_dci_spelling_takes_json_and_answers_with_text_seconds(closed: Any) -> None:
    for request in ({"json": FORM}, {"data": FORM}):
        status, body, _ = await get_token(closed, "/oauth2/client/token", **request)
        assert (status, body["token_type"], body["expires_in"]) == (200, "bearer", "3600")


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "nobody"}, 401, "invalid_client"),
        ({"client_id": "gone"}, 401, "invalid_client"),
        ({"client_secret": ""}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"scope": "everything"}, 400, "invalid_scope"),
    ],
)
async def test_a_wrong_token_request_is_refused_in_the_words_of_oauth(
    closed: Any, changes: dict[str, str], status: int, error: str
) -> None:
    found, body, _ = await get_token(closed, data={**FORM, **changes})
    assert (found, body["error"]) == (status, error)
    assert "access_token" not in body


async def test_guessing_secrets_is_slowed_down(closed: Any) -> None:
    for _ in range(5):
        assert (await get_token(closed, data={**FORM, "client_secret": "wrong"}))[0] == 401
    status, body, headers = await get_token(closed, data=FORM)
    assert (status, body["error"]) == (429, "slow_down")
    assert int(headers["Retry-After"]) >= 1


async def test_a_stranger_who_guesses_locks_nobody_else_out(serve_with: Any) -> None:
    hub = await serve_with(Nobody(), behind_tls_proxy=True)
    stranger, partner = (
        {"X-Forwarded-For": f"203.0.113.9, {one}"} for one in ("198.51.100.7", "198.51.100.8")
    )
    for _ in range(6):
        await get_token(hub, data={**FORM, "client_secret": "wrong"}, headers=stranger)
    assert (await get_token(hub, data=FORM, headers=stranger))[0] == 429
    assert (await get_token(hub, data=FORM, headers=partner))[0] == 200


def test_a_secret_is_known_by_its_hash_alone() -> None:
    hashed = hash_secret(SECRET, cost=1024)
    assert SECRET not in hashed
    assert verify_secret(SECRET, hashed)
    assert not verify_secret(SECRET + "x", hashed)
    assert not verify_secret(SECRET, "scrypt$9999999999$8$1$x$y")


async def test_the_published_keys_verify_our_tokens(closed: Any) -> None:
    document = await (await closed.client.get("/.well-known/jwks.json")).json()
    (key,) = document["keys"]
    assert (key["use"], key["alg"], key["kid"]) == ("sig", "ES256", closed.key.kid)
    assert VerifyKey(key).verify(signed(closed.key), "ES256")
    for name in ("openid-configuration", "oauth-authorization-server"):
        described = await (await closed.client.get(f"/.well-known/{name}")).json()
        assert described["issuer"] == ISSUER
        assert described["token_endpoint"] == f"{ISSUER}/oauth2/token"


async def test_an_outside_issuer_is_asked_for_new_keys_but_not_flooded() -> None:
    now = [0.0]
    keys, asked, broken = [SigningKey.generate()], [0], [False]

    async def discovery(request: web.Request) -> web.Response:
        return web.json_response({"issuer": issuer, "jwks_uri": f"{issuer}/keys"})

    async def jwks(request: web.Request) -> web.Response:
        asked[0] += 1
        if broken[0]:
            raise web.HTTPInternalServerError
        return web.json_response({"keys": [dict(key.public) for key in keys] + [{"kty": "oct", "k": "AA"}]})

    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", discovery)
    app.router.add_get("/keys", jwks)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        issuer = f"http://127.0.0.1:{server.port}"
        outside = OutsideIssuer(issuer, AUDIENCE, lambda: session, clock=lambda: now[0])
        verifier = TokenVerifier([outside])
        await verifier.verify(signed(keys[0], iss=issuer))
        keys.append(SigningKey.generate())
        for number in range(5):
            with pytest.raises(Unavailable) as caught:
                await verifier.verify(signed(keys[1], iss=issuer, jti=str(number)))
            assert caught.value.retry_after == 30 - number
            now[0] += 1
        assert asked[0] == 1
        now[0] += 26
        await verifier.verify(signed(keys[1], iss=issuer))
        assert asked[0] == 2
        broken[0] = True
        now[0] += 4000
        assert (await verifier.verify(signed(keys[1], iss=issuer, jti="late"))).issuer == issuer
        silent = OutsideIssuer(f"http://127.0.0.1:{server.port}/none", AUDIENCE, lambda: session)
        with pytest.raises(Unavailable):
            await TokenVerifier([silent]).verify(signed(keys[0], iss=silent.issuer))
    with pytest.raises(ConfigError):
        OutsideIssuer("http://issuer.example", AUDIENCE, lambda: session)


async def test_an_invented_key_shuts_nobody_with_a_new_key_out() -> None:
    now, asked = [0.0], [0]
    keys = [SigningKey.generate()]

    async def discovery(request: web.Request) -> web.Response:
        return web.json_response({"issuer": issuer, "jwks_uri": f"{issuer}/keys"})

    async def jwks(request: web.Request) -> web.Response:
        asked[0] += 1
        return web.json_response({"keys": [dict(key.public) for key in keys]})

    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", discovery)
    app.router.add_get("/keys", jwks)
    invented = SigningKey.generate()
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        issuer = f"http://127.0.0.1:{server.port}"
        verifier = TokenVerifier([OutsideIssuer(issuer, AUDIENCE, lambda: session, clock=lambda: now[0])])
        await verifier.verify(signed(keys[0], iss=issuer))
        now[0] = 31
        with pytest.raises(TokenRefused):
            await verifier.verify(signed(invented, iss=issuer))
        keys.append(SigningKey.generate())
        for moment, token in ((32, signed(invented, iss=issuer)), (40, signed(keys[1], iss=issuer))):
            now[0] = moment
            with pytest.raises(Unavailable) as caught:
                await verifier.verify(token)
            assert caught.value.code == "issuer-unavailable"
            assert caught.value.retry_after == 61 - moment
        assert asked[0] == 2
        now[0] = 61
        await verifier.verify(signed(keys[1], iss=issuer))
        assert asked[0] == 3


async def test_a_client_belongs_to_one_issuer(serve_with: Any) -> None:
    key = SigningKey.generate()

    async def discovery(request: web.Request) -> web.Response:
        return web.json_response({"issuer": issuer, "jwks_uri": f"{issuer}/keys"})

    async def jwks(request: web.Request) -> web.Response:
        return web.json_response({"keys": [dict(key.public)]})

    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", discovery)
    app.router.add_get("/keys", jwks)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        issuer = f"http://127.0.0.1:{server.port}"
        clients = [{"id": "elsewhere", "issuer": issuer}, {"id": "other", "issuer": "https://other.example"}]
        partner = Partner.model_validate(
            {"name": "federated", "clients": clients, "scopes": ["messages:write"]}
        )
        closed = await serve_with(
            Nobody(), more=(partner,), issuers=(OutsideIssuer(issuer, AUDIENCE, lambda: session),)
        )
        # The right issuer comes as far as the body; the same id of the hub or of another issuer is nobody.
        named = {"iss": issuer, "sub": "account-7"}
        assert (await refusal(closed, signed(key, **named, client_id="elsewhere")))[0] == 400
        assert (await refusal(closed, signed(key, **named, client_id=None, azp="elsewhere")))[0] == 400
        unknown = (403, "partner-unknown")
        assert await refusal(closed, signed(closed.key, client_id="elsewhere")) == unknown
        assert await refusal(closed, signed(key, **named, client_id="civil-registry")) == unknown
        assert await refusal(closed, signed(key, **named, client_id="other")) == unknown
        # A person's account of the outside issuer is no client, whatever it is called.
        nameless = signed(key, iss=issuer, sub="elsewhere", client_id=None)
        assert await refusal(closed, nameless) == (401, "token-invalid")


def test_a_client_of_an_outside_issuer_has_no_secret_here() -> None:
    client = {"id": "c", "issuer": "https://login.example", "secret": hash_secret(SECRET, cost=1024)}
    with pytest.raises(ValueError, match="has its secret there"):
        Partner.model_validate({"name": "p", "clients": [client]})


def test_wrong_partners_are_told_by_place_and_never_by_value(tmp_path: Path) -> None:
    assert len(load_partners(None)) == len(load_partners(tmp_path)) == 0
    good = f"partners:\n  - name: a\n    clients: [{{id: a, secret: '{hash_secret('x', cost=1024)}'}}]\n    scopes: [messages:write]\n"
    path = tmp_path / "partners.yaml"
    for text, place in (
        (good.replace("messages:write", "messages:all"), "partners.0.scopes"),
        (
            "partners:\n  - name: a\n    clients: [{id: a, secret: hunter2hunter2}]\n",
            "partners.0.clients.0.secret",
        ),
        (good + good.replace("partners:\n", ""), "used twice"),
        ("partners: [", "is not YAML"),
        (good.replace("name: a", "name: A!"), "partners.0.name"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError) as wrong:
            load_partners(tmp_path)
        assert place in str(wrong.value)
        assert "hunter2" not in str(wrong.value)
        assert wrong.value.code == "partners-invalid"
    path.write_text(good)
    assert isinstance(load_partners(tmp_path), Partners)


async def test_a_free_word_is_a_scope_of_its_own_and_travels_in_the_token() -> None:
    hashed = hash_secret("secret", cost=1024)
    payer = Partner.model_validate(
        {
            "name": "payer",
            "clients": [{"id": "p", "secret": hashed}],
            "scopes": ["dead:read", "treasury.payments"],
        }
    )
    issuer = TokenIssuer(SigningKey.generate(), issuer=ISSUER, audience=AUDIENCE, partners=Partners([payer]))
    assert (await issuer.issue("p", "secret", "treasury.payments", "-")).scope == "treasury.payments"
    assert (await issuer.issue("p", "secret", None, "-")).scope == "dead:read treasury.payments"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("messages:raed", "did you mean messages:read?"),
        ("mesages:write", "did you mean messages:write?"),
        ("dci.crvs.notfy", "did you mean dci.crvs.notify?"),
        ("messages:erase", "words that begin with messages"),
        ("Payments:Read", "lower-case"),
        ("two words", "lower-case"),
        ("a" * 64, "at most 63"),
    ],
)
def test_a_misspelt_scope_is_refused_with_a_hint(word: str, hint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(hint)):
        Partner.model_validate({"name": "p", "clients": [{"id": "p"}], "scopes": [word]})


def test_the_signing_key_is_made_once_and_only_for_its_owner(tmp_path: Path) -> None:
    first, second = SigningKey.load(None, tmp_path), SigningKey.load(None, tmp_path)
    assert first.kid == second.kid
    assert ((tmp_path / "keys" / "signing.pem").stat().st_mode & 0o777) == 0o600
    weak = tmp_path / "weak.pem"
    weak.write_bytes(
        rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(ConfigError) as wrong:
        SigningKey.load(weak, tmp_path)
    assert wrong.value.code == "signing-key-invalid"
