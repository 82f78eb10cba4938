"""Whether the envelopes of partners are signed as their profiles demand."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from adapters.dci.envelope import refuse
from adapters.dci.profile import DciProfile
from adapters.dci.signature import CHECKS, SignatureKeys, SignatureWrong


class Signatures:
    """Checks envelopes by the rules and keys of each partner, prepared once."""

    def __init__(self, profiles: Mapping[str, DciProfile]) -> None:
        self._profiles = profiles
        self._keys = {
            name: SignatureKeys(profile.signature.jwks)
            for name, profile in profiles.items()
            if profile.signature.jwks
        }

    def check(self, envelope: Mapping[str, Any], raw: bytes, partner: str) -> None:
        """Check the signature of an envelope over its bytes as received.

        Raises `RequestRefused`: `dci-signature-missing`, `dci-signature-invalid`.
        """
        profile = self._profiles[partner]
        rules = profile.signature
        if rules.policy == "off":
            return
        signature = envelope.get("signature")
        if signature is None or signature == "":
            if rules.policy == "required":
                refuse("/signature", "this partner signs its messages", "dci-signature-missing")
            return
        try:
            if not isinstance(signature, str):
                raise SignatureWrong("the signature is a text")
            CHECKS[rules.style](
                signature.strip(),
                raw,
                self._keys[partner],
                sender_id=profile.sender_id,
                now=time.time(),
                skew=rules.skew_seconds,
            )
        except SignatureWrong as wrong:
            refuse("/signature", str(wrong), "dci-signature-invalid")
