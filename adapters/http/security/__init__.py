"""Who calls: partners, tokens, the built-in issuer and outside issuers."""

from adapters.http.security.issuer import TokenIssuer
from adapters.http.security.oidc import OutsideIssuer
from adapters.http.security.partners import Partner, Partners, Scope, load_partners
from adapters.http.security.secrets import hash_secret, new_secret, verify_secret
from adapters.http.security.tokens import Claims, OwnIssuer, TokenVerifier, TrustedIssuer
from registry.signing import SigningKey, VerifyKey, keys_of_set

__all__ = [
    "Claims",
    "OutsideIssuer",
    "OwnIssuer",
    "Partner",
    "Partners",
    "Scope",
    "SigningKey",
    "TokenIssuer",
    "TokenVerifier",
    "TrustedIssuer",
    "VerifyKey",
    "hash_secret",
    "keys_of_set",
    "load_partners",
    "new_secret",
    "verify_secret",
]
