"""The doctor's judgement: what was measured -> verdict, and words for every finding in both languages."""

from __future__ import annotations

import json
import os
import string
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.drivers.board import BoardHealth, read_health
from edge.drivers.camera import SensorIdentity, SensorKind
from edge.drivers.opencv_camera import video_identity
from edge.drivers.storage import Medium, Room, Wear, read_wear
from edge.errors import BusyError, ConfigError
from edge.ipc import Papers
from edge.provisioning import doctor, doctor_text, doctor_words
from edge.provisioning.doctor import Check, ExposureStep, Light, Name, RoundTrip, TargetSeen, Trip, Verdict

NOW = 1_795_000_000
DAY = 86_400
LIT = Light(0.5, 0.4, 0.1, 2.0, by_face=True)
PAPERS = Papers(from_s=NOW - DAY, certificate_until_s=NOW + 90 * DAY, ca_until_s=NOW + 900 * DAY)
BOARD = BoardHealth(50.0, False, False, "Raspberry Pi 5", False, False)
ROOM = Room(total_bytes=16 * 2**30, free_bytes=8 * 2**30, free_inodes=100_000, read_only=False)
EMMC = Wear(Medium.EMMC, "SCA16G", 10, 1)
PI = SensorIdentity(SensorKind.HARDWARE, "imx708")


def at(fps: float, seconds: float = 3.0) -> list[float]:
    return [i / fps for i in range(int(fps * seconds))]


UPDATED = doctor.UpdatesSeen(offered=True, release=3, on_trial=False, refused=None, unfetched=None, expired=False)

