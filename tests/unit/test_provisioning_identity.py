"""Enrolment: keys stay, requests leave, and only the answer to this very request, with its code, is installed."""

import errno
import os
from argparse import Namespace
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from edge import config
from edge.errors import ConfigError, EvidenceError, ProvisioningError, SignerError, StorageError
from edge.evidence import messages
from edge.evidence.signer import KeyFile, load_private_key
from edge.evidence.trust import TrustRecord, build_trust
from edge.provisioning import commands, identity, installation, standing
from edge.provisioning.enrolment import KeyStore, Purpose, UpdatesOffer
from edge.provisioning.standing import Stage
from edge.session.decision import Policy
from simulator.carrier.pki import CarrierPki, create_pki
from tests.support.enrolment import CODE, der, signed_bundle


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> CarrierPki:
    return create_pki(tmp_path_factory.mktemp("carrier") / "keys", now=datetime.now(UTC))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_terminal_enrols_and_its_settings_load(tmp_path, pki):
    asked = identity.create(tmp_path, site="shop-7", root=pki.root, hardware_model="counter-1")
    assert standing.inspect(tmp_path, 0).stage is Stage.REQUESTED
    path = installation.install(tmp_path, signed_bundle(pki, asked.request), code=CODE)
    settings = config.load(path)
    assert settings.terminal_id == asked.request.terminal_id.hex()
    assert (settings.site, settings.hardware_model) == ("shop-7", "counter-1")
    assert settings.uplink.key == tmp_path / "uplink" / "tls.key"
    assert settings.keys.carrier_keys == tmp_path / "carrier"
    assert settings.keys.carrier_root == tmp_path / "root.pem"
    state = standing.inspect(tmp_path, datetime.now(UTC).timestamp())
    assert state.stage is Stage.UNPROVISIONED
    assert 364 < state.certificate.days_left <= 365
    assert (state.carrier_keys, state.trust_version, state.grace_days) == (1, 1, 30)
    assert not state.hardware_key


def test_the_bundle_may_bring_the_root_and_the_place_of_updates(tmp_path, pki):
    asked = identity.create(tmp_path, site="shop-7", root=pki.root)
    offer = UpdatesOffer("https://updates.example:8443", b'{"signed": "by TUF"}')
    settings = config.load(installation.install(tmp_path, signed_bundle(pki, asked.request, updates=offer), code=CODE))
    assert settings.updates.root == tmp_path / "updates" / "root.json"
    assert settings.updates.root.read_bytes() == offer.root
    assert settings.updates.url == offer.url


def test_a_desk_spools_in_its_own_folder_and_a_box_where_its_units_let_it(tmp_path, pki):
    spools = []
    for desk in (True, False):
        folder = tmp_path / str(desk)
        asked = identity.create(folder, site="shop-7", root=pki.root, desk=desk)
        bundle = signed_bundle(pki, asked.request, updates=UpdatesOffer("https://updates.example:8443", b"{}"))
        spools.append(config.load(installation.install(folder, bundle, code=CODE)).updates.spool)
    assert spools == [tmp_path / "True" / "spool", Path("/var/cache/vouch-updates")]


def test_updates_may_come_on_sticks_alone_or_not_at_all(tmp_path, pki):
    asked = identity.create(tmp_path / "a", site="shop-7", root=pki.root)
    bundle = signed_bundle(pki, asked.request, updates=UpdatesOffer("", b"{}"))
    assert config.load(installation.install(tmp_path / "a", bundle, code=CODE)).updates.url is None
    asked = identity.create(tmp_path / "b", site="shop-7", root=pki.root)
    assert (
        config.load(installation.install(tmp_path / "b", signed_bundle(pki, asked.request), code=CODE)).updates is None
    )


@pytest.mark.parametrize(
    "url", ["http://updates.example", "https://", "https://a b", 'https://a"\n[keys]', "file:///etc"]
)
def test_a_place_of_updates_that_the_settings_would_refuse_makes_no_bundle(tmp_path, pki, url):
    asked = identity.create(tmp_path, site="shop-7", root=pki.root)
    with pytest.raises(EvidenceError):
        signed_bundle(pki, asked.request, updates=UpdatesOffer(url, b"{}"))


