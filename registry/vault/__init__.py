"""The vault: keys, cipher and blind index."""

from registry.vault.blind import BlindIndex
from registry.vault.cipher import DataKey, aad, sealed_place
from registry.vault.keys import KeyEncryptionKey, Vault, private_file

__all__ = ["BlindIndex", "DataKey", "KeyEncryptionKey", "Vault", "aad", "private_file", "sealed_place"]
