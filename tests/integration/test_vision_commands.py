"""`vouch compare`, `observe`, `bench` and `models` as their users run them, with the pack that ships."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from edge.cli import main
from edge.config import DEFAULT_PACK
from edge.session.observation import FrameInfo
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline
from simulator.person.render import Person, PersonState, portrait, render

KEYS = {
    *("t_s", "face", "box", "yaw_deg", "pitch_deg", "roll_deg", "eye_openness", "mouth_openness", "quality"),
    "bona_fide",
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """One person twice (document and camera), once as a chip's small grey JPEG, and a wall."""
    folder = tmp_path_factory.mktemp("pictures")
    document = portrait(2)
    cv2.imwrite(str(folder / "document.png"), document)
    camera, _ = render(Person.from_seed(2), PersonState(yaw_deg=4.0), (640, 480))
    cv2.imwrite(str(folder / "camera.png"), camera)
    chip = cv2.cvtColor(cv2.resize(document, (102, 126), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    cv2.imwrite(str(folder / "chip.jpg"), chip, [cv2.IMWRITE_JPEG_QUALITY, 50])
    cv2.imwrite(str(folder / "wall.png"), np.full((480, 640, 3), 120, np.uint8))
    cv2.imwrite(str(folder / "two.png"), np.hstack([document, document]))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    return folder


def compared(capsys, pictures, *names):
    code = main(["compare", *(str(pictures / name) for name in names), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_two_pictures_of_one_person_are_the_same(capsys, pictures):
    code, told = compared(capsys, pictures, "document.png", "camera.png")
    assert code == 0
    assert told["same"] is True
    assert told["score"] >= told["threshold"]


def test_a_small_grey_chip_portrait_compares_with_its_person(capsys, pictures):
    assert compared(capsys, pictures, "chip.jpg", "camera.png")[0] == 0


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("wall.png", "no-face"),
        ("two.png", "several-faces"),
        ("broken.jpg", "unreadable"),
        ("absent.jpg", "unreadable"),
    ],
)
def test_what_cannot_be_compared_says_why(capsys, pictures, name, fault):
    code, told = compared(capsys, pictures, "document.png", name)
    assert code == 2
    assert told["same"] is None
    assert told["fault"] == fault
    assert told["picture"].endswith(name)


def test_a_video_is_observed_frame_by_frame(capsys, tmp_path):
    person = Person.from_seed(2)
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30, (640, 480))
    for yaw in (0, 8, 16, 24):
        writer.write(render(person, PersonState(yaw_deg=yaw), (640, 480))[0])
    writer.write(np.full((480, 640, 3), 120, np.uint8))
    writer.release()
    assert main(["observe", str(tmp_path / "clip.avi"), "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [set(record) for record in records] == [KEYS] * 5
    assert [record["face"] for record in records] == [True] * 4 + [False]
    assert [record["t_s"] for record in records] == pytest.approx([0, 1 / 30, 2 / 30, 3 / 30, 4 / 30], abs=1e-3)
    yaws = [record["yaw_deg"] for record in records[:4]]
    assert yaws == sorted(yaws)
    assert yaws[3] - yaws[0] > 12
    assert all(0 <= record["bona_fide"] <= 1 for record in records[:4])
    assert records[4]["bona_fide"] is None


def test_a_video_that_does_not_exist_says_what_to_do(capsys, tmp_path):
    assert main(["observe", str(tmp_path / "none.mp4")]) == 2
    assert "what to do" in capsys.readouterr().err


def test_a_folder_and_a_pipe_are_told_to_be_no_video_file(capsys, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        assert main(["observe", str(path)]) == 2
        assert f"{path} is no file\n  what to do: name a video" in capsys.readouterr().err


def test_a_reader_that_closes_early_is_no_error(pictures, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30, (640, 480))
    for _ in range(40):
        writer.write(np.full((480, 640, 3), 120, np.uint8))
    writer.release()
    command = [sys.executable, "-m", "edge.cli", "observe", str(tmp_path / "clip.avi"), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 141, "no verdict of a command that was not done"


def test_a_reader_that_reads_nothing_is_no_error_of_any_command():
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for arguments, code in ((["models", "list"], 0), (["compare", "none.jpg", "none.jpg", "--json"], 2)):
        command = [sys.executable, "-m", "edge.cli", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert process.stderr is not None
            told = process.stderr.read()
        assert b"Traceback" not in told
        assert b"BrokenPipe" not in told
        assert process.returncode == code, "what the command found out"


def test_a_broken_socket_of_ours_is_still_a_fault(monkeypatch, capfd):
    def broken(_options):
        raise BrokenPipeError

    monkeypatch.setattr("edge.cli._models_list", broken)
    assert main(["models", "list"]) == 70
    assert "BrokenPipeError" in capfd.readouterr().err


def test_the_bench_measures_every_stage_with_one_thread_and_two(capsys, tmp_path):
    assert main(["bench", "--json", "--rounds", "3", "--peers", str(tmp_path / "none")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["face_found"] is True
    assert told["peers"].startswith("absent")
    assert [run["threads"] for run in told["runs"]] == [1, 2]
    for run in told["runs"]:
        assert set(run["stages"]) == {"detect", "landmarks", "antispoof", "embed", "tracking frame", "decision"}
        assert all(0 < stage["quarter_ms"] <= stage["median_ms"] for stage in run["stages"].values())


@pytest.mark.parametrize("rounds", ["0", "-3", "many"])
def test_a_bench_of_no_rounds_is_refused(capsys, rounds):
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--rounds", rounds])
    assert ended.value.code == 2
    assert "no number of 1 or more" in capsys.readouterr().err


def test_the_pack_that_ships_is_whole(capsys):
    assert main(["models", "verify"]) == 0
    assert main(["models", "list"]) == 0
    told = capsys.readouterr()
    assert "embedder.tflite" in told.out
    assert "only the built-in pack is looked at" in told.err, "there is no terminal here"


def test_settings_that_are_named_and_not_there_are_no_reason_to_look_at_another_pack(capsys, tmp_path):
    assert main(["models", "list", "--config", str(tmp_path / "terminal.toml")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_two_people_before_the_camera_are_counted_and_a_far_one_behind_is_not():
    pipeline = Pipeline(Pack.load(DEFAULT_PACK))
    near, other = (render(Person.from_seed(seed), PersonState(), (640, 480))[0] for seed in (3, 6))
    info = FrameInfo(0, 0.0, 640, 480)
    two = np.hstack([near[:, 160:480], other[:, 160:480]])
    assert pipeline.process(two, info).face_count == 2
    pipeline.reset()
    far = near.copy()
    far[20:128, 20:104] = cv2.resize(other[60:420, 180:460], (84, 108), interpolation=cv2.INTER_AREA)
    assert pipeline.process(far, info).face_count == 1


def test_who_asks_how_the_bench_s_picture_is_drawn_gets_no_picture():
    before = (DEFAULT_PACK / "bench.jpg").stat().st_mtime_ns
    command = [sys.executable, "-m", "models.training.bench_picture", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=DEFAULT_PACK.parent)
    assert "a rendered person" in told.stdout
    assert (DEFAULT_PACK / "bench.jpg").stat().st_mtime_ns == before
