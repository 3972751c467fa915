"""The carrier as a process, with a real broker: orders over HTTP, results over MQTT, and its page in the same breath."""

import base64
import json
import queue
import ssl
import subprocess
import time
from datetime import UTC, datetime

import cv2
import httpx
import numpy as np
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge.clock import SystemClock
from edge.evidence.messages import ReceiptStatus
from edge.provisioning.installation import install
from edge.session.decision import Outcome
from simulator.blind_terminal import PACK_DIGEST, BlindTerminal
from simulator.broker import HOST, Broker, BrokerKind, BrokerTls, mosquitto_path
from simulator.carrier.pki import create_pki, load_public_key, public_pem
from simulator.processes import Child, python_module

PATIENCE_S = 10
KIND = BrokerKind.MOSQUITTO if mosquitto_path() else BrokerKind.EMBEDDED


class Shop:
    """A terminal with its own connection to the broker; what comes in waits in a queue by topic."""

    def __init__(self, folder, site, http, broker):
        self.terminal = BlindTerminal(folder, site=site, clock=SystemClock())
        (folder / "root.pem").write_bytes((folder.parent / "keys" / "root.pem").read_bytes())
        answer = http.post(
            "/api/enrolments", json={"request": base64.b64encode(self.terminal.asked.message).decode(), "site": site}
        )
        assert answer.status_code == 201, answer.text
        install(folder, base64.b64decode(answer.json()["bundle"]), code=answer.json()["code"])
        self.terminal.trust(load_public_key((folder.parent / "keys" / "signing.pub.pem").read_bytes()))
        self.came = {last: queue.Queue() for last in ("challenge", "receipt", "policy")}
        self.subscribed = queue.Queue()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self.terminal.id)
        context = ssl.create_default_context(cafile=str(folder / "uplink" / "ca.crt"))
        context.load_cert_chain(folder / "uplink" / "tls.crt", folder / "uplink" / "tls.key")
        self.client.tls_set_context(context)
        self.client.on_connect = lambda client, *_: client.subscribe(f"fv1/dn/{self.terminal.id}/#", qos=1)
        self.client.on_subscribe = lambda *_: self.subscribed.put(True)
        self.client.on_message = lambda _c, _u, message: self.came[message.topic.split("/")[-1]].put(message.payload)
        self.client.connect(HOST, broker.port)
        self.client.loop_start()
        self.subscribed.get(timeout=PATIENCE_S)

    def challenge(self):
        self.terminal.take_policy(self.came["policy"].get(timeout=PATIENCE_S))
        return self.terminal.read_challenge(self.came["challenge"].get(timeout=PATIENCE_S))

    def send(self, envelope):
        self.client.publish(f"fv1/up/{self.terminal.id}/result", envelope, qos=1)

    def receipt(self, timeout_s=PATIENCE_S):
        return self.terminal.read_receipt(self.came["receipt"].get(timeout=timeout_s))

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def house(tmp_path):
    """(http, broker, start): the running carrier's API, its broker, and how to start the carrier again."""
    pki = create_pki(tmp_path / "keys", now=datetime.now(UTC))
    children, shops, doors = [], [], []
    with Broker(tmp_path / "broker", BrokerTls.of(pki), kind=KIND) as broker:

        def start():
            command = [
                *(*python_module("simulator.cli"), "carrier", "--keys", str(tmp_path / "keys"), "--http-port", "0"),
                *("--db", str(tmp_path / "carrier.sqlite"), "--broker", f"{HOST}:{broker.port}"),
                *("--pack-digest", PACK_DIGEST.hex()),
            ]
            log = tmp_path / f"carrier-{len(children)}.log"
            children.append(Child(command, log))
            doors.append(httpx.Client(base_url=page_url(children[-1], log)))
            return doors[-1]

        def shop(name, http):
            shops.append(Shop(tmp_path / name, name, http, broker))
            return shops[-1]

        try:
            yield start, shop, children, broker
        finally:
            for one in (*shops, *doors):
                one.close()
            for child in children:
                child.stop()


def page_url(child, log):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines():
            if line.startswith("carrier page "):
                return line.split()[-1]
        assert child.exit_code is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("it did not come")


def portrait():
    return base64.b64encode(cv2.imencode(".jpg", np.full((400, 300, 3), 120, np.uint8))[1].tobytes()).decode()


