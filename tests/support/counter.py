"""A terminal whose camera and vision are the observed person of the simulator: everything else of it is real."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Self

import cv2
import numpy as np

from edge.clock import SystemClock
from edge.drivers.board import BoardHealth
from edge.drivers.camera import Frame
from edge.evidence import messages
from edge.evidence.claims import Claims, Fresh
from edge.evidence.messages import Challenge, Receipt, ReceiptStatus, build_receipt
from edge.evidence.signer import KeyFile, load_private_key
from edge.session.comparison import Template
from edge.session.machine import Screen
from edge.session.observation import FrameInfo, Observation
from edge.terminal.opening import open_identity, open_journal
from edge.terminal.service import Terminal
from edge.vision.pack import Pack
from edge.watchdog import Notifier
from simulator.observed import Actor, observe, template_of
from tests.support.wires import PATIENCE, TERMINAL_ID, Place
from tests.tiny_models import write_pack

NO_BOARD = BoardHealth(None, None, None, None)


class ObservedPerson:
    """FrameSource and Vision in one: frames are grey pictures whose content nobody reads; the actor is what is seen."""

    exposure_control = False
    finite = False

    def __init__(self, actor: Actor, *, fps: float = 30.0, portrait_of: int = 1) -> None:
        self.actor = actor
        self.portrait_of = portrait_of
        self.frames: list[np.ndarray] = []  # every picture handed out, to see that it was overwritten
        self.templates: list[Template] = []
        self.closed_vision = 0
        self.before_frame: Callable[[int], None] = lambda _index: None
        self.in_process: Callable[[int], None] = lambda _index: None
        self.ends_after: int | None = None
        self._fps = fps
        self._start_s = time.monotonic()
        self._index = 0

    # FrameSource
    def read(self, timeout_s: float) -> Frame | None:
        self.before_frame(self._index)
        if self.ends_after is not None and self._index >= self.ends_after:
            return None
        due = self._start_s + self._index / self._fps
        time.sleep(max(0.0, due - time.monotonic()))
        self._index = max(self._index + 1, int((time.monotonic() - self._start_s) * self._fps))
        image = np.full((480, 640, 3), 90, np.uint8)
        self.frames.append(image)
        self.frames = self.frames[-400:]
        return Frame(image, FrameInfo(self._index, time.monotonic(), 640, 480))

    def set_exposure(self, factor: float) -> None: ...

    # Vision
    def process(self, image_bgr: np.ndarray, info: FrameInfo, *, embed=False, bona_fide=False) -> Observation:
        self.in_process(info.index)
        body, held = self.actor.at(info.t_s)
        seen = observe(body, held, info, template=embed, bona_fide=bona_fide)
        if seen.face is not None and seen.face.template is not None:
            self.templates.append(seen.face.template)
        return seen

    def portrait(self, image: np.ndarray) -> Template:
        template = template_of(self.portrait_of, self.actor.body.likeness, 0)
        self.templates.append(template)
        return template

    def faces(self, image: np.ndarray) -> list[tuple[float, float, float, float]]:
        return []

    def reset(self) -> None: ...

    def close(self) -> None:
        self.closed_vision += 1

    def on_screen(self, screen: Screen) -> None:
        self.actor.sees(screen, time.monotonic())


class Counter:
    """A terminal at work in a thread of this process, and the carrier that talks to it."""

    def __init__(self, place: Place, person: ObservedPerson, **options: object) -> None:
        self.place = place
        self.person = person
        self.carrier = KeyFile(place.pki.signing_key)
        self.screens: list[Screen] = []
        self.reports: list[object] = []
        self.exit_code: int | None = None
        pack = options.pop("pack", None) or Pack.load(write_pack(place.config.parent / "pack"))
        self.terminal = Terminal(
            place.settings,
            source=person,
            vision=person,
            pack=pack,
            **{
                "identity": open_identity(place.settings),
                "journal": open_journal(place.settings),
                "clock": SystemClock(),
                "notifier": Notifier(None),
                "health": lambda: NO_BOARD,
                "on_screen": self._saw,
                "on_report": self.reports.append,
                **options,
            },
        )
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminal.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def join(self, timeout_s: float = 20.0) -> int | None:
        self._thread.join(timeout_s * PATIENCE)
        return self.exit_code

    def challenge(self, **changes: object) -> bytes:
        return signed_challenge(self.place, **changes)

    def view(self) -> dict[str, object]:
        return json.loads(self.terminal.display.read()[1].to_json())

    def page_failed(self) -> None:
        """As if the page's thread had ended."""
        self.terminal.page._server.failed = True

    def _saw(self, screen: Screen) -> None:
        self.screens.append(screen)
        self.person.on_screen(screen)

    def _run(self) -> None:
        self.exit_code = self.terminal.run()


def signed_challenge(place: Place, *, portrait: bool | bytes = True, **changes: object) -> bytes:
    """A living challenge of the place's carrier; `portrait`: what is sealed in; `changes` are fields of Challenge."""
    nonce = changes.pop("nonce", None) or secrets.token_bytes(32)
    signer = changes.pop("signer", None) or KeyFile(place.pki.signing_key)
    sealed = None
    if portrait:
        grey = cv2.imencode(".jpg", np.full((126, 102, 3), 128, np.uint8))[1].tobytes()
        picture = portrait if isinstance(portrait, bytes) else grey
        key = load_private_key(place.settings.keys.portrait_key).public_key()
        sealed = messages.seal_portrait(picture, key, context=nonce)
    now = int(time.time())
    challenge = Challenge(
        terminal_id=bytes.fromhex(TERMINAL_ID),
        nonce=nonce,
        session_id=b"s" * 16,
        order="order-1",
        iat=now,
        exp=now + 600,
        ttl_s=300,
        fresh=Fresh.ONLINE,
        portrait=sealed,
    )
    return messages.build_challenge(replace(challenge, **changes), signer)


def opened(place: Place, message: bytes) -> Claims:
    """What the terminal said, its signature checked."""
    return messages.open_result(message, load_private_key(place.settings.keys.result_key).public_key())


def receipt_for(counter: Counter, message: bytes, status=ReceiptStatus.ACCEPTED, signer=None, **changes) -> bytes:
    """The carrier's signed receipt for a result; `changes` make it a wrong one."""
    claims = opened(counter.place, message)
    receipt = Receipt(
        terminal_id=bytes.fromhex(TERMINAL_ID),
        cti=claims.cti,
        counter=claims.counter,
        digest=hashlib.sha256(message).digest(),
        status=status,
        iat=1_800_000_000,
    )
    return build_receipt(replace(receipt, **changes), signer or counter.carrier)
