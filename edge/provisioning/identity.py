"""The terminal's identity in a folder: its keys, its request to the carrier, the checked installation of the answer.

Keys are made here and never leave. Layout (result and portrait key are for the terminal process only, the TLS key for
the uplink only; with a token there is no result.key):

    root.pem  identity.toml  request.cose  terminal.toml
    terminal/result.key  terminal/portrait.key
    uplink/tls.key  uplink/tls.crt  uplink/ca.crt  uplink/next.key (while a renewal by file is under way)
    carrier/*.pem  carrier/trust.cose  carrier/policy.cose
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge import __version__, config, durable
from edge.config import ROOT, IdentitySettings
from edge.errors import ConfigError, EvidenceError, ProvisioningError
from edge.evidence import cose, messages
from edge.evidence.signer import TOKEN_LABEL, Signer, Token, key_id, load_private_key, make_token_key
from edge.evidence.trust import INSTALLED, INSTALLED_POLICY, TrustRecord, decode_trust, load_root, parse_trust
from edge.provisioning import enrolment, keys, redo
from edge.provisioning.enrolment import Bundle, KeyStore, Purpose, Request
from edge.provisioning.redo import Change

SITE_LIMIT = 32  # as config.Settings.site
IDENTITY = "identity.toml"
REQUEST = "request.cose"
SETTINGS = "terminal.toml"
UPDATES_ROOT = "updates/root.json"
_DAY_S = 86400


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it lies in the folder."""

    request: Request
    message: bytes


def create(
    folder: Path,
    *,
    site: str | None = None,
    terminal_id: str | None = None,
    hardware_model: str = "vouch-dev",
    token: Token | None = None,
    root: Path | None = None,
) -> Asked:
    """Make keys and request. `token` None: a software key, which every result will tell. `root` is copied to root.pem.

    1. No identity is there: keys are never overwritten. 2. The root is one, where it is given. 3. The keys are made,
    and the result key is tried. 4. identity.toml, last: it marks a whole identity; without it all this begins anew.
    ProvisioningError, ConfigError, SignerError, StorageError.
    """
    redo.resume(folder)
    if (folder / IDENTITY).exists():  # 1
        raise ProvisioningError(
            f"{folder} already holds an identity",
            todo="keep it, or reset the terminal first (vouch reset): its keys cannot come back",
        )
    if site is not None and not 1 <= len(site) <= SITE_LIMIT:
        raise ProvisioningError(
            f"a site's name of {len(site)} characters", todo=f"give --site 1 to {SITE_LIMIT} characters"
        )
    if root is not None:  # 2
        load_root(root)
        durable.write(folder / ROOT, root.read_bytes(), durable.PUBLIC)
    terminal_id = terminal_id or secrets.token_hex(16)
    for name in ("terminal/portrait.key", "uplink/tls.key"):  # 3
        durable.write(folder / name, keys.private_pem(keys.new_key()), durable.SECRET)
    if token is None:
        durable.write(folder / "terminal/result.key", keys.private_pem(keys.new_key()), durable.SECRET)
    else:
        make_token_key(token)
    text = _identity_text(terminal_id, hardware_model, token)
    draft = folder / f".{IDENTITY}.draft"
    durable.write(draft, text.encode(), durable.PUBLIC)
    with keys.opened(config.load_identity(draft).keys) as signer:
        keys.prove(signer)
    durable.write(folder / IDENTITY, text.encode(), durable.PUBLIC)  # 4
    durable.remove(draft)
    return ask(folder, site=site)


def ask(folder: Path, *, site: str | None = None) -> Asked:
    """The request that waits for its answer; where none waits, a new one: to enrol, or, once enrolled, to renew.

    A renewal asks for a certificate of a new TLS key, which takes the old one's place with the answer.
    ProvisioningError where there is no identity.
    """
    identity = load_identity(folder)
    former = waiting(folder)
    if former is not None:
        return former
    renew = (folder / SETTINGS).exists()
    tls_path = folder / "uplink" / ("next.key" if renew else "tls.key")
    if renew and not tls_path.exists():
        durable.write(tls_path, keys.private_pem(keys.new_key()), durable.SECRET)
    with keys.opened(identity.keys) as signer:
        message = enrolment.build_request(_request(identity, signer, tls_path, renew=renew, site=site), signer)
    durable.write(folder / REQUEST, message, durable.PUBLIC)
    return Asked(enrolment.parse_request(message), message)


