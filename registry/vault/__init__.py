"""The vault: key services, keys, cipher and blind index."""

from registry.vault.blind import BlindIndex
from registry.vault.cipher import FORMAT, DataKey, aad, sealed_place
from registry.vault.documents import Entry, HereVault, IdentitySource, PersonVault, ReferenceVault
from registry.vault.file import KeyEncryptionKey, private_file
from registry.vault.keys import Vault, load_blind, open_keys
from registry.vault.service import KeyRing, KeyService, Wrapped
from registry.vault.transit import TransitKeys

__all__ = [
    "FORMAT",
    "BlindIndex",
    "DataKey",
    "Entry",
    "HereVault",
    "IdentitySource",
    "KeyEncryptionKey",
    "KeyRing",
    "KeyService",
    "PersonVault",
    "ReferenceVault",
    "TransitKeys",
    "Vault",
    "Wrapped",
    "aad",
    "load_blind",
    "open_keys",
    "private_file",
    "sealed_place",
]