def test_the_request_says_what_the_carrier_must_know_and_nothing_secret(tmp_path, pki):
    asked = identity.create(tmp_path, root=pki.root)
    request = asked.request
    assert request.purpose is Purpose.ENROL
    assert request.key_store is KeyStore.SOFTWARE
    assert request.result_key == load_private_key(tmp_path / "terminal/result.key").public_key()
    assert request.portrait_key == load_private_key(tmp_path / "terminal/portrait.key").public_key()
    for name in ("terminal/result.key", "terminal/portrait.key", "uplink/tls.key"):
        path = tmp_path / name
        assert path.stat().st_mode & 0o777 == 0o600
        secret = load_private_key(path).private_numbers().private_value.to_bytes(32, "big")
        assert secret not in asked.message
    assert identity.ask(tmp_path).message == asked.message, "the request that waits stays the same"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="cannot be made") as caught:
        identity.create(tmp_path / "taken" / "vouch")
    assert "name another place" in caught.value.todo


@pytest.mark.parametrize("name", ["", "s" * 33, "店" * 11, "a\tb", "\udcff"])
@pytest.mark.parametrize(("field", "option"), [("site", "--site"), ("hardware_model", "--hardware-model")])
def test_a_name_that_the_request_would_refuse_is_refused_before_keys_are_made(tmp_path, field, option, name):
    with pytest.raises(ProvisioningError, match=field.replace("_", " ")) as caught:
        identity.create(tmp_path, **{field: name})
    assert caught.value.todo.startswith(f"give {option} 1 to 32 bytes (10 Chinese characters)")
    assert list(tmp_path.iterdir()) == []


def test_a_chinese_name_that_fits_is_asked_for(tmp_path):
    assert identity.create(tmp_path, site="南京东路旗舰店一二三").request.site == "南京东路旗舰店一二三"


def test_keys_are_never_overwritten(tmp_path, pki):
    identity.create(tmp_path, root=pki.root)
    before = files(tmp_path)
    with pytest.raises(ProvisioningError, match="already holds an identity"):
        identity.create(tmp_path, root=pki.root)
    assert files(tmp_path) == before


def test_a_root_that_is_none_is_refused_before_keys_are_made(tmp_path):
    (tmp_path / "bad.pem").write_text("no key")
    with pytest.raises(ConfigError, match="public key"):
        identity.create(tmp_path / "t", root=tmp_path / "bad.pem")
    assert not (tmp_path / "t").exists()


def test_the_root_may_be_a_certificate(tmp_path, pki):
    key = load_private_key(pki.root_key)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=9))
    (tmp_path / "root.crt").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    asked = identity.create(tmp_path / "t", root=tmp_path / "root.crt")
    assert installation.install(tmp_path / "t", signed_bundle(pki, asked.request), code=CODE).exists()


def foreign_policy(tmp_path) -> bytes:
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(identity.keys.private_pem(ec.generate_private_key(ec.SECP256R1())))
    stranger.chmod(0o600)
    return messages.build_policy(Policy("p", 9, b""), KeyFile(stranger))