def install(folder: Path, message: bytes, *, code: str | None = None) -> Path:
    """Check the carrier's bundle, then put it in force, all of it or nothing; returns terminal.toml.

    1. An interrupted installation is finished first. 2. The pinned root signed the bundle. 3. It is for this terminal.
    4. It answers the request that waits: a bundle works once. 5. The one-time code fits; a renewal within the grace
    needs none. 6. The certificate is for our TLS key and our name, and one of the authorities signed it. 7. The key
    set is signed by the root or a key in force, and no older than ours. 8. The policy is signed by a key of that set.
    9. All files are written (redo.py), and the request is forgotten. ProvisioningError, ConfigError, StorageError.
    """
    finished = redo.resume(folder)  # 1
    identity = load_identity(folder)
    root = load_root(identity.keys.carrier_root or folder / ROOT)
    todo = "ask the carrier for a bundle for this terminal's present request"
    try:
        bundle = enrolment.parse_bundle(message, {key_id(root): root})  # 2
    except EvidenceError as exc:
        raise ProvisioningError(
            f"the bundle is not signed by this terminal's carrier root: {exc.message}",
            todo="is it this carrier's bundle, and whole? compare the root's fingerprint with the carrier",
        ) from exc
    if bundle.terminal_id.hex() != identity.terminal_id:  # 3
        raise ProvisioningError(
            f"the bundle is for terminal {bundle.terminal_id.hex()}, this is {identity.terminal_id}",
            todo="fetch the bundle made for this terminal",
        )
    asked = waiting(folder)
    if asked is None and finished:
        return folder / SETTINGS
    if asked is None:  # 4
        raise ProvisioningError("no request waits for a bundle: this one was used before", todo=todo)
    if bundle.request != asked.request.digest:
        raise ProvisioningError("the bundle answers an earlier request", todo=todo)
    _check_code(folder, asked.request, bundle, code)  # 5
    try:
        tls_key = _check_certificate(folder, bundle)  # 6
        record = _check_trust(folder, bundle.trust, root)  # 7
        messages.parse_policy(bundle.policy, {key_id(key): key for key in record.keys})  # 8
    except EvidenceError as exc:
        raise ProvisioningError(f"the bundle does not hold: {exc.message}", todo=todo) from exc
    redo.commit(folder, _changes(folder, identity, bundle, record, tls_key))  # 9
    return folder / SETTINGS


def load_identity(folder: Path) -> IdentitySettings:
    """Who this terminal is; ProvisioningError where nobody has made it anybody."""
    try:
        return config.load_identity(folder / IDENTITY)
    except ConfigError as exc:
        if (folder / IDENTITY).exists():
            raise
        raise ProvisioningError(
            f"{folder} holds no identity", todo="run `vouch provision init` first, or name its folder with --dir"
        ) from exc


def signing_request(key: ec.EllipticCurvePrivateKey, terminal_id: str) -> bytes:
    """PKCS#10, DER."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, terminal_id)]))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def _request(identity: IdentitySettings, signer: Signer, tls_path: Path, *, renew: bool, site: str | None) -> Request:
    return Request(
        terminal_id=bytes.fromhex(identity.terminal_id),
        purpose=Purpose.RENEW if renew else Purpose.ENROL,
        nonce=secrets.token_bytes(enrolment.NONCE_SIZE),
        result_key=signer.public_key,
        portrait_key=load_private_key(identity.keys.portrait_key).public_key(),
        csr=signing_request(load_private_key(tls_path), identity.terminal_id),
        hardware_model=identity.hardware_model,
        software_version=__version__,
        key_store=KeyStore.TOKEN if signer.hardware else KeyStore.SOFTWARE,
        site=site,
    )


def waiting(folder: Path) -> Asked | None:
    """The request that waits for its answer; None where none does. ProvisioningError where it is damaged."""
    try:
        message = (folder / REQUEST).read_bytes()
        return Asked(enrolment.parse_request(message), message)
    except FileNotFoundError:
        return None
    except (OSError, EvidenceError) as exc:
        raise ProvisioningError(
            f"the request in {folder} cannot be read: {exc}", todo=f"remove {folder / REQUEST}; a new one is then made"
        ) from exc


def _check_code(folder: Path, request: Request, bundle: Bundle, code: str | None) -> None:
    if code is None and request.purpose is Purpose.RENEW and _within_grace(folder, bundle.iat):
        return
    if bundle.code_tag is None:
        raise ProvisioningError(
            "the bundle brings no one-time code, and this terminal's grace is over",
            todo="ask the carrier for a bundle with a code",
        )
    if code is None:
        raise ProvisioningError("the one-time code is missing", todo="give --code, as the carrier told it to you")
    if not enrolment.code_fits(code, request, bundle.code_tag):
        raise ProvisioningError(
            "the one-time code does not fit this bundle and this terminal's request",
            todo="compare it with what the carrier told you for this very bundle, and type it again",
        )


def _within_grace(folder: Path, iat: int) -> bool:
    """By the carrier's clock in the bundle: ours may be years off after a long time in a cupboard."""
    try:
        trust = decode_trust(cose.parse((folder / "carrier" / INSTALLED).read_bytes()).payload)
        certificate = x509.load_pem_x509_certificate((folder / "uplink" / "tls.crt").read_bytes())
    except (OSError, ValueError, EvidenceError):
        return False
    return iat <= certificate.not_valid_after_utc.timestamp() + trust.grace_days * _DAY_S


