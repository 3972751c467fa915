"""How terminals come to the carrier, stay, and leave: bundles for requests, new certificates, retirements; no network.

The bundle goes one way (stick, file, QR codes), its one-time code another: the carrier tells it to the technician whose
eyes are on the terminal's screen, after both have compared the fingerprint.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7

from edge.errors import ProvisioningError
from edge.evidence.signer import KeyFile
from edge.provisioning import enrolment
from edge.provisioning.enrolment import Bundle, Purpose, Request, UpdatesOffer
from edge.provisioning.retirement import open_retired
from simulator.carrier.pki import CarrierPki, issue_terminal_certificate, load_public_key, public_pem
from simulator.carrier.store import Store, Terminal

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the technician takes along, and the code that is told on another way."""

    request: Request
    site: str
    bundle: bytes
    code: str


def answer(
    pki: CarrierPki, store: Store, message: bytes, *, broker: tuple[str, int], site: str | None, now: int
) -> Answer:
    """Register the terminal and make its bundle. `site` None: as the technician named it in the request.

    1. The request is signed by the result key that it names. 2. A known terminal has the key that we know, and is not
    retired; a renewal is of a known one. 3. Certificate, key set and policy. EvidenceError, ProvisioningError.
    """
    request = enrolment.parse_request(message)  # 1
    terminal_id = request.terminal_id.hex()
    result_key = public_pem(request.result_key).decode()
    known = store.terminal(terminal_id)
    if store.retired_at(terminal_id) is not None:  # 2
        raise ProvisioningError(f"terminal {terminal_id} is retired", todo="reset the terminal: it gets a new identity")
    if known is not None and known.result_key != result_key:
        raise ProvisioningError(
            f"terminal {terminal_id} is known with another result key", todo="somebody else uses its name: look into it"
        )
    if known is None and request.purpose is Purpose.RENEW:
        raise ProvisioningError(f"terminal {terminal_id} was never enrolled here", todo="reset it and enrol it")
    site = site or request.site or (known.site if known else None)
    if site is None:
        raise ProvisioningError("neither the request nor you name a site", todo="give --site")
    policy = store.newest_policy()
    if policy is None:
        raise ProvisioningError("no policy is signed yet", todo="start the carrier once")
    moment = datetime.fromtimestamp(now, UTC)
    certificate = issue_terminal_certificate(pki, request.csr, terminal_id, now=moment)  # 3
    code = enrolment.new_code()
    bundle = Bundle(
        terminal_id=request.terminal_id,
        request=request.digest,
        iat=now,
        code_tag=enrolment.code_tag(code, request),
        certificate=_der(certificate),
        authorities=(_der(pki.ca.read_bytes()),),
        broker_host=broker[0],
        broker_port=broker[1],
        site=site,
        trust=pki.trust.read_bytes(),
        policy=policy,
        updates=_updates(pki),
    )
    signed = enrolment.build_bundle(bundle, KeyFile(pki.root_key))
    portrait_key = public_pem(request.portrait_key).decode()
    store.add_terminal(Terminal(terminal_id, site, result_key, portrait_key, now))
    store.add_enrolment(request.digest, terminal_id, now, message)
    _LOG.info("terminal %s answered at %s, fingerprint %s", terminal_id, site, request.fingerprint)
    return Answer(request, site, signed, code)


def renewed(pki: CarrierPki, store: Store, terminal_id: str, csr: bytes, *, now: int) -> bytes:
    """EST's simple re-enrol (RFC 7030 section 4.2.2): PKCS#10 in, certs-only PKCS#7 out, both DER.

    The broker let the terminal publish under its name: that is the authentication. ProvisioningError as pki.py, and for
    a retired terminal: its certificate ends, and with it the way in for whoever kept a copy of its key.
    """
    if store.retired_at(terminal_id) is not None:
        raise ProvisioningError(f"terminal {terminal_id} is retired", todo="reset the terminal: it gets a new identity")
    certificate = issue_terminal_certificate(pki, csr, terminal_id, now=datetime.fromtimestamp(now, UTC))
    _LOG.info("terminal %s has a new certificate", terminal_id)
    return pkcs7.serialize_certificates([x509.load_pem_x509_certificate(certificate)], serialization.Encoding.DER)


def retired(store: Store, terminal: Terminal, message: bytes, *, now: int) -> None:
    """A terminal's last word, signed by its result key; EvidenceError where it is not."""
    record = open_retired(message, load_public_key(terminal.result_key.encode()))
    if record.terminal_id.hex() != terminal.id:
        raise ProvisioningError(f"a record that names {record.terminal_id.hex()}")
    store.retire(terminal.id, now, message)
    _LOG.info("terminal %s is retired after result %d, %d lost", terminal.id, record.counter, record.lost)


def _updates(pki: CarrierPki) -> UpdatesOffer | None:
    if not pki.updates_root.exists():
        return None
    return UpdatesOffer(pki.updates_url.read_text(encoding="utf-8"), pki.updates_root.read_bytes())


def _der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
