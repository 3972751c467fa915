"""Whose messages this terminal believes: the carrier's keys, changed only by signed key sets with rising versions.

trust.cddl beside it is the shape. The set of the enrolment lies in a folder of PEM files; each later one came over the
link, signed by a key of the set before it or by the carrier root, and is kept with its signature: at every start the
chain is walked again from the enrolment on. So a rotation outlives a restart, and none can be planted or turned back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from edge import durable
from edge.config import Settings
from edge.errors import ConfigError, EvidenceError
from edge.evidence import cbor, cose
from edge.evidence.messages import CarrierKeys, load_public_key
from edge.evidence.schema import items, labelled, octets, uint
from edge.evidence.signer import Signer, key_id

TRUST_AAD = b"vouch/trust/1"
KEYS_MAX = 8
GRACE_MAX_DAYS = 366
INSTALLED = "trust.cose"  # beside the PEM files: the set that came with the enrolment
INSTALLED_POLICY = "policy.cose"  # beside them too
_CHAIN_MAX = 64  # rotations since the enrolment; a later enrolment begins a new chain
_CHAIN_BYTES_MAX = _CHAIN_MAX * (cose.MESSAGE_LIMIT + 16)


@dataclass(frozen=True, slots=True)
class TrustRecord:
    """One key set of the carrier.

    `grace_days`: so long after its TLS certificate has expired a terminal may be renewed by file without a new one-time
    code. The terminal was away, not lost.
    """

    version: int  # rises with every set
    keys: tuple[ec.EllipticCurvePublicKey, ...]  # 1..8
    grace_days: int = 0  # 0..366


def build_trust(record: TrustRecord, signer: Signer) -> bytes:
    """Signed bytes of a key set; EvidenceError when a field is out of range."""
    payload = cbor.encode({1: record.version, 2: [cose.cose_key(key) for key in record.keys], 3: record.grace_days})
    decode_trust(payload)
    return cose.sign1(payload, signer, TRUST_AAD)


def parse_trust(message: bytes, keys: Mapping[bytes, ec.EllipticCurvePublicKey]) -> TrustRecord:
    """A key set signed by one of `keys`; EvidenceError otherwise. Whether its version rises is the caller's matter."""
    return decode_trust(cose.open_strict(message, keys, TRUST_AAD))


def decode_trust(payload: bytes) -> TrustRecord:
    """A key set's payload, its signature being checked already; EvidenceError when it is not as trust.cddl says."""
    fields = labelled(cbor.decode(payload), range(1, 4), (), "trust")
    keys = tuple(cose.decode_key(item, "carrier key") for item in items(fields[2], "carrier keys", 1, KEYS_MAX))
    if len({key_id(key) for key in keys}) != len(keys):
        raise EvidenceError("carrier keys: one named twice")
    return TrustRecord(
        version=uint(fields[1], "trust version", 1), keys=keys, grace_days=uint(fields[3], "grace", 0, GRACE_MAX_DAYS)
    )


def load_root(path: Path) -> ec.EllipticCurvePublicKey:
    """The carrier root: a P-256 public key, or a certificate that holds one, in PEM. ConfigError otherwise."""
    try:
        data = durable.read_plain(path, linked=True)
        if b"BEGIN CERTIFICATE" not in data:
            return load_public_key(path)
        key = x509.load_pem_x509_certificate(data).public_key()
    except OSError as exc:
        raise ConfigError(
            f"the carrier root {path} cannot be read: {exc.strerror}", todo="install the carrier's root.pem there"
        ) from exc
    except ValueError as exc:
        raise ConfigError(f"the carrier root {path} is no certificate", todo="install the carrier's root.pem") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(f"the carrier root {path} is not on P-256", todo="ask the carrier for its P-256 root")
    return key


def open_trust(settings: Settings) -> Trust:
    """The keys in force for these settings; ConfigError."""
    return Trust.open(settings.keys.carrier_keys, root=settings.keys.carrier_root, path=settings.trust_path)