def _check_certificate(folder: Path, bundle: Bundle) -> Path:
    """Our key file that the certificate is for."""
    todo = "ask the carrier for a certificate for this terminal's present request"
    try:
        certificate = x509.load_der_x509_certificate(bundle.certificate)
        authorities = [x509.load_der_x509_certificate(der) for der in bundle.authorities]
        names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
        signed = any(_is_issued_by(certificate, authority) for authority in authorities)
        public = certificate.public_key()
    except Exception as exc:  # whatever cryptography raises on a foreign file is one fault to the technician
        raise ProvisioningError("the certificate or an authority cannot be read", todo=todo) from exc
    if not signed:
        raise ProvisioningError("none of the bundle's authorities signed the certificate", todo=todo)
    if names != [bundle.terminal_id.hex()]:
        raise ProvisioningError("the certificate names another terminal", todo=todo)
    for name in ("next.key", "tls.key"):
        path = folder / "uplink" / name
        if path.exists() and load_private_key(path).public_key() == public:
            return path
    raise ProvisioningError("the certificate is for another key", todo=todo)


def _is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001 - as above: a signature that does not hold has several exceptions
        return False
    return True


def _check_trust(folder: Path, message: bytes, root: ec.EllipticCurvePublicKey) -> TrustRecord:
    known = {key_id(root): root}
    floor = 0
    installed = folder / "carrier" / INSTALLED
    if installed.exists():
        before = decode_trust(cose.parse(installed.read_bytes()).payload)
        known |= {key_id(key): key for key in before.keys}
        floor = before.version
    record = parse_trust(message, known)
    if record.version < floor:
        raise EvidenceError(f"key set version {record.version} is older than {floor}")
    return record


def _changes(
    folder: Path, identity: IdentitySettings, bundle: Bundle, record: TrustRecord, tls_key: Path
) -> list[Change]:
    """Settings that a technician changed survive a renewal; of the carrier's keys only the new set remains."""
    named = {f"carrier/{key_id(key).hex()}.pem": keys.public_pem(key) for key in record.keys}
    former = {f"carrier/{path.name}" for path in (folder / "carrier").glob("*.pem")} - named.keys()
    authorities = b"".join(_pem(der) for der in bundle.authorities)
    changes = [
        *(Change(name, pem) for name, pem in named.items()),
        *(Change(name, None) for name in sorted(former)),
        Change(f"carrier/{INSTALLED}", bundle.trust),
        Change(f"carrier/{INSTALLED_POLICY}", bundle.policy),
        Change("uplink/ca.crt", authorities),
        Change("uplink/tls.crt", _pem(bundle.certificate)),
    ]
    if tls_key.name == "next.key":
        changes += [Change("uplink/tls.key", tls_key.read_bytes(), durable.SECRET), Change("uplink/next.key", None)]
    if bundle.updates is not None:
        changes.append(Change(UPDATES_ROOT, bundle.updates.root))
    if not (folder / SETTINGS).exists():
        changes.append(Change(SETTINGS, _settings_text(identity, bundle).encode()))
    changes.append(Change(REQUEST, None))
    return changes


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)


def _identity_text(terminal_id: str, hardware_model: str, token: Token | None) -> str:
    return f"""\
# Written when the keys were made. Paths are relative to this file.
terminal_id = "{terminal_id}"
hardware_model = {_toml(hardware_model)}

{_keys_text(token)}"""


def _toml(text: str) -> str:
    """A basic string: TOML's escapes are JSON's, but for pairs of surrogates."""
    return json.dumps(text, ensure_ascii=False)


def _keys_text(token: Token | None) -> str:
    if token is None:
        result = 'result_key = "terminal/result.key"\n'
    else:
        named = {
            "pkcs11_module": str(token.module.absolute()),
            "pkcs11_token": token.label,
            "pkcs11_key": TOKEN_LABEL,
            "pkcs11_pin_file": str(token.pin_file.absolute()),
        }
        result = "".join(f"{name} = {_toml(value)}\n" for name, value in named.items())
    return (
        f'[keys]\n{result}portrait_key = "terminal/portrait.key"\ncarrier_keys = "carrier"\ncarrier_root = "{ROOT}"\n'
    )


def _settings_text(identity: IdentitySettings, bundle: Bundle) -> str:
    return f"""\
# Written at enrolment. Paths are relative to this file.
terminal_id = "{identity.terminal_id}"
site = {_toml(bundle.site)}
hardware_model = {_toml(identity.hardware_model)}

{_keys_text(keys.token_of(identity.keys))}
[uplink]
host = {_toml(bundle.broker_host)}
port = {bundle.broker_port}
ca = "uplink/ca.crt"
certificate = "uplink/tls.crt"
key = "uplink/tls.key"
{_updates_text(bundle)}"""


def _updates_text(bundle: Bundle) -> str:
    if bundle.updates is None:
        return ""
    url = f"url = {_toml(bundle.updates.url)}\n" if bundle.updates.url else ""
    return f'\n[updates]\nroot = "{UPDATES_ROOT}"\n{url}'