def test_an_order_over_http_becomes_a_verified_result_with_a_receipt(house):
    start, shop, _, _ = house
    http = start()
    one = shop("one", http)
    made = http.post("/api/orders", json={"terminal": one.terminal.id, "order": "4711", "portrait": portrait()})
    assert made.status_code == 201
    order = made.json()
    assert order["state"] == "waiting"
    challenge = one.challenge()
    assert challenge.order == "4711"
    assert challenge.portrait is not None
    one.send(one.terminal.answer(challenge, Outcome.NO_MATCH))
    assert one.receipt().status is ReceiptStatus.ACCEPTED
    answered = http.get(f"/api/orders/{order['id']}").json()
    assert answered["state"] == "answered"
    assert answered["trusted"] is True
    assert answered["result"]["claims"]["outcome"] == "no-match"
    assert answered["result"]["claims"]["reasons"] == ["below-threshold"]
    assert answered["result"]["counter"] == 1
    assert http.get("/api/alarms").json() == []
    overview = http.get("/api/overview").json()
    assert overview["broker"]["up"] is True
    assert http.get("/api/overview", params={"version": overview["version"]}).status_code == 204
    assert [result["order"] for result in http.get("/api/results").json()] == ["4711"]


def test_the_signed_bytes_can_be_fetched_and_verified_by_the_command(house, tmp_path):
    start, shop, _, _ = house
    http = start()
    one = shop("one", http)
    http.post("/api/orders", json={"terminal": one.terminal.id, "order": "1"})
    envelope = one.terminal.answer(one.challenge())
    one.send(envelope)
    one.receipt()
    digest = http.get("/api/results").json()[0]["digest"]
    fetched = http.get(f"/api/results/{digest}")
    assert fetched.content == envelope
    (tmp_path / "result.cose").write_bytes(fetched.content)
    (tmp_path / "result.pub").write_bytes(public_pem(one.terminal.asked.request.result_key))
    command = [*python_module("edge.cli"), "evidence", "verify", str(tmp_path / "result.cose")]
    command += ["--key", str(tmp_path / "result.pub"), "--aad", "result"]
    assert subprocess.run(command, check=False, capture_output=True, cwd=".").returncode == 0


def test_a_carrier_killed_before_its_receipt_knows_the_result_and_receipts_it_again(house):
    start, shop, children, _ = house
    http = start()
    one = shop("one", http)
    http.post("/api/orders", json={"terminal": one.terminal.id, "order": "1"})
    envelope = one.terminal.answer(one.challenge())
    one.send(envelope)
    first = one.receipt()
    children[-1].kill()
    http = start()
    until(lambda: http.get("/api/overview").json()["broker"]["up"])
    one.send(envelope)
    again = one.receipt()
    assert again.status is ReceiptStatus.DUPLICATE
    assert again.digest == first.digest
    assert http.get("/api/results").json()[0]["times"] == 2


def test_alarms_of_a_gap_a_replay_a_fork_and_a_bad_signature_reach_the_api(house):
    start, shop, _, _ = house
    http = start()
    one = shop("one", http)
    challenges = []
    for number in range(3):
        http.post("/api/orders", json={"terminal": one.terminal.id, "order": str(number)})
        challenges.append(one.challenge())
    before = one.terminal.end
    missing = one.terminal.answer(challenges[0])
    one.send(one.terminal.answer(challenges[1]))
    one.receipt()
    one.send(one.terminal.answer(challenges[1]))
    assert one.receipt().status is ReceiptStatus.REFUSED
    clone, _ = one.terminal.sign_after(before, challenges[2], Outcome.MATCH)
    one.send(clone)
    one.receipt()
    one.send(missing[:-1] + bytes([missing[-1] ^ 1]))
    alarms = until(lambda: (found := http.get("/api/alarms").json()) and len(found) == 4 and found)
    assert sorted(alarm["kind"] for alarm in alarms) == ["fork", "gap", "replay", "unreadable"]


def test_the_carrier_comes_back_by_itself_after_the_broker_was_killed(house):
    start, shop, _, broker = house
    http = start()
    shop("one", http)
    broker.kill()
    until(lambda: not http.get("/api/overview").json()["broker"]["up"])
    refused = http.post("/api/orders", json={"terminal": http.get("/api/terminals").json()[0]["id"], "order": "1"})
    assert refused.status_code == 503
    assert http.get("/api/orders").json() == []
    broker.start()
    until(lambda: http.get("/api/overview").json()["broker"]["up"])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{}", "application/json"),
        (b"[]", "application/json"),
        (b"\xff", "application/json"),
        (b"terminal=1", "application/x-www-form-urlencoded"),
        (json.dumps({"terminal": "f" * 32, "order": "1"}).encode(), "application/json"),
        (json.dumps({"terminal": "f" * 32, "order": "1", "portrait": "***"}).encode(), "application/json"),
    ],
)
def test_an_order_that_cannot_be_is_refused_with_a_reason(house, body, kind):
    http = house[0]()
    answer = http.post("/api/orders", content=body, headers={"content-type": kind})
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_the_page_loads_nothing_from_elsewhere_and_serves_no_other_host(house):
    http = house[0]()
    page = http.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert "http" not in page.text.replace("http-equiv", "")
    assert http.get("/page.js").status_code == 200
    assert http.get("/../pki.py").status_code == 404
    assert http.get("/", headers={"host": "evil.example"}).status_code == 400
