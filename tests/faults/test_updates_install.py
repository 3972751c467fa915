"""Updates that must not come in, and one that must: real TUF repositories, the terminal's own verification."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edge.errors import UpdateError, UpdateFault
from edge.evidence.signer import KeyFile
from edge.updates.install import Outcome, _copy, use_pack
from edge.updates.overview import lines_of, look
from edge.updates.shelf import MAX_STARTS, State, begun
from edge.vision.pack import Pack
from simulator.carrier.updates import UpdateRepository, now
from tests.evidence_samples import private_pem
from tests.support.updating import World, make_world, tiny_pack
from tests.support.wires import REPOSITORY


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def refused(world: World, folder: Path | None = None, **options) -> UpdateFault:
    """Why it is refused; what is in force stays in force, and the person is told what to do."""
    before = world.state.pack, world.state.release, world.state.trial
    with pytest.raises(UpdateError) as caught:
        world.take(folder, **options)
    assert caught.value.todo
    assert (world.state.pack, world.state.release, world.state.trial) == before
    assert list((world.job.settings.state_dir / "packs").glob(".new-*")) == []
    return caught.value.fault


def the(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_a_good_release_goes_on_trial_and_comes_into_force_when_it_has_served(world: World) -> None:
    assert world.start() == "1.0"
    world.publish(1)
    assert world.take() is Outcome.ON_TRIAL
    assert world.state.release == 0, "the floor rises when it has proved itself"
    assert world.start() == "1.1"
    assert world.serve() == "1.1"
    assert (world.state.trial, world.state.release, world.state.refused) == (None, 1, None)
    assert world.start() == "1.1"
    assert world.take() is Outcome.NOTHING_NEW


def test_a_policy_alone_is_in_force_at_once_and_with_a_pack_when_that_is(world: World) -> None:
    first = world.policy(1)
    world.publish(policy=first)
    assert world.take() is Outcome.IN_FORCE
    assert world.shelf.policy(world.state) == first.read_bytes()
    second = world.policy(2)
    world.publish(1, policy=second)
    assert world.take() is Outcome.ON_TRIAL
    assert world.shelf.policy(world.state) == first.read_bytes()
    world.serve()
    assert world.shelf.policy(world.state) == second.read_bytes()


def test_a_release_of_the_pack_in_force_needs_no_trial(world: World) -> None:
    world.publish(0)
    assert world.take(self_test=pytest.fail) is Outcome.IN_FORCE
    assert (world.state.pack, world.state.release) == (None, 1)


def test_a_newer_release_of_the_pack_in_force_ends_the_trial_of_another(world: World) -> None:
    world.publish(1)
    world.take()
    assert world.start() == "1.1"
    world.publish(0)
    assert world.take() is Outcome.IN_FORCE
    assert world.start() == "1.0"
    assert (world.state.trial, world.state.release) == (None, 2)


def test_a_tampered_model_is_refused(world: World) -> None:
    world.publish(1)
    path = the(world.repository.folder, "targets/pack/*.embedder.tflite")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert refused(world) is UpdateFault.CONTENT


@pytest.mark.parametrize("cut", [1, 500])
def test_a_truncated_model_is_refused(world: World, cut: int) -> None:
    world.publish(1)
    path = the(world.repository.folder, "targets/pack/*.detector.tflite")
    path.write_bytes(path.read_bytes()[:-cut])
    assert refused(world) is UpdateFault.CONTENT


def test_a_model_without_end_is_read_no_further_than_it_was_signed(world: World) -> None:
    world.publish(1)
    with the(world.repository.folder, "targets/pack/*.detector.tflite").open("ab") as file:
        file.truncate(10_000_000_000)  # a sparse file: ten gigabytes to read
    assert refused(world) is UpdateFault.TOO_LARGE


@pytest.mark.parametrize("name", ["metadata/timestamp.json", "metadata/2.root.json", "metadata/2.snapshot.json"])
def test_metadata_without_end_are_not_read_to_the_end(world: World, name: str) -> None:
    world.publish(1)
    with (world.repository.folder / name).open("ab") as file:
        file.truncate(10_000_000_000)
    assert refused(world) is UpdateFault.TOO_LARGE


@pytest.mark.parametrize("name", ["2.targets.json", "2.snapshot.json", "timestamp.json"])
def test_a_missing_metadata_file_is_refused(world: World, name: str) -> None:
    world.publish(1)
    (world.repository.folder / "metadata" / name).unlink()
    assert refused(world) is UpdateFault.INCOMPLETE


def test_a_missing_model_is_refused_and_may_come_later(world: World) -> None:
    world.publish(1)
    path = the(world.repository.folder, "targets/pack/*.landmarks.tflite")
    path.rename(world.folder / "aside")
    assert refused(world) is UpdateFault.INCOMPLETE
    (world.folder / "aside").rename(path)
    assert world.take() is Outcome.ON_TRIAL


def test_a_link_on_a_stick_is_not_followed(world: World) -> None:
    world.publish(1)
    path = world.repository.folder / "metadata" / "timestamp.json"
    path.rename(world.folder / "elsewhere.json")
    path.symlink_to(world.folder / "elsewhere.json")
    assert refused(world) is UpdateFault.UNREACHABLE


def test_a_repository_of_other_keys_is_refused(world: World) -> None:
    stranger = UpdateRepository(world.folder / "r2", world.folder / "off2", world.folder / "on2")
    stranger.create(now())
    stranger.publish(now(), pack=world.pack(1), policy=None)
    assert refused(world, stranger.folder) is UpdateFault.SIGNATURE


def test_one_stolen_root_key_makes_no_new_root(world: World) -> None:
    world.publish(1)
    thief = UpdateRepository(world.copy("stolen"), world.folder / "offline", world.folder / "online")
    thief.rotate("targets", now())
    path = thief.folder / "metadata" / "2.root.json"
    told = json.loads(path.read_text())
    told["signatures"] = told["signatures"][:1]
    path.write_text(json.dumps(told))
    assert refused(world, thief.folder) is UpdateFault.SIGNATURE


def test_an_older_copy_of_the_repository_is_refused(world: World) -> None:
    world.publish(1)
    old = world.copy("old")
    world.publish(2)
    world.take()
    assert world.serve() == "1.2"
    assert refused(world, old) is UpdateFault.ROLLBACK


def test_an_older_release_with_a_newer_valid_signature_is_refused(world: World) -> None:
    """Whoever holds the targets key may sign the past anew: the terminal's own floor stands against that."""
    world.publish(1, number=7)
    world.take()
    world.serve()
    world.publish(2, number=6)
    assert refused(world) is UpdateFault.ROLLBACK


