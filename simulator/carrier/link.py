"""The carrier's connection to the broker (paho); what the messages mean is the service's matter."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from edge.errors import LinkError
from edge.ipc import PAYLOAD_LIMIT
from simulator.carrier.pki import CARRIER_CLIENT

Received = Callable[[str, bytes], None]
_LOG = logging.getLogger(__name__)
_SHORT_S = 5.0  # a session that another client of our name takes lives as long as that one's reconnect waits: 1 to 2 s
_SHORT_IN_A_ROW = 3
_TOPICS = ("result", "status", "audit", "request")


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is and how the carrier proves itself there (PEM files)."""

    host: str
    port: int
    ca: Path
    certificate: Path
    key: Path


class CarrierLink:
    """Connects, reconnects, subscribes; MQTT 3.1.1, which every broker speaks. `received` runs on the link's thread.

    A message is acknowledged after `received` has returned: what it promises to keep is on disk by then.
    """

    def __init__(self, address: BrokerAddress) -> None:
        """LinkError where the TLS files cannot be loaded."""
        self._address = address
        self._received: Received | None = None
        self._up = threading.Event()
        self._up_since_s = 0.0
        self._short_lives = 0
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=CARRIER_CLIENT, protocol=mqtt.MQTTv311, clean_session=True
        )
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 15)
        try:
            context = ssl.create_default_context(cafile=str(address.ca))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(address.certificate, address.key)
        except (OSError, ssl.SSLError) as exc:
            raise LinkError(f"the carrier's TLS files cannot be used: {exc}", todo="check --ca, --cert, --key") from exc
        self._client.tls_set_context(context)

    @property
    def is_up(self) -> bool:
        """Connected and subscribed."""
        return self._up.is_set()

    def start(self, received: Received) -> None:
        """Begin connecting, in a thread of its own; goes on until `stop`. Messages go to `received(topic, payload)`."""
        self._received = received
        self._client.connect_async(self._address.host, self._address.port, keepalive=30)
        self._client.loop_start()

    def wait_up(self, timeout_s: float) -> bool:
        return self._up.wait(timeout_s)

    def publish(self, topic: str, payload: bytes) -> None:
        """Hand a message to the broker, QoS 1. LinkError where there is no link or it is too large."""
        if len(payload) > PAYLOAD_LIMIT:
            raise LinkError(f"a message of {len(payload)} bytes; at most {PAYLOAD_LIMIT} fit", todo="smaller portrait")
        if not self.is_up:
            raise LinkError("no connection to the broker", todo="wait until the broker is back")
        sent = self._client.publish(topic, payload, qos=1)
        if sent.rc != mqtt.MQTT_ERR_SUCCESS:
            raise LinkError(f"the broker connection does not take the message: {mqtt.error_string(sent.rc)}")

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            _LOG.warning("the broker refuses the carrier: %s", reason)
            return
        client.subscribe([(f"fv1/up/+/{last}", 1) for last in _TOPICS])

    def _on_subscribe(self, _client: mqtt.Client, _data: Any, _id: int, reasons: Any, _properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            _LOG.error("the broker denies the carrier its topics")
            return
        _LOG.info("connected to the broker at %s:%d", self._address.host, self._address.port)
        self._up_since_s = time.monotonic()
        self._up.set()

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if self._up.is_set():
            _LOG.warning("connection to the broker lost: %s", reason)
            self._count_life(time.monotonic() - self._up_since_s)
        self._up.clear()

    def _count_life(self, lived_s: float) -> None:
        """MQTT 3.1.1 does not say that another client took the session: that it happens again and again does."""
        self._short_lives = self._short_lives + 1 if lived_s < _SHORT_S else 0
        if self._short_lives == _SHORT_IN_A_ROW:
            _LOG.warning("the broker ends each connection at once: does another carrier run with the same keys?")

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            if self._received is not None:
                self._received(message.topic, bytes(message.payload))
        except Exception:  # noqa: BLE001 - paho's thread would die and the link look alive
            _LOG.exception("a message on %s could not be handled", message.topic)
