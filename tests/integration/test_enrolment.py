"""From a blank folder to the first accepted receipt, by the commands; then keys change, and in the end it is retired."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from edge.config import load
from edge.evidence.claims import Mode
from edge.provisioning import identity, qr
from edge.vision.pack import Pack
from simulator.broker import HOST, Broker, BrokerTls, mosquitto_path
from simulator.carrier.pki import create_pki
from simulator.observed import Actor
from simulator.processes import Child, python_module
from tests.support.counter import Counter, ObservedPerson
from tests.support.wires import Place, Process, until
from tests.tiny_models import write_pack

pytestmark = pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed")
REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 60


def command(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(whole, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def told(done: subprocess.CompletedProcess[str], name: str) -> str:
    assert done.returncode == 0, done.stderr
    return next(line.split()[1] for line in done.stdout.splitlines() if line.startswith(name))


class House:
    """Broker and carrier on one machine, a technician's commands, a terminal that films nobody."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.keys, self.db = folder, folder / "keys", folder / "carrier.sqlite"
        self.pki = create_pki(self.keys, now=datetime.now(UTC))
        self.broker = Broker(folder / "broker", BrokerTls.of(self.pki))
        self.home = folder / "terminal"
        self.pack = Pack.load(write_pack(folder / "pack")).digest.hex()
        self.carrier: Child | None = None
        self.doors: list[httpx.Client] = []

    @property
    def files(self) -> list[object]:
        return ["--keys", self.keys, "--db", self.db, "--broker", f"localhost:{self.broker.port}"]

    def start_carrier(self) -> httpx.Client:
        if self.carrier is not None:
            self.carrier.stop()
        log = self.folder / f"carrier-{len(self.doors)}.log"
        self.carrier = Child(
            [
                *python_module("simulator.cli"),
                *("carrier", *map(str, self.files), "--http-port", "0", "--pack-digest", self.pack),
            ],
            log,
        )
        until(lambda: "carrier page " in log.read_text(), PATIENCE_S)
        url = next(line for line in log.read_text().splitlines() if line.startswith("carrier page ")).split()[-1]
        self.doors.append(httpx.Client(base_url=url, trust_env=False, timeout=30))
        return self.doors[-1]

    def enrol(self) -> Place:
        init = command(
            "edge.cli", "provision", "init", "--software-key", "--dir", self.home, "--root", self.keys / "root.pem",
            "--site", "shop-9", "--out", self.folder / "request.cose", "--no-qr",
        )  # fmt: skip
        enrol = command("simulator.cli", "carrier", "enrol", self.folder / "request.cose", *self.files)
        assert told(init, "fingerprint") == told(enrol, "fingerprint")
        bundle = told(enrol, "bundle")
        install = command("edge.cli", "provision", "install", Path(bundle).parent, "--dir", self.home)
        assert "code is missing" in install.stderr
        install = command(
            "edge.cli", "provision", "install", Path(bundle).parent, "--dir", self.home, "--code", told(enrol, "code")
        )
        assert told(install, "standing") == "unprovisioned:"
        config = self.home / "terminal.toml"
        config.write_text('state_dir = "state"\nrun_dir = "run"\n' + config.read_text() + "\n[kiosk]\nport = 0\n")
        return Place(config, load(config), self.pki)

    def stage(self) -> str:
        return json.loads(command("edge.cli", "provision", "status", "--dir", self.home, "--json").stdout)["stage"]

    def uplink(self) -> Process:
        return Process("uplink", "--config", str(self.home / "terminal.toml"), log=self.folder / "uplink.log")


@pytest.fixture
def house(tmp_path: Path):
    house = House(tmp_path)
    with house.broker:
        yield house
        for door in house.doors:
            door.close()
        if house.carrier is not None:
            house.carrier.stop()


