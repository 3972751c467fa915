"""edge/CARRIER.md is for engineers who will not read our code: its own code, bytes and tables must be true."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.clock import SystemClock
from edge.drivers.board import BoardHealth
from edge.errors import EvidenceError
from edge.evidence import messages, requests
from edge.evidence.signer import key_id
from edge.evidence.trust import TRUST_AAD
from edge.ipc import Down, LinkState, Up
from edge.provisioning import retirement
from edge.terminal.status import status_message
from edge.vision.pack import Pack
from tests.evidence_samples import POLICY, TERMINAL, key_file, sample_claims

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "edge/CARRIER.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    """What an engineer who copies the page's code has."""
    copied: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(block, copied)
    return copied


def printed() -> tuple[ec.EllipticCurvePublicKey, bytes]:
    pem, content = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
    key = serialization.load_pem_public_key(pem.encode())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key, bytes.fromhex(content)


def test_the_printed_result_is_one_and_the_pages_code_reads_in_it_what_ours_reads(theirs):
    key, message = printed()
    claims, read = messages.open_result(message, key), theirs["open_message"](message, key, b"vouch/result/1")
    assert (read[10], read[-70009], read[-70002]) == (claims.nonce, claims.counter, claims.outcome.value)
    assert read[256] == b"\x01" + claims.terminal_id


@pytest.mark.parametrize("purpose", [b"vouch/receipt/1", b""])
def test_the_pages_code_refuses_another_purpose(theirs, purpose):
    key, message = printed()
    with pytest.raises(InvalidSignature):
        theirs["open_message"](message, key, purpose)


def test_the_pages_code_refuses_a_bit_that_was_turned_wherever_it_is(theirs):
    key, message = printed()
    for at in range(0, len(message), 7):
        turned = message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]
        with pytest.raises(Exception):  # noqa: B017  the page promises no more
            theirs["open_message"](turned, key, b"vouch/result/1")


def test_a_terminal_takes_the_pages_challenge_and_its_receipt_for_a_result_of_its_own(theirs, tmp_path):
    carrier, terminal = ec.generate_private_key(ec.SECP256R1()), key_file(tmp_path)
    keys = {key_id(carrier.public_key()): carrier.public_key()}
    nonce, sent = theirs["order"](TERMINAL, "A-1", carrier)
    challenge = messages.parse_challenge(sent, keys, TERMINAL, SystemClock())
    assert (challenge.nonce, challenge.order) == (nonce, "A-1")
    message = messages.build_result(sample_claims(), terminal)
    result = theirs["open_message"](message, terminal.public_key, b"vouch/result/1")
    receipt = messages.parse_receipt(theirs["receipt"](TERMINAL, result, message, 1, carrier), keys, TERMINAL)
    assert receipt.digest == hashlib.sha256(message).digest()
    assert receipt.status is messages.ReceiptStatus.ACCEPTED
    with pytest.raises(EvidenceError):
        messages.parse_receipt(theirs["receipt"](bytes(16), result, message, 1, carrier), keys, TERMINAL)


def test_every_topic_and_purpose_is_on_the_page_and_no_other():
    named = set(re.findall(r"`fv1/(?:up|dn)/T/(\w+)`", TEXT))
    assert named == {topic.value for topic in (*Up, *Down)}
    purposes = {purpose.encode() for purpose in re.findall(r"`(vouch/[\w/-]+)`", TEXT)}
    assert purposes == {
        *(messages.RESULT_AAD, messages.CHALLENGE_AAD, messages.RECEIPT_AAD, messages.POLICY_AAD),
        *(requests.REQUEST_AAD, TRUST_AAD, retirement.RETIRED_AAD),
    }


def test_the_status_table_names_every_field():
    pack = Pack.load(REPOSITORY / "models")
    status = json.loads(
        status_message(
            state="idle",
            fault=None,
            pack=pack,
            policy=POLICY,
            pending=0,
            boot=1,
            uptime_s=1.0,
            clock_synchronised=True,
            link=LinkState.UP,
            refused_messages=0,
            camera_age_s=0.1,
            board=BoardHealth(None, None, None, None),
            tickets=0,
            updates={},
            trust=1,
            provisioned=True,
        )
    )
    table = TEXT[TEXT.index("## Status") : TEXT.index("## Try it")]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {field for row in rows for field in re.findall(r"`(\w+)`", row)} == set(status)
