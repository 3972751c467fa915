"""A release on its way through both sandboxes: the uplink fetches it, the terminal verifies, tests and takes it.

The shipped units run under systemd (tests/support/sandbox.py); the carrier's repository and its door are real.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edge.session.decision import Outcome
from simulator.broker import mosquitto_path
from simulator.carrier.updates import UpdateRepository, now
from simulator.carrier.updates_door import UpdatesDoor
from tests.support.machine import why_not
from tests.support.sandbox import Box, running
from tests.support.updating import variant
from tests.support.wires import enrolled, until

pytestmark = [
    pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(bool(why_not()), reason=str(why_not())),
    pytest.mark.timeout(1800),
]
UPDATES = """
[camera]
fps = 15
[updates]
root = "updates/root.json"
url = "{url}"
check_each_s = 60
"""


@pytest.fixture
def repository(tmp_path: Path) -> UpdateRepository:
    repository = UpdateRepository(tmp_path / "repository", tmp_path / "offline", tmp_path / "online")
    repository.create(now())
    return repository


@pytest.fixture
def box(tmp_path: Path, repository: UpdateRepository) -> Iterator[Box]:
    place = enrolled(tmp_path)
    (place.config.parent / "updates").mkdir(exist_ok=True)
    shutil.copy(repository.first_root, place.config.parent / "updates/root.json")
    door = UpdatesDoor(repository.folder, place.pki)
    door.start()
    place.config.write_text(place.config.read_text() + UPDATES.format(url=door.url))
    copied = f'mkdir -p "$1/etc/vouch/updates" && cp {repository.first_root} "$1/etc/vouch/updates/root.json"\n'
    try:
        with running(tmp_path, place, urlsplit(door.url).port or 0, more=copied) as box:
            yield box
    finally:
        door.stop()


def test_a_release_is_fetched_by_the_one_taken_by_the_other_and_in_force_after_a_session(
    box: Box, repository: UpdateRepository, tmp_path: Path
) -> None:
    repository.publish(now(), pack=variant(tmp_path / "next", "0.9"), policy=None)
    until(lambda: "update-in-spool" in box.machine.journal("vouch-uplink.service"), 300)
    spool = "/var/cache/vouch-updates"
    assert box.machine.run("stat", "-c", "%a %U %G", spool).split() == ["750", "vouch-uplink", "vouch-link"]
    owners = set(box.machine.run("find", spool, "-type", "f", "-printf", "%u\\n").split())
    assert owners == {"vouch-uplink"}, "the terminal reads what was fetched and writes nothing there"

    until(lambda: "pack-on-trial" in box.machine.journal("vouch-terminal.service"), 600)
    box.machine.until("vouch-terminal.service", "active", 300)
    assert (status(box)["trial"]["release"], status(box)["release"]) == (1, 0)

    assert box.session().outcome is Outcome.MATCH
    until(lambda: status(box)["release"] == 1, 60)
    assert (status(box)["pack"]["version"], status(box)["trial"], status(box)["refused"]) == ("0.9", None, None)
    for unit in ("vouch-terminal.service", "vouch-uplink.service"):
        assert "Operation not permitted" not in box.machine.journal(unit)
    assert box.machine.show("vouch-uplink.service", "NRestarts") == "0"


def status(box: Box) -> dict[str, object]:
    command = ("/opt/vouch/bin/vouch", "update", "status", "--json", "--config", "/etc/vouch/terminal.toml")
    return json.loads(box.machine.run(*command, check=False))
