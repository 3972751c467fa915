"""Which results go up next: paced, in order, identical bytes, until their receipts come; no sockets and no clock here.

The journal is the queue. This file remembers a place in it and the few results that are under way, so that memory does
not grow with the queue. A result leaves only through its receipt; a broker's acknowledgement releases nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge.evidence.journal import Row
from edge.ipc import Publish, Up

Fetch = Callable[[int, int], Sequence[Row]]

_PAGE = 50
_FIRST_REFUSAL = 0x80
_PAUSE_CAP_S = 600.0
# A carrier that is away is asked again from the oldest result on, so that results arrive in order. If that stays
# without an answer so often, the oldest may be what is never answered: then the younger ones get their turn.
_OLDEST_FIRST = 4


@dataclass(frozen=True, slots=True)
class _UnderWay:
    counter: int
    sent_s: float


class Publisher:
    """At most `window` results are sent and unanswered at a time. Every method takes the monotonic time, seconds."""

    def __init__(self, fetch: Fetch, *, window: int, jitter: Callable[[], float], receipt_wait_s: float = 20.0) -> None:
        """`fetch(limit, after)` pages through unreleased results by counter; `jitter` gives numbers in 0..1."""
        self._fetch = fetch
        self._window = window
        self._jitter = jitter
        self._receipt_wait_s = receipt_wait_s
        self._online = False
        self._page: deque[Row] = deque()
        self._after = 0
        self._under_way: dict[bytes, _UnderWay] = {}
        self._unanswered = 0  # in a row
        self._pauses = 0  # since the last receipt
        self._paused_until_s = 0.0
        self._left_behind = False
        self._again_at_s: float | None = None

    def link_up(self) -> None:
        """The broker is there (again): everything unreleased goes up from the oldest on."""
        self._online = True
        self._from_the_oldest()
        self._unanswered, self._pauses, self._paused_until_s = 0, 0, 0.0

    def link_down(self) -> None:
        self._online = False
        self._under_way.clear()

    def due(self, now: float) -> list[Publish]:
        """What to hand to the uplink now."""
        if not self._online:
            return []
        self._give_up_waiting(now)
        if now < self._paused_until_s:
            return []
        if self._again_at_s is not None and now >= self._again_at_s:
            self._from_the_oldest()
        sent = []
        while len(self._under_way) < self._window and (row := self._next_row(now)) is not None:
            self._under_way[row.cti] = _UnderWay(row.counter, now)
            sent.append(Publish(Up.RESULT, row.cti, row.message))
        return sent

    def wait_s(self, now: float) -> float:
        """Until `due` may have something to say because of time alone: above 0 after a `due`, at most a minute."""
        if not self._online:
            return 60.0
        times = [now + 60.0]
        if self._under_way:
            times.append(min(sent.sent_s for sent in self._under_way.values()) + self._receipt_wait_s)
        if now < self._paused_until_s:
            times.append(self._paused_until_s)
        elif self._again_at_s is not None:
            times.append(self._again_at_s)
        return max(0.0, min(times) - now)

    def published(self, cti: bytes, reason_code: int, now: float) -> None:
        """The broker's word on a result. Success means little; a refusal means that no receipt will come."""
        if reason_code >= _FIRST_REFUSAL and self._under_way.pop(cti, None) is not None:
            self._missed(now)

    def released(self, cti: bytes) -> None:
        """The carrier's receipt was verified and the journal let the result go."""
        self._under_way.pop(cti, None)
        self._unanswered, self._pauses, self._paused_until_s = 0, 0, 0.0

    def _next_row(self, now: float) -> Row | None:
        while True:
            if not self._page:
                self._page.extend(self._fetch(_PAGE, self._after))
            if not self._page:
                if (self._left_behind or self._under_way) and self._again_at_s is None:
                    self._again_at_s = now + self._receipt_wait_s + self._backed_off()
                return None
            row = self._page.popleft()
            self._after = row.counter
            if row.cti not in self._under_way:
                return row

    def _from_the_oldest(self) -> None:
        self._page.clear()
        self._after = 0
        self._again_at_s = None
        self._left_behind = False

    def _give_up_waiting(self, now: float) -> None:
        late = [cti for cti, sent in self._under_way.items() if now - sent.sent_s >= self._receipt_wait_s]
        for cti in late:
            del self._under_way[cti]
            self._missed(now)

    def _missed(self, now: float) -> None:
        """One result went without an answer; after a whole window of them, pause."""
        self._left_behind = True
        self._unanswered += 1
        if self._unanswered < self._window:
            return
        self._unanswered = 0
        self._pauses += 1
        self._paused_until_s = now + self._backed_off()
        if self._pauses < _OLDEST_FIRST:
            self._from_the_oldest()
            self._left_behind = True

    def _backed_off(self) -> float:
        ceiling = min(_PAUSE_CAP_S, self._receipt_wait_s * 2.0 ** min(self._pauses, 16))
        return self._jitter() * ceiling
