"""The doctor while things break under it, and what the report that it exports must never hold: all of it real.

A disk that is full is a file system of one mebibyte; a camera that is unplugged fails in the middle of the examination
as a driver's does; the report is searched for the face that stood before the camera, and for keys and PIN.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.config import DEFAULT_PACK
from edge.drivers.camera import Frame
from edge.errors import CameraError, ConfigError
from edge.evidence.journal import Journal
from edge.evidence.signer import load_private_key
from edge.provisioning import doctor_text
from edge.provisioning.pin import PIN_NAME, set_pin
from edge.terminal.doctor import examine, exit_code
from simulator.observed import Actor
from simulator.person import portrait
from tests.faults.test_privacy import _PICTURE, hits, needles, templates
from tests.support.counter import Counter, ObservedPerson
from tests.support.disk import fill, on
from tests.support.filmed import Still
from tests.support.house import verdicts
from tests.support.wires import REPOSITORY, Place, enrolled, until

EXTRA = "\n[kiosk]\nport = 0\n[technician]\nport = 0\n"
ABSENT = EXTRA + '[camera]\nsource = "v4l2:97"\n'
PIN = "274913580264"
pytestmark = pytest.mark.timeout(300)


def of(report: dict[str, object], name: str) -> dict[str, object]:
    return next(check for check in report["checks"] if check["name"] == name)


def test_a_full_disk_is_named_with_what_to_do_and_the_doctor_leaves_the_journal_as_it_was(tmp_path, disk) -> None:
    place = on(disk, enrolled(tmp_path, extra=ABSENT))
    place.settings.state_dir.mkdir(mode=0o700)
    with Journal.open(place.settings.journal_path, max_rows=100) as journal:
        boot = journal.boot()
    ballast = fill(disk)
    report = examine(place.settings)
    assert (of(report, "disk")["verdict"], exit_code(report)) == ("fail", 1)
    assert "Full: 0 of 1 MiB free" in of(report, "disk")["says"]["en"]
    assert of(report, "disk")["todo"]["en"]
    assert of(report, "journal")["verdict"] == "fail", "it cannot be written"
    assert of(report, "broker")["verdict"] == "fail", "no test result could be stored, and none was sent"
    ballast.unlink()
    mended = examine(place.settings)
    assert verdicts(mended)["journal"] == "pass"
    assert verdicts(mended)["disk"] == "warn", "a mebibyte is little"
    with Journal.open(place.settings.journal_path, max_rows=100) as journal:
        assert journal.verify_chain().rows == 0
        assert journal.boot().count == boot.count + 1, "a doctor is no start of the terminal"


def kept(report: dict[str, object], place: Path) -> Path:
    with doctor_text.export(place, "0" * 32) as keep:
        return keep(report)


def test_a_report_that_does_not_fit_on_the_stick_leaves_no_half_of_itself(tmp_path, disk) -> None:
    report = examine(enrolled(tmp_path, extra=ABSENT).settings)
    ballast = fill(disk)
    for place in (disk, disk / "report.json"):
        with pytest.raises(ConfigError, match="cannot be written") as caught:
            kept(report, place)
        assert "stick" in caught.value.todo
    assert list(disk.iterdir()) == [ballast]
    ballast.unlink()
    assert json.loads(kept(report, disk).read_text())["verdict"] == report["verdict"]


class Unplugged(Still):
    """A camera whose cable is pulled after some frames, as the V4L2 driver tells it."""

    def __init__(self, image: np.ndarray, after: int) -> None:
        super().__init__(image)
        self.taken, self._after = 0, after

    def read(self, timeout_s: float) -> Frame:
        self.taken += 1
        if self.taken > self._after:
            raise CameraError("camera 0 gives no frame", todo="check its cable")
        return super().read(timeout_s)


@pytest.mark.parametrize("after", [1, 12])
def test_a_camera_unplugged_in_the_middle_is_named_and_the_other_checks_are_made(tmp_path, after: int) -> None:
    place = enrolled(tmp_path, extra=EXTRA)
    camera = Unplugged(np.full((480, 640, 3), 120, np.uint8), after)
    report = examine(place.settings, open_camera=lambda _: camera)
    assert camera.taken == after + 1, "frames were being taken, and none was asked for afterwards"
    assert (of(report, "camera-frames")["verdict"], exit_code(report)) == ("fail", 1)
    assert "camera 0 gives no frame" in of(report, "camera-frames")["says"]["en"]
    for name in ("camera-exposure", "camera-focus", "light", "self-match"):
        assert of(report, name)["verdict"] == "not-possible", "what needs the camera is not blamed"
    found = verdicts(report)
    assert (found["keys"], found["models"], found["journal"]) == ("warn", "pass", "pass")  # the key lies in a file


def test_a_running_terminal_that_loses_its_camera_meanwhile_tells_what_it_found_until_then(tmp_path) -> None:
    place = enrolled(tmp_path, extra=EXTRA)
    person = ObservedPerson(Actor())
    with Counter(place, person) as counter:
        until(place.settings.control_path.exists)
        person.before_frame = unplug_in(counter, 0.3)
        report = examine(place.settings)
        assert counter.join(60) == 1, "it ends, and the manager starts it anew"
    assert report["by"] == "terminal"
    assert of(report, "camera-frames")["verdict"] == "fail"
    assert "cable" in json.dumps(of(report, "camera-frames"))
    assert report["verdict"] == "fail"


def unplug_in(counter: Counter, seconds: float) -> Callable[[int], None]:
    """Fails some time after the examination began to watch the camera."""
    since: list[float] = []

    def before(_index: int) -> None:
        if counter.terminal.workbench.wants_frames:
            since.append(time.monotonic())
        if since and time.monotonic() - since[0] > seconds:
            raise CameraError("the cable was pulled", todo="check its cable")

    return before


def test_an_exported_report_holds_no_byte_of_the_face_of_a_key_or_of_the_pin(tmp_path) -> None:
    place = enrolled(tmp_path, extra=ABSENT)
    set_pin(place.settings.state_dir, PIN)
    frame = np.full((480, 640, 3), 150, np.uint8)
    frame[:, 125:515] = cv2.resize(portrait(7), (390, 480), interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", frame)[1].tobytes()
    wanted = needles(frame, jpeg, templates(DEFAULT_PACK, frame, jpeg)) | secrets_of(place)
    report = examine(place.settings, open_camera=lambda _: Still(frame))
    assert of(report, "light")["measured"], "the face was seen and measured"
    exported = kept(report, tmp_path).read_bytes()
    by_command = command_report(place, tmp_path / "stick")
    for name, data in (("the report", exported), ("the command's", by_command)):
        assert hits(data, wanted) == [], name
        assert not _PICTURE.search(data)
        # Planted in this very report, each is found: a search that cannot fail proves nothing.
        for planted, needle in wanted.items():
            assert planted in hits(data[:100] + needle + data[100:], wanted)


def command_report(place: Place, stick: Path) -> bytes:
    """All that `vouch doctor --export` writes: the file and both streams."""
    stick.mkdir()
    command = [sys.executable, "-m", "edge.cli", "doctor", "--config", str(place.config), "--export", str(stick)]
    done = subprocess.run(command, capture_output=True, cwd=REPOSITORY, timeout=150, check=False)
    assert done.returncode == 1, done.stderr
    (kept,) = stick.iterdir()
    return kept.read_bytes() + done.stdout + done.stderr


def secrets_of(place: Place) -> dict[str, bytes]:
    """Every private key and the PIN with its hash and salt, in the forms that a text could hold them."""
    found = {"the PIN": PIN.encode()}
    raw = {"the PIN's hash": bytes.fromhex(kept_pin(place)["hash"]), "its salt": bytes.fromhex(kept_pin(place)["salt"])}
    paths = list(place.config.parent.rglob("*.key"))
    assert len(paths) == 3, "result, portrait and TLS key"
    for path in paths:
        number = load_private_key(path).private_numbers().private_value
        raw[path.name] = number.to_bytes(32, "big")
        found[f"{path.name} as a number"] = str(number).encode()
        found[f"{path.name} as PEM"] = path.read_bytes().splitlines()[1]
    for name, data in raw.items():
        found[name] = data[:16]
        found[f"{name}, in hexadecimal"] = data.hex().encode()
        for shift in range(3):
            found[f"{name}, in base64 at {shift}"] = base64.b64encode(bytes(shift) + data)[4:-4]
    return found


def kept_pin(place: Place) -> dict[str, str]:
    return json.loads((place.settings.state_dir / PIN_NAME).read_text())


def test_a_stick_that_is_no_longer_there_is_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        kept({}, tmp_path / "gone" / "report.json")
    assert list(tmp_path.iterdir()) == []
