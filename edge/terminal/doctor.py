"""`vouch doctor`: ask the terminal that runs; where none runs, open its parts one by one and examine them alone.

Both ways run the same examination (provisioning/examination.py). A running terminal owns camera, journal and result
key, so it must measure itself; one that does not start is what a doctor is for, so here every part may be missing.

Alone:
1. What only root may see, the uplink's certificate, is read first.
2. Root becomes the user who owns the state folder, so that no file of the terminal changes its owner.
3. The lock of the state folder is taken: no terminal starts meanwhile.
4. Each part is opened, or its error takes its place; the uplink, if it runs, finds the socket that it waits for.
"""

from __future__ import annotations

import os
import pwd
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from edge.clock import Clock, SystemClock
from edge.config import CameraSettings, Settings
from edge.drivers.camera import FrameSource, open_source
from edge.errors import BusyError, CameraError, ConfigError, JournalError, SignerError, VouchError
from edge.evidence.journal import Journal
from edge.evidence.messages import Receipt
from edge.evidence.signer import Signer, open_signer
from edge.evidence.trust import open_trust
from edge.ipc import Papers
from edge.papers import read_papers
from edge.provisioning.camera_checks import Looks
from edge.provisioning.doctor import Name, RoundTrip, Trip, Verdict
from edge.provisioning.examination import TIME_LIMIT_S, Examination
from edge.provisioning.probe import Instruments
from edge.terminal.alone import alone
from edge.terminal.context import SOFTWARE_VERSION, built_in_policy
from edge.terminal.control import ask_terminal
from edge.terminal.link_server import Credentials, LinkServer
from edge.terminal.publisher import Publisher
from edge.terminal.selftest import Author, SelfTest
from edge.terminal.session import overwrite
from edge.terminal.updating import folder_in_force
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline

_ALONE_WAIT_S = 3.0
T = TypeVar("T")
OpenSource = Callable[[CameraSettings], FrameSource]


def examine(settings: Settings, *, open_camera: OpenSource = open_source, clock: Clock | None = None) -> dict[str, Any]:
    """The report as JSON types (Examination's). BusyError, ConfigError: it could not be made.

    `open_camera` and `clock` are for the simulator; a running terminal has its own.
    """
    answers = ask_terminal(settings.control_path)
    if answers is not None:
        return _told_by_terminal(answers)
    return _examine_alone(settings, open_camera, clock or SystemClock())


def exit_code(report: dict[str, Any]) -> int:
    """0 nothing failed, 1 something did."""
    return int(report["verdict"] == Verdict.FAIL.value)


