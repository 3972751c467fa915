"""The technician's commands say what comes next: on a box its units, in a folder elsewhere the command."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.cli import main
from edge.provisioning import identity, reset
from simulator.carrier.pki import CarrierPki, create_pki
from tests.support.enrolment import CODE, signed_bundle


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> CarrierPki:
    return create_pki(tmp_path_factory.mktemp("carrier") / "keys", now=datetime.now(UTC))


def install(folder: Path, message: bytes, bundle: Path) -> int:
    bundle.write_bytes(message)
    return main(["provision", "install", str(bundle), "--dir", str(folder), "--code", CODE])


@pytest.fixture
def box(tmp_path, monkeypatch) -> Path:
    """A folder that is the box's own."""
    monkeypatch.setattr("edge.provisioning.commands.DEFAULT_PATH", tmp_path / "vouch" / "terminal.toml")
    return tmp_path / "vouch"


def test_an_enrolment_by_hand_says_that_the_uplink_is_to_be_started(tmp_path, box, pki, capsys):
    asked = identity.create(box, site="shop-7", root=pki.root)
    assert install(box, signed_bundle(pki, asked.request), tmp_path / "a.vouch") == 0
    assert capsys.readouterr().out.endswith("\nnow: sudo systemctl start vouch-uplink\n")


def test_an_enrolment_on_a_desk_names_the_uplinks_command(tmp_path, pki, capsys):
    asked = identity.create(tmp_path / "box", site="shop-7", root=pki.root)
    assert install(tmp_path / "box", signed_bundle(pki, asked.request), tmp_path / "a.vouch") == 0
    assert capsys.readouterr().out.endswith(f"\nnow: vouch uplink --config {tmp_path}/box/terminal.toml\n")


def test_a_reset_says_what_comes_next(box, capsys):
    asked = identity.create(box)
    assert main(["reset", "--dir", str(box), "--confirm", asked.request.terminal_id.hex()[:8]]) == 0
    assert "this terminal is blank\nnow: sudo reboot" in capsys.readouterr().out


def test_a_reset_that_was_cut_off_says_what_comes_next(tmp_path, monkeypatch, capsys):
    asked = identity.create(tmp_path)
    command = ["reset", "--dir", str(tmp_path), "--confirm", asked.request.terminal_id.hex()[:8]]
    with monkeypatch.context() as cut:
        cut.setattr(reset.keys, "destroy_file", lambda _path: 1 / 0)
        assert main(command) == 70
    capsys.readouterr()
    assert main(command) == 0
    assert f"now: vouch provision init --dir {tmp_path}" in capsys.readouterr().out
