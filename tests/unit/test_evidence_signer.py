"""Signing keys: a file that only its owner reads, and a real PKCS#11 token (SoftHSM2)."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from edge.config import KeySettings
from edge.errors import SignerError
from edge.evidence import cose
from edge.evidence.signer import KeyFile, Pkcs11Signer, load_private_key, open_signer
from tests.evidence_samples import key_file, private_pem

MODULES = [
    Path(folder) / "libsofthsm2.so"
    for folder in ("/usr/lib/softhsm", "/usr/local/lib/softhsm", "/opt/homebrew/lib/softhsm", "/usr/lib64/softhsm")
]
PIN = "123456"


def write(path, data, mode=0o600):
    path.touch(mode)
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_a_key_file_signs_what_its_public_key_verifies(tmp_path):
    signer = key_file(tmp_path)
    assert len(signer.sign(b"data")) == 64
    assert not signer.hardware
    assert signer.key_id == cose.key_id(signer.public_key)
    assert cose.verify(cose.sign1(b"data", signer, b""), signer.public_key) == b"data"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_key_file_that_others_may_touch_is_refused(tmp_path, mode):
    path = write(tmp_path / "key.pem", private_pem(ec.generate_private_key(ec.SECP256R1())), mode)
    with pytest.raises(SignerError, match="open to others") as caught:
        KeyFile(path)
    assert "chmod 600" in caught.value.todo


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("empty", b""),
        ("noise", os.urandom(300)),
        ("half a key", private_pem(ec.generate_private_key(ec.SECP256R1()))[:80]),
        ("P-384", private_pem(ec.generate_private_key(ec.SECP384R1()))),
        ("RSA", private_pem(rsa.generate_private_key(65537, 2048))),
    ],
)
def test_a_file_without_a_p256_key_is_refused(tmp_path, what, data):
    with pytest.raises(SignerError):
        load_private_key(write(tmp_path / "key.pem", data))


def test_a_missing_key_a_folder_and_a_pipe_are_refused(tmp_path):
    with pytest.raises(SignerError, match="cannot be read"):
        KeyFile(tmp_path / "absent.pem")
    with pytest.raises(SignerError):
        KeyFile(tmp_path)


def settings(tmp_path, **changes):
    return KeySettings(portrait_key=tmp_path / "p.pem", carrier_keys=tmp_path, **changes)


def test_the_settings_choose_the_key(tmp_path):
    key_file(tmp_path)
    assert isinstance(open_signer(settings(tmp_path, result_key=tmp_path / "result.pem")), KeyFile)
    with pytest.raises(SignerError, match="no result key"):
        open_signer(settings(tmp_path))
    with pytest.raises(SignerError, match="not fully named"):
        open_signer(settings(tmp_path, pkcs11_module=tmp_path / "x.so"))


@pytest.fixture(scope="module")
def token(tmp_path_factory):
    """A SoftHSM2 token with a P-256 key `result`, a P-384 key `large`; the settings' PIN file beside it."""
    pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
    module = next((path for path in MODULES if path.exists()), None)
    tool = shutil.which("softhsm2-util")
    if module is None or tool is None:
        pytest.skip("SoftHSM2 is not installed")
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    subprocess.run(
        [tool, "--init-token", "--free", "--label", "vouch-test", "--so-pin", "9876", "--pin", PIN],
        check=True,
        capture_output=True,
    )
    from pkcs11.util.ec import encode_named_curve_parameters

    with pkcs11.lib(str(module)).get_token(token_label="vouch-test").open(rw=True, user_pin=PIN) as session:
        for label, curve in (("result", "secp256r1"), ("large", "secp384r1")):
            parameters = session.create_domain_parameters(
                pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}, local=True
            )
            parameters.generate_keypair(store=True, label=label)
    write(folder / "pin", f"{PIN}\n".encode())
    yield settings(
        folder,
        pkcs11_module=module,
        pkcs11_token="vouch-test",
        pkcs11_key="result",
        pkcs11_pin_file=folder / "pin",
    )
    del os.environ["SOFTHSM2_CONF"]


def test_a_token_signs_what_its_public_key_verifies(token):
    signer = open_signer(token)
    assert isinstance(signer, Pkcs11Signer)
    assert signer.hardware
    message = cose.sign1(b"data", signer, b"aad")
    assert cose.verify(message, signer.public_key, b"aad") == b"data"
    assert cose.open_strict(message, {signer.key_id: signer.public_key}, b"aad") == b"data"
    signer.close()


def test_a_token_signs_from_many_threads(token):
    signer = open_signer(token)
    messages = []
    threads = [
        threading.Thread(target=lambda n=n: messages.append(cose.sign1(bytes([n]), signer, b""))) for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(cose.verify(message, signer.public_key) for message in messages) == [bytes([n]) for n in range(16)]
    signer.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pkcs11_token": "absent"}, "NoSuchToken"),
        ({"pkcs11_key": "absent"}, "NoSuchKey"),
        ({"pkcs11_key": "large"}, "not P-256"),
        ({"pkcs11_module": Path("/nonexistent.so")}, "nonexistent"),
    ],
)
def test_a_token_that_does_not_fit_is_refused(token, change, said):
    with pytest.raises(SignerError, match=said) as caught:
        open_signer(token.model_copy(update=change))
    assert caught.value.todo


def test_a_wrong_pin_or_an_open_pin_file_is_refused(token, tmp_path):
    with pytest.raises(SignerError, match="PinIncorrect"):
        open_signer(token.model_copy(update={"pkcs11_pin_file": write(tmp_path / "wrong", b"0000")}))
    with pytest.raises(SignerError, match="open to others"):
        open_signer(token.model_copy(update={"pkcs11_pin_file": write(tmp_path / "open", PIN.encode(), 0o644)}))


def test_a_closed_token_says_that_it_cannot_sign(token):
    signer = open_signer(token)
    signer.close()
    with pytest.raises(SignerError):
        signer.sign(b"data")
