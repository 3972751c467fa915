"""A mosquitto with rules of the test's own choosing, where the simulator's broker is too well-behaved."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator

from simulator.broker import mosquitto_path
from simulator.processes import Child
from tests.support.wires import Place


@contextlib.contextmanager
def mosquitto(
    place: Place, *settings: str, rules: str = "pattern readwrite fv1/+/%u/#\n", cafile: object = None
) -> Iterator[Child]:
    """Mutual TLS as always; `settings` are further lines of its configuration, `rules` its access file."""
    folder = place.config.parent / "odd-broker"
    folder.mkdir(exist_ok=True)
    (folder / "acl").write_text(rules)
    pki, port = place.pki, place.settings.uplink.port
    lines = [
        f"listener {port} 127.0.0.1",
        f"cafile {cafile or pki.ca}",
        f"certfile {pki.broker_certificate}",
        f"keyfile {pki.broker_key}",
        *("require_certificate true", "use_identity_as_username true", "allow_anonymous false"),
        *(f"acl_file {folder / 'acl'}", "persistence false", "log_dest stderr"),
        *(["user root"] if os.geteuid() == 0 else []),
        *settings,
    ]
    (folder / "conf").write_text("\n".join(lines) + "\n")
    child = Child([str(mosquitto_path()), "-c", str(folder / "conf")], folder / "log")
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.03)
        yield child
    finally:
        child.stop()
