"""Files in a folder whose owner is hostile: what is written, destroyed or read there reaches nothing outside it."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from edge import durable
from edge.errors import StorageError
from edge.provisioning.keys import destroy_file

NOBODY = 65534


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """The hostile folder; beside it lies root.pem."""
    (tmp_path / "root.pem").write_bytes(b"root")
    (tmp_path / "root.pem").chmod(0o600)
    folder = tmp_path / "uplink"
    folder.mkdir()
    return folder


def untouched(room: Path) -> bool:
    path = room.parent / "root.pem"
    state = path.stat()
    return (path.read_bytes(), state.st_mode & 0o777, state.st_uid) == (b"root", 0o600, os.geteuid())


@pytest.mark.parametrize("name", [".wish.new", "wish"])
def test_a_write_replaces_a_link_and_leaves_alone_what_it_leads_to(room: Path, name: str) -> None:
    (room / name).symlink_to("../root.pem")
    durable.write(room / "wish", b"now", durable.PUBLIC)
    assert untouched(room)
    assert not (room / "wish").is_symlink()
    assert ((room / "wish").read_bytes(), (room / "wish").stat().st_mode & 0o777) == (b"now", 0o644)


def test_a_write_makes_no_file_where_a_dangling_link_leads(room: Path) -> None:
    (room / ".wish.new").symlink_to("../planted")
    durable.write(room / "wish", b"now", durable.PUBLIC)
    assert sorted(path.name for path in room.parent.iterdir()) == ["root.pem", "uplink"]
    assert [path.name for path in room.iterdir()] == ["wish"]


def test_a_write_does_not_go_into_a_file_that_has_another_name_as_well(room: Path) -> None:
    (room / ".wish.new").hardlink_to(room.parent / "root.pem")
    durable.write(room / "wish", b"now", durable.PUBLIC)
    assert untouched(room)


@pytest.mark.timeout(20)
def test_a_write_does_not_wait_for_a_pipe(room: Path) -> None:
    os.mkfifo(room / ".wish.new")
    durable.write(room / "wish", b"now", durable.PUBLIC)
    assert (room / "wish").read_bytes() == b"now"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_gives_a_file_to_the_folders_owner_and_nothing_that_a_link_leads_to(room: Path) -> None:
    os.chown(room, NOBODY, NOBODY)
    (room / ".wish.new").symlink_to("../root.pem")
    durable.write(room / "wish", b"now", durable.SECRET)
    state = (room / "wish").stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o777) == (NOBODY, NOBODY, 0o600)
    assert untouched(room)


def test_a_destroyed_file_is_overwritten_before_it_goes(room: Path) -> None:
    (room / "tls.key").write_bytes(b"secret")
    (room / "witness").hardlink_to(room / "tls.key")
    destroy_file(room / "tls.key")
    destroy_file(room / "tls.key")
    left = (room / "witness").read_bytes()
    assert (len(left), left == b"secret", (room / "tls.key").exists()) == (6, False, False)


@pytest.mark.timeout(20)
def test_a_file_of_holes_is_destroyed_whatever_size_it_says(room: Path) -> None:
    with (room / "zz").open("wb") as file:
        file.truncate(200 * 2**30)
    destroy_file(room / "zz")
    assert list(room.iterdir()) == []


def test_a_folder_in_the_place_of_a_file_is_destroyed_and_nothing_that_it_leads_to(room: Path) -> None:
    (room / "journal.sqlite" / "deeper").mkdir(parents=True)
    (room / "journal.sqlite" / "up").symlink_to("../..")
    (room / "journal.sqlite" / "root").symlink_to("../../root.pem")
    destroy_file(room / "journal.sqlite")
    assert untouched(room)
    assert list(room.iterdir()) == []


@pytest.mark.timeout(20)
def test_of_what_is_no_plain_file_the_name_alone_is_destroyed(room: Path) -> None:
    (room / "tls.key").symlink_to("../root.pem")
    os.mkfifo(room / "pipe")
    for name in ("tls.key", "pipe"):
        destroy_file(room / name)
    assert untouched(room)
    assert list(room.iterdir()) == []


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["link", "device", "pipe", "folder", "socket", "nothing"])
def test_only_a_plain_file_is_opened_and_nothing_is_waited_for(room: Path, kind: str) -> None:
    path = room / "told"
    match kind:
        case "link":
            path.symlink_to("../root.pem")
        case "device":
            path.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "socket":
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(str(path))
    with pytest.raises(OSError, match="told"):
        durable.open_plain(path)


def test_a_plain_file_is_read(room: Path) -> None:
    with durable.open_plain(room.parent / "root.pem") as file:
        assert file.read(3) == b"roo"


@pytest.mark.timeout(20)
def test_a_link_is_read_where_links_are_welcome_and_only_to_a_plain_file(room: Path) -> None:
    (room / "linked").symlink_to("../root.pem")
    (room / "endless").symlink_to("/dev/zero")
    assert durable.read_plain(room / "linked", linked=True) == b"root"
    with pytest.raises(OSError, match="linked"):
        durable.read_plain(room / "linked")
    with pytest.raises(OSError, match="no plain file"):
        durable.read_plain(room / "endless", linked=True)


def test_a_file_of_more_bytes_than_expected_is_not_read_in_part(room: Path) -> None:
    assert durable.read_plain(room.parent / "root.pem", 4) == b"root"
    with pytest.raises(OSError, match="more than 3 bytes"):
        durable.read_plain(room.parent / "root.pem", 3)


@pytest.mark.parametrize("step", ["open", "fsync"])
@pytest.mark.parametrize(
    ("number", "todo"),
    [
        (errno.ENOSPC, "space"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "as root"),
        (errno.EEXIST, "another place"),
        (errno.EIO, "check the disk"),
    ],
)
def test_what_to_do_about_a_disk_that_takes_nothing_is_told_by_what_it_said(
    room: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, todo: str
) -> None:
    def refused(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, step, refused)
    with pytest.raises(StorageError) as caught:
        durable.write(room / "wish", b"now", durable.PUBLIC)
    assert todo in caught.value.todo
    assert "--dir" not in caught.value.todo
