"""Every state of the kiosk page, by name, as the terminal would put it on the display; and a browser to see them in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from edge.config import KioskSettings
from edge.drivers.document import CardView
from edge.ipc import LinkState
from edge.provisioning import qr
from edge.session.decision import ChallengeKind, Outcome
from edge.session.machine import Phase, Screen
from edge.terminal.display import DeskState, Display, Enrolment, EnrolStage, Finished, PersonOutcome, Preview, Service
from edge.terminal.first_boot_page import routes
from edge.terminal.kiosk import KioskServer
from tests.support.wires import free_port

CHROMIUM = os.environ.get("VOUCH_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
# No GPU in a container, and no service of the maker's.
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
SIZES = [(800, 480), (1280, 800), (480, 800), (800, 1280)]
FINISHED = (
    Finished("A1B2-C3D4", PersonOutcome.VERIFIED, "A-1001"),
    Finished("0F9E-77AB", PersonOutcome.NOT_VERIFIED, "A-1000"),
    Finished("5D11-E2C0", PersonOutcome.STAFF_ASSISTED, "A-0999"),
)
REQUEST = Enrolment(
    EnrolStage.REQUEST,
    terminal="3f0c9a417be2458c9d6611f0a9d2c4e7",
    fingerprint="9c41-07be-5a2d-e810",
    software="0.1.0",
    parts=qr.for_screen(bytes(range(256)) * 2 + bytes(56)),
    tries_left=5,
)
STATES: dict[str, dict[str, Any]] = {
    "enrol-no-keys": {"enrolment": Enrolment(EnrolStage.NO_KEYS, software="0.1.0")},
    "enrol-request": {"enrolment": REQUEST},
    "enrol-request-in-two": {"enrolment": replace(REQUEST, parts=qr.for_screen(bytes(900)))},
    "enrol-expired": {"enrolment": replace(REQUEST, fault="too-many")},
    "enrol-no-camera": {"enrolment": replace(REQUEST, camera=False)},
    "enrol-answer": {"enrolment": replace(REQUEST, stage=EnrolStage.ANSWER)},
    "enrol-parts": {"enrolment": replace(REQUEST, stage=EnrolStage.ANSWER, seen=3, total=9)},
    "enrol-wrong-root": {"enrolment": replace(REQUEST, stage=EnrolStage.ANSWER, fault="wrong-root")},
    "enrol-other-answer": {
        "enrolment": replace(REQUEST, stage=EnrolStage.ANSWER, fault="other-answer", seen=1, total=9)
    },
    "enrol-code": {"enrolment": replace(REQUEST, stage=EnrolStage.CODE)},
    "enrol-wrong-code": {"enrolment": replace(REQUEST, stage=EnrolStage.CODE, fault="wrong-code", tries_left=4)},
    "enrol-not-installed": {
        "enrolment": replace(
            REQUEST,
            stage=EnrolStage.CODE,
            fault="not-installed",
            detail="/etc/vouch/uplink/tls.crt cannot be written: No space left on device\n  what to do: free space, check the disk",
        )
    },
    "enrol-not-checked": {
        "enrolment": replace(
            REQUEST,
            stage=EnrolStage.ANSWER,
            fault="not-installed",
            detail="the carrier root /etc/vouch/root.pem cannot be read: No such file or directory\n  what to do: install the carrier's root.pem there",
        )
    },
    "enrol-installing": {"enrolment": replace(REQUEST, stage=EnrolStage.INSTALLING)},
    "enrol-installed": {"enrolment": replace(REQUEST, stage=EnrolStage.INSTALLED)},
    "idle": {"screen": Screen(Phase.IDLE)},
    "offline": {"link": LinkState.DOWN, "tickets": 3},
    "training": {"training": True},
    "scan": {"scanning": True},
    "scan-wrong": {"scanning": True, "desk": DeskState.WRONG_CODE},
    "asking": {"desk": DeskState.ASKING, "order": "A-1002"},
    "no-answer": {"desk": DeskState.NO_ANSWER, "order": "A-1002"},
    "no-ticket": {"desk": DeskState.NO_TICKET, "order": "A-1002", "link": LinkState.DOWN},
    "consent": {"screen": Screen(Phase.CONSENT)},
    "consent-ends": {"screen": Screen(Phase.CONSENT, time_left_s=17.0)},
    "card": {"screen": Screen(Phase.DOCUMENT), "card": CardView.NO_CARD},
    "card-guided": {"screen": Screen(Phase.DOCUMENT), "card": CardView.BLURRED},
    "document": {"screen": Screen(Phase.DOCUMENT)},
    "position": {"screen": Screen(Phase.POSITION, progress=0.4)},
    "position-guided": {"screen": Screen(Phase.POSITION, "eyes-hidden", progress=0.1)},
    "position-ends": {"screen": Screen(Phase.POSITION, "backlit", progress=0.1, time_left_s=12.0)},
    "pause": {"screen": Screen(Phase.CHALLENGE, step=1, steps=3)},
    "turn-left": {"screen": Screen(Phase.CHALLENGE, None, ChallengeKind.TURN_LEFT, 1, 3, 0.3, 5.2)},
    "turn-right": {"screen": Screen(Phase.CHALLENGE, "other-movement", ChallengeKind.TURN_RIGHT, 2, 3, 0.7, 3.4)},
    "turn-further": {"screen": Screen(Phase.CHALLENGE, "further", ChallengeKind.TURN_RIGHT, 2, 3, 0.8, 3.4)},
    "blink": {"screen": Screen(Phase.CHALLENGE, None, ChallengeKind.BLINK, 3, 3, 0.0, 5.9)},
    "mouth-open": {"screen": Screen(Phase.CHALLENGE, "come-back", ChallengeKind.MOUTH_OPEN, 3, 3, 1.0, 2.0)},
    "look-up": {"screen": Screen(Phase.CHALLENGE, None, ChallengeKind.LOOK_UP, 2, 3, 0.5, 8.0)},
    "checking": {"screen": Screen(Phase.CHECKING, progress=0.5)},
    "assist": {"screen": Screen(Phase.ASSIST)},
    "verified": {"screen": Screen(Phase.DONE, outcome=Outcome.MATCH), "reference": "A1B2-C3D4"},
    "not-verified": {"screen": Screen(Phase.DONE, outcome=Outcome.NO_MATCH), "reference": "A1B2-C3D4"},
    "cancelled": {"screen": Screen(Phase.DONE, outcome=Outcome.CANCELLED), "reference": "A1B2-C3D4"},
    "staff-assisted": {"screen": Screen(Phase.DONE, outcome=Outcome.STAFF_ASSISTED), "reference": "A1B2-C3D4"},
    "error": {"screen": Screen(Phase.DONE, outcome=Outcome.ERROR)},
    "out": {"service": Service.OUT_OF_SERVICE, "fault": "journal"},
}
_REST: dict[str, Any] = {
    "screen": Screen(Phase.IDLE),
    "card": None,
    "reference": None,
    "service": Service.READY,
    "fault": None,
    "link": LinkState.UP,
    "training": False,
    "desk": DeskState.READY,
    "scanning": False,
    "order": None,
    "tickets": 5,
    "finished": FINISHED,
    "enrolment": None,
}


def show(display: Display, name: str) -> None:
    """Put one state on the display."""
    display.change(**(_REST | STATES[name]))


class Kiosk:
    """The page's server, restartable on one port, and what was pressed."""

    def __init__(self) -> None:
        self.display, self.preview, self.pressed = Display(), Preview(), []
        self._port = free_port()
        self.start()

    def start(self) -> None:
        more = routes(self.display, self.pressed.append)
        self.server = KioskServer(
            KioskSettings(port=self._port), self.display, self.preview, self.pressed.append, more=more
        )
        self.server.start()

    def stop(self) -> None:
        self.server.stop()


@contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright, with a profile of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()
