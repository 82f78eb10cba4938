"""Who acts by a token: its client, or the person it names, in roles that token and partner both have."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import orjson
import pytest

from adapters.http.operations import Call
from adapters.http.security.partners import Partner
from adapters.http.security.tokens import Claims, OwnIssuer, TokenRefused, TokenVerifier
from registry.signing import SigningKey

KEY = SigningKey.generate()
OWN = OwnIssuer.of("https://login.example", "hub", KEY)
OFFICE = Partner.model_validate(
    {"name": "office", "clients": [{"id": "portal"}], "roles": ["manager", "finance"]}
)


async def claims(*, own: bool = False, **more: Any) -> Claims:
    said = {"iss": OWN.issuer, "aud": "hub", "exp": time.time() + 60, "azp": "portal", **more}
    return await TokenVerifier([replace(OWN, own=own)]).verify(KEY.sign(orjson.dumps(said), "at+jwt"))


def called(found: Claims) -> Call:
    call = Call(None, "1")  # type: ignore[arg-type]
    call.identify(OFFICE, found.scopes, found.user, found.roles)
    return call


async def test_a_person_acts_in_the_roles_that_token_and_partner_both_have() -> None:
    found = await claims(sub="mary", roles=["manager", {"value": "auditor"}, 7])
    assert (found.user, found.roles) == ("mary", {"manager", "auditor"})
    assert called(found).roles == {"manager"}
    assert called(await claims(sub="mary")).roles == frozenset()


async def test_a_client_acts_for_itself_in_the_roles_of_its_partner() -> None:
    for found in (
        await claims(),
        await claims(sub="portal"),
        await claims(own=True, sub="mary", roles=["x"]),
    ):
        assert found.user is None
        assert called(found).roles == {"manager", "finance"}


async def test_a_subject_that_cannot_be_kept_is_refused() -> None:
    for subject in ("", "two words", "x" * 300, 7, "a/b"):
        with pytest.raises(TokenRefused):
            await claims(sub=subject)
