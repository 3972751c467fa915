"""Until when the uplink's certificate and the carrier's CA hold: read by the uplink, and by `vouch doctor` as root."""

from __future__ import annotations

from cryptography import x509

from edge.config import UplinkSettings
from edge.ipc import Papers


def read_papers(settings: UplinkSettings) -> Papers | None:
    """None where a file cannot be read or is no certificate: connecting tells why."""
    try:
        own = x509.load_pem_x509_certificate(settings.certificate.read_bytes())
        authorities = x509.load_pem_x509_certificates(settings.ca.read_bytes())
    except (OSError, ValueError):
        return None
    until_s = [max(0, int(one.not_valid_after_utc.timestamp())) for one in (own, *authorities)]
    return Papers(until_s[0], max(until_s[1:]))