WRONG = {
    "another root": "carrier root",
    "another terminal": "this is",
    "an earlier request": "earlier request",
    "a wrong code": "one-time code does not fit",
    "no code typed": "one-time code is missing",
    "no code in it": "brings no one-time code",
    "another key's certificate": "for another key",
    "another name": "names another terminal",
    "another authority": "none of the bundle's authorities",
    "a foreign policy": "unknown key",
    "no certificate": "cannot be read",
    "half of it": "carrier root",
    "an altered byte": "carrier root",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_bundle_that_does_not_fit_changes_nothing_and_says_what_to_do(tmp_path, pki, wrong):
    folder = tmp_path / "t"
    asked = identity.create(folder, site="shop-7", root=pki.root).request
    stranger = identity.create(tmp_path / "stranger", root=pki.root).request
    other = create_pki(tmp_path / "other", now=datetime.now(UTC))
    right = signed_bundle(pki, asked)
    code: str | None = CODE
    match wrong:
        case "another root":
            bundle = signed_bundle(pki, asked, root=other.root_key)
        case "another terminal":
            bundle = signed_bundle(pki, stranger)
        case "an earlier request":
            bundle = signed_bundle(pki, replace(asked, nonce=bytes(16), payload=b"another"))
        case "a wrong code":
            bundle, code = right, "0123-4567-89AC"
        case "no code typed":
            bundle, code = right, None
        case "no code in it":
            bundle = signed_bundle(pki, asked, code_tag=None)
        case "another key's certificate":
            key = ec.generate_private_key(ec.SECP256R1())
            csr = identity.signing_request(key, asked.terminal_id.hex())
            from simulator.carrier.pki import issue_terminal_certificate

            theirs = issue_terminal_certificate(pki, csr, asked.terminal_id.hex(), now=datetime.now(UTC))
            bundle = signed_bundle(pki, asked, certificate=der(theirs))
        case "another name":
            bundle = signed_bundle(pki, asked, certificate=der(pki.client_certificate.read_bytes()))
        case "another authority":
            bundle = signed_bundle(pki, asked, authorities=(der(other.ca.read_bytes()),))
        case "a foreign policy":
            bundle = signed_bundle(pki, asked, policy=foreign_policy(tmp_path))
        case "no certificate":
            bundle = signed_bundle(pki, asked, certificate=b"none")
        case "half of it":
            bundle = right[: len(right) // 2]
        case _:
            bundle = right[:-1] + bytes([right[-1] ^ 1])
    before = files(folder)
    with pytest.raises(ProvisioningError, match=WRONG[wrong]) as caught:
        installation.install(folder, bundle, code=code)
    assert caught.value.todo
    assert files(folder) == before
    assert installation.install(folder, right, code=CODE).exists(), "the right one still works"


def test_a_bundle_works_once(tmp_path, pki):
    asked = identity.create(tmp_path, root=pki.root)
    bundle = signed_bundle(pki, asked.request)
    installation.install(tmp_path, bundle, code=CODE)
    before = files(tmp_path)
    with pytest.raises(ProvisioningError, match="used before"):
        installation.install(tmp_path, bundle, code=CODE)
    identity.ask(tmp_path)  # a new question does not make an old answer good
    with pytest.raises(ProvisioningError, match="earlier request"):
        installation.install(tmp_path, bundle, code=CODE)
    assert before.items() <= files(tmp_path).items()


@pytest.mark.parametrize("typed", ["0123 4567 89ab", "0123456789AB", "o123-4567-89ab", "OI23-4567-89AB"])
def test_a_code_is_taken_as_people_type_it(tmp_path, pki, typed):
    asked = identity.create(tmp_path, root=pki.root)
    assert installation.install(tmp_path, signed_bundle(pki, asked.request), code=typed).exists()


@pytest.mark.parametrize(
    ("wrong", "told", "todo"),
    [("away", "is not there", "vouch renew"), ("closed", "cannot be read: Permission denied", "as root")],
)
def test_a_certificate_that_is_away_or_may_not_be_read_is_said_as_that(tmp_path, monkeypatch, wrong, told, todo):
    def closed(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    if wrong == "closed":
        monkeypatch.setattr(standing.durable, "read_plain", closed)
    with pytest.raises(ProvisioningError, match=told) as caught:
        standing.certificate_state(tmp_path / "tls.crt", 0)
    assert todo in caught.value.todo


def test_by_a_clock_that_stands_before_the_certificate_no_days_are_counted(tmp_path, pki, capsys, monkeypatch):
    asked = identity.create(tmp_path, root=pki.root)
    installation.install(tmp_path, signed_bundle(pki, asked.request), code=CODE)
    options = Namespace(dir=tmp_path, json=False)
    assert commands.status(options) == 0
    assert "days left" in capsys.readouterr().out
    monkeypatch.setattr(commands.time, "time", lambda: 0.0)
    assert commands.status(options) == 0
    told = capsys.readouterr().out
    assert ("is the clock right?" in told, "days left" in told) == (True, False)


# Renewal by file: a terminal whose certificate has ended while it was away.


def enrolled(folder, pki, ago: timedelta):
    asked = identity.create(folder, site="shop-7", root=pki.root)
    installation.install(folder, signed_bundle(pki, asked.request, now=datetime.now(UTC) - ago), code=CODE)
    with (folder / "terminal.toml").open("a") as file:
        file.write("\n[kiosk]\nport = 0\n")


def test_within_the_grace_a_renewal_needs_no_code_and_brings_a_new_key(tmp_path, pki):
    enrolled(tmp_path, pki, timedelta(days=365 + 29))
    assert standing.inspect(tmp_path, datetime.now(UTC).timestamp()).certificate.days_left < -28
    key, settings = (tmp_path / "uplink/tls.key").read_bytes(), (tmp_path / "terminal.toml").read_bytes()
    asked = identity.ask(tmp_path)
    assert asked.request.purpose is Purpose.RENEW
    assert (tmp_path / "uplink/tls.key").read_bytes() == key, "the old key stays until the answer is in force"
    installation.install(tmp_path, signed_bundle(pki, asked.request, code_tag=None))
    assert (tmp_path / "uplink/tls.key").read_bytes() != key
    assert (tmp_path / "uplink/tls.key").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "uplink/next.key").exists()
    assert (tmp_path / "terminal.toml").read_bytes() == settings, "what the technician has set stays"
    assert standing.inspect(tmp_path, datetime.now(UTC).timestamp()).certificate.days_left > 364


@pytest.mark.parametrize("key", ["result.key", "portrait.key"])
def test_no_link_in_the_uplinks_folder_makes_a_renewal_carry_the_terminals_own_key_over(tmp_path, pki, key):
    enrolled(tmp_path, pki, timedelta(0))
    (tmp_path / "uplink/next.key").symlink_to(f"../terminal/{key}")
    with pytest.raises(SignerError, match="is a link"):
        identity.ask(tmp_path)
    assert (tmp_path / "uplink/tls.key").read_bytes() != (tmp_path / "terminal" / key).read_bytes()


def test_after_the_grace_a_renewal_needs_a_code(tmp_path, pki):
    enrolled(tmp_path, pki, timedelta(days=365 + 31))
    asked = identity.ask(tmp_path)
    with pytest.raises(ProvisioningError, match="grace is over"):
        installation.install(tmp_path, signed_bundle(pki, asked.request, code_tag=None))
    with pytest.raises(ProvisioningError, match="code is missing"):
        installation.install(tmp_path, signed_bundle(pki, asked.request))
    assert installation.install(tmp_path, signed_bundle(pki, asked.request), code=CODE).exists()


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_the_certificate_proves_no_grace_and_is_not_waited_for(tmp_path, pki):
    enrolled(tmp_path, pki, timedelta(0))
    asked = identity.ask(tmp_path)
    (tmp_path / "uplink/tls.crt").unlink()
    os.mkfifo(tmp_path / "uplink/tls.crt")
    with pytest.raises(ProvisioningError, match="grace is over"):
        installation.install(tmp_path, signed_bundle(pki, asked.request, code_tag=None))


def test_a_renewal_brings_a_newer_key_set_and_forgets_the_keys_that_are_out(tmp_path, pki):
    enrolled(tmp_path, pki, timedelta(0))
    asked = identity.ask(tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    new = tmp_path / "new.pem"
    new.write_bytes(identity.keys.private_pem(key))
    new.chmod(0o600)
    trust = build_trust(TrustRecord(2, (key.public_key(),), 5), KeyFile(pki.root_key))
    policy = messages.build_policy(Policy("p", 2, b""), KeyFile(new))
    installation.install(tmp_path, signed_bundle(pki, asked.request, trust=trust, policy=policy), code=CODE)
    state = standing.inspect(tmp_path, datetime.now(UTC).timestamp())
    assert (state.carrier_keys, state.trust_version, state.grace_days) == (1, 2, 5)
    again = identity.ask(tmp_path)
    with pytest.raises(ProvisioningError, match="older than 2"):
        installation.install(tmp_path, signed_bundle(pki, again.request), code=CODE)
