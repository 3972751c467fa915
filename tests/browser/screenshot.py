"""Makes the pictures of the kiosk page in the README: the real page in a real browser, before a drawn person.

python -m tests.browser.screenshot docs/kiosk.png [--language zh] [--size 1280x800]
"""

from __future__ import annotations

import argparse
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import sync_playwright

from edge.config import KioskSettings
from edge.ipc import LinkState
from edge.session.decision import ChallengeKind
from edge.session.machine import Phase, Screen
from edge.terminal.display import Display, Preview
from edge.terminal.kiosk import KioskServer
from simulator.camera import SimulatedCamera, Stage, VirtualClock
from simulator.person import Light, Person, PersonState, render_linear
from simulator.room import draw_light, draw_room

TURN_DEG = 14.0  # to the person's own left, as the page asks


class Posing:
    """A drawn person who holds still."""

    def __init__(self, seed: int) -> None:
        self._person = Person.from_seed(seed)
        self._light: Light = draw_light(seed)
        self._room = draw_room(seed, (640, 480))

    def look(self, t_s: float, size: tuple[int, int]) -> np.ndarray:
        state = PersonState(yaw_deg=TURN_DEG, eye_right=1.0, eye_left=1.0)
        return render_linear(self._person, state, size, self._room, self._light).linear

    def on_screen(self, screen: Screen) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--language", choices=["en", "zh"], default="en")
    parser.add_argument("--size", default="800x480")
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    display, preview = Display(), Preview()
    display.change(link=LinkState.UP, screen=Screen(Phase.CHALLENGE, None, ChallengeKind.TURN_LEFT, 2, 3, 0.6, 4.0))
    server = KioskServer(KioskSettings(port=0), display, preview, lambda _press: None)
    server.start()
    image = filmed(Posing(options.seed))
    done = threading.Event()
    film = threading.Thread(
        target=lambda: [preview.offer(image, mirrored=True) for _ in iter(lambda: done.wait(0.1), True)]
    )
    film.start()
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
        page.goto(server.url, wait_until="domcontentloaded")
        page.click(f'[data-language="{options.language}"]')
        page.wait_for_function("document.getElementById('preview').naturalWidth > 0")
        page.wait_for_timeout(500)
        page.screenshot(path=str(options.picture))
        browser.close()
    done.set()
    film.join()
    server.stop()
    smaller = cv2.imread(str(options.picture))
    cv2.imwrite(str(options.picture), smaller, (cv2.IMWRITE_PNG_COMPRESSION, 9))


def filmed(stage: Stage) -> np.ndarray:
    """The picture after the camera's automatic exposure has settled."""
    camera = SimulatedCamera(stage, clock=VirtualClock())
    for _ in range(20):
        frame = camera.read(1.0)
    return frame.image


if __name__ == "__main__":
    main()