STORIES = {
    "a release in force": (lambda: doctor.updates(UPDATED), Verdict.PASS),
    "a pack on trial": (lambda: doctor.updates(replace(UPDATED, on_trial=True)), Verdict.PASS),
    "a carrier without updates": (lambda: doctor.updates(replace(UPDATED, offered=False)), Verdict.SKIP),
    "a refused update": (lambda: doctor.updates(replace(UPDATED, refused="self-test", expired=True)), Verdict.WARN),
    "signatures that ran out": (lambda: doctor.updates(replace(UPDATED, expired=True)), Verdict.WARN),
    "no way to the updates": (lambda: doctor.updates(replace(UPDATED, unfetched="nobody answers")), Verdict.WARN),
    "thirty frames a second": (lambda: doctor.frames(at(30), 30), Verdict.PASS),
    "a camera in the dark": (lambda: doctor.frames(at(12), 30), Verdict.WARN),
    "too slow for a blink": (lambda: doctor.frames(at(8), 30), Verdict.FAIL),
    "a camera that stood still for a second": (
        lambda: doctor.frames([*at(30), *[4 + t for t in at(30)]], 30),
        Verdict.WARN,
    ),
    "no frame at all": (lambda: doctor.frames([], 30), Verdict.FAIL),
    "the sensor that was fitted": (lambda: doctor.sensor(PI, "imx708"), Verdict.PASS),
    "another sensor": (lambda: doctor.sensor(PI, "imx219"), Verdict.FAIL),
    "a virtual camera": (lambda: doctor.sensor(SensorIdentity(SensorKind.VIRTUAL, "OBS"), None), Verdict.FAIL),
    "a camera that does not say": (lambda: doctor.sensor(None, None), Verdict.SKIP),
    "exposure obeyed": (
        lambda: doctor.exposure([ExposureStep(0.5, 0.51, 0.74), ExposureStep(1.5, 1.46, 1.2)]),
        Verdict.PASS,
    ),
    "exposure not obeyed": (
        lambda: doctor.exposure([ExposureStep(0.5, 1.0, 1.0), ExposureStep(1.5, 1.5, 1.2)]),
        Verdict.FAIL,
    ),
    "metadata obey, the picture does not": (
        lambda: doctor.exposure([ExposureStep(0.5, 0.5, 1.01), ExposureStep(1.5, 1.5, 1.2)]),
        Verdict.FAIL,
    ),
    "no exposure control": (lambda: doctor.exposure(None), Verdict.SKIP),
    "a sharp lens": (lambda: doctor.focus(85, subject=True, dark=False), Verdict.PASS),
    "a soft lens": (lambda: doctor.focus(55, subject=True, dark=False), Verdict.WARN),
    "a blurred lens": (lambda: doctor.focus(30, subject=True, dark=False), Verdict.FAIL),
    "a blurred wall": (lambda: doctor.focus(30, subject=False, dark=False), Verdict.SKIP),
    "blurred in the dark": (lambda: doctor.focus(30, subject=True, dark=True), Verdict.SKIP),
    "a lit shop": (lambda: doctor.light(LIT), Verdict.PASS),
    "a shop where dark skin is too dark": (lambda: doctor.light(replace(LIT, brightness=0.12)), Verdict.FAIL),
    "a dark shop": (lambda: doctor.light(replace(LIT, brightness=0.05)), Verdict.FAIL),
    "a window behind": (lambda: doctor.light(replace(LIT, brightness=0.3, surround=0.8)), Verdict.FAIL),
    "light by gain alone": (lambda: doctor.light(replace(LIT, gain=12.0)), Verdict.WARN),
    "a target recognised": (lambda: doctor.self_match(TargetSeen.MATCHES), Verdict.PASS),
    "no target": (lambda: doctor.self_match(TargetSeen.ABSENT), Verdict.SKIP),
    "a target not recognised": (lambda: doctor.self_match(TargetSeen.DIFFERS), Verdict.FAIL),
    "a software key": (lambda: doctor.keys(hardware=False, carrier_keys=1), Verdict.WARN),
    "a hardware key": (lambda: doctor.keys(hardware=True, carrier_keys=1), Verdict.PASS),
    "a fresh certificate": (lambda: doctor.certificate(PAPERS, NOW), Verdict.PASS),
    "a certificate near its end": (
        lambda: doctor.certificate(replace(PAPERS, certificate_until_s=NOW + 9 * DAY), NOW),
        Verdict.WARN,
    ),
    "an expired certificate": (
        lambda: doctor.certificate(replace(PAPERS, certificate_until_s=NOW - 1), NOW),
        Verdict.FAIL,
    ),
    "an expired CA": (lambda: doctor.certificate(replace(PAPERS, ca_until_s=NOW - DAY), NOW), Verdict.FAIL),
    "a certificate that has not begun": (
        lambda: doctor.certificate(replace(PAPERS, from_s=NOW + 1), NOW),
        Verdict.FAIL,
    ),
    "a clock of 1970": (lambda: doctor.clock(0, synchronised=False, offset_s=None), Verdict.FAIL),
    "an hour from the carrier": (lambda: doctor.clock(NOW, synchronised=True, offset_s=3600), Verdict.FAIL),
    "a minute from the carrier": (lambda: doctor.clock(NOW, synchronised=True, offset_s=-60), Verdict.WARN),
    "a clock that nobody set": (lambda: doctor.clock(NOW, synchronised=False, offset_s=None), Verdict.WARN),
    "a clock that agrees": (lambda: doctor.clock(NOW, synchronised=True, offset_s=0), Verdict.PASS),
    "room": (lambda: doctor.disk(ROOM, 1, reserve_bytes=2**18), Verdict.PASS),
    "little room": (lambda: doctor.disk(replace(ROOM, free_bytes=2**25), 1, reserve_bytes=2**18), Verdict.WARN),
    "no room": (lambda: doctor.disk(replace(ROOM, free_bytes=1000), 1, reserve_bytes=2**18), Verdict.FAIL),
    "no inodes": (lambda: doctor.disk(replace(ROOM, free_inodes=3), 1, reserve_bytes=2**18), Verdict.FAIL),
    "a disk gone read-only": (lambda: doctor.disk(replace(ROOM, read_only=True), 1, reserve_bytes=2**18), Verdict.FAIL),
    "a young eMMC": (lambda: doctor.wear(EMMC), Verdict.PASS),
    "an old eMMC": (lambda: doctor.wear(replace(EMMC, worn_percent=90)), Verdict.WARN),
    "a dead eMMC": (lambda: doctor.wear(replace(EMMC, reserve=3)), Verdict.FAIL),
    "an SD card": (lambda: doctor.wear(Wear(Medium.SD, "SC16G", None, None)), Verdict.SKIP),
    "a chain that holds": (lambda: doctor.journal(10, 2, 10, 1000), Verdict.PASS),
    "a queue that grows": (lambda: doctor.journal(100, 80, 100, 1000), Verdict.WARN),
    "a full journal": (lambda: doctor.journal(1000, 1000, 1000, 1000), Verdict.FAIL),
    "a cool board": (lambda: doctor.temperature(BOARD), Verdict.PASS),
    "a board that was slowed down": (lambda: doctor.temperature(replace(BOARD, throttled=True)), Verdict.WARN),
    "a hot board": (lambda: doctor.temperature(replace(BOARD, temperature_c=88.0)), Verdict.FAIL),
    "slowed down now": (
        lambda: doctor.temperature(replace(BOARD, temperature_c=80.0, throttled=True, throttled_now=True)),
        Verdict.FAIL,
    ),
    "a board that is silent": (lambda: doctor.temperature(BoardHealth(None, None, None, None)), Verdict.SKIP),
    "enough power": (lambda: doctor.power(BOARD), Verdict.PASS),
    "a weak supply once": (lambda: doctor.power(replace(BOARD, under_voltage=True)), Verdict.WARN),
    "a weak supply now": (
        lambda: doctor.power(replace(BOARD, under_voltage=True, under_voltage_now=True)),
        Verdict.FAIL,
    ),
    "time that goes back": (lambda: doctor.frames([0.0, 0.1, 0.05, 0.2], 30), Verdict.FAIL),
    "a video file": (lambda: doctor.sensor(SensorIdentity(SensorKind.FILE, "a.mp4"), None), Verdict.WARN),
    "a glaring lamp": (lambda: doctor.light(replace(LIT, brightness=0.95, surround=0.9)), Verdict.FAIL),
    "a lamp at one side": (lambda: doctor.light(replace(LIT, side=0.5)), Verdict.WARN),
    "a target with glare": (lambda: doctor.self_match(TargetSeen.NO_FACE), Verdict.FAIL),
    "whole models": (lambda: doctor.models("p", "1.0", b"a", b"a"), Verdict.PASS),
    "models changed below the process": (lambda: doctor.models("p", "1.0", b"a", b"b"), Verdict.WARN),
    "an uplink that has not told": (lambda: doctor.certificate(None, NOW), Verdict.SKIP),
    "a clock without a receipt": (lambda: doctor.clock(NOW, synchronised=True, offset_s=None), Verdict.PASS),
    "a warm board": (lambda: doctor.temperature(replace(BOARD, temperature_c=78.0)), Verdict.WARN),
    "a supply that is not watched": (lambda: doctor.power(BoardHealth(None, None, None, None)), Verdict.SKIP),
    **{
        f"a round trip: {trip.value}": (
            lambda trip=trip: doctor.broker(RoundTrip(trip, 0.2, 5, 0, 3, "why")),
            {Trip.RECEIVED: Verdict.PASS, Trip.QUEUED: Verdict.WARN}.get(trip, Verdict.FAIL),
        )
        for trip in Trip
    },
}