@pytest.mark.timeout(400)
def test_a_blank_terminal_comes_to_its_first_receipt_follows_its_carriers_keys_and_retires(house: House) -> None:
    http = house.start_carrier()
    place = house.enrol()
    with Counter(place, ObservedPerson(Actor())) as counter:
        assert counter.view()["training"] is True
        assert counter.terminal._standing.mode(hardware_key=True, self_test=False) is Mode.TRAINING
        with house.uplink():
            until(place.settings.accepted_path.exists, PATIENCE_S)
            until(lambda: counter.view()["training"] is False)
            (first,) = http.get("/api/results").json()
            assert (first["claims"]["mode"], first["claims"]["outcome"]) == ("self-test", "inconclusive")
            assert first["trusted"] is True
            assert first["registration"] == "refused"
            assert counter.terminal._standing.mode(hardware_key=True, self_test=False) is Mode.PRODUCTION
            assert counter.terminal._policies.current.version == 1

            assert "version 2" in command("simulator.cli", "carrier", "rotate", "--keys", house.keys).stdout
            http = house.start_carrier()
            until(lambda: http.get("/api/overview").json()["broker"]["up"], PATIENCE_S)
            trust = counter.terminal._identity.carrier_keys
            counter.terminal._next_status_s = 0.0
            until(lambda: trust.version == 2, PATIENCE_S)
            answer = http.post("/api/orders", json={"terminal": place.settings.terminal_id, "order": "after"})
            assert answer.status_code == 201
            until(lambda: counter.view()["phase"] == "consent", PATIENCE_S)
    assert house.stage() == "provisioned"
    with Counter(place, ObservedPerson(Actor())) as counter:
        assert counter.terminal._identity.carrier_keys.version == 2, "the change outlives a restart"
        assert counter.terminal._policies.current.version == 1, "what was accepted under the former key stays accepted"
        with house.uplink():
            until(lambda: counter.terminal._pending() == 0, PATIENCE_S)

    short = place.settings.terminal_id[:8]
    end = command("edge.cli", "reset", "--dir", house.home, "--out", house.folder, "--confirm", short)
    assert told(end, "sent") == "yes"
    until(lambda: http.get("/api/terminals").json()[0]["retired_at"] is not None)
    refused = http.post("/api/orders", json={"terminal": place.settings.terminal_id, "order": "late"})
    assert "is retired" in refused.json()["error"]
    assert house.stage() == "blank"


def test_the_technicians_page_reads_codes_compares_and_answers(house: House) -> None:
    http = house.start_carrier()
    command(
        "edge.cli", "provision", "init", "--software-key", "--dir", house.home, "--root", house.keys / "root.pem",
        "--no-qr",
    )  # fmt: skip
    message = (house.home / "request.cose").read_bytes()
    parts = qr.split(qr.Kind.REQUEST, message, 300)
    some = http.post("/api/requests", json={"parts": parts[:1]}).json()
    assert (some["seen"], some["total"], some["missing"]) == (1, len(parts), list(range(2, len(parts) + 1)))
    asked = http.post("/api/requests", json={"parts": parts}).json()
    assert base64.b64decode(asked["request"]) == message
    assert http.get("/api/terminals").json() == [], "to look is not to enrol"
    refused = http.post("/api/enrolments", json={"request": asked["request"]})
    assert "site" in refused.json()["error"]
    made = http.post("/api/enrolments", json={"request": asked["request"], "site": "shop-2"}).json()
    assert made["fingerprint"] == asked["fingerprint"]
    assert made["pictures"][0].startswith("data:image/svg+xml;base64,")
    page = http.get("/enrol.html")
    assert page.status_code == 200
    assert "script" in page.text
    for wrong in (
        {"request": "%%"},
        {"request": base64.b64encode(message[:-1]).decode()},
        {"parts": []},
        {"parts": ["x"]},
    ):
        assert http.post("/api/requests", json=wrong).status_code == 400


def test_the_desk_answers_only_what_is_a_request_and_names_what_is_missing(house: House, tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(b"\xd2noise")
    for arguments, said in (
        ([tmp_path / "absent", *house.files], "cannot be read"),
        ([noise, *house.files], "CBOR"),
        ([noise], "--keys"),
    ):
        done = command("simulator.cli", "carrier", "enrol", *arguments)
        assert done.returncode == 2
        assert said in done.stderr
    assert HOST == "127.0.0.1"
    asked = identity.create(tmp_path / "box", site="shop-3", root=house.pki.root, desk=True)
    stick = tmp_path / "box" / "stick"
    answered = command(
        "simulator.cli", "carrier", "enrol", tmp_path / "box" / "request.cose", *house.files, "--out", stick
    )
    assert told(answered, "fingerprint") == asked.request.fingerprint
    assert [path.stem for path in stick.iterdir()] == [asked.request.terminal_id.hex()]
