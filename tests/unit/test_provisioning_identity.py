"""Enrolment: keys stay, requests leave, and only a fitting answer is written."""

import datetime as dt
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge import config
from edge.errors import ProvisioningError
from edge.provisioning import identity
from edge.provisioning.identity import Enrolment, EnrolmentRequest


class Authority:
    """A carrier's CA that signs what it is asked to."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])
        self.certificate = self.signed(self.name, self.key.public_key())
        self.carrier_key = ec.generate_private_key(ec.SECP256R1()).public_key()

    def signed(self, subject: x509.Name, key) -> x509.Certificate:
        start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + dt.timedelta(days=3650))
            .sign(self.key, hashes.SHA256())
        )

    def enrol(self, request: EnrolmentRequest) -> Enrolment:
        csr = x509.load_pem_x509_csr(request.csr.encode())
        encoding = serialization.Encoding.PEM
        return Enrolment(
            terminal_id=request.terminal_id,
            broker_host="broker.example",
            broker_port=8883,
            certificate=self.signed(csr.subject, csr.public_key()).public_bytes(encoding).decode(),
            ca=self.certificate.public_bytes(encoding).decode(),
            carrier_keys={
                "carrier-1": self.carrier_key.public_bytes(
                    encoding, serialization.PublicFormat.SubjectPublicKeyInfo
                ).decode()
            },
        )


def test_a_terminal_enrols_and_its_settings_load(tmp_path: Path) -> None:
    request = identity.create(tmp_path, site="shop-7")
    answer = Authority().enrol(request)
    path = identity.install(
        tmp_path, identity.parse_enrolment(json.dumps(asdict(answer))), fingerprint=answer.fingerprint
    )
    settings = config.load(path)
    assert settings.terminal_id == request.terminal_id
    assert settings.uplink.key == tmp_path / "uplink" / "tls.key"
    assert settings.keys.carrier_keys == tmp_path / "carrier"


def test_private_keys_are_for_their_owner_only_and_the_request_holds_none(tmp_path: Path) -> None:
    identity.create(tmp_path, site="shop-7")
    for name in ("terminal/result.key", "terminal/portrait.key", "uplink/tls.key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in (tmp_path / "request.json").read_text()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ProvisioningError, match="cannot be made") as caught:
        identity.create(tmp_path / "taken" / "vouch", site="shop-7")
    assert "--dir" in caught.value.todo


@pytest.mark.parametrize("site", ["", "s" * 33])
def test_a_site_that_the_settings_would_refuse_is_refused_before_keys_are_made(tmp_path: Path, site: str) -> None:
    with pytest.raises(ProvisioningError, match="characters"):
        identity.create(tmp_path, site=site)
    assert list(tmp_path.iterdir()) == []


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    identity.create(tmp_path, site="shop-7")
    before = (tmp_path / "terminal/result.key").read_bytes()
    with pytest.raises(ProvisioningError, match="already holds an identity"):
        identity.create(tmp_path, site="shop-7")
    assert (tmp_path / "terminal/result.key").read_bytes() == before


def test_an_interrupted_creation_starts_again(tmp_path: Path) -> None:
    identity.create(tmp_path, site="shop-7")
    (tmp_path / "terminal/result.key").unlink()  # written last: its absence is a creation that was cut off
    assert identity.create(tmp_path, site="shop-7").site == "shop-7"


@pytest.mark.parametrize("broken", ["fingerprint", "terminal", "certificate", "key", "later key", "authority"])
def test_an_answer_that_does_not_fit_writes_nothing(tmp_path: Path, broken: str) -> None:
    request = identity.create(tmp_path, site="shop-7")
    authority, other = Authority(), Authority()
    answer = authority.enrol(request)
    stranger = identity.create(tmp_path / "stranger", site="shop-8")
    changed = {
        "fingerprint": answer,
        "terminal": replace(answer, terminal_id=stranger.terminal_id),
        "certificate": replace(answer, certificate=authority.enrol(stranger).certificate),
        "key": replace(answer, carrier_keys={"carrier-1": "no key"}),
        "later key": replace(answer, carrier_keys={**answer.carrier_keys, "z": "no key"}),
        "authority": replace(answer, ca=other.enrol(request).ca),
    }[broken]
    fingerprint = "0" * 16 if broken == "fingerprint" else changed.fingerprint
    with pytest.raises(ProvisioningError) as caught:
        identity.install(tmp_path, changed, fingerprint=fingerprint)
    assert caught.value.todo
    assert not (tmp_path / "terminal.toml").exists()
    assert not (tmp_path / "carrier").exists()
    assert not (tmp_path / "uplink" / "tls.crt").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"terminal_id": 1}', "\x00"])
def test_a_file_that_no_carrier_wrote_is_refused(text: str) -> None:
    with pytest.raises(ProvisioningError):
        identity.parse_enrolment(text)


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    request = identity.create(tmp_path, site="shop-7")
    answer = asdict(Authority().enrol(request))
    answer["carrier_keys"] = {"../../evil": answer["carrier_keys"]["carrier-1"]}
    with pytest.raises(ProvisioningError):
        identity.parse_enrolment(json.dumps(answer))
