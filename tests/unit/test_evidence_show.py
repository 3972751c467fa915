"""`vouch evidence show` and `verify`: words for people, and exit codes 0 valid, 1 invalid, 2 unreadable."""

from datetime import UTC, datetime

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edge import cli
from edge.evidence import cbor, claims, cose, messages
from edge.evidence.messages import PolicyReference, Receipt, ReceiptStatus
from edge.evidence.requests import Request, RequestKind, build_request
from edge.evidence.trust import TrustRecord, build_trust
from edge.provisioning import identity
from edge.provisioning.enrolment import UpdatesOffer
from edge.provisioning.retirement import Retired, build_retired
from edge.session.decision import Policy, Reason
from simulator.carrier.pki import create_pki
from tests.evidence_samples import NOW, TERMINAL, challenge, key_file, public_pem, result, sample_claims
from tests.support.enrolment import signed_bundle


@pytest.fixture
def signer(tmp_path):
    return key_file(tmp_path)


@pytest.fixture
def key(tmp_path, signer):
    path = tmp_path / "public.pem"
    path.write_bytes(public_pem(signer.public_key))
    return path


@pytest.fixture
def saved(tmp_path):
    def save(message):
        path = tmp_path / "message.cose"
        path.write_bytes(message)
        return path

    return save


def vouch(*arguments):
    return cli.main(["evidence", *map(str, arguments)])


def samples(signer):
    session = result(reasons=(Reason.STAFF_ASSIST,))
    receipt = Receipt(
        terminal_id=TERMINAL, cti=bytes(16), counter=1, digest=bytes(32), status=ReceiptStatus.ACCEPTED, iat=NOW
    )
    order = challenge(policy=PolicyReference("shop-default", 7), portrait=bytes(500))
    retired = Retired(terminal_id=TERMINAL, counter=1, digest=bytes(32), lost=0, iat=NOW, forced=False)
    return {
        "result": messages.build_result(sample_claims(session), signer),
        "challenge": messages.build_challenge(order, signer),
        "receipt": messages.build_receipt(receipt, signer),
        "policy": messages.build_policy(Policy("shop-default", 7, b""), signer),
        "request": build_request(
            Request(terminal_id=TERMINAL, id=bytes(16), kind=RequestKind.TICKETS, tickets=3), signer
        ),
        "trust": build_trust(TrustRecord(2, (signer.public_key,), 30), signer),
        "retired": build_retired(retired, signer),
    }