def test_the_floor_holds_when_the_clients_memory_is_lost(world: World) -> None:
    world.publish(1)
    old = world.copy("old")
    world.publish(2)
    world.take()
    world.serve()
    shutil.rmtree(world.shelf.trust)
    assert refused(world, old) is UpdateFault.ROLLBACK


def test_expired_metadata_stop_new_updates_and_not_the_pack_in_force(world: World) -> None:
    world.publish(1)
    world.take()
    world.serve()
    world.publish(2, late=timedelta(days=-40))
    assert refused(world) is UpdateFault.EXPIRED
    assert world.state.refused.fault is UpdateFault.EXPIRED
    assert world.start() == "1.1"


def test_a_frozen_repository_is_noticed_when_its_timestamp_runs_out(world: World, monkeypatch) -> None:
    from edge.updates.overview import lines_of, look
    from tests.support.wires import enrolled

    world.publish(1)
    assert world.take() is Outcome.ON_TRIAL
    world.serve()
    place = enrolled(world.folder / "t")
    settings = place.settings.model_copy(
        update={"state_dir": world.job.settings.state_dir, "pack_dir": world.job.settings.pack_dir}
    )
    today = int(now().timestamp())
    assert not look(settings, today).expired
    later = look(settings, today + 8 * 24 * 3600)
    assert later.expired
    assert later.needs_somebody
    assert later.pack.manifest.version == "1.1"
    assert "on" in " ".join(lines_of(later))


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_after_a_rotation_the_new_keys_count_and_the_old_ones_do_not(world: World, role: str) -> None:
    world.publish(1)
    world.take()
    world.serve()
    old = UpdateRepository(world.copy("thief"), world.folder / "off2", world.folder / "on2")
    shutil.copytree(world.repository.offline, old.offline)
    shutil.copytree(world.repository.online, old.online)
    assert world.repository.rotate(role, now()) == 2
    world.publish(2)
    assert world.take() is Outcome.ON_TRIAL
    assert world.serve() == "1.2"
    # The thief has all the old keys, and knows the new root.
    shutil.copy(world.repository.folder / "metadata" / "2.root.json", old.folder / "metadata")
    if role == "root":
        old.rotate("targets", now())
        assert refused(world, old.folder) is UpdateFault.SIGNATURE
    else:
        for number in range(3, 6):
            old.publish(now(), pack=world.pack(number), policy=None, number=number)
        assert refused(world, old.folder) is UpdateFault.SIGNATURE


