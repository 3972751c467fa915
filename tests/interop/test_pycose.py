"""pycose verifies what we sign, and we verify what it signs; the same for sealed portraits."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pycose.algorithms import A256GCM, EcdhEsHKDF256, Es256
from pycose.headers import IV, KID, Algorithm, ContentType, StaticKey
from pycose.keys import EC2Key
from pycose.keys.curves import P256
from pycose.keys.keyops import DeriveKeyOp, SignOp, VerifyOp
from pycose.messages import CoseMessage, EncMessage, Sign1Message
from pycose.messages.recipient import DirectKeyAgreement

from edge.errors import EvidenceError
from edge.evidence import cose, messages
from edge.evidence.portrait import PORTRAIT_AAD, open_portrait, seal_portrait
from tests.evidence_samples import key_file, sample_claims

AAD = b"vouch/result/1"


def foreign_key(public_key, *, private=None, ops=None):
    numbers = public_key.public_numbers()
    return EC2Key(
        crv=P256,
        x=numbers.x.to_bytes(32, "big"),
        y=numbers.y.to_bytes(32, "big"),
        d=b"" if private is None else private.private_numbers().private_value.to_bytes(32, "big"),
        optional_params={} if ops is None else {"KEY_OPS": ops},
    )


def test_pycose_verifies_our_result(tmp_path):
    signer = key_file(tmp_path)
    decoded = CoseMessage.decode(messages.build_result(sample_claims(), signer))
    assert isinstance(decoded, Sign1Message)
    assert decoded.get_attr(KID) == signer.key_id
    decoded.key = foreign_key(signer.public_key, ops=[VerifyOp])
    decoded.external_aad = AAD
    assert decoded.verify_signature()
    decoded.external_aad = b"vouch/receipt/1"
    assert not decoded.verify_signature()


def test_we_verify_what_pycose_signs():
    private = ec.generate_private_key(ec.SECP256R1())
    message = Sign1Message(
        phdr={Algorithm: Es256, ContentType: 0}, uhdr={KID: b"11"}, payload=b"from elsewhere", external_aad=AAD
    )
    message.key = foreign_key(private.public_key(), private=private, ops=[SignOp])
    encoded = message.encode()
    assert cose.verify(encoded, private.public_key(), AAD) == b"from elsewhere"
    with pytest.raises(EvidenceError):
        cose.verify(encoded, private.public_key())


def test_our_strict_reader_takes_a_message_that_pycose_writes_in_our_form():
    private = ec.generate_private_key(ec.SECP256R1())
    kid = cose.key_id(private.public_key())
    message = Sign1Message(phdr={Algorithm: Es256, KID: kid}, payload=b"p", external_aad=AAD)
    message.key = foreign_key(private.public_key(), private=private, ops=[SignOp])
    assert cose.open_strict(message.encode(), {kid: private.public_key()}, AAD) == b"p"


def test_pycose_opens_our_sealed_portrait():
    private = ec.generate_private_key(ec.SECP256R1())
    decoded = CoseMessage.decode(seal_portrait(b"\xff\xd8 picture", private.public_key(), context=b"nonce"))
    assert isinstance(decoded, EncMessage)
    decoded.external_aad = PORTRAIT_AAD + b"nonce"
    recipient = decoded.recipients[0]
    recipient.key = foreign_key(private.public_key(), private=private, ops=[DeriveKeyOp])
    assert decoded.decrypt(recipient) == b"\xff\xd8 picture"


def test_we_open_a_portrait_that_pycose_seals():
    private = ec.generate_private_key(ec.SECP256R1())
    recipient = DirectKeyAgreement(
        phdr={Algorithm: EcdhEsHKDF256},
        uhdr={KID: cose.key_id(private.public_key())},
        local_attrs={StaticKey: foreign_key(private.public_key())},
    )
    recipient.local_attrs = {StaticKey: foreign_key(private.public_key())}
    message = EncMessage(
        phdr={Algorithm: A256GCM},
        uhdr={IV: bytes(12)},
        payload=b"\xff\xd8 picture",
        external_aad=PORTRAIT_AAD + b"nonce",
        recipients=[recipient],
    )
    recipient._setup_ephemeral_key(foreign_key(private.public_key()))
    assert open_portrait(message.encode(), private, context=b"nonce") == b"\xff\xd8 picture"