@pytest.mark.parametrize("story", STORIES)
def test_each_finding_has_its_verdict_and_words_in_both_languages(story: str) -> None:
    make, verdict = STORIES[story]
    check = make()
    assert check.verdict is verdict
    told = doctor_words.words_of(check)
    for words in filter(None, (told.title, told.says, told.todo)):
        assert words.en
        assert words.zh
        assert "{" not in words.en + words.zh
        assert any(ord(letter) > 0x2E7F for letter in words.zh) or words.zh == words.en
    assert (told.todo is not None) or check.verdict in (Verdict.PASS, Verdict.SKIP), "a technician must know what to do"


def test_no_finding_is_left_without_a_story() -> None:
    told = {(check.name, check.finding) for check in (make() for make, _ in STORIES.values())}
    assert {(name, finding) for name, findings in doctor_words._WORDS.items() for finding in findings} <= told


def test_words_use_only_what_the_check_has_measured() -> None:
    for name, findings in doctor_words._WORDS.items():
        for finding, entry in findings.items():
            fields = [{field for _, field, _, _ in string.Formatter().parse(part) if field} for part in entry]
            assert fields[0] == fields[1], (name, finding, "both languages say the same")
            if len(fields) == 4:
                assert fields[2] == fields[3], (name, finding)


def test_the_worst_verdict_counts_and_what_was_not_possible_does_not() -> None:
    def check(verdict: Verdict) -> Check:
        return Check(Name.DISK, verdict, "good")

    assert doctor.worst([check(Verdict.SKIP)]) is Verdict.PASS
    assert doctor.worst([check(Verdict.PASS), check(Verdict.WARN)]) is Verdict.WARN
    assert doctor.worst([check(Verdict.FAIL), check(Verdict.WARN), check(Verdict.SKIP)]) is Verdict.FAIL


@given(st.lists(st.floats(0, 1e6), max_size=50), st.integers(10, 60))
def test_no_frame_times_break_the_judgement(times, asked) -> None:
    assert doctor.frames(times, asked).verdict in Verdict


@given(st.integers(-(2**40), 2**40), st.booleans(), st.none() | st.integers(-(2**40), 2**40))
def test_no_clock_breaks_the_judgement(now, synchronised, offset) -> None:
    check = doctor.clock(now, synchronised=synchronised, offset_s=offset)
    assert doctor_words.words_of(check).says.zh