def test_a_chain_of_rotations_is_followed_from_the_first_root(world: World) -> None:
    for role in ("root", "timestamp", "root", "snapshot", "targets", "root"):
        world.repository.rotate(role, now())
    world.publish(1)
    assert world.take() is Outcome.ON_TRIAL


@pytest.mark.parametrize("kind", ["targets", "snapshot"])
def test_parts_of_two_repository_states_do_not_mix(world: World, kind: str) -> None:
    world.publish(1)
    old = world.copy("old")
    world.publish(2)
    newest = max((world.repository.folder / "metadata").glob(f"*.{kind}.json"), key=lambda p: int(p.name.split(".")[0]))
    older = max((old / "metadata").glob(f"*.{kind}.json"), key=lambda p: int(p.name.split(".")[0]))
    shutil.copy(older, newest)
    assert refused(world) is UpdateFault.ROLLBACK


def test_models_of_two_releases_do_not_mix(world: World) -> None:
    world.publish(1)
    first = the(world.repository.folder, "targets/pack/*.embedder.tflite")
    content = first.read_bytes()
    first.unlink()
    world.publish(2)
    the(world.repository.folder, "targets/pack/*.embedder.tflite").write_bytes(content)
    assert refused(world) is UpdateFault.CONTENT


def test_a_policy_that_is_not_the_carriers_is_refused_with_its_pack(world: World) -> None:
    stranger = world.folder / "stranger.pem"
    stranger.write_bytes(private_pem(ec.generate_private_key(ec.SECP256R1())))
    stranger.chmod(0o600)
    world.publish(1, policy=world.policy(1, signer=KeyFile(stranger)))
    assert refused(world) is UpdateFault.POLICY


def test_a_pack_without_a_threshold_for_the_policy_is_refused(world: World) -> None:
    world.publish(1, policy=world.policy(1, match_fmr_ppm=10))
    assert refused(world) is UpdateFault.PACK
    assert world.state.refused.release == 1


def test_a_file_that_the_manifest_does_not_name_is_refused(world: World) -> None:
    from tuf.api.metadata import TargetFile, Targets

    from edge.updates import release

    world.publish(1)
    repository = world.repository
    targets = repository._load("targets").signed
    extra = release.Release(
        release=2,
        pack=["pack.toml", "detector.tflite", "landmarks.tflite", "antispoof.tflite", "embedder.tflite", "more.tflite"],
        policy=False,
    )
    files = {"pack/more.tflite": b"more", "release.json": extra.model_dump_json().encode()}
    for name, content in files.items():
        target = TargetFile.from_data(name, content, ["sha256"])
        targets.targets[name] = target
        folder, slash, base = name.rpartition("/")
        (repository.folder / "targets" / f"{folder}{slash}{target.hashes['sha256']}.{base}").write_bytes(content)
    repository._write("targets", Targets(3, None, targets.expires, targets.targets))
    repository._renew(now())
    assert refused(world) is UpdateFault.PACK


def test_a_release_that_failed_its_test_is_not_tried_again_by_itself_but_by_a_person_and_the_next_one_is(world: World):
    def fails(_folder: Path) -> None:
        raise UpdateError(UpdateFault.SELF_TEST, "a person is not found", todo="publish a better one")

    world.publish(1)
    assert refused(world, self_test=fails) is UpdateFault.SELF_TEST
    assert refused(world, self_test=pytest.fail) is UpdateFault.SELF_TEST, "not tested again"
    assert world.state.refused.release == 1
    world.publish(2)
    assert world.take() is Outcome.ON_TRIAL
    assert world.serve() == "1.2"
    assert world.state.refused is None


def test_a_refused_release_may_be_tried_again_by_a_person(world: World) -> None:
    def fails(_folder: Path) -> None:
        raise UpdateError(UpdateFault.SELF_TEST, "the machine was busy", todo="publish a better one")

    world.publish(1)
    refused(world, self_test=fails)
    assert world.take(again=True) is Outcome.ON_TRIAL


def test_a_pack_that_crash_loops_is_rolled_back_and_not_taken_again(world: World) -> None:
    world.publish(1)
    world.take()
    assert [world.start() for _ in range(MAX_STARTS + 1)] == ["1.1"] * MAX_STARTS + ["1.0"]
    assert (world.state.refused.fault, world.state.refused.release) == (UpdateFault.CRASHED, 1)
    assert refused(world) is UpdateFault.CRASHED
    world.publish(2)
    world.take()
    assert world.serve() == "1.2"


