"""A result key that no file holds: enrolled, signing and destroyed in SoftHSM2 and in an emulated TPM 2.0."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.evidence.signer import KeyFile
from edge.provisioning import enrolment, retirement
from edge.provisioning.enrolment import KeyStore
from simulator.carrier.pki import create_pki
from tests.support.enrolment import CODE, signed_bundle
from tests.support.tokens import flush, softhsm, tpm

pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
REPOSITORY = Path(__file__).resolve().parents[2]

SIGN = """
import sys
from pathlib import Path
from edge.config import load
from edge.evidence import cose
from edge.evidence.signer import open_signer
signer = open_signer(load(Path(sys.argv[1])).keys)
assert signer.hardware
sys.stdout.buffer.write(cose.sign1(b"a result", signer, b"vouch/result/1"))
"""
OBJECTS = """
import sys, pkcs11
token = pkcs11.lib(sys.argv[1]).get_token(token_label="vouch")
with token.open(user_pin=sys.argv[2]) as session:
    print(len(list(session.get_objects())))
"""


@pytest.fixture(params=[softhsm, tpm], ids=["softhsm2", "tpm2"])
def token(request, tmp_path):
    with request.param(tmp_path / "token") as made:
        yield made


def run(token, *command, check=True, data=None):
    environment = {**os.environ, **token.environment, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, input=data, check=False)
    flush(token)
    assert not check or done.returncode == 0, done.stderr.decode()
    return done


def vouch(token, *arguments, **options):
    return run(token, "-m", "edge.cli", *map(str, arguments), **options)


@pytest.mark.timeout(400)
def test_a_terminal_enrols_signs_and_is_reset_with_its_key_in_a_token(token, tmp_path):
    home = tmp_path / "terminal"
    pki = create_pki(tmp_path / "keys", now=datetime.now(UTC))
    vouch(token, "provision", "init", "--dir", home, "--root", pki.root, "--no-qr", *token.arguments)
    assert not (home / "terminal" / "result.key").exists()
    asked = enrolment.parse_request((home / "request.cose").read_bytes())
    assert asked.key_store is KeyStore.TOKEN
    (tmp_path / "bundle.vouch").write_bytes(signed_bundle(pki, asked))
    vouch(token, "provision", "install", tmp_path / "bundle.vouch", "--dir", home, "--code", CODE)
    settings = home / "terminal.toml"
    settings.write_text(f'state_dir = "{tmp_path / "state"}"\nrun_dir = "run"\n' + settings.read_text())
    status = json.loads(vouch(token, "provision", "status", "--dir", home, "--json").stdout)
    assert status["stage"] == "unprovisioned"
    assert status["hardware_key"] is True
    signed = run(token, "-c", SIGN, str(settings)).stdout
    from edge.evidence import cose

    assert cose.verify(signed, asked.result_key, b"vouch/result/1") == b"a result"
    gone = vouch(token, "reset", "--dir", home, "--out", tmp_path, "--confirm", asked.terminal_id.hex()[:8])
    assert b"this terminal is blank" in gone.stdout
    last = retirement.open_retired(
        (tmp_path / f"{asked.terminal_id.hex()}-retired.cose").read_bytes(), asked.result_key
    )
    assert (last.terminal_id, last.counter, last.lost) == (asked.terminal_id, 0, 0)
    assert run(token, "-c", OBJECTS, str(token.module), "87654321").stdout == b"0\n"
    assert sorted(path.name for path in home.rglob("*") if path.is_file()) == ["root.pem"]
    assert token.pin_file.exists(), "the PIN is the token's, not the identity's"
    again = vouch(token, "provision", "init", "--dir", home, "--no-qr", *token.arguments)
    assert asked.terminal_id.hex().encode() not in again.stdout
    fresh = enrolment.parse_request((home / "request.cose").read_bytes())
    assert fresh.result_key != asked.result_key


@pytest.mark.timeout(300)
def test_a_wrong_pin_or_an_absent_token_is_a_clear_error_and_leaves_no_identity(token, tmp_path):
    home = tmp_path / "terminal"
    token.pin_file.write_text("00000000")
    refused = vouch(token, "provision", "init", "--dir", home, "--no-qr", *token.arguments, check=False)
    assert refused.returncode == 2
    assert b"what to do:" in refused.stderr
    assert not (home / "identity.toml").exists()
    arguments = [*token.arguments[:3], "another", *token.arguments[4:]]
    refused = vouch(token, "provision", "init", "--dir", home, "--no-qr", *arguments, check=False)
    assert refused.returncode == 2
    assert b"'another' cannot be used" in refused.stderr


def test_a_software_key_must_be_declared(tmp_path):
    command = [sys.executable, "-m", "edge.cli", "provision", "init", "--dir", str(tmp_path / "t"), "--no-qr"]
    refused = subprocess.run(command, capture_output=True, check=False, cwd=REPOSITORY)
    assert refused.returncode == 2
    assert b"--software-key" in refused.stderr
    assert not (tmp_path / "t").exists()
    subprocess.run([*command, "--software-key"], check=True, cwd=REPOSITORY, capture_output=True)
    assert KeyFile(tmp_path / "t" / "terminal" / "result.key").hardware is False