KINDS = ["result", "challenge", "receipt", "policy", "request", "trust", "retired"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_message_is_shown_and_verified(signer, key, saved, capsys, kind):
    file = saved(samples(signer)[kind])
    assert vouch("show", file) == 0
    shown = capsys.readouterr().out
    assert f"{kind}:" in shown
    assert "signature not checked" in shown
    assert vouch("verify", file, "--key", key, "--aad", kind) == 0
    assert f"valid: signed by {signer.key_id.hex()} as {kind}" in capsys.readouterr().out


def test_the_messages_of_an_enrolment_are_shown_and_verified(saved, tmp_path, capsys):
    pki = create_pki(tmp_path / "carrier", now=datetime.now(UTC))
    asked = identity.create(tmp_path / "box", site="shop-7", root=pki.root)
    signers, file = tmp_path / "signer.pem", saved(asked.message)
    signers.write_bytes(public_pem(asked.request.result_key))
    assert vouch("show", file) == 0
    shown = capsys.readouterr().out
    assert "enrol-request:" in shown
    assert f"result key             key {cose.key_id(asked.request.result_key).hex()}" in shown
    assert vouch("verify", file, "--key", signers, "--aad", "enrol-request") == 0
    offer = UpdatesOffer("https://updates.example", b"{}" * 2000)
    file = saved(signed_bundle(pki, asked.request, updates=offer))
    assert file.stat().st_size > cose.MESSAGE_LIMIT
    assert vouch("show", file) == 0
    shown = capsys.readouterr().out
    assert "enrol-bundle:" in shown
    assert "url https://updates.example, root <4000 bytes>" in shown
    assert vouch("verify", file, "--key", pki.root, "--aad", "enrol-bundle") == 0


def test_a_result_is_shown_in_words(signer, saved, capsys):
    vouch("show", saved(samples(signer)["result"]))
    shown = capsys.readouterr().out
    for words in (
        "match (1)",
        "staff-assist (18)",
        "turn-left (1) done",
        "site                   shop-17",
        "2025-11-24T",
    ):
        assert words in shown


@pytest.mark.parametrize("kind", ["none", "challenge", "receipt", "policy"])
def test_a_result_is_invalid_as_anything_else(signer, key, saved, capsys, kind):
    assert vouch("verify", saved(samples(signer)["result"]), "--key", key, "--aad", kind) == 1
    told = capsys.readouterr().out
    assert told == f"invalid: signed by this key, but as result, not as {kind}\n  what to do: give --aad result\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_genuine_message_whose_kind_nobody_named_is_told_by_it(signer, key, saved, capsys, kind):
    assert vouch("verify", saved(samples(signer)[kind]), "--key", key) == 1
    assert f"give --aad {kind}\n" in capsys.readouterr().out


def test_an_altered_message_and_another_key_are_invalid(signer, key, saved, tmp_path, capsys):
    message = samples(signer)["result"]
    assert vouch("verify", saved(message[:-1] + bytes([message[-1] ^ 1])), "--key", key, "--aad", "result") == 1
    key.write_bytes(public_pem(ec.generate_private_key(ec.SECP256R1()).public_key()))
    assert vouch("verify", saved(message), "--key", key, "--aad", "result") == 1
    assert "signature does not hold" in capsys.readouterr().out


def test_a_good_signature_over_content_that_is_not_ours_is_invalid_as_a_result(signer, key, saved):
    assert (
        vouch("verify", saved(cose.sign1(b"\x01", signer, messages.RESULT_AAD)), "--key", key, "--aad", "result") == 1
    )


def test_a_foreign_message_is_valid_without_aad_and_shown_as_bytes(signer, key, saved, capsys):
    protected = cbor2.dumps({1: -7})
    signature = signer.sign(cbor2.dumps(["Signature1", protected, b"", b"hello"]))
    file = saved(cbor2.dumps(cbor2.CBORTag(18, [protected, {4: b"11"}, b"hello", signature])))
    assert vouch("verify", file, "--key", key) == 0
    assert vouch("show", file) == 0
    assert b"hello".hex() in capsys.readouterr().out


def test_a_result_that_breaks_its_form_is_shown_as_invalid(signer, saved, capsys):
    raw = cbor.decode(claims.encode(sample_claims()))
    raw[-70002] = 99
    assert vouch("show", saved(cose.sign1(cbor.encode(raw), signer, messages.RESULT_AAD))) == 1
    assert "decision" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"\xd2\x84", b"hello world, no CBOR", b"\x1f" * 30])
def test_bytes_that_are_no_cbor_are_unreadable(key, saved, content):
    assert vouch("show", saved(content)) == 2
    assert vouch("verify", saved(content), "--key", key) == 2


def test_cbor_that_is_no_cose_is_invalid(key, saved):
    for content in (cbor2.dumps({1: 2}), cbor2.dumps(cbor2.CBORTag(998, [b"", {}, b"", b""]))):
        assert vouch("show", saved(content)) == 1
        assert vouch("verify", saved(content), "--key", key) == 1


def test_a_missing_file_or_key_is_unreadable(signer, key, saved, tmp_path, capsys):
    file = saved(samples(signer)["result"])
    assert vouch("show", tmp_path / "absent") == 2
    assert vouch("verify", tmp_path / "absent", "--key", key) == 2
    assert vouch("verify", file, "--key", tmp_path / "absent.pem") == 2
    assert vouch("verify", file, "--key", file) == 2
    assert "what to do" in capsys.readouterr().err


def test_a_message_cannot_speak_to_the_terminal_that_shows_it(signer, saved, capsys):
    """Control sequences in a payload never reach the screen."""
    vouch("show", saved(cose.sign1(b"\x1b[2J\x07", signer, b"")))
    assert "\x1b" not in capsys.readouterr().out
