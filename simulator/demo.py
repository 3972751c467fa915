"""The demo: a whole house on this machine, and sessions played through it; what is printed comes from its parts.

Broker, carrier, uplink and terminal are processes of their own; this one only orders, presses the customer's button and
reads what they say. Nothing of a result is made here.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import cv2
import httpx

from edge.errors import ConfigError, VouchError
from edge.provisioning.identity import create
from edge.provisioning.installation import install
from simulator.broker import HOST, Broker, BrokerKind, BrokerTls
from simulator.carrier.pki import create_pki
from simulator.demo_report import LOOK_EACH_MS, Follower, Played, Scene, print_result, print_summary
from simulator.film import Role
from simulator.kiosk_client import KioskClient
from simulator.person import portrait
from simulator.processes import Child, python_module
from simulator.report import Report
from simulator.species import Species
from simulator.terminal import MEASURED

_RIGHT_PERSON, _OTHER_PERSON = 11, 6  # seeds of two simulated people who do not look alike
_START_S = 120.0  # a process may take so long on a busy machine
_SESSION_S = 900.0  # the session ends itself by its own limits; a busy machine draws people slowly
_WEBCAM_S = 600.0  # somebody has to walk up to it
_POLL_S = LOOK_EACH_MS / 1000
T = TypeVar("T")


class DemoError(VouchError):
    """A part of the demo did not come up or fell silent."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """`camera`: number or device of a webcam. `video`: a clip. `portrait`: the document. `pack`: None for ours."""

    camera: str | None = None
    video: Path | None = None
    portrait: Path | None = None
    pack: Path | None = None
    stay: bool = False


def run_demo(settings: DemoSettings, report: Report) -> tuple[bool, list[Played]]:
    """Play all scenes; whether each came out as expected, and what came. VouchError where a part does not come up."""
    started = time.monotonic()
    scenes = _scenes(settings)
    if settings.portrait is not None and not settings.portrait.is_file():
        raise ConfigError(f"{settings.portrait} does not exist", todo="name the document's picture with --portrait")
    if settings.video is not None and (settings.portrait is None or not settings.video.is_file()):
        raise ConfigError("a clip needs to exist and needs a document", todo="VIDEO=clip.mp4 PORTRAIT=id.jpg")
    with ExitStack() as stack:
        interrupts = _Interrupts()
        stack.callback(interrupts.restore)
        folder = Path(tempfile.mkdtemp(prefix="vouch-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        children = stack.enter_context(_stopped_at_the_end(interrupts))
        house = _House(folder, settings, report, children, interrupts)
        house.start([scene.role for scene in scenes if scene.role])
        played = [house.play(number, scene) for number, scene in enumerate(scenes, 1)]
        good = all(one.as_expected for one in played) and not house.alarms()
        print_summary(report, played, house.alarms(), time.monotonic() - started, good=good)
        report.line()
        report.fact("kiosk page", house.kiosk.url)
        report.fact("carrier page", str(house.http.base_url))
        if settings.stay:
            report.line()
            report.line("Everything keeps running; Ctrl-C ends it.")
            house.stay()
        else:
            report.line("  (all stopped now; make demo STAY=1 keeps both pages open)")
    return good, played


@dataclass(slots=True)
class _House:
    """All processes of the demo; each is registered on `stack` as it starts: whatever fails, all are stopped."""

    folder: Path
    settings: DemoSettings
    report: Report
    stack: ExitStack
    interrupts: _Interrupts
    http: httpx.Client = field(init=False)
    kiosk: KioskClient = field(init=False)
    terminal_id: str = field(init=False, default="")
    children: list[Child] = field(init=False, default_factory=list)
    broker: Broker = field(init=False)
    document: bytes | None = field(init=False, default=None)

    def start(self, roles: list[Role]) -> None:
        """1. Broker. 2. Carrier. 3. Enrolment. 4. Terminal and uplink, at the same time. Each ready before the next."""
        begun = time.monotonic()
        self.report.heading("Setting up")
        pki = create_pki(self.folder / "carrier-keys", now=datetime.now(UTC))
        self.broker = Broker(self.folder, BrokerTls.of(pki))
        self.stack.callback(self.broker.stop)
        with self.interrupts.held():
            self.broker.start()
        kind = "mosquitto"
        if self.broker.kind is BrokerKind.EMBEDDED:
            kind = "embedded broker (mosquitto is not installed; MQTT 3.1.1)"
        self._up(begun, "broker", f"{kind} on {HOST}:{self.broker.port}: mutual TLS, access rules for each terminal")
        self._start_carrier()
        self._up(begun, "carrier", f"{self.http.base_url} signs challenges and receipts, verifies results")
        config = self._enrol()
        if self.settings.portrait is not None:
            self.document = self.settings.portrait.read_bytes()
        self._up(
            begun,
            "enrolment",
            f"terminal {self.terminal_id[:8]}…: keys made here; signed bundle and one-time code checked",
        )
        self._start_terminal(config, roles)
        self._up(begun, "terminal", f"{self.kiosk.url} kiosk page; camera, models and signing key, no network")
        until(_START_S, lambda: self.kiosk.view().get("link") == "up", self._explain("the uplink does not connect"))
        self._up(begun, "uplink", "connected to the broker; sees no camera and no face")
        until(_START_S, lambda: not self.kiosk.view().get("training"), self._explain("no first result is accepted"))
        self._up(
            begun, "provisioned", "a self-test went to the carrier, its signed receipt came back: ready for people"
        )

    def play(self, number: int, scene: Scene) -> Played:
        """Order, consent, follow the page, and wait for the carrier's verified result and the release."""
        expected = f"expected: {scene.expected}" if scene.expected else "whatever comes out is told as it is"
        self.report.heading(f"{number}  {scene.title}", expected)
        begun = time.monotonic()
        # Follow first: a terminal that idles asks for consent before the order's answer is back.
        follow = Follower(self.report, self.kiosk, begun, press=self.settings.camera is None)
        order = self._order(f"demo-{number}")
        patience_s = _SESSION_S
        if self.settings.camera is not None:
            patience_s = _WEBCAM_S
            self.report.line(f"  Stand before the webcam, open {self.kiosk.url} and press the button there.")
        if self.settings.video is not None:
            self.report.line("  A recorded clip cannot follow a random challenge: a refusal is the right answer to it.")

        def answered() -> dict[str, Any] | None:
            follow.look()
            now = self.http.get(f"/api/orders/{order['id']}").json()
            return now if now["state"] == "answered" else None

        done = until(patience_s, answered, self._explain("no result came"))
        at_carrier_s = time.monotonic() - begun
        released_s = self._wait_release(begun)
        measured = self._measured(number)
        follow.look()
        played = Played(scene, done, measured, follow.asked_s, at_carrier_s, released_s)
        print_result(self.report, played)
        return played

    def alarms(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.http.get("/api/alarms").json()
        return found

    def stay(self) -> None:
        """Until Ctrl-C; a child that ends is told."""
        with contextlib.suppress(KeyboardInterrupt):
            while not any(child.exit_code is not None for child in self.children):
                time.sleep(0.5)

    def _start_carrier(self) -> None:
        command = [
            *(*python_module("simulator.cli"), "carrier", "--keys", str(self.folder / "carrier-keys")),
            *("--db", str(self.folder / "carrier.sqlite"), "--http-port", "0"),
            *("--broker", f"{HOST}:{self.broker.port}"),
        ]
        if self.settings.pack is not None:
            command += ["--pack-digest", hashlib.sha256((self.settings.pack / "pack.toml").read_bytes()).hexdigest()]
        child = self._child("carrier", command)
        url = until(_START_S, lambda: _after(child.log, "carrier page "), self._explain("the carrier does not start"))
        self.http = httpx.Client(base_url=url, trust_env=False, timeout=20.0)
        self.stack.callback(self.http.close)

    def _enrol(self) -> Path:
        """The terminal makes its keys; the carrier registers the public halves and signs the certificate."""
        home = self.folder / "terminal"
        root = self.folder / "carrier-keys" / "root.pem"  # what a terminal's image is delivered with
        asked = create(home, site="demo counter", hardware_model="desktop", root=root)
        self.terminal_id = asked.request.terminal_id.hex()
        answer = self.http.post("/api/enrolments", json={"request": base64.b64encode(asked.message).decode()})
        if answer.status_code != 201:
            raise DemoError(f"the carrier does not enrol the terminal: {answer.text}")
        made = answer.json()
        path = install(home, base64.b64decode(made["bundle"]), code=made["code"])
        with path.open("a", encoding="utf-8") as file:
            file.write(_more_settings(self.settings))
        text = path.read_text(encoding="utf-8")
        path.write_text(_top_settings(self.settings) + text, encoding="utf-8")
        return path

    def _start_terminal(self, config: Path, roles: list[Role]) -> None:
        if roles:
            command = [*python_module("simulator.cli"), "terminal", "--config", str(config)]
            command += [str(role) for role in roles]
        else:
            command = [*python_module("edge.cli"), "run", "--config", str(config)]
        terminal = self._child("terminal", command)
        self._child("uplink", [*python_module("edge.cli"), "uplink", "--config", str(config)])
        if roles:
            self.document = _document_picture()  # meanwhile: a head takes seconds to model
        url = until(_START_S, lambda: _kiosk_url(terminal.log), self._explain("the terminal does not start"))
        self.kiosk = KioskClient(url)
        self.stack.callback(self.kiosk.close)

    def _order(self, reference: str) -> dict[str, Any]:
        body = {"terminal": self.terminal_id, "order": reference}
        if self.document is not None:
            body["portrait"] = base64.b64encode(self.document).decode()
        answer = self.http.post("/api/orders", json=body)
        if answer.status_code != 201:
            raise DemoError(f"the carrier does not take the order: {answer.text}")
        order: dict[str, Any] = answer.json()
        return order

    def _wait_release(self, begun: float) -> float | None:
        """The journal's outbox is empty again: the carrier's signed receipt was verified and let the result go."""
        journal = self.folder / "terminal" / "state" / "journal.sqlite"
        deadline = time.monotonic() + 10
        with contextlib.closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
            while time.monotonic() < deadline:
                if db.execute("SELECT COUNT(*) FROM outbox").fetchone()[0] == 0:
                    return time.monotonic() - begun
                time.sleep(_POLL_S)
        return None

    def _measured(self, number: int) -> dict[str, Any]:
        """The line that the simulator's terminal prints after each session; `vouch run` logs no score."""
        real = self.settings.camera is not None or self.settings.video is not None
        log = self.folder / "terminal.log"

        def line() -> str | None:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            if real:
                lines = [line for line in lines if line.startswith("{") and '"event": "session-ends"' in line]
            else:
                lines = [line.removeprefix(MEASURED) for line in lines if line.startswith(MEASURED)]
            return lines[number - 1] if len(lines) >= number else None

        found: dict[str, Any] = json.loads(until(5.0, line, self._explain("no measurements")))
        return {"frames": found["frames"]} if real else found

    def _child(self, name: str, command: list[str]) -> Child:
        with self.interrupts.held():
            child = Child(command, self.folder / f"{name}.log")
            self.children.append(child)
            self.stack.callback(child.stop)
        return child

    def _up(self, begun: float, name: str, text: str) -> None:
        self.report.step(time.monotonic() - begun, name, text)

    def _explain(self, what: str) -> _Explain:
        return _Explain(what, self.children, self.interrupts)


@dataclass(frozen=True, slots=True)
class _Explain:
    """What to say when waiting ends badly, and the processes whose end explains it."""

    what: str
    children: list[Child]
    interrupts: _Interrupts

    def dead(self) -> Child | None:
        self.interrupts.check()
        return next((child for child in self.children if child.exit_code is not None), None)

    def error(self) -> DemoError:
        child = self.dead() or next((c for c in self.children if c.log.stem == "terminal"), self.children[-1])
        return DemoError(self.what, todo=f"the end of {child.log.name}:\n{child.log_tail(12)}")


def until(patience_s: float, condition: Callable[[], T | None], explain: _Explain) -> T:
    """What `condition` gives as soon as it is true. DemoError after `patience_s`, or when a process has ended."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        dead = explain.dead()  # before we look: what it did before it ended still counts
        found = condition()
        if found:
            return found
        if dead is not None:
            raise explain.error()
        time.sleep(_POLL_S)
    raise explain.error()


def _scenes(settings: DemoSettings) -> list[Scene]:
    if settings.camera is not None:
        return [Scene("the person at the webcam", None, None)]
    if settings.video is not None:
        return [Scene(f"the clip {settings.video.name}", None, None)]
    return [
        Scene("The right person", Role(Species.PERSON, _RIGHT_PERSON), "match"),
        Scene("Another person with the same document", Role(Species.PERSON, _OTHER_PERSON), "no-match"),
        Scene("A printed photo of the right person", Role(Species.PRINT, _RIGHT_PERSON), "liveness-fail"),
    ]


def _document_picture() -> bytes:
    """The portrait on the right person's document, as a JPEG."""
    return bytes(cv2.imencode(".jpg", portrait(_RIGHT_PERSON), [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


def _top_settings(settings: DemoSettings) -> str:
    lines = ['state_dir = "state"', 'run_dir = "run"']
    if settings.pack is not None:
        lines.append(f"pack_dir = {json.dumps(str(settings.pack.resolve()))}")
    return "\n".join(lines) + "\n"


def _more_settings(settings: DemoSettings) -> str:
    tables = ["\n[kiosk]\nport = 0\n"]
    if settings.camera is not None:
        tables.append(f"\n[camera]\nsource = {json.dumps(f'v4l2:{settings.camera}')}\n")
    elif settings.video is not None:
        tables.append(f"\n[camera]\nsource = {json.dumps(f'file:{settings.video.resolve()}')}\n")
    else:
        tables.append("\n[camera]\nfps = 25\n")  # leaves two cores time to draw people as fast as they live
    return "".join(tables)


def _after(log: Path, start: str) -> str | None:
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(start):
            return line[len(start) :].strip()
    return None


def _kiosk_url(log: Path) -> str | None:
    """From the terminal's own log: the event "ready" names the page."""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if '"event": "ready"' in line:
            return str(json.loads(line)["kiosk_url"])
    return None


@contextlib.contextmanager
def _stopped_at_the_end(interrupts: _Interrupts) -> Iterator[ExitStack]:
    """What was registered is stopped, last first, whatever happens and however often Ctrl-C is pressed."""
    children = ExitStack()
    try:
        yield children
    finally:
        with contextlib.suppress(KeyboardInterrupt), interrupts.held():
            children.close()


class _Interrupts:
    """SIGINT and SIGTERM become KeyboardInterrupt, but never while a child is being started or all are being stopped.

    An interruption just then would lose a process that nobody stops.
    """

    def __init__(self) -> None:
        self._held = 0
        self._came = False
        self._former = [(number, signal.signal(number, self._on)) for number in (signal.SIGINT, signal.SIGTERM)]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A signal that comes in the block takes effect after it."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self.check()

    def check(self) -> None:
        """Raise what came before: an interruption that struck in a destructor was printed and forgotten by Python."""
        if self._came and not self._held:
            raise KeyboardInterrupt

    def restore(self) -> None:
        for number, handler in self._former:
            signal.signal(number, handler)

    def _on(self, *_: object) -> None:
        self._came = True
        self.check()
