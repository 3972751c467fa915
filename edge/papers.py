"""When the uplink's certificate and the carrier's CA hold: read by the uplink, and by `vouch doctor` as root."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

from edge import durable
from edge.config import UplinkSettings
from edge.ipc import Papers

CERTIFICATES_MAX = 2**20  # bytes of a PEM file: a system's whole list of authorities is a quarter of that


def read_papers(settings: UplinkSettings) -> Papers | None:
    """None where a file cannot be read or is no certificate: connecting tells why."""
    try:
        own = x509.load_pem_x509_certificate(durable.read_plain(settings.certificate, CERTIFICATES_MAX, linked=True))
        authorities = x509.load_pem_x509_certificates(durable.read_plain(settings.ca, CERTIFICATES_MAX, linked=True))
    except (OSError, ValueError):
        return None
    last = max(authorities, key=lambda one: one.not_valid_after_utc)
    begin = max(own.not_valid_before_utc, last.not_valid_before_utc)
    return Papers(*(_seconds(at) for at in (begin, own.not_valid_after_utc, last.not_valid_after_utc)))


def _seconds(at: datetime) -> int:
    return max(0, int(at.timestamp()))