def test_the_wear_of_an_emmc_is_the_worse_of_its_two_figures(tmp_path: Path) -> None:
    disk = tmp_path / "devices/mmc0/block/mmcblk0"
    partition = disk / "mmcblk0p2"
    (disk / "device").mkdir(parents=True)
    partition.mkdir()
    (partition / "partition").write_text("2\n")
    for name, text in (("type", "MMC"), ("name", "SCA16G"), ("life_time", "0x02 0x09"), ("pre_eol_info", "0x02")):
        (disk / "device" / name).write_text(text + "\n")
    (tmp_path / "dev/block").mkdir(parents=True)
    (tmp_path / "dev/block/179:2").symlink_to(partition)
    assert read_wear(tmp_path, tmp_path, device=(179 << 8) | 2) == Wear(Medium.EMMC, "SCA16G", 90, 2)
    (disk / "device" / "type").write_text("SD\n")
    (disk / "device" / "life_time").unlink()
    (disk / "device" / "pre_eol_info").unlink()
    assert read_wear(tmp_path, tmp_path, device=(179 << 8) | 2) == Wear(Medium.SD, "SCA16G", None, None)


def test_a_disk_that_the_kernel_does_not_know_says_nothing(tmp_path: Path) -> None:
    assert read_wear(tmp_path, tmp_path) == Wear(Medium.OTHER, None, None, None)


def test_power_and_throttling_of_now_are_told_from_those_since_the_start(tmp_path: Path) -> None:
    flags = tmp_path / "devices/platform/soc/soc:firmware/get_throttled"
    flags.parent.mkdir(parents=True)
    flags.write_text("50000\n")
    before = read_health(tmp_path, tmp_path)
    assert (before.under_voltage, before.under_voltage_now, before.throttled, before.throttled_now) == (
        *(True, False),
        *(True, False),
    )
    flags.write_text("50005\n")
    now = read_health(tmp_path, tmp_path)
    assert (now.under_voltage_now, now.throttled_now) == (True, True)


def test_a_webcam_says_who_made_it_and_a_loopback_device_is_virtual(tmp_path: Path) -> None:
    usb = tmp_path / "devices/pci/usb1/1-2"
    node = usb / "1-2:1.0/video4linux/video0"
    node.mkdir(parents=True)
    (node / "name").write_text("HD Webcam\n")
    (node / "device").symlink_to(usb / "1-2:1.0")
    for name, text in (("idVendor", "046d"), ("idProduct", "0825"), ("serial", "ABC1")):
        (usb / name).write_text(text + "\n")
    loop = tmp_path / "devices/virtual/video4linux/video7"
    loop.mkdir(parents=True)
    (loop / "name").write_text("Dummy video device\n")
    (tmp_path / "class/video4linux").mkdir(parents=True)
    (tmp_path / "class/video4linux/video0").symlink_to(node)
    (tmp_path / "class/video4linux/video7").symlink_to(loop)
    assert video_identity("video0", tmp_path) == SensorIdentity(SensorKind.HARDWARE, "HD Webcam", "046d:0825 ABC1")
    assert video_identity("video7", tmp_path) == SensorIdentity(SensorKind.VIRTUAL, "Dummy video device")
    assert video_identity("video9", tmp_path) == SensorIdentity(SensorKind.HARDWARE, "unknown")


def test_an_exported_report_has_a_name_of_its_own_and_replaces_nothing(tmp_path: Path) -> None:
    report = {"terminal_id": "ab" * 16, "made_at_s": NOW, "checks": []}
    with doctor_text.export(tmp_path, "ab" * 16) as keep:
        path = keep(report)
    assert path.parent == tmp_path
    assert path.name.startswith("vouch-doctor-abababab-")
    with pytest.raises(ConfigError, match="cannot be written"), doctor_text.export(path, "ab" * 16):
        pytest.fail("refused before anything is examined")
    assert json.loads(path.read_text()) == report


def test_an_examination_that_ends_in_an_error_leaves_no_file(tmp_path: Path) -> None:
    with suppress(BusyError), doctor_text.export(tmp_path, "ab" * 16):
        assert list(tmp_path.iterdir())
        raise BusyError("a customer is being verified")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_s_stick_takes_the_report_of_a_doctor_that_is_no_longer_root(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with doctor_text.export(tmp_path, "ab" * 16) as keep:
        child = os.fork()
        if child == 0:  # for the one who becomes another user there is no way back
            try:
                os.setuid(65534)
                keep({"checks": []})
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        (path,) = tmp_path.iterdir()
        assert json.loads(path.read_text()) == {"checks": []}


def test_the_language_is_that_of_the_locale() -> None:
    assert doctor_text.language_of({"LANG": "zh_CN.UTF-8"}) == "zh"
    assert doctor_text.language_of({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}) == "en"
    assert doctor_text.language_of({}) == "en"
