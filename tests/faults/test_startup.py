"""What stops `vouch` at its start: one clear sentence, what to do about it, and exit code 2; never a traceback."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from edge import cli
from edge.cli import main
from tests.support.wires import Place, Process, enrolled
from tests.tiny_models import write_pack


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A terminal that would run, but for what a test spoils."""
    import cv2
    import numpy as np

    place = enrolled(tmp_path, extra=f'\n[kiosk]\nport = 0\n[camera]\nsource = "file:{tmp_path / "clip.avi"}"\n')
    clip = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30, (640, 480))
    clip.write(np.full((480, 640, 3), 90, np.uint8))
    clip.release()
    change(place, f'pack_dir = "{write_pack(tmp_path / "pack")}"\n', front=True)
    return place


def change(place: Place, text: str, *, front: bool = False, instead_of: str = "") -> None:
    before = place.config.read_text()
    if instead_of:
        assert instead_of in before
        place.config.write_text(before.replace(instead_of, text))
    else:
        place.config.write_text(text + before if front else before + text)


def a_file_for_a_folder(place: Place) -> None:
    (place.config.parent / "taken").write_text("")
    change(place, 'run_dir = "taken/run"', instead_of='run_dir = "run"')


def a_path_too_long_for_a_socket(place: Place) -> None:
    change(place, f'run_dir = "{"r" * 120}"', instead_of='run_dir = "run"')


def a_key_that_others_may_read(place: Place) -> None:
    place.settings.keys.result_key.chmod(0o644)


def a_damaged_portrait_key(place: Place) -> None:
    place.settings.keys.portrait_key.write_bytes(b"no key")


def no_carrier_key(place: Place) -> None:
    for path in place.settings.keys.carrier_keys.iterdir():
        path.unlink()


def a_truncated_model(place: Place) -> None:
    path = place.config.parent.parent / "pack" / "landmarks.tflite"
    path.write_bytes(path.read_bytes()[:-9])


def a_truncated_video(place: Place) -> None:
    clip = place.config.parent.parent / "clip.avi"
    clip.write_bytes(clip.read_bytes()[:40])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (a_file_for_a_folder, "run_dir"),
        (a_path_too_long_for_a_socket, "run_dir"),
        (a_key_that_others_may_read, "chmod 600"),
        (a_damaged_portrait_key, "portrait.key holds no usable private key"),
        (no_carrier_key, "no carrier key"),
        (a_truncated_model, "landmarks.tflite has"),
        (a_truncated_video, "clip.avi"),
    ],
)
def test_vouch_run_says_what_is_wrong_and_what_to_do(
    place: Place, tmp_path: Path, spoil: Callable[[Place], None], words: str
) -> None:
    spoil(place)
    log = tmp_path / "run.log"
    with Process("run", "--config", str(place.config), log=log) as process:
        assert process.wait(60) == 2
    said = log.read_text()
    assert words in said
    assert "what to do: " in said
    assert "Traceback" not in said
    assert "uncaught" not in said


def test_a_port_that_another_program_has_is_named(place: Place, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        change(place, f"[kiosk]\nport = {port}\n", instead_of="[kiosk]\nport = 0\n")
        with Process("run", "--config", str(place.config), log=tmp_path / "run.log") as process:
            assert process.wait(60) == 2
    said = (tmp_path / "run.log").read_text()
    assert f"127.0.0.1:{port}" in said
    assert "what to do: stop the other" in said


def test_a_state_folder_that_cannot_be_made_puts_the_terminal_out_of_service(place: Place, tmp_path: Path) -> None:
    (place.config.parent / "taken").write_text("")
    change(place, 'state_dir = "taken/state"', instead_of='state_dir = "state"')
    with Process("run", "--config", str(place.config), log=tmp_path / "run.log") as process:
        with pytest.raises(Exception, match="timed out"):
            process.wait(15)
        faults = [event for event in process.events() if event["event"] == "out-of-service"]
    assert [(event["fault"], event["error"]) for event in faults] == [("journal", "JournalError")]
    assert "state_dir" in faults[0]["what_to_do"]


@pytest.mark.parametrize("command", ["run", "uplink"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"\xff\xfe", "must be TOML"),
        (b"terminal_id = ", "must be TOML"),
        (b"", "terminal_id: Field required"),
        (b'colour = "red"', "colour: Extra inputs are not permitted"),
        (b"[camera]\nfps = 1000", "camera.fps"),
        (b'[kiosk]\nhost = "0.0.0.0"', "kiosk.host"),
    ],
)
def test_settings_that_are_wrong_are_named(capsys, tmp_path: Path, command: str, content: bytes | None, words: str):
    path = tmp_path / "terminal.toml"
    if content is not None:
        path.write_bytes(content)
    assert main([command, "--config", str(path)]) == 2
    said = capsys.readouterr().err
    assert str(path) in said
    assert words in said
    assert "what to do: " in said


def test_a_fault_of_ours_never_reads_as_a_verdict(capsys, monkeypatch) -> None:
    """Exit 1 says `different` in compare and `invalid` in evidence: no exception may end as that."""

    def broken(_options) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_compare", broken)
    assert main(["compare", "a.jpg", "b.jpg"]) == 70
    assert "ZeroDivisionError" in capsys.readouterr().err
