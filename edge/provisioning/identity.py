"""The terminal's identity in a folder: its keys and its request to the carrier; the answer is installation.py's.

Keys are made here and never leave. Layout (result and portrait key are for the terminal process only, the TLS key for
the uplink only; with a token there is no result.key):

    root.pem  identity.toml  request.cose  terminal.toml
    terminal/result.key  terminal/portrait.key
    uplink/tls.key  uplink/tls.crt  uplink/ca.crt  uplink/next.key (while a renewal by file is under way)
    carrier/*.pem  carrier/trust.cose  carrier/policy.cose
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge import __version__, config, durable
from edge.config import ROOT, IdentitySettings
from edge.errors import ConfigError, EvidenceError, ProvisioningError
from edge.evidence.schema import text
from edge.evidence.signer import Signer, Token, load_private_key, make_token_key
from edge.evidence.trust import load_root
from edge.provisioning import enrolment, keys, redo
from edge.provisioning.enrolment import KeyStore, Purpose, Request
from edge.provisioning.written import DESK_STICK, identity_text

NAME_LIMIT = 32  # bytes of UTF-8, of site and hardware model: as in the request, see enrolment.py
IDENTITY = config.IDENTITY
REQUEST = "request.cose"
SETTINGS = "terminal.toml"


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
    desk: bool = False,
) -> Asked:
    """Make keys and request. `token` None: a software key, which every result will tell. `root` is copied to root.pem.
    `desk`: see written.py.

    1. No identity is there: keys are never overwritten; and the names fit into a request, so that no half of an
    identity is left. 2. The root is one, where it is given. 3. The keys are made,
    and the result key is tried. 4. identity.toml, last: it marks a whole identity; without it all this begins anew.
    ProvisioningError, ConfigError, SignerError, StorageError.
    """
    redo.resume(folder)
    if (folder / IDENTITY).exists():  # 1
        raise ProvisioningError(
            f"{folder} already holds an identity",
            todo="keep it, or reset the terminal first (vouch reset): its keys cannot come back",
        )
    _check_name(hardware_model, "hardware model", "--hardware-model")
    if site is not None:
        _check_name(site, "site", "--site")
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
    content = identity_text(terminal_id, hardware_model, token, desk=desk).encode()
    draft = folder / f".{IDENTITY}.draft"
    durable.write(draft, content, durable.PUBLIC)
    with keys.opened(config.load_identity(draft).keys) as signer:
        keys.prove(signer)
    if desk:
        durable.make_folder(folder / DESK_STICK)
    durable.write(folder / IDENTITY, content, durable.PUBLIC)  # 4
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


def ask_anew(folder: Path) -> Asked:
    """End the request that waits, if one does: what answers it, and its code, are worth nothing from now on.

    ProvisioningError where there is no identity. After a power cut in the middle none waits, and `ask` makes one.
    """
    former = waiting(folder)
    durable.remove(folder / REQUEST)
    return ask(folder, site=former.request.site if former is not None else None)


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


def _check_name(name: str, what: str, option: str) -> None:
    try:
        text(name, what, NAME_LIMIT)
    except EvidenceError as exc:
        todo = f"give {option} 1 to {NAME_LIMIT} bytes (10 Chinese characters), without control characters"
        raise ProvisioningError(exc.message, todo=todo) from exc


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
