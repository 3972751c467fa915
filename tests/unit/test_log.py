"""The log writes scalars and refuses everything that could be a face, however it is handed over."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.errors import CameraError
from edge.ipc import LinkState
from edge.log import TEXT_LIMIT, Log, setup

PIXELS = np.arange(64, dtype=np.uint8)


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    import sys

    root, vouch = logging.getLogger(), logging.getLogger("vouch")
    before = (root.handlers[:], root.level, vouch.level, sys.excepthook, threading.excepthook, logging.raiseExceptions)
    stream = io.StringIO()
    setup("terminal", stream=stream)
    yield stream
    root.handlers[:], root.level, vouch.level, sys.excepthook, threading.excepthook, logging.raiseExceptions = before


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json(written):
    Log("uplink").info("link-up", host="broker", port=8883, state=LinkState.UP, path=Path("/run"), ok=True, none=None)
    (line,) = lines(written)
    assert line["process"] == "terminal"
    assert line["level"] == "info"
    assert line["log"] == "uplink"
    assert line["event"] == "link-up"
    assert [line[name] for name in ("host", "port", "state", "path", "ok", "none")] == [
        "broker", 8883, "up", "/run", True, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [b"secret", bytearray(b"secret"), memoryview(b"secret"), PIXELS, PIXELS[0], [1, 2], (1, 2), {1, 2}, object()],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_scalar_is_refused_as_a_field_and_as_an_argument(written, value):
    Log("vision").info("frame", value=value)
    logging.getLogger("library").warning("frame %s", value)
    logging.getLogger("library").warning("frame %(v)s and %(w)s", {"v": value, "w": 1})
    logging.getLogger("library").warning(value)
    refused = f"<{type(value).__name__} refused>"
    assert lines(written)[0]["value"] == refused
    assert [line["event"] for line in lines(written)[1:]] == [f"frame {refused}", f"frame {refused} and 1", refused]
    assert "secret" not in written.getvalue()


def test_what_hides_in_a_mapping_is_refused(written):
    Log("x").info("e", value={"pixels": b"secret"})
    logging.getLogger("library").warning("frame %s", {"pixels": b"secret"})
    assert lines(written)[0]["value"] == "<dict refused>"
    assert "secret" not in written.getvalue()


def test_a_long_text_is_cut_so_that_no_encoded_picture_fits(written):
    Log("x").info("e", text="ab" * 5000)
    logging.getLogger("library").warning("cd" * 5000)
    assert len(lines(written)[0]["text"]) == TEXT_LIMIT
    assert len(lines(written)[1]["event"]) == TEXT_LIMIT


def test_a_foreign_exception_leaves_its_type_and_place_but_not_its_text(written):
    try:
        raise ValueError(f"bad pixels {PIXELS.tobytes()!r}")  # noqa: TRY301  # noqa: TRY301
    except ValueError as exc:
        Log("x").error("failed", exc=exc)
        logging.getLogger("library").exception("failed")
    for line in lines(written):
        assert line["error"] == "ValueError"
        assert "test_log.py" in line["at"]
        assert "pixels" not in json.dumps(line)


def test_our_own_exception_keeps_its_text(written):
    Log("x").error("camera", exc=CameraError("no frame for 2 s", todo="check the cable"))
    assert lines(written)[0]["detail"] == "no frame for 2 s"
    assert lines(written)[0]["what_to_do"] == "check the cable"


def test_an_exception_nobody_caught_goes_the_same_way(written, capfd):
    def fail() -> None:
        raise ValueError("bad pixels")

    thread = threading.Thread(target=fail, name="kiosk")
    thread.start()
    thread.join()
    (line,) = lines(written)
    assert (line["event"], line["error"], line["thread"]) == ("uncaught", "ValueError", "kiosk")
    assert "bad pixels" not in capfd.readouterr().err + written.getvalue()


def test_a_record_that_cannot_be_formatted_is_still_a_line(written, capfd):
    logging.getLogger("library").warning("%d items", "many")
    assert lines(written)[0]["event"] == "%d items"
    assert capfd.readouterr().err == ""


def test_numbers_that_json_does_not_know_are_written_as_text(written):
    Log("x").info("e", a=float("nan"), b=float("inf"), c=1.23456789)
    line = lines(written)[0]
    assert (line["a"], line["b"], line["c"]) == ("nan", "inf", 1.234568)


def test_a_dot_for_debug_is_silent_by_default(written):
    Log("x").debug("e")
    assert written.getvalue() == ""
