"""The first boot under the shipped units: a terminal that may not write its settings, and the helper that may.

The answer comes on a stick here; tests/browser/test_first_boot.py shows it to the camera.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from edge.provisioning import identity
from simulator.broker import mosquitto_path
from tests.support.enrolment import CODE, signed_bundle
from tests.support.machine import Machine, booted, why_not
from tests.support.sandbox import files, setup
from tests.support.wires import Place, enrolled, until

pytestmark = [
    pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(bool(why_not()), reason=str(why_not())),
    pytest.mark.timeout(900),
]
# In the page's own network, where nobody else is.
CALL = """
import json, sys, urllib.request
path, body = sys.argv[1:]
call = urllib.request.Request("http://127.0.0.1:8080" + path, body.encode() or None, {"Content-Type": "application/json"})
with urllib.request.urlopen(call, timeout=20) as answer:
    print(answer.readline().decode().removeprefix("data: ") if path == "/events" else answer.status)
"""


def call(machine: Machine, path: str, body: str = "") -> str:
    main = machine.show("vouch-terminal.service", "MainPID")
    return machine.run("nsenter", f"--net=/proc/{main}/ns/net", "python3", "-c", CALL, path, body)


def enrolment(machine: Machine) -> dict[str, object]:
    return json.loads(call(machine, "/events"))["enrolment"] or {}


def test_a_sandboxed_terminal_hands_the_answer_over_and_goes_on_as_a_terminal(tmp_path: Path) -> None:
    place = enrolled(tmp_path / "carrier")  # a carrier, and the units' own settings
    blank = tmp_path / "blank"
    asked = identity.create(blank, site="Shop 7", root=place.pki.root)
    (blank / "carrier").mkdir()
    brought = files(place, 53)
    del brought["/etc/vouch/terminal.toml"]
    script = 'mkdir -p "$1/etc/vouch"\n' + setup(Place(blank / identity.SETTINGS, place.settings, place.pki))
    script += f'cp {blank}/request.cose "$1/etc/vouch/"\n'
    brought["/etc/systemd/system/vouch-machine.target"] = brought["/etc/systemd/system/vouch-machine.target"].replace(
        "Wants=", "Wants=vouch-install.socket "
    )
    with booted(tmp_path / "machine", files=brought, setup=script) as machine:
        machine.until("vouch-terminal.service", "active", 300)
        assert machine.show("vouch-terminal.service", "StatusText").startswith("not enrolled yet")
        assert machine.show("vouch-uplink.service", "ActiveState") == "inactive"
        assert enrolment(machine)["fingerprint"] == asked.request.fingerprint
        name = f"/media/stick/{asked.request.terminal_id.hex()}.vouch"
        text = base64.b64encode(signed_bundle(place.pki, asked.request)).decode()
        machine.run("sh", "-c", f"mkdir -p /media/stick && echo {text} | base64 -d > {name}")
        until(lambda: enrolment(machine)["stage"] == "code", 60)
        call(machine, "/api/enrol/code", json.dumps({"code": "2222-2222-2222"}))
        until(lambda: enrolment(machine)["fault"] == "wrong-code", 60)
        call(machine, "/api/enrol/anew", "{}")
        until(lambda: enrolment(machine)["stage"] == "request", 60)
        anew = machine.run("base64", "--wrap=0", "/etc/vouch/request.cose")
        request = identity.enrolment.parse_request(base64.b64decode(anew))
        assert request.digest != asked.request.digest
        text = base64.b64encode(signed_bundle(place.pki, request)).decode()
        machine.run("sh", "-c", f"echo {text} | base64 -d > {name}")
        until(lambda: enrolment(machine)["stage"] == "code", 60)
        call(machine, "/api/enrol/code", json.dumps({"code": CODE}))

        until(lambda: "terminal.toml" in machine.run("ls", "/etc/vouch"), 60)
        owners = machine.run("stat", "-c", "%U %a", "/etc/vouch/terminal.toml", "/etc/vouch/uplink/tls.crt")
        assert owners.splitlines() == ["root 644", "vouch-uplink 644"]
        until(lambda: machine.show("vouch-terminal.service", "StatusText") == "ready", 300)
        assert machine.show("vouch-terminal.service", "NRestarts") == "0"
        machine.until("vouch-uplink.service", "active", 60)
        view = json.loads(call(machine, "/events"))
        assert (view["enrolment"], view["training"]) == (None, True)
        refused = machine.run(
            "python3", "-c",
            "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/vouch-install.sock');"
            "s.sendall(bytes.fromhex('8102')); s.shutdown(1); print(s.recv(4096))",
        )  # fmt: skip
        assert "enrolled already" in refused
