"""The technician's page of the carrier in a real browser: a request file in, compared, a bundle that installs out."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.clock import SystemClock
from edge.evidence.signer import KeyFile
from edge.provisioning import identity, installation, standing
from edge.provisioning.standing import Stage
from simulator.carrier.api import create_app
from simulator.carrier.pki import create_pki
from simulator.carrier.server import reference_policy
from simulator.carrier.service import Carrier
from simulator.carrier.store import Store
from tests.browser.states import CHROMIUM, chromium
from tests.support.carrier_house import served

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed (name one with VOUCH_CHROMIUM)")


@pytest.fixture
def carrier(tmp_path: Path) -> Iterator[str]:
    """The page's address; the carrier's keys lie in tmp_path/keys."""
    pki = create_pki(tmp_path / "keys", now=datetime.now(UTC))
    store = Store(tmp_path / "carrier.sqlite")
    service = Carrier(store, pki, KeyFile(pki.signing_key), SystemClock(), lambda *_: None)
    service.set_policy(reference_policy())
    app = create_app(service, store, pki, SystemClock(), link_is_up=lambda: False, broker=("localhost", 8883))
    with served(app) as address:
        yield address
    store.close()


@pytest.mark.timeout(240)
def test_a_technician_reads_compares_and_carries(carrier: str, tmp_path: Path) -> None:
    box = tmp_path / "box"
    asked = identity.create(box, site="Shop 7", root=tmp_path / "keys" / "root.pem")
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.set_default_timeout(60_000)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{carrier}/enrol.html")
        noise = tmp_path / "noise"
        noise.write_bytes(b"noise")
        page.set_input_files("#file", noise)
        page.wait_for_selector("#trouble:not([hidden])")
        page.set_input_files("#file", box / "request.cose")
        page.wait_for_selector("#step-compare:not([hidden])")
        assert page.inner_text("#fingerprint") == asked.request.fingerprint
        assert page.input_value("#site") == "Shop 7"
        assert "less safe" in page.inner_text("#facts")
        assert page.is_hidden("#trouble")
        page.click("#answer")
        page.wait_for_selector("#step-carry:not([hidden])")
        assert page.eval_on_selector("#picture", "image => image.decode().then(() => image.naturalWidth)") > 100
        code, bundle = page.inner_text("#code"), page.get_attribute("#save", "href").partition(",")[2]
        if folder := os.environ.get("VOUCH_PICTURES"):
            page.screenshot(path=Path(folder) / "enrol.png", full_page=True)
        assert complaints == []
    installation.install(box, base64.b64decode(bundle), code=code)
    assert standing.inspect(box, 0).stage is Stage.UNPROVISIONED


@pytest.mark.timeout(240)
def test_a_second_terminal_is_answered_on_the_same_page_and_only_its_codes_are_shown(
    carrier: str, tmp_path: Path
) -> None:
    boxes = [tmp_path / name / "stick" for name in ("one", "two")]
    for box in boxes:
        identity.create(box, site=f"Shop {box.parent.name}", root=tmp_path / "keys" / "root.pem")
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(60_000)
        made = []
        page.on("response", lambda answer: made.append(answer.json()) if "enrolments" in answer.url else None)
        page.goto(f"{carrier}/enrol.html")
        for box in boxes:
            page.set_input_files("#file", box / "request.cose")
            page.wait_for_function(
                "site => document.getElementById('site').value === site", arg=f"Shop {box.parent.name}"
            )
            page.click("#answer")
            page.wait_for_selector("#step-carry:not([hidden])")
            assert page.is_disabled("#answer"), "once for each request"
        first, second = made
        assert page.inner_text("#code") == second["code"]
        assert len(first["pictures"]) > 1
        for _ in range(12):
            assert page.get_attribute("#picture", "src") in second["pictures"]
            page.wait_for_timeout(150)
