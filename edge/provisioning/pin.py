"""The technician's PIN: kept as a slow hash, guessed at ever longer intervals; what it opens is not known here.

1. An attempt is written to the disk before it is judged, so that a power cut in the middle has been an attempt.
2. After three wrong ones each next must wait, twice as long every time. A restart does not shorten the wait: it begins
   anew, by the monotonic clock, because the wall clock may be set.
3. The right PIN ends the count, and the wait with it; so does a new PIN, also one set by another process.

The hash is scrypt (RFC 7914) with 16 MiB: a tenth of a second on a Raspberry Pi. A file with a PIN's hash can be
searched by whoever holds it, however slow the hash; so it lies in the state folder, for the terminal's user alone.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import threading
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from edge import durable
from edge.clock import Clock
from edge.errors import ProvisioningError

PIN_NAME = "technician.pin"
ATTEMPTS_NAME = "technician.attempts"
_FORM = re.compile(r"\d{6,12}")
_COST, _BLOCK, _LANES = 2**14, 8, 1
_COST_MAX = 2**15  # 32 MiB
_HASH_SIZE = 32
_SALT_SIZE = 16
_FREE = 3
_FIRST_WAIT_S = 5.0
_LONGEST_WAIT_S = 3600.0
_DAMAGED = 64  # attempts: more than make the longest wait


@dataclass(frozen=True, slots=True)
class _Kept:
    salt: bytes
    hash: bytes
    cost: tuple[int, int, int]  # scrypt's n, r, p


def set_pin(state_dir: Path, pin: str) -> None:
    """Keep a new PIN and forget all attempts.

    ProvisioningError: not 6 to 12 digits, or all the same or in a row. StorageError: it cannot be written.
    """
    if not _FORM.fullmatch(pin) or not pin.isascii() or _is_simple(pin):
        raise ProvisioningError(
            "this is no good PIN", todo="take 6 to 12 digits that are neither all the same nor in a row"
        )
    salt = secrets.token_bytes(_SALT_SIZE)
    kept = {
        "v": 1,
        "scrypt": [_COST, _BLOCK, _LANES],
        "salt": salt.hex(),
        "hash": _hash(pin, salt, (_COST, _BLOCK, _LANES)).hex(),
    }
    _write(state_dir / PIN_NAME, kept)
    (state_dir / ATTEMPTS_NAME).unlink(missing_ok=True)


class PinGate:
    """Judges attempts; any thread may call, one is judged at a time."""

    def __init__(self, state_dir: Path, clock: Clock) -> None:
        self._pin = state_dir / PIN_NAME
        self._attempts = state_dir / ATTEMPTS_NAME
        self._clock = clock
        self._lock = threading.Lock()
        self._opens_at_s = clock.monotonic() + _wait_s(self._wrong())

    @property
    def is_set(self) -> bool:
        return self._pin.exists()

    def wait_s(self) -> float:
        """Seconds until the next attempt is judged; 0 when it is now."""
        if not self._attempts.exists():  # a new PIN forgot them, which this process would not hear otherwise
            return 0.0
        return max(0.0, self._opens_at_s - self._clock.monotonic())

    def opens(self, pin: str) -> bool:
        """Whether this is the PIN. False also while `wait_s` has not passed: then it was not even looked at.

        ProvisioningError where the attempt cannot be written down: then nobody gets in.
        """
        with self._lock:
            kept = self._kept()
            if kept is None or self.wait_s() > 0:
                return False
            wrong = self._wrong() + 1
            _write(self._attempts, {"wrong": wrong})
            if hmac.compare_digest(_hash(pin[:64], kept.salt, kept.cost), kept.hash):
                self._attempts.unlink(missing_ok=True)
                self._opens_at_s = self._clock.monotonic()
                return True
            self._opens_at_s = self._clock.monotonic() + _wait_s(wrong)
            return False

    def _kept(self) -> _Kept | None:
        """None where there is no PIN, or a damaged one: it opens to nobody."""
        try:
            return _parsed(json.loads(durable.read_plain(self._pin)))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def _wrong(self) -> int:
        """Wrong attempts so far. A file that cannot be read was damaged: as many as make the longest wait."""
        try:
            wrong = json.loads(durable.read_plain(self._attempts))["wrong"]
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return _DAMAGED
        return wrong if type(wrong) is int and 0 <= wrong < _DAMAGED else _DAMAGED


def _parsed(kept: Any) -> _Kept:
    """ValueError, KeyError, TypeError where it is not what `set_pin` writes."""
    n, r, p = cost = tuple(kept["scrypt"])
    whole = kept["v"] == 1 and all(type(number) is int for number in cost)
    if not whole or not (1 < n <= _COST_MAX and n.bit_count() == 1) or (r, p) != (_BLOCK, _LANES):
        raise ValueError("a hash of another kind")
    salt, digest = bytes.fromhex(kept["salt"]), bytes.fromhex(kept["hash"])
    if (len(salt), len(digest)) != (_SALT_SIZE, _HASH_SIZE):
        raise ValueError("a salt or a hash of another size")
    return _Kept(salt, digest, (n, r, p))


def _write(path: Path, what: dict[str, Any]) -> None:
    durable.write(path, json.dumps(what).encode(), durable.SECRET)


def _hash(pin: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    n, r, p = cost
    given = pin.encode(errors="surrogatepass")  # JSON may bring half a pair: a wrong PIN like any other
    return hashlib.scrypt(given, salt=salt, n=n, r=r, p=p, maxmem=2**26, dklen=_HASH_SIZE)


def _wait_s(wrong: int) -> float:
    if wrong < _FREE:
        return 0.0
    return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(wrong - _FREE, 20))


def _is_simple(pin: str) -> bool:
    steps = {int(after) - int(before) for before, after in pairwise(pin)}
    return len(steps) == 1 and steps <= {0, 1, -1}
