"""The COSE working group's examples: we agree with every one, pass and fail."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edge.errors import EvidenceError
from edge.evidence import cose

VECTORS = [
    "CWT_A_3",
    "RFC8152_Appendix_C_2_1",
    "ecdsa-examples_ecdsa-sig-01",
    "sign1-tests_sign-fail-01",
    "sign1-tests_sign-fail-02",
    "sign1-tests_sign-fail-04",
    "sign1-tests_sign-pass-01",
]


def number(key, name):
    if f"{name}_hex" in key:
        return int(key[f"{name}_hex"], 16)
    text = key[name]
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


@pytest.mark.parametrize("name", VECTORS)
def test_a_published_example_is_judged_as_published(data_dir, name):
    vector = json.loads((data_dir / "vectors" / f"{name}.json").read_text())
    given, message = vector["input"], bytes.fromhex(vector["output"]["cbor"])
    key = given["sign0"]["key"]
    public = ec.EllipticCurvePublicNumbers(number(key, "x"), number(key, "y"), ec.SECP256R1()).public_key()
    if vector.get("fail"):
        with pytest.raises(EvidenceError):
            cose.verify(message, public)
        return
    plain = bytes.fromhex(given["plaintext_hex"]) if "plaintext_hex" in given else given["plaintext"].encode()
    assert cose.verify(message, public) == plain
    with pytest.raises(EvidenceError):
        cose.verify(message, public, b"another purpose")


def test_every_vector_of_the_folder_is_tested(data_dir):
    assert {path.stem for path in (data_dir / "vectors").glob("*.json")} == set(VECTORS)