class Trust(Mapping[bytes, ec.EllipticCurvePublicKey]):
    """The keys in force, by kid: whoever holds this mapping sees a rotation at once. One thread may `accept`."""

    def __init__(
        self,
        installed: Mapping[bytes, ec.EllipticCurvePublicKey],
        *,
        version: int = 0,
        grace_days: int = 0,
        root: ec.EllipticCurvePublicKey | None = None,
        path: Path | None = None,
    ) -> None:
        """`path`: where accepted sets are kept; None: in memory only. EvidenceError: what is kept does not hold."""
        self._keys = dict(installed)
        self._ever = dict(installed)
        self._root = {key_id(root): root} if root is not None else {}
        self._path = path
        self._chain: list[bytes] = []
        self.version = version
        self.grace_days = grace_days
        if path is not None and path.exists():
            self._walk(_read_chain(path))

    @classmethod
    def open(cls, folder: Path, *, root: Path | None, path: Path) -> Trust:
        """From the enrolment's folder and the chain in the state folder. ConfigError says what is wrong with either."""
        version, grace_days = 0, 0
        installed = folder / INSTALLED
        try:
            if installed.exists():  # checked when it was installed, and as safe as the PEM files beside it
                record = decode_trust(cose.parse(installed.read_bytes()).payload)
                version, grace_days = record.version, record.grace_days
            return cls(
                CarrierKeys.load(folder),
                version=version,
                grace_days=grace_days,
                root=load_root(root) if root is not None and root.exists() else None,
                path=path,
            )
        except (EvidenceError, OSError) as exc:
            raise ConfigError(
                f"the carrier's keys in {folder} or {path} do not hold: {exc}",
                todo=f"install a new bundle of the carrier (vouch renew), then remove {path}",
            ) from exc

    @property
    def ever(self) -> Mapping[bytes, ec.EllipticCurvePublicKey]:
        """Every key that was in force since the enrolment: what was accepted under one stays accepted."""
        return self._ever

    def accept(self, message: bytes) -> TrustRecord:
        """Take a newer key set into force; on the disk when this returns.

        1. Signed by a key in force or by the root. 2. Its version rises: the same bytes again are no error, an older
        set or other bytes under a known version are. 3. Kept, then in force. EvidenceError, StorageError.
        """
        if self._chain and message == self._chain[-1]:
            return decode_trust(cose.parse(message).payload)
        record = parse_trust(message, {**self._keys, **self._root})
        if record.version <= self.version:
            raise EvidenceError(
                f"key set version {record.version} does not follow {self.version}",
                todo="the carrier must send a newer one",
            )
        chain = [*self._chain, message]
        if len(chain) > _CHAIN_MAX:
            raise EvidenceError(f"more than {_CHAIN_MAX} rotations since the enrolment", todo="renew by bundle")
        if self._path is not None:
            durable.write(self._path, cbor.encode(chain), durable.SECRET)
        self._put_in_force(message, record)
        return record

    def __getitem__(self, kid: bytes) -> ec.EllipticCurvePublicKey:
        return self._keys[kid]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def _walk(self, chain: list[bytes]) -> None:
        """Sets that the enrolment at hand already contains or follows are passed over; each other must follow."""
        for message in chain:
            if decode_trust(cose.parse(message).payload).version <= self.version:
                continue
            self._put_in_force(message, parse_trust(message, {**self._keys, **self._root}))

    def _put_in_force(self, message: bytes, record: TrustRecord) -> None:
        self._chain.append(message)
        self._keys = {key_id(key): key for key in record.keys}
        self._ever |= self._keys
        self.version, self.grace_days = record.version, record.grace_days


def _read_chain(path: Path) -> list[bytes]:
    chain = items(cbor.decode(durable.read_plain(path, _CHAIN_BYTES_MAX)), "key sets", 0, _CHAIN_MAX)
    return [octets(message, "key set", 1, cose.MESSAGE_LIMIT) for message in chain]
