"""The helper that installs for a page that may not: the real command behind a Unix socket, as systemd would start it."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import BundleFault, ProvisioningError
from edge.evidence import cbor
from edge.provisioning import handover, identity
from edge.provisioning.handover import ByHelper, Directly, handover_to
from simulator.carrier.pki import CarrierPki, create_pki
from tests.support.enrolment import CODE, signed_bundle
from tests.support.wires import REPOSITORY


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> CarrierPki:
    return create_pki(tmp_path_factory.mktemp("carrier") / "keys", now=datetime.now(UTC))


class Activated:
    """A listening socket that starts the command for each connection (Accept=yes)."""

    def __init__(self, folder: Path, path: Path) -> None:
        self._folder = folder
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            with link:
                command = [sys.executable, "-m", "edge.cli", "provision", "handover", "--dir", str(self._folder)]
                subprocess.run(command, stdin=link, stdout=link, cwd=REPOSITORY, timeout=60, check=False)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def helper(tmp_path, pki) -> Iterator[tuple[Path, ByHelper]]:
    folder, path = tmp_path / "box", tmp_path / "install.sock"
    identity.create(folder, site="Shop 7", root=pki.root)
    activated = Activated(folder, path)
    yield folder, ByHelper(path)
    activated.close()


@pytest.mark.timeout(300)
def test_the_helper_checks_again_installs_once_and_then_changes_nothing_any_more(helper, pki) -> None:
    folder, by_helper = helper
    first = signed_bundle(pki, identity.waiting(folder).request)
    by_helper.ask_anew()
    with pytest.raises(ProvisioningError, match="earlier request") as caught:
        by_helper.install(first, CODE)
    assert caught.value.fault is BundleFault.EXPIRED
    message = signed_bundle(pki, identity.waiting(folder).request)
    with pytest.raises(ProvisioningError) as caught:
        by_helper.install(message, "2222-2222-2222")
    assert caught.value.fault is BundleFault.CODE
    assert not (folder / identity.SETTINGS).exists()
    by_helper.install(message, CODE)
    assert (folder / identity.SETTINGS).exists()
    settings = (folder / identity.SETTINGS).read_bytes()
    for again in (lambda: by_helper.install(message, CODE), by_helper.ask_anew):
        with pytest.raises(ProvisioningError, match="enrolled already"):
            again()
    assert (folder / identity.SETTINGS).read_bytes() == settings
    assert identity.waiting(folder) is None


def test_a_helper_that_is_not_there_is_named_with_what_to_look_at(tmp_path) -> None:
    with pytest.raises(ProvisioningError, match="does not answer") as caught:
        ByHelper(tmp_path / "absent.sock").ask_anew()
    assert "vouch-install.socket" in caught.value.todo


def test_who_may_write_the_folder_needs_no_helper(tmp_path) -> None:
    assert isinstance(handover_to(tmp_path), Directly)
    assert isinstance(handover_to(Path("/proc/self")), ByHelper)


@given(
    st.binary(max_size=200)
    | st.recursive(st.integers() | st.binary(max_size=20) | st.text(max_size=20), st.lists, max_leaves=4).map(
        lambda value: cbor.encode(value) if not isinstance(value, int) or -(2**63) < value < 2**63 else b""
    )
)
def test_whatever_is_sent_gets_a_refusal_that_can_be_read(request_bytes: bytes) -> None:
    answer = io.BytesIO()
    handover.serve(Path("/nonexistent"), io.BytesIO(request_bytes), answer)
    assert handover._refusal(answer.getvalue()) is not None
