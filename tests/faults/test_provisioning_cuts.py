"""The power goes in the middle of an installation, a renewal or a reset, at each step; the disk fills up: nothing half."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from edge.clock import SystemClock
from edge.config import load
from edge.errors import ProvisioningError, StorageError
from edge.evidence.journal import Envelope, Journal
from edge.evidence.signer import load_private_key
from edge.provisioning import identity, installation, redo, reset, retirement, standing
from edge.provisioning.keys import new_key, private_pem
from edge.provisioning.standing import Stage
from edge.uplink.renewal import Renewal
from simulator.carrier.pki import CarrierPki, create_pki, issue_terminal_certificate
from tests.support.enrolment import CODE, signed_bundle
from tests.support.wires import free_port

REPOSITORY = Path(__file__).resolve().parents[2]


def cuts(prepared: Path, target: Path, *arguments: object) -> list[Path]:
    """The folders that were left behind, one for each step."""
    command = [sys.executable, "-m", "tests.support.cuts", str(prepared), str(target), *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [target / str(number) for number in range(1, int(done.stdout) + 1)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def settled(folder: Path) -> dict[str, bytes]:
    """Without drafts that nobody reads."""
    return {name: data for name, data in files(folder).items() if not name.endswith(".new")}


@pytest.fixture
def pki(tmp_path: Path) -> CarrierPki:
    return create_pki(tmp_path / "keys", now=datetime.now(UTC))


@pytest.fixture
def asked(tmp_path: Path, pki: CarrierPki) -> tuple[Path, Path]:
    """(a folder with a request, its bundle)"""
    folder = tmp_path / "asked"
    request = identity.create(folder, site="shop", root=pki.root).request
    bundle = tmp_path / "bundle.vouch"
    bundle.write_bytes(signed_bundle(pki, request, broker=("localhost", free_port())))
    return folder, bundle


@pytest.fixture
def enrolled(asked: tuple[Path, Path]) -> Path:
    """The same folder, enrolled, with a journal beside the settings."""
    folder, bundle = asked
    installation.install(folder, bundle.read_bytes(), code=CODE)
    settings = folder / "terminal.toml"
    settings.write_text('state_dir = "state"\nrun_dir = "run"\n' + settings.read_text())
    (folder / "state").mkdir()
    (folder / "state" / "accepted.cose").write_bytes(b"a receipt")
    return folder


@pytest.mark.timeout(300)
def test_an_installation_that_is_cut_off_is_whole_or_was_never_begun(asked, tmp_path: Path) -> None:
    folder, bundle = asked
    (tmp_path / "whole").mkdir()
    left = cuts(folder, tmp_path / "cut", "install", bundle, CODE)
    assert len(left) > 20
    before = files(folder)
    whole = settled(tmp_path / "cut" / str(len(left) + 1))
    seen = set()
    for cut in left:
        began = redo.is_interrupted(cut)
        if not began and not (cut / "terminal.toml").exists():
            assert settled(cut) == before, "nothing has changed"
            with pytest.raises(ProvisioningError):
                installation.install(cut, bundle.read_bytes(), code="0000-0000-0000")
            installation.install(cut, bundle.read_bytes(), code=CODE)
        elif began:
            assert standing.inspect(cut, 0).stage is Stage.INTERRUPTED
            redo.resume(cut)
        assert settled(cut) == whole
        assert standing.inspect(cut, 0).stage is Stage.UNPROVISIONED
        seen.add(began)
    assert seen == {True, False}


@pytest.mark.timeout(300)
def test_a_finishing_that_is_cut_off_itself_is_finished_later(asked, tmp_path: Path) -> None:
    folder, bundle = asked
    left = cuts(folder, tmp_path / "cut", "install", bundle, CODE)
    whole = settled(tmp_path / "cut" / str(len(left) + 1))
    begun = next(cut for cut in left if redo.is_interrupted(cut))
    for again in cuts(begun, tmp_path / "again", "resume"):
        redo.resume(again)
        assert settled(again) == whole


def matching(folder: Path) -> bool:
    certificate = x509.load_pem_x509_certificate((folder / "uplink/tls.crt").read_bytes())
    return certificate.public_key() == load_private_key(folder / "uplink/tls.key").public_key()


@pytest.mark.timeout(300)
def test_a_renewal_by_file_that_is_cut_off_never_leaves_a_certificate_without_its_key(enrolled, pki, tmp_path) -> None:
    bundle = tmp_path / "renewal.vouch"
    bundle.write_bytes(signed_bundle(pki, identity.ask(enrolled).request))
    former = (enrolled / "uplink/tls.key").read_bytes()
    left = cuts(enrolled, tmp_path / "cut", "install", bundle, CODE)
    keys = set()
    for cut in left:
        redo.resume(cut)
        assert matching(cut)
        keys.add((cut / "uplink/tls.key").read_bytes() == former)
    assert keys == {True, False}


def renewing(enrolled: Path, pki: CarrierPki) -> None:
    """The uplink has a new pair, and it works."""
    settings = load(enrolled / "terminal.toml")
    key = new_key()
    csr = identity.signing_request(key, settings.terminal_id)
    (enrolled / "uplink/next.key").write_bytes(private_pem(key))
    (enrolled / "uplink/next.key").chmod(0o600)
    certificate = issue_terminal_certificate(pki, csr, settings.terminal_id, now=datetime.now(UTC))
    (enrolled / "uplink/next.crt").write_bytes(certificate)


@pytest.mark.timeout(300)
def test_a_renewal_over_the_link_that_is_cut_off_never_leaves_a_certificate_without_its_key(
    enrolled, pki, tmp_path
) -> None:
    renewing(enrolled, pki)
    left = cuts(enrolled, tmp_path / "cut", "promote")
    assert len(left) >= 4
    for cut in left:
        settings = load(cut / "terminal.toml")
        Renewal(settings.uplink, settings.terminal_id, SystemClock()).settle()
        assert matching(cut)


@pytest.mark.timeout(300)
def test_a_reset_that_is_cut_off_is_finished_at_the_next_start_or_was_never_begun(enrolled, tmp_path: Path) -> None:
    settings = load(enrolled / "terminal.toml")
    with Journal.open(settings.journal_path, max_rows=100) as journal:
        row = journal.append(lambda counter, _: Envelope(bytes(16), b"result %d" % counter))
        journal.release(row.cti, row.digest)
    key = load_private_key(enrolled / "terminal/result.key").public_key()
    before = {name for name in files(enrolled) if not name.startswith("state/journal")}
    left = cuts(enrolled, tmp_path / "cut", "wipe")
    assert len(left) > 20
    seen = set()
    for cut in left:
        begun = reset.is_interrupted(cut)
        seen.add(begun)
        if not begun and (cut / "identity.toml").exists():
            assert before <= settled(cut).keys(), "nothing is gone"
            continue
        word = (tmp_path / "cut" / f"{cut.name}.cose").read_bytes()
        assert retirement.open_retired(word, key).counter == 1, (
            "the last word was exported before anything was destroyed"
        )
        reset.resume(cut)
        assert set(files(cut)) == {"root.pem"}
        assert standing.inspect(cut, 0).stage is Stage.BLANK
    assert seen == {True, False}


def test_a_terminal_does_not_run_on_half_a_reset(enrolled, tmp_path: Path) -> None:
    left = cuts(enrolled, tmp_path / "cut", "wipe")
    half = next(cut for cut in left if reset.is_interrupted(cut) and (cut / "terminal.toml").exists())
    command = [sys.executable, "-m", "edge.cli", "uplink", "--config", str(half / "terminal.toml")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "provision this terminal" in done.stderr
    assert set(files(half)) == {"root.pem"}


def test_a_reset_destroys_the_links_in_a_room_and_nothing_that_they_lead_to(enrolled, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"root's own")
    links = {"planted": elsewhere, "again.key": "../root.pem", "circle": "circle", "nowhere": "gone", "up": "../.."}
    for name, target in links.items():
        (enrolled / "uplink" / name).symlink_to(target)
    root = (enrolled / "root.pem").read_bytes()
    reset.reset(
        enrolled, out=tmp_path / "last.cose", force=False, clock=SystemClock(), send=lambda *_: "no link to anybody"
    )
    assert (elsewhere.read_bytes(), (enrolled / "root.pem").read_bytes()) == (b"root's own", root)
    assert list((enrolled / "uplink").iterdir()) == []
    assert set(files(enrolled)) == {"root.pem"}


def ended(folder: Path, out: Path) -> reset.Outcome:
    return reset.reset(folder, out=out, force=True, clock=SystemClock(), send=lambda *_: "no link to anybody")


@pytest.mark.parametrize("linked", ["packs", "packs/trust"])
def test_a_reset_follows_no_linked_folder_out_of_the_state_folder(enrolled, tmp_path: Path, capsys, linked) -> None:
    victim = tmp_path / "victim"
    kept = victim / Path("packs/trust/a.json").relative_to(linked)
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"root's own")
    link = enrolled / "state" / linked
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(victim)
    ended(enrolled, tmp_path / "last.cose")
    assert kept.read_bytes() == b"root's own"
    assert f"{link} is a link" in capsys.readouterr().err
    assert standing.inspect(enrolled, 0).stage is Stage.BLANK


@pytest.mark.timeout(120)
def test_a_reset_ends_whatever_lies_in_the_place_of_its_files(enrolled, tmp_path: Path) -> None:
    (enrolled / "state" / "journal.sqlite").mkdir()
    (enrolled / "state" / "trust.cbor").mkdir()
    for name in ("uplink/zz", "state/accepted.cose"):
        (enrolled / name).touch()
        os.truncate(enrolled / name, 200 * 2**30)
    os.mkfifo(enrolled / "uplink" / "pipe")
    ended(enrolled, tmp_path / "last.cose")
    assert set(files(enrolled)) == {"root.pem"}
    assert list((enrolled / "state").iterdir()) == list((enrolled / "uplink").iterdir()) == []


def test_a_reset_empties_the_folders_of_the_state_that_are_ones(enrolled, tmp_path: Path) -> None:
    for name in ("packs/state.json", "packs/policy/1.cose", "packs/trust/a.json", "packs/trust/root_history/1.json"):
        (enrolled / "state" / name).parent.mkdir(parents=True, exist_ok=True)
        (enrolled / "state" / name).write_bytes(b"ours")
    ended(enrolled, tmp_path / "last.cose")
    assert set(files(enrolled)) == {"root.pem"}


def test_a_reset_asks_refuses_while_results_wait_and_can_be_forced(enrolled, tmp_path: Path) -> None:
    settings = load(enrolled / "terminal.toml")
    with Journal.open(settings.journal_path, max_rows=100) as journal:
        journal.append(lambda counter, _: Envelope(bytes(16), b"result %d" % counter))
    key = load_private_key(enrolled / "terminal/result.key").public_key()
    terminal = settings.terminal_id

    def vouch(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "edge.cli",
            "reset",
            "--dir",
            str(enrolled),
            "--out",
            str(tmp_path),
            *arguments,
        ]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, input=typed)

    before = files(enrolled)
    unsure = vouch(typed="yes\n")
    assert (unsure.returncode, "nothing was changed" in unsure.stderr) == (2, True)
    refused = vouch(typed=f"{terminal[:8]}\n")
    assert refused.returncode == 2
    assert "1 results wait for the carrier's receipt" in refused.stderr
    assert before.items() <= files(enrolled).items()
    forced = vouch("--force", "--confirm", terminal[:8])
    assert forced.returncode == 0, forced.stderr
    assert "sent         no: no connection to localhost" in forced.stdout
    last = retirement.open_retired((tmp_path / f"{terminal}-retired.cose").read_bytes(), key)
    assert (last.counter, last.lost, last.forced) == (1, 1, True)
    assert set(files(enrolled)) == {"root.pem"}


def test_a_damaged_mark_of_a_reset_is_removed_by_hand_and_the_reset_begun_again(enrolled, tmp_path: Path) -> None:
    (enrolled / reset.MARK).write_bytes(b"\xff")
    with pytest.raises(ProvisioningError, match="damaged") as caught:
        reset.resume(enrolled)
    assert caught.value.todo == "check the disk; remove the file and reset again"
    (enrolled / reset.MARK).unlink()
    reset.reset(
        enrolled, out=tmp_path / "last.cose", force=True, clock=SystemClock(), send=lambda *_: "no link to anybody"
    )
    assert set(files(enrolled)) == {"root.pem"}


def test_a_reset_that_cannot_be_marked_has_told_the_carrier_nothing(enrolled, tmp_path: Path, monkeypatch) -> None:
    told = []
    real = reset.durable.write

    def full(path: Path, data: bytes, mode: int) -> None:
        if path.parent == enrolled:
            raise StorageError(f"{path} cannot be made: the disk is full")
        real(path, data, mode)

    monkeypatch.setattr(reset.durable, "write", full)
    with pytest.raises(StorageError, match="the disk is full"):
        reset.reset(
            enrolled,
            out=tmp_path / "last.cose",
            force=True,
            clock=SystemClock(),
            send=lambda *_: told.append("retired"),
        )
    assert (told, (tmp_path / "last.cose").exists()) == ([], False)


def test_a_reset_whose_record_cannot_be_exported_leaves_no_draft_of_a_mark(enrolled, tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    before = settled(enrolled).keys()
    with pytest.raises(StorageError):
        ended(enrolled, tmp_path / "taken" / "last.cose")
    assert {name for name in settled(enrolled) if not name.startswith("state/journal")} == before


def test_a_reset_that_is_begun_again_keeps_the_record_that_was_exported_before(enrolled, tmp_path: Path) -> None:
    (tmp_path / "last.cose").write_bytes(b"an earlier try's")
    key = load_private_key(enrolled / "terminal/result.key").public_key()
    done = ended(enrolled, tmp_path / "last.cose")
    assert (tmp_path / "last.cose").read_bytes() == b"an earlier try's"
    assert done.record == tmp_path / "last-2.cose"
    assert retirement.open_retired(done.record.read_bytes(), key).forced


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_without_room_refuses_the_installation_and_takes_it_when_there_is_some(disk, pki) -> None:
    folder = disk / "vouch"
    request = identity.create(folder, site="shop", root=pki.root).request
    bundle = signed_bundle(pki, request)
    before = files(folder)
    refused, said = 0, set()
    for room in range(6):  # blocks: enough for the first files, not for all
        ballast = disk / "ballast"
        free = os.statvfs(disk).f_bavail - room
        ballast.write_bytes(bytes(free * os.statvfs(disk).f_frsize))
        try:
            installation.install(folder, bundle, code=CODE)
        except StorageError as exc:
            refused += 1
            said.add(exc.todo)
            assert before.items() <= files(folder).items(), "the request and the keys are still there"
            ballast.unlink()
            continue
        break
    assert refused > 1
    assert all("space" in todo for todo in said)
    ballast.unlink(missing_ok=True)
    if standing.inspect(folder, 0).stage is not Stage.UNPROVISIONED:
        installation.install(folder, bundle, code=CODE)
    assert standing.inspect(folder, 0).stage is Stage.UNPROVISIONED
