"""The carrier as one process: settings in, broker link and HTTP up, until a signal; nothing is decided here."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvicorn

from edge.clock import Clock, SystemClock
from edge.errors import ConfigError, EvidenceError
from edge.evidence.signer import KeyFile
from edge.session.decision import ChallengeKind, Policy
from edge.updates.release import MANIFEST_FILE, POLICY_TARGET
from simulator.carrier.api import create_app
from simulator.carrier.link import BrokerAddress, CarrierLink
from simulator.carrier.pki import CarrierPki, create_pki, open_pki
from simulator.carrier.service import Carrier
from simulator.carrier.store import Store
from simulator.carrier.updates_door import UpdatesDoor

_LOG = logging.getLogger(__name__)
_HTTP_HOST = "127.0.0.1"
_PUBLISHED = re.compile(r"/([0-9a-f]{64})\.pack\.toml$")
_LINK_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class CarrierSettings:
    """`keys`: folder of the carrier's PKI, made where it is empty. `packs`: SHA-256 of each known pack.toml."""

    keys: Path
    database: Path
    broker_host: str
    broker_port: int
    http_port: int = 0  # 0: any free one
    ca: Path | None = None  # TLS files for the broker; None: those of `keys`
    certificate: Path | None = None
    key: Path | None = None
    policy: Policy | None = None  # None: the reference policy
    packs: tuple[bytes, ...] = ()
    updates: Path | None = None  # the repository that `vouch-sim updates` made; None: no door for updates
    updates_port: int = 0  # 0: any free one


def reference_policy() -> Policy:
    """What a careful carrier would ask for; the digest is made when it is signed."""
    challenges = (ChallengeKind.TURN_LEFT, ChallengeKind.TURN_RIGHT, ChallengeKind.BLINK, ChallengeKind.MOUTH_OPEN)
    return Policy(id="reference", version=1, digest=bytes(32), challenges=challenges, offline_tickets=5)


def serve(settings: CarrierSettings, clock: Clock | None = None) -> None:
    """Run until SIGINT or SIGTERM.

    ConfigError: the HTTP port is taken, or the database cannot be used. LinkError: TLS files do not load.
    """
    clock = clock or SystemClock()
    pki = keys_of(settings.keys, clock)
    door = _listen(settings.http_port)
    store = Store(settings.database)
    address = BrokerAddress(
        settings.broker_host,
        settings.broker_port,
        settings.ca or pki.ca,
        settings.certificate or pki.client_certificate,
        settings.key or pki.client_key,
    )
    link = CarrierLink(address)
    carrier = Carrier(store, pki, KeyFile(pki.signing_key), clock, link.publish)
    carrier.set_policy(settings.policy or reference_policy())
    for digest in settings.packs:
        carrier.add_pack(digest)
    updates = updates_door(settings, pki, carrier)  # before the first result comes
    link.start(carrier.received)
    if not link.wait_up(_LINK_PATIENCE_S):
        _LOG.warning("no broker at %s:%d yet; trying on", address.host, address.port)
    app = create_app(
        carrier, store, pki, clock, link_is_up=lambda: link.is_up, broker=(settings.broker_host, settings.broker_port)
    )
    print(f"carrier page http://{_HTTP_HOST}:{door.getsockname()[1]}/", flush=True)
    try:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
        server.run(sockets=[door])
    finally:
        if updates is not None:
            updates.stop()
        link.stop()
        store.close()


def keys_of(folder: Path, clock: Clock) -> CarrierPki:
    """The carrier's keys; made where the folder is empty."""
    if (folder / "ca.pem").exists():
        return open_pki(folder)
    return create_pki(folder, now=datetime.fromtimestamp(clock.utc(), UTC))


def _learner(updates: Path, carrier: Carrier) -> Callable[[], None]:
    """What tells the carrier of all that lies in its update repository: results under that raise no alarm.

    A pack's digest is in the name of its manifest; a policy counts where the carrier's keys signed it. Any thread may
    call; what was seen is not read again.
    """
    seen: set[Path] = set()
    one_at_a_time = threading.Lock()

    def learn() -> None:
        with one_at_a_time:
            for path in set(updates.glob(f"targets/pack/*.{MANIFEST_FILE}")) - seen:
                if found := _PUBLISHED.search(str(path)):
                    carrier.add_pack(bytes.fromhex(found[1]))
                seen.add(path)
            for path in set(updates.glob(f"targets/*.{POLICY_TARGET}")) - seen:
                try:
                    carrier.learn_policy(path.read_bytes())
                except (EvidenceError, OSError) as exc:
                    _LOG.warning("%s is no policy of this carrier, results under it raise alarms: %s", path, exc)
                seen.add(path)

    return learn


def updates_door(settings: CarrierSettings, pki: CarrierPki, carrier: Carrier) -> UpdatesDoor | None:
    """The door of the settings' repository, open; None where they name none. ConfigError where it cannot be served."""
    if settings.updates is None:
        return None
    learn = _learner(settings.updates, carrier)
    learn()
    try:
        # Whatever a terminal asks for, the carrier knows what is there before the terminal has it.
        door = UpdatesDoor(settings.updates, pki, settings.updates_port, on_file=lambda _path: learn())
    except OSError as exc:
        raise ConfigError(f"updates cannot be served: {exc}", todo="check --updates and --updates-port") from exc
    # Enrolments bring both to the terminals from now on.
    pki.updates_root.write_bytes((settings.updates / "metadata" / "1.root.json").read_bytes())
    pki.updates_url.write_text(door.url, encoding="utf-8")
    door.start()
    print(f"updates {door.url}", flush=True)
    return door


def _listen(port: int) -> socket.socket:
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((_HTTP_HOST, port))
        door.listen()  # whoever reads the address below may call at once, and waits for the server
    except OSError as exc:
        door.close()
        raise ConfigError(f"port {port} of {_HTTP_HOST} cannot be used: {exc.strerror}", todo="name another") from exc
    return door
