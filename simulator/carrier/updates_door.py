"""HTTPS for terminals: the files of the update repository, to whoever has a certificate of the carrier's CA.

A terminal's own MQTT certificate opens it. Whether a file is good is not a matter of this door: TUF says so.
"""

from __future__ import annotations

import functools
import http.server
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulator.carrier.pki import CarrierPki

HOST = "127.0.0.1"
_PATIENCE_S = 20.0


class UpdatesDoor:
    """Serves `repository` until `stop`; `url` is what a terminal is told."""

    def __init__(
        self, repository: Path, pki: CarrierPki, port: int = 0, *, on_file: Callable[[str], None] = lambda _path: None
    ) -> None:
        """OSError where the port is taken or the files cannot be read. `on_file` hears what is asked for."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(pki.broker_certificate, pki.broker_key)
        context.load_verify_locations(pki.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        self._server = _Server((HOST, port), functools.partial(_Files, on_file, directory=str(repository)), context)
        self._thread = threading.Thread(target=self._server.serve_forever, name="updates-door", daemon=True)

    @property
    def url(self) -> str:
        return f"https://localhost:{self._server.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: Any, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(address, handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """The handshake is the connection's own thread's: a peer that stalls holds up nobody else."""
        request.settimeout(_PATIENCE_S)
        with self._context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer without a certificate, or one that hangs up, is no event."""


class _Files(http.server.SimpleHTTPRequestHandler):
    def __init__(self, on_file: Callable[[str], None], *rest: Any, **more: Any) -> None:
        self._on_file = on_file
        super().__init__(*rest, **more)

    def send_head(self) -> Any:
        """As the base class; whoever keeps the repository hears of it first."""
        self._on_file(self.path)
        return super().send_head()

    def list_directory(self, path: Any) -> None:  # noqa: ARG002 - the base class's signature
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        """Who fetched what is nobody's business here."""
