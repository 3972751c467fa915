"""A carrier's answer to a request, and how to make it a wrong one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edge.evidence import messages
from edge.evidence.signer import KeyFile
from edge.provisioning import enrolment
from edge.provisioning.enrolment import Bundle, Request
from simulator.carrier.pki import CarrierPki, issue_terminal_certificate
from simulator.carrier.server import reference_policy

CODE = "0123-4567-89AB"


def der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def bundle_of(
    pki: CarrierPki, request: Request, *, broker=("localhost", 8883), now: datetime | None = None, **changes
) -> Bundle:
    now = now or datetime.now(UTC)
    certificate = issue_terminal_certificate(pki, request.csr, request.terminal_id.hex(), now=now)
    bundle = Bundle(
        terminal_id=request.terminal_id,
        request=request.digest,
        iat=int(now.timestamp()),
        code_tag=enrolment.code_tag(CODE, request),
        certificate=der(certificate),
        authorities=(der(pki.ca.read_bytes()),),
        broker_host=broker[0],
        broker_port=broker[1],
        site=request.site or "shop-1",
        trust=pki.trust.read_bytes(),
        policy=messages.build_policy(reference_policy(), KeyFile(pki.signing_key)),
    )
    return replace(bundle, **changes)


def signed_bundle(pki: CarrierPki, request: Request, *, root=None, **changes) -> bytes:
    """Fits CODE; `changes` are fields of the bundle, or `broker` and `now`."""
    return enrolment.build_bundle(bundle_of(pki, request, **changes), KeyFile(root or pki.root_key))
