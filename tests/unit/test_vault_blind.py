"""The blind index: hashes in the database outlive releases, so they are held to the standard library's own."""

from __future__ import annotations

import hmac
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from registry.vault import BlindIndex


@given(st.binary(min_size=1, max_size=80), st.text(max_size=80))
def test_an_index_is_the_hmac_of_label_and_normal_form(key: bytes, value: str) -> None:
    normal = unicodedata.normalize("NFKC", value).strip()
    try:
        text = f"origin\x00{normal}".encode()
    except UnicodeEncodeError:
        return
    blind = BlindIndex(key)
    assert blind.index("origin", value) == hmac.digest(key, text, "sha256")[:16]
    assert blind.index("origin", value) == blind.index("origin", normal), (
        "one value after another is no other"
    )
