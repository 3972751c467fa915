"""How long to wait before the next connection: pure arithmetic, no sleeping and no sockets."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Exponential back-off with full jitter, forgiven only after a connection has held.

    Full jitter (uniform between 0 and the doubled ceiling) spreads a fleet that lost its broker at one moment; see
    M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015. A broker that accepts and then drops us
    must not be hammered: only a link that held for `held_s` resets the ceiling.
    """

    def __init__(
        self,
        random: Callable[[], float],
        *,
        base_s: float = 1.0,
        cap_s: float = 60.0,
        held_s: float = 30.0,
    ) -> None:
        """`random` gives numbers in 0..1 (1 excluded). Ceilings are base, 2 base, 4 base, ... up to `cap_s`."""
        self._random = random
        self._base_s = base_s
        self._cap_s = cap_s
        self._held_s = held_s
        self._failures = 0
        self._up_since: float | None = None

    @property
    def failures(self) -> int:
        """Losses and refusals since the last connection that held."""
        return self._failures

    def connected(self, now: float) -> None:
        """A connection was made at `now` (seconds, monotonic); it has yet to hold."""
        self._up_since = now

    def lost(self, now: float) -> float:
        """A connection was lost or refused at `now`; seconds to wait before the next try."""
        if self._up_since is not None and now - self._up_since >= self._held_s:
            self._failures = 0
        self._up_since = None
        # The exponent is bounded so that a week without a broker does not overflow a float.
        ceiling = min(self._cap_s, self._base_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return self._random() * ceiling
