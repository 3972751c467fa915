"""The carrier's keys and certificates."""

import itertools
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.config import load
from edge.errors import ProvisioningError
from edge.evidence import cose
from edge.evidence.signer import KeyFile, key_id
from edge.evidence.trust import Trust, decode_trust
from edge.provisioning import identity, installation
from simulator.carrier.pki import (
    CARRIER_CLIENT,
    create_pki,
    issue_terminal_certificate,
    load_public_key,
    open_pki,
    rotate_signing_key,
)
from tests.support.enrolment import CODE, signed_bundle

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TERMINAL = "0123456789abcdef" * 2


def request(name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.DER)


def test_every_private_key_can_be_read_by_its_owner_alone(tmp_path):
    pki = create_pki(tmp_path / "keys", now=NOW)
    for path in (pki.ca_key, pki.broker_key, pki.client_key, pki.signing_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(pki.folder.stat().st_mode) == 0o700


def test_a_folder_with_keys_is_never_overwritten(tmp_path):
    pki = create_pki(tmp_path, now=NOW)
    before = pki.ca_key.read_bytes()
    with pytest.raises(ProvisioningError):
        create_pki(tmp_path, now=NOW)
    assert pki.ca_key.read_bytes() == before
    assert open_pki(tmp_path) == pki


def test_a_folder_that_lost_its_ca_keeps_its_keys(tmp_path):
    pki = create_pki(tmp_path, now=NOW)
    pki.ca.unlink()
    keys = {path: path.read_bytes() for path in tmp_path.glob("*.key.pem")}
    with pytest.raises(ProvisioningError, match="exists"):
        create_pki(tmp_path, now=NOW)
    assert {path: path.read_bytes() for path in keys} == keys


def test_an_incomplete_folder_is_refused_and_the_missing_file_named(tmp_path):
    pki = create_pki(tmp_path, now=NOW)
    pki.signing_key.unlink()
    with pytest.raises(ProvisioningError, match=r"signing\.key\.pem"):
        open_pki(tmp_path)


def test_the_broker_certificate_names_the_loopback_hosts_and_serves_only_as_server(tmp_path):
    pki = create_pki(tmp_path, now=NOW)
    certificate = x509.load_pem_x509_certificate(pki.broker_certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    ssl.create_default_context(cafile=str(pki.ca))  # Python reads the CA too


def test_a_terminal_certificate_carries_its_id_and_the_requests_key(tmp_path):
    pki = create_pki(tmp_path, now=NOW)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = x509.load_pem_x509_certificate(
        issue_terminal_certificate(pki, request(TERMINAL, key), TERMINAL, now=NOW)
    )
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(pki.ca.read_bytes()))
    assert certificate.subject.rfc4514_string() == f"CN={TERMINAL}"
    assert certificate.public_key() == key.public_key()
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("name", [CARRIER_CLIENT, "localhost", TERMINAL.upper(), TERMINAL + "\n", TERMINAL[:-1]])
def test_a_request_for_another_roles_name_is_refused(tmp_path, name):
    pki = create_pki(tmp_path, now=NOW)
    with pytest.raises(ProvisioningError):
        issue_terminal_certificate(pki, request(name, ec.generate_private_key(ec.SECP256R1())), name, now=NOW)


def test_a_request_for_another_terminals_name_is_refused(tmp_path):
    pki = create_pki(tmp_path, now=NOW)
    csr = request(TERMINAL, ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ProvisioningError):
        issue_terminal_certificate(pki, csr, TERMINAL[::-1], now=NOW)


def test_a_request_with_another_curve_or_no_request_at_all_is_refused(tmp_path):
    pki = create_pki(tmp_path, now=NOW)
    for wrong in (request(TERMINAL, ec.generate_private_key(ec.SECP384R1())), b"", b"-----BEGIN", pki.ca.read_bytes()):
        with pytest.raises(ProvisioningError):
            issue_terminal_certificate(pki, wrong, TERMINAL, now=NOW)


def enrolled(pki, folder, asked=None) -> Trust:
    """Whom the terminal in this folder believes after it has installed the carrier's answer to its request."""
    asked = asked or identity.create(folder, site="shop", root=pki.root)
    known = load(installation.install(folder, signed_bundle(pki, asked.request), code=CODE)).keys
    return Trust.open(known.carrier_keys, root=known.carrier_root, path=folder / "trust.cbor")


def signing_kid(pki) -> bytes:
    return key_id(load_public_key(pki.signing_public_key.read_bytes()))


@pytest.mark.parametrize("rotations", [1, 2])
def test_a_new_terminal_can_be_enrolled_after_a_rotation(tmp_path, rotations):
    pki = create_pki(tmp_path / "keys", now=NOW)
    for _ in range(rotations):
        rotate_signing_key(pki)
    trust = enrolled(pki, tmp_path / "box")
    assert trust.version == rotations + 1
    assert signing_kid(pki) in trust


@pytest.mark.parametrize("rotations", [1, 2, 5])
def test_a_terminal_that_was_away_takes_the_newest_key_set_after_any_number_of_rotations(tmp_path, rotations):
    pki = create_pki(tmp_path / "keys", now=NOW)
    trust = enrolled(pki, tmp_path / "box")
    for _ in range(rotations):
        former = signing_kid(pki)
        rotate_signing_key(pki)
    assert trust.accept(pki.trust.read_bytes()).version == rotations + 1
    assert set(trust) == {signing_kid(pki), former}


def test_a_terminal_that_was_away_is_renewed_by_bundle_after_two_rotations(tmp_path):
    pki = create_pki(tmp_path / "keys", now=NOW)
    enrolled(pki, tmp_path / "box")
    rotate_signing_key(pki)
    rotate_signing_key(pki)
    asked = identity.ask(tmp_path / "box", site="shop")
    assert signing_kid(pki) in enrolled(pki, tmp_path / "box", asked)


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_rotation_cut_short_leaves_a_carrier_that_works_and_is_ended_by_the_next_call(tmp_path, monkeypatch, cut):
    pki = create_pki(tmp_path, now=NOW)
    former, steps = KeyFile(pki.signing_key), itertools.count(1)
    replace = Path.replace

    def replaced(self: Path, target: Path) -> Path:
        if next(steps) == cut:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replaced)  # how each of its five files comes to its name
    with pytest.raises(KeyboardInterrupt):
        rotate_signing_key(pki)
    monkeypatch.undo()
    kept = decode_trust(cose.parse(open_pki(tmp_path).trust.read_bytes()).payload)
    assert KeyFile(pki.signing_key).key_id == former.key_id
    assert former.public_key in kept.keys
    record = rotate_signing_key(pki)
    now = KeyFile(pki.signing_key).public_key
    assert (record.version, record.keys) == (2, (now, former.public_key))
    assert record == decode_trust(cose.parse(pki.trust.read_bytes()).payload)
    assert load_public_key(pki.signing_public_key.read_bytes()) == now
    assert KeyFile(tmp_path / f"signing-{former.key_id.hex()}.key.pem").public_key == former.public_key
    assert not pki.next_signing_key.exists()
    assert rotate_signing_key(pki).version == 3
