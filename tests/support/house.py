"""Broker, carrier, uplink and a filmed terminal as real processes, for tests of what a technician sees."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.evidence.signer import load_private_key
from simulator.carrier.store import Store, Terminal
from simulator.processes import Child, python_module
from tests.support.wires import TERMINAL_ID, Place, enrolled, free_port, until

START_S = 90.0
EXTRA = "\n[kiosk]\nport = 0\n[technician]\nport = {port}\n[camera]\nfps = 10\ntimeout_s = 10\n{camera}"


@dataclass
class House:
    place: Place
    technician_url: str


def technician_place(folder: Path, *, camera: str = "") -> tuple[Place, str]:
    """An enrolled terminal whose technician's page has a port of its own."""
    port = free_port()
    place = enrolled(folder, extra=EXTRA.format(port=port, camera=camera))
    return place, f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def filmed_terminal(place: Place, url: str, *options: str) -> Iterator[Child]:
    """`vouch-sim terminal` with these options, ready."""
    command = [*python_module("simulator.cli"), "terminal", "person:11", "--config", str(place.config), *options]
    child = Child(command, place.config.parent / "terminal.log")
    try:
        until(lambda: answers(f"{url}/api/login"), START_S)
        yield child
    finally:
        child.stop(15)


@contextlib.contextmanager
def uplink(place: Place) -> Iterator[Child]:
    child = Child([*python_module("edge.cli"), "uplink", "--config", str(place.config)], place.config.parent / "up.log")
    try:
        yield child
    finally:
        child.stop()


@contextlib.contextmanager
def carrier(place: Place) -> Iterator[httpx.Client]:
    """The reference carrier with the place's keys and broker, which knows the place's terminal."""
    port = free_port()
    keys, database = place.pki.ca.parent, place.config.parent / "carrier.db"
    store, own = Store(database), place.settings.keys
    store.add_terminal(Terminal(TERMINAL_ID, "shop-1", public(own.result_key), public(own.portrait_key), 1))
    store.close()
    child = Child(
        [
            *(*python_module("simulator.cli"), "carrier", "--keys", str(keys), "--db", str(database)),
            *("--broker", f"127.0.0.1:{place.settings.uplink.port}", "--http-port", str(port)),
        ],
        place.config.parent / "carrier.log",
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
            until(lambda: answers(f"http://127.0.0.1:{port}/api/overview"), START_S)
            until(lambda: http.get("/api/overview").json()["broker"]["up"], START_S)
            yield http
    finally:
        child.stop()


def public(path: Path) -> str:
    key = load_private_key(path).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in report["checks"]}
