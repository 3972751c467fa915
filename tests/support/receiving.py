"""A carrier that does the one thing that drains a queue: it verifies each result and answers with a signed receipt."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import random
import threading
import time

from edge.errors import EvidenceError
from edge.evidence.messages import Receipt, ReceiptStatus, build_receipt, open_result
from edge.evidence.signer import KeyFile, load_private_key
from tests.support.wires import TERMINAL_ID, CarrierEnd, Place


class ReceivingCarrier:
    """Verifies results and answers with receipts, as the carrier does; forgets some answers, as networks do."""

    def __init__(self, place: Place, *, forgets: float = 0.0, seed: int = 0) -> None:
        self.results: dict[int, set[bytes]] = {}  # counter -> different messages seen
        self.order: list[int] = []
        self._end = CarrierEnd(place)
        self._signer = KeyFile(place.pki.signing_key)
        self._key = load_private_key(place.settings.keys.result_key).public_key()
        self._forgets, self._random = forgets, random.Random(seed)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(10)
        self._end.close()

    def _serve(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(queue.Empty, EvidenceError):
                topic, payload = self._end.receive(0.2)
                if topic.endswith("/result"):
                    self._answer(payload)

    def _answer(self, payload: bytes) -> None:
        claims = open_result(payload, self._key)
        self.results.setdefault(claims.counter, set()).add(payload)
        self.order.append(claims.counter)
        if self._random.random() < self._forgets:
            return
        receipt = Receipt(
            terminal_id=bytes.fromhex(TERMINAL_ID),
            cti=claims.cti,
            counter=claims.counter,
            digest=hashlib.sha256(payload).digest(),
            status=ReceiptStatus.ACCEPTED,
            iat=int(time.time()),
        )
        self._end.send("receipt", build_receipt(receipt, self._signer))
