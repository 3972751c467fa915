"""Updates as their users run them: the carrier's engineer publishes, the technician checks, installs and looks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.cli import main as vouch
from edge.config import DEFAULT_PACK
from simulator.carrier.updates_door import UpdatesDoor
from simulator.cli import main as vouch_sim
from tests.support.wires import Place, enrolled

pytestmark = pytest.mark.timeout(400)


class Desk:
    """Both desks, and what the last command said."""

    def __init__(self, folder: Path, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.place, self._capsys = folder, place, capsys
        self.code, self.said = 0, ""

    def carrier(self, *step: str) -> int:
        where = ("--repository", "repository", "--offline-keys", "safe", "--online-keys", "online")
        folders = [str(self.folder / part) if not part.startswith("--") else part for part in where]
        return self._run(vouch_sim, ["updates", *folders, *step])

    def terminal(self, *step: str) -> int:
        return self._run(vouch, ["update", *step, "--config", str(self.place.config)])

    def told(self) -> dict:
        self.terminal("status", "--json")
        return json.loads(self.said)

    def _run(self, main: Callable[[list[str]], int], arguments: list[str]) -> int:
        self._capsys.readouterr()
        self.code = main(arguments)
        out = self._capsys.readouterr()
        self.said = out.out + out.err
        return self.code


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    place = enrolled(tmp_path)
    desk = Desk(tmp_path, place, capsys)
    assert desk.carrier("init") == 0
    door = UpdatesDoor(tmp_path / "repository", place.pki)
    door.start()
    root = tmp_path / "repository" / "metadata" / "1.root.json"
    table = f'\n[updates]\nroot = "{root}"\nurl = "{door.url}"\nspool = "{tmp_path / "spool"}"\n'
    place.config.write_text(place.config.read_text() + table)
    yield desk
    door.stop()


def newer(folder: Path, version: str) -> Path:
    shutil.copytree(
        DEFAULT_PACK, folder, ignore=shutil.ignore_patterns("*.py", "training", "evaluation", "__pycache__")
    )
    manifest = folder / "pack.toml"
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(f'version = "{version}"' if x.startswith("version =") else x for x in lines) + "\n")
    return folder


def test_from_an_empty_repository_to_a_pack_on_trial(desk: Desk) -> None:
    assert desk.terminal("check") == 2
    assert "no target release.json" in desk.said
    assert "the carrier must publish" in desk.said
    assert desk.told()["fetched"]["fault"] == "incomplete"
    policy = desk.folder / "policy.cose"
    keys = str(desk.place.pki.folder)
    assert desk.carrier("sign-policy", str(policy), "--keys", keys, "--version", "5") == 0
    pack = newer(desk.folder / "newer", "9.9")
    assert desk.carrier("publish", "--pack", str(pack), "--policy", str(policy)) == 0
    assert "release 1" in desk.said
    for role in ("root", "timestamp"):
        assert desk.carrier("rotate", role) == 0
    assert desk.carrier("refresh") == 0
    assert desk.terminal("check") == 0
    assert desk.terminal("install", str(desk.folder / "spool")) == 0
    assert "on trial" in desk.said
    told = desk.told()
    assert (desk.code, told["trial"]["release"], told["pack"]["digest"] != told["trial"]["pack"]) == (0, 1, True)
    assert told["fetched"]["release"] == 1
    assert desk.terminal("install", str(desk.folder / "spool")) == 0
    assert "nothing new" in desk.said


def test_what_cannot_be_done_says_what_to_do(desk: Desk) -> None:
    for step in (
        ("publish",),
        ("publish", "--pack", str(desk.folder / "nowhere")),
        ("publish", "--policy", str(desk.folder / "nowhere")),
        ("init",),
    ):
        assert desk.carrier(*step) == 2
        assert "what to do" in desk.said
    shutil.rmtree(desk.folder / "safe")
    assert desk.carrier("rotate", "targets") == 2
    assert "offline keys" in desk.said
    assert desk.terminal("install", str(desk.folder / "nowhere")) == 2
    assert "what to do" in desk.said


def test_a_terminal_without_a_root_takes_no_update_and_says_so(desk: Desk) -> None:
    config = desk.place.config
    config.write_text(config.read_text().split("\n[updates]")[0] + "\n")
    for step in (("check",), ("install", str(desk.folder / "repository"))):
        assert desk.terminal(*step) == 2
        assert "what to do" in desk.said
    assert desk.terminal("status") == 0
    assert "names no root" in desk.said
