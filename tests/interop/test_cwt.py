"""python-cwt verifies what we sign, and we verify what it signs; the same for sealed portraits."""

import cbor2
import cwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edge.errors import EvidenceError
from edge.evidence import cose, messages
from edge.evidence.portrait import PORTRAIT_AAD, open_portrait, seal_portrait
from edge.evidence.signer import cose_key
from tests.evidence_samples import key_file, sample_claims

AAD = b"vouch/result/1"
KDF_CONTEXT = [3, [None, None, None], [None, None, None], [256, cbor2.dumps({1: -25})]]


@pytest.fixture
def signer(tmp_path):
    return key_file(tmp_path)


def foreign_key(public_key, *, private=None, alg=-7, ops=(2,)):
    parameters = {**cose_key(public_key), 2: cose.key_id(public_key), 3: alg, 4: list(ops)}
    if private is not None:
        parameters[-4] = private.private_numbers().private_value.to_bytes(32, "big")
    return cwt.COSEKey.new(parameters)


def test_cwt_verifies_our_result_and_reads_the_same_claims(signer):
    message = messages.build_result(sample_claims(), signer)
    payload = cwt.COSE.new(verify_kid=True).decode(message, foreign_key(signer.public_key), external_aad=AAD)
    assert cbor2.loads(payload) == cbor2.loads(cose.verify(message, signer.public_key, AAD))


def test_cwt_refuses_our_result_under_another_purpose(signer):
    message = messages.build_result(sample_claims(), signer)
    with pytest.raises(cwt.VerifyError):
        cwt.COSE.new().decode(message, foreign_key(signer.public_key), external_aad=b"vouch/receipt/1")


def test_we_verify_what_cwt_signs(tmp_path):
    private = ec.generate_private_key(ec.SECP256R1())
    key = foreign_key(private.public_key(), private=private, ops=(1, 2))
    message = cwt.COSE.new().encode_and_sign(
        b"from elsewhere", key, protected={1: -7}, unprotected={4: b"k"}, external_aad=AAD
    )
    assert cose.verify(message, private.public_key(), AAD) == b"from elsewhere"
    with pytest.raises(EvidenceError):
        cose.verify(message, private.public_key())


def test_our_strict_reader_takes_a_message_that_cwt_writes_in_our_form():
    private = ec.generate_private_key(ec.SECP256R1())
    kid = cose.key_id(private.public_key())
    key = foreign_key(private.public_key(), private=private, ops=(1, 2))
    message = cwt.COSE.new().encode_and_sign(b"p", key, protected={1: -7, 4: kid}, unprotected={}, external_aad=AAD)
    assert cose.open_strict(message, {kid: private.public_key()}, AAD) == b"p"


def test_cwt_opens_our_sealed_portrait():
    private = ec.generate_private_key(ec.SECP256R1())
    sealed = seal_portrait(b"\xff\xd8 picture", private.public_key(), context=b"nonce")
    key = foreign_key(private.public_key(), private=private, alg=-25, ops=(7,))
    opened = cwt.COSE.new().decode(sealed, key, context=KDF_CONTEXT, external_aad=PORTRAIT_AAD + b"nonce")
    assert opened == b"\xff\xd8 picture"


def test_we_open_a_portrait_that_cwt_seals():
    private = ec.generate_private_key(ec.SECP256R1())
    kid = cose.key_id(private.public_key())
    recipient = cwt.Recipient.new(
        protected={1: -25},
        unprotected={4: kid},
        recipient_key=foreign_key(private.public_key(), alg=-25, ops=()),
        context=KDF_CONTEXT,
    )
    sealed = cwt.COSE.new().encode_and_encrypt(
        b"\xff\xd8 picture",
        protected={1: 3},
        unprotected={5: bytes(12)},
        recipients=[recipient],
        external_aad=PORTRAIT_AAD + b"nonce",
    )
    assert open_portrait(sealed, private, context=b"nonce") == b"\xff\xd8 picture"