def _told_by_terminal(answers: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Where the terminal ends in the middle, as it does when it loses its camera, what it said until then counts."""
    checks: list[dict[str, Any]] = []
    for answer in answers:
        if "error" in answer:
            raise BusyError(str(answer["error"]), todo=str(answer.get("todo", "")))
        if "report" in answer:
            return dict(answer["report"])
        checks.append(answer["check"])
    if not checks:
        raise ConfigError(
            "the terminal hung up without an answer", todo="look at its log: journalctl -u vouch-terminal"
        )
    failed = any(check["verdict"] == Verdict.FAIL.value for check in checks)
    order = [name.value for name in Name]
    return {
        "v": 1,
        "by": "terminal",
        "verdict": (Verdict.FAIL if failed else Verdict.WARN).value,
        "incomplete": True,  # the terminal ended before it was done
        "checks": sorted(checks, key=lambda check: order.index(check["name"])),
    }


def _examine_alone(settings: Settings, open_camera: OpenSource, clock: Clock) -> dict[str, Any]:
    papers = read_papers(settings.uplink)  # 1
    _become_owner(settings)  # 2
    with alone(settings.state_dir, wait_s=_ALONE_WAIT_S), _instruments(settings, open_camera, clock, papers) as given:
        examination = Examination(given, software=SOFTWARE_VERSION, by="doctor")
        examination.start()
        until_s = time.monotonic() + TIME_LIMIT_S
        source = given.source
        while examination.wants_frames and not isinstance(source, VouchError):
            _one_frame(examination, source, settings.camera.timeout_s)
        return examination.wait(until_s - time.monotonic()).as_record()


def _one_frame(examination: Examination, source: FrameSource, timeout_s: float) -> None:
    try:
        frame = source.read(timeout_s)
    except CameraError as exc:
        examination.camera_lost(exc)
        return
    if frame is None:
        examination.camera_lost(CameraError("the camera ended"))
        return
    examination.frame(frame)
    overwrite(frame.image)


@contextmanager
def _instruments(
    settings: Settings, open_camera: OpenSource, clock: Clock, papers: Papers | None
) -> Iterator[Instruments]:
    """Everything opened that opens; all closed at the end."""
    with ExitStack() as stack:
        source = _attempt(lambda: open_camera(settings.camera))
        if not isinstance(source, VouchError):
            stack.callback(source.close)
        folder = folder_in_force(settings)
        pack = _attempt(lambda: Pack.load(folder))
        looks = pack if isinstance(pack, VouchError) else _attempt(lambda: _looks(settings, pack))
        journal = _journal(settings)
        if isinstance(journal, Journal):
            stack.callback(journal.close)
        signer = _attempt(lambda: open_signer(settings.keys))
        link = _attempt(lambda: _link(settings, journal, clock, stack))
        yield Instruments(
            settings=settings,
            clock=clock,
            source=source,
            looks=looks,
            pack_dir=folder,
            pack_digest=None,  # no process works with any
            journal=journal,
            signer=signer if not isinstance(signer, VouchError) else SignerError(signer.message, todo=signer.todo),
            papers=lambda: papers or (None if isinstance(link, VouchError) else link[0].papers),
            round_trip=_round_trip(settings, clock, journal, signer, pack, link),
        )


def _attempt(make: Callable[[], T]) -> T | VouchError:
    try:
        return make()
    except VouchError as exc:
        return exc


def _looks(settings: Settings, pack: Pack) -> Looks:
    threshold = pack.match_threshold(built_in_policy().match_fmr_ppm)
    return Looks(Pipeline(pack, threads=settings.threads), threshold)


def _journal(settings: Settings) -> Journal | JournalError:
    try:
        return Journal.open(settings.journal_path, max_rows=settings.journal_max_rows)
    except JournalError as exc:
        return exc


_Link = tuple[LinkServer, list[SelfTest]]


def _link(settings: Settings, journal: Journal | JournalError, clock: Clock, stack: ExitStack) -> _Link:
    """The terminal's end of the socket, and who waits for receipts there."""
    tests: list[SelfTest] = []
    usable = journal if isinstance(journal, Journal) else None

    def receipt(received: Receipt) -> None:
        for test in tests:
            test.received(received)

    server = LinkServer(
        settings.socket_path,
        journal=usable,
        publisher=Publisher(
            lambda limit, after: usable.pending(limit, after=after) if usable else [],
            window=settings.uplink.max_in_flight,
            jitter=random.SystemRandom().random,
        ),
        credentials=Credentials(open_trust(settings), bytes.fromhex(settings.terminal_id)),
        clock=clock,
        on_inbound=lambda _message: None,
        on_link=lambda _state, _detail: None,
        on_receipt=receipt,
    )
    server.start()
    stack.callback(server.stop)
    return server, tests


def _round_trip(
    settings: Settings,
    clock: Clock,
    journal: Journal | JournalError,
    signer: Signer | VouchError,
    pack: Pack | VouchError,
    link: _Link | VouchError,
) -> Callable[[float], RoundTrip]:
    """Or one that says which part is missing."""
    if (
        isinstance(journal, Journal)
        and not isinstance(signer, VouchError)
        and not isinstance(pack, VouchError)
        and not isinstance(link, VouchError)
    ):
        server, tests = link
        test = SelfTest(Author(settings, clock, signer, pack, built_in_policy), journal, server)
        tests.append(test)
        return test.make
    why = next(part.message for part in (journal, signer, pack, link) if isinstance(part, VouchError))
    return lambda _limit_s: RoundTrip(Trip.NOT_STORED, detail=why)


def _become_owner(settings: Settings) -> None:
    """As root, go on as the user of the state folder, with the groups that let it use camera and TPM."""
    if os.geteuid() != 0:
        return
    try:
        owner = settings.state_dir.stat()
    except OSError:
        return  # nothing was ever written here
    if owner.st_uid == 0:
        return
    try:
        name = pwd.getpwuid(owner.st_uid).pw_name
        settings.run_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        os.chown(settings.run_dir, owner.st_uid, owner.st_gid)
        os.initgroups(name, owner.st_gid)
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    except (OSError, KeyError) as exc:
        raise ConfigError(
            f"the doctor cannot become the user of {settings.state_dir}", todo="run it as root, or as that user"
        ) from exc