def test_a_pack_on_trial_that_rots_on_the_disk_gives_way_at_once(world: World) -> None:
    world.publish(1)
    world.take()
    (world.shelf.path_of(world.state.trial.pack) / "embedder.tflite").write_bytes(b"rot")
    assert world.start() == "1.0"
    assert world.state.refused.fault is UpdateFault.PACK


def test_a_damaged_record_is_replaced_by_its_copy_and_two_damaged_ones_are_told(world: World) -> None:
    world.publish(1)
    world.take()
    world.serve()
    records = [world.shelf.folder / name for name in ("state.json", "state.copy")]
    records[0].write_bytes(b"\0" * 300)
    assert world.start() == "1.1"
    records[1].write_bytes(b"{}{")
    with pytest.raises(UpdateError) as caught:
        world.start()
    assert caught.value.fault is UpdateFault.STATE
    assert "move" in caught.value.todo


def test_old_packs_and_half_made_ones_leave_the_disk(world: World) -> None:
    for number in range(1, 5):
        world.publish(number)
        world.take()
        world.serve()
    (world.shelf.folder / ".new-cut").mkdir()
    world.publish(5)
    world.take()
    kept = {path.name for path in world.shelf.folder.iterdir() if path.is_dir() and len(path.name) == 64}
    assert kept == {world.state.pack, world.state.trial.pack}
    assert not (world.shelf.folder / ".new-cut").exists()


