"""The broker process: who may come in, under which name, and who may write and read what. Both brokers, the same story."""

import os
import queue
import signal
import ssl
from datetime import UTC, datetime

import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.errors import LinkError
from simulator.broker import HOST, Broker, BrokerKind, BrokerTls, mosquitto_path
from simulator.carrier.pki import create_pki, issue_terminal_certificate
from simulator.cli import main
from simulator.embedded_broker import matches, may_read, may_write

ONE, TWO = "1" * 32, "2" * 32
PATIENCE_S = 5


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    pki = create_pki(folder, now=datetime.now(UTC))
    for name in (ONE, TWO):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        der = csr.public_bytes(serialization.Encoding.DER)
        (folder / f"{name}.pem").write_bytes(issue_terminal_certificate(pki, der, name, now=datetime.now(UTC)))
        (folder / f"{name}.key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    return pki


@pytest.fixture(scope="module", params=list(BrokerKind), ids=lambda kind: kind.value)
def broker(request, pki, tmp_path_factory):
    if request.param is BrokerKind.MOSQUITTO and mosquitto_path() is None:
        pytest.skip("mosquitto is not installed")
    with Broker(tmp_path_factory.mktemp("broker"), BrokerTls.of(pki), kind=request.param) as running:
        yield running


class Peer:
    """A paho client that records what happens to it."""

    def __init__(self, broker, pki, name, *, client_id=None, ca=None, protocol=mqtt.MQTTv311):
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=client_id or name, protocol=protocol, reconnect_on_failure=False
        )
        context = ssl.create_default_context(cafile=str(ca or pki.ca))
        context.load_cert_chain(pki.folder / f"{name}.pem", pki.folder / f"{name}.key.pem")
        self.client.tls_set_context(context)
        self.answers, self.messages, self.acknowledged, self.granted, self.ended = (queue.Queue() for _ in range(5))
        self.client.on_connect = lambda *a: self.answers.put(a[3])
        self.client.on_message = lambda _c, _u, message: self.messages.put((message.topic, message.payload))
        self.client.on_publish = lambda *a: self.acknowledged.put(a[3])
        self.client.on_subscribe = lambda *a: self.granted.put(a[3])
        self.client.on_disconnect = lambda *a: self.ended.put(a[3])
        self.broker = broker

    def __enter__(self):
        try:
            self.client.connect(HOST, self.broker.port, keepalive=10)
            self.client.loop_start()
            self.answer = self.answers.get(timeout=PATIENCE_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()
        # paho closes its inner pair of sockets when it is collected, and in a circle with our callbacks that is too late.
        self.client._reset_sockets()

    def subscribe(self, topic):
        self.client.subscribe(topic, qos=1)
        return self.granted.get(timeout=PATIENCE_S)[0]


def test_a_result_goes_up_and_a_receipt_comes_down(broker, pki):
    with Peer(broker, pki, "carrier") as carrier, Peer(broker, pki, ONE) as terminal:
        assert not carrier.answer.is_failure
        assert not terminal.answer.is_failure
        assert carrier.subscribe("fv1/up/#").value == 1
        assert terminal.subscribe(f"fv1/dn/{ONE}/receipt").value == 1
        terminal.client.publish(f"fv1/up/{ONE}/result", b"\x01" * 4096, qos=1)
        assert carrier.messages.get(timeout=PATIENCE_S) == (f"fv1/up/{ONE}/result", b"\x01" * 4096)
        terminal.acknowledged.get(timeout=PATIENCE_S)
        carrier.client.publish(f"fv1/dn/{ONE}/receipt", b"receipt", qos=1)
        assert terminal.messages.get(timeout=PATIENCE_S) == (f"fv1/dn/{ONE}/receipt", b"receipt")


def test_hundreds_of_messages_arrive_once_and_in_order(broker, pki):
    with Peer(broker, pki, "carrier") as carrier, Peer(broker, pki, ONE) as terminal:
        carrier.subscribe("fv1/up/#")
        for index in range(400):
            terminal.client.publish(f"fv1/up/{ONE}/result", index.to_bytes(2), qos=1)
        received = [int.from_bytes(carrier.messages.get(timeout=PATIENCE_S)[1]) for _ in range(400)]
        assert received == list(range(400))


def test_a_terminal_cannot_write_as_another(broker, pki):
    with Peer(broker, pki, "carrier") as carrier, Peer(broker, pki, ONE) as thief:
        carrier.subscribe("fv1/up/#")
        thief.client.publish(f"fv1/up/{TWO}/result", b"forged", qos=1)
        with pytest.raises(queue.Empty):
            carrier.messages.get(timeout=0.7)


def test_a_terminal_cannot_write_what_the_carrier_writes(broker, pki):
    with Peer(broker, pki, ONE) as victim, Peer(broker, pki, TWO) as thief:
        victim.subscribe(f"fv1/dn/{ONE}/challenge")
        thief.client.publish(f"fv1/dn/{ONE}/challenge", b"forged", qos=1)
        with pytest.raises(queue.Empty):
            victim.messages.get(timeout=0.7)


@pytest.mark.parametrize("wish", [f"fv1/dn/{TWO}/#", "fv1/dn/#", "fv1/dn/+/challenge", "#", "fv1/up/#"])
def test_a_terminal_hears_nothing_that_is_not_for_it(broker, pki, wish):
    with Peer(broker, pki, "carrier") as carrier, Peer(broker, pki, ONE) as thief:
        thief.subscribe(wish)  # mosquitto grants and then filters, the embedded broker refuses: only silence counts
        carrier.client.publish(f"fv1/dn/{TWO}/challenge", b"for two alone", qos=1)
        carrier.acknowledged.get(timeout=PATIENCE_S)
        with pytest.raises(queue.Empty):
            thief.messages.get(timeout=0.5)


def test_a_client_without_a_certificate_of_our_ca_says_nothing(broker, pki, tmp_path):
    stranger = create_pki(tmp_path / "other", now=datetime.now(UTC))
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ONE)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = issue_terminal_certificate(stranger, csr.public_bytes(serialization.Encoding.DER), ONE, now=datetime.now(UTC))
    (stranger.folder / f"{ONE}.pem").write_bytes(pem)
    (stranger.folder / f"{ONE}.key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    with pytest.raises((queue.Empty, ssl.SSLError, ConnectionError)), Peer(broker, stranger, ONE, ca=pki.ca):
        pass


def test_another_client_id_than_the_certificates_name_disconnects_nobody(broker, pki):
    with Peer(broker, pki, ONE) as honest:
        with Peer(broker, pki, TWO, client_id=ONE):
            pass
        with pytest.raises(queue.Empty):
            honest.ended.get(timeout=0.7)


def test_a_second_client_of_the_same_name_takes_the_session_over(broker, pki):
    with Peer(broker, pki, ONE) as first, Peer(broker, pki, ONE) as second:
        first.ended.get(timeout=PATIENCE_S)
        assert not second.answer.is_failure


def test_it_comes_back_at_the_same_port_after_a_kill(pki, tmp_path):
    with Broker(tmp_path, BrokerTls.of(pki)) as broker:
        port, pid = broker.port, broker.pid
        broker.kill()
        broker.start()
        assert broker.port == port
        assert broker.pid != pid
        with Peer(broker, pki, ONE) as terminal:
            assert not terminal.answer.is_failure


def test_a_port_that_somebody_else_has_is_no_broker_of_ours(broker, pki, tmp_path):
    with pytest.raises(LinkError, match=f"port {broker.port} .* cannot be used"):
        Broker(tmp_path / "second", BrokerTls.of(pki), kind=broker.kind, port=broker.port).start()


@pytest.mark.parametrize(
    "command",
    [
        ["broker", "--keys", "FILE"],
        ["broker", "--keys", "keys", "--port", "99999"],
        ["test-pictures", "FILE"],
    ],
    ids=" ".join,
)
def test_a_wrong_path_or_port_is_said_and_gives_2(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    assert main(command) == 2
    assert "what to do" in capsys.readouterr().err


def test_a_broker_that_ends_by_itself_is_noticed(pki, tmp_path):
    with Broker(tmp_path / "broker", BrokerTls.of(pki)) as one:
        one.check()
        os.kill(one.pid, signal.SIGKILL)
        os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(LinkError, match="has ended"):
            one.check()


def test_the_embedded_broker_sends_a_client_of_mqtt_5_back_to_3_1_1(pki, tmp_path):
    with Broker(tmp_path, BrokerTls.of(pki), kind=BrokerKind.EMBEDDED) as broker:
        with Peer(broker, pki, ONE, protocol=mqtt.MQTTv5) as modern:
            assert modern.answer == "Unsupported protocol version"
        with Peer(broker, pki, ONE) as older:
            assert not older.answer.is_failure


def test_the_embedded_broker_closes_on_random_bytes_and_goes_on_serving(pki, tmp_path):
    context = ssl.create_default_context(cafile=str(pki.ca))
    context.load_cert_chain(pki.folder / f"{ONE}.pem", pki.folder / f"{ONE}.key.pem")
    with Broker(tmp_path, BrokerTls.of(pki), kind=BrokerKind.EMBEDDED) as broker:
        for noise in (b"\xff" * 64, b"\x10\xff\xff\xff\xff\xff", b"\x30\x02\x00\x09", b"\x10\x02\x00\x00", b"\x00" * 9):
            with context.wrap_socket(_connected(broker.port), server_hostname="localhost") as raw:
                raw.sendall(noise)
                assert raw.recv(16) == b""
        with Peer(broker, pki, ONE) as terminal:
            assert not terminal.answer.is_failure


def _connected(port):
    import socket

    return socket.create_connection((HOST, port), timeout=PATIENCE_S)


def test_the_access_rules_hold_for_every_form_of_topic():
    assert may_write(ONE, f"fv1/up/{ONE}/result")
    assert not may_write(ONE, f"fv1/up/{ONE}")
    assert not may_write(ONE, f"fv1/up/{TWO}/result")
    assert not may_write(ONE, f"fv1/dn/{ONE}/challenge")
    assert may_read(ONE, f"fv1/dn/{ONE}/#")
    assert not may_read(ONE, "fv1/dn/+/receipt")
    assert may_write("carrier", f"fv1/dn/{ONE}/challenge")
    assert not may_write("carrier", f"fv1/up/{ONE}/result")


def test_filters_match_as_the_standard_says():
    assert matches("a/#", "a/b/c")
    assert matches("a/#", "a")
    assert matches("a/+/c", "a/b/c")
    assert not matches("a/+", "a/b/c")
    assert not matches("a/b", "a")
