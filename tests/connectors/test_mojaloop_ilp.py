import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.mojaloop import ilp
from tests.connectors.mojaloop_files import vectors


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_packet_condition_and_fulfilment_are_those_of_the_reference(version):
    found = vectors()["ilp"]
    vector = next(entry for entry in found["vectors"] if entry["version"] == version)
    made = ilp.prepare(vector["transaction"], found["secret"], v4=version == "v4")
    assert (made.packet, made.condition, made.fulfilment) == (
        vector["ilpPacket"],
        vector["condition"],
        vector["fulfilment"],
    )
    terms = ilp.read(vector["ilpPacket"])
    assert terms.amount == 10150
    assert terms.transaction == vector["transaction"]
    assert terms.condition == (vector["condition"] if version == "v4" else None)
    assert ilp.fulfils(vector["fulfilment"], vector["condition"])


def test_a_fulfilment_of_another_condition_is_no_proof():
    proof = ilp.b64url(b"1" * 32)
    for wrong in (proof, proof[:-1], proof + "=", "", None, 7):
        assert not ilp.fulfils(wrong, ilp.b64url(b"2" * 32))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_packet_are_refused_without_another_error(raw):
    with contextlib.suppress(ValueError):
        ilp.read(ilp.b64url(raw))


@given(st.text(alphabet="AQz09-_=+/ ", max_size=80))
def test_text_that_is_no_packet_is_refused_without_another_error(text):
    with contextlib.suppress(ValueError):
        ilp.read(text)