@pytest.mark.parametrize("content", [b"a = " + b"[" * 30_000, b"a = " + b"1" * 5_000], ids=["nested", "digits"])
def test_a_released_manifest_that_exhausts_its_reader_is_remembered_by_the_child(
    world: World, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    class Careless:
        @staticmethod
        def load(folder: Path) -> Pack:
            """A carrier whose tools would not look at what they sign."""
            good = Pack.load(folder)
            (folder / "pack.toml").write_bytes(content)
            return good

    monkeypatch.setattr("simulator.carrier.updates.Pack", Careless)
    world.publish(1)
    child = subprocess.run(world.job.command(world.repository.folder), capture_output=True, check=False, cwd=REPOSITORY)
    assert (child.returncode, b"Traceback" in child.stderr) == (1, False)
    assert (world.state.refused.fault, world.state.refused.release) == (UpdateFault.PACK, 1)


def chosen(world: World, folder: Path, **options) -> tuple[Pack, Outcome, list[str]]:
    """What `vouch models use` does, with a self-test that passes."""
    return use_pack(world.shelf, folder, **{"self_test": lambda _: [], **options})


def on_the_shelf(world: World) -> set[str]:
    return {path.name for path in world.shelf.folder.iterdir() if path.is_dir() and path.name != "policy"}


def test_packs_chosen_by_hand_and_half_made_ones_leave_the_disk_too(world: World) -> None:
    for number in range(1, 4):
        chosen(world, world.pack(number))
        assert world.serve() == f"1.{number}"
    (world.shelf.folder / ".new-cut").mkdir()
    chosen(world, world.pack(4))
    assert on_the_shelf(world) == {world.state.pack, world.state.trial.pack}


def test_a_full_disk_is_told_with_the_file_that_it_does_not_take(world: World) -> None:
    with pytest.raises(UpdateError, match=r"^/dev/full: No space") as caught:
        _copy(world.shelf.built_in / "embedder.tflite", Path("/dev/full"))
    assert caught.value.fault is UpdateFault.DISK


def test_choosing_what_is_in_force_tries_nothing(world: World) -> None:
    told = chosen(world, world.pack(0), self_test=pytest.fail)
    assert told[1] is Outcome.IN_FORCE
    assert world.state == State()
    chosen(world, world.pack(1))
    world.serve()
    before = world.state
    assert chosen(world, world.pack(1), self_test=pytest.fail)[1] is Outcome.IN_FORCE
    assert world.state == before


def test_choosing_what_is_on_trial_does_not_count_its_starts_anew(world: World) -> None:
    chosen(world, world.pack(1))
    world.start()
    assert chosen(world, world.pack(1), self_test=pytest.fail)[1] is Outcome.NOTHING_NEW
    assert world.state.trial.starts == 1


def test_choosing_what_is_in_force_ends_the_trial_of_another(world: World) -> None:
    chosen(world, world.pack(1))
    assert chosen(world, world.pack(0), self_test=pytest.fail)[1] is Outcome.IN_FORCE
    assert world.start() == "1.0"


def test_choosing_what_is_in_force_mends_it_where_it_rotted(world: World) -> None:
    chosen(world, world.pack(1))
    world.serve()
    (world.shelf.path_of(world.state.pack) / "embedder.tflite").write_bytes(b"rot")
    chosen(world, world.pack(1), self_test=pytest.fail)
    assert world.start() == "1.1"


def test_the_way_back_to_the_built_in_pack_is_a_trial_and_newer_firmware_brings_a_newer_one(world: World) -> None:
    world.publish(1)
    world.take()
    world.serve()
    assert chosen(world, world.shelf.built_in)[1] is Outcome.ON_TRIAL
    assert "the firmware's own pack: waits" in "\n".join(lines_of(look(world.job.settings, 0)))
    assert world.start() == "1.0"
    world.shelf.change(begun)
    world.shelf.change(begun)
    assert world.start() == "1.1", "it did not hold: the former one is back"
    chosen(world, world.shelf.built_in)
    assert world.serve() == "1.0"
    assert (world.state.pack, world.state.trial, world.state.release) == (None, None, 1)
    assert world.take() is Outcome.NOTHING_NEW
    tiny_pack(world.shelf.built_in, 9)  # apt upgrade
    assert world.start() == "1.9"


def test_the_built_in_pack_is_recorded_as_such_also_where_a_stick_or_a_release_brought_it(world: World) -> None:
    chosen(world, world.pack(1))
    world.serve()
    chosen(world, world.pack(0))
    assert world.serve() == "1.0"
    assert world.state.pack is None
    world.publish(1)
    world.take()
    world.serve()
    world.publish(0)
    assert world.take() is Outcome.ON_TRIAL
    assert world.serve() == "1.0"
    assert (world.state.pack, world.state.release) == (None, 2)


def test_a_record_that_names_the_built_in_pack_by_its_digest_is_set_right(world: World) -> None:
    """Terminals of firmware 0.1 may have one: there, choosing the pack in force was a trial like any other."""
    digest = Pack.load(world.shelf.built_in).digest.hex()
    shutil.copytree(world.shelf.built_in, world.shelf.path_of(digest))
    world.shelf.change(lambda state: state.model_copy(update={"pack": digest}))
    assert chosen(world, world.shelf.built_in, self_test=pytest.fail)[1] is Outcome.IN_FORCE
    assert world.state.pack is None


def test_a_stick_that_is_pulled_in_the_middle_changes_nothing(world: World) -> None:
    """Every file of the stick in turn is the first that can no longer be read."""
    world.publish(1)
    stick = world.copy("stick")
    for path in sorted(p for p in stick.rglob("*") if p.is_file() and "2.root" not in p.name):
        if path.name == "1.root.json" or path.name.startswith("1."):
            continue
        content = path.read_bytes()
        path.unlink()
        path.mkdir()  # reading it fails as a pulled stick does: EISDIR in place of EIO
        assert refused(world, stick) in (UpdateFault.UNREACHABLE, UpdateFault.INCOMPLETE)
        path.rmdir()
        path.write_bytes(content)
    assert world.take(stick) is Outcome.ON_TRIAL


def test_the_record_of_a_terminal_is_for_its_owner_alone(world: World) -> None:
    world.publish(1)
    world.take()
    for path in world.shelf.folder.glob("state.*"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert world.shelf.folder.stat().st_mode & 0o777 == 0o700


def test_a_pack_in_force_is_never_removed_when_it_is_released_again(world: World) -> None:
    world.publish(1)
    world.take()
    world.serve()
    tiny_pack(world.folder / "pack-1", 1)
    world.repository.publish(now(), pack=world.folder / "pack-1", policy=world.policy(3))
    assert world.take() is Outcome.IN_FORCE
    assert world.start() == "1.1"
    assert world.state.release == 2


@pytest.mark.timeout(600)
def test_a_power_cut_at_any_step_leaves_the_old_pack_or_the_new_one_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.cut_updates", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert told.returncode == 0, told.stderr
    cuts = json.loads(told.stdout)
    assert len(cuts["install"]) > 30, "every write, rename and fsync was a cut"
    assert len(cuts["switch"]) > 8
    assert {found for found, *_ in cuts["install"]} == {"1.1", "1.2"}
    for _, again, release, policy in cuts["install"] + cuts["switch"]:
        assert (again, release, policy) == ("1.2", 2, True)
