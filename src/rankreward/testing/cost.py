"""Cost: how the time of a reward grows with the length of what a policy writes.

Goes in: a function of a text. Comes out: whether its time is out of proportion to the length. Time
is the process's own, so that others on the machine do not matter; the growth is measured where a
call takes some milliseconds, and again before anything is said.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

FLOOR = 0.05  # seconds; a reward that stays under it is fast enough, however it grows
LARGEST = 1 << 17  # characters, more than a policy writes
STEEP = 9.0  # times the cost of a quarter of the length: 4 is linear, 16 quadratic
LIMIT = 10.0  # seconds; a call that takes longer is stopped


class TookTooLong(BaseException):
    """A call was stopped; no `except Exception` of what was called may swallow it."""


@dataclass(frozen=True)
class Growth:
    """What was measured.

    Attributes:
        length: of the longest text, in units that were repeated.
        seconds: what it cost.
        quarter: what a quarter of it cost, or None where the call was stopped.
    """

    length: int
    seconds: float
    quarter: float | None

    @property
    def steep(self) -> bool:
        """Whether the cost grows faster than the length."""
        return self.quarter is None or self.seconds > STEEP * max(self.quarter, 1e-4)


def growth(call: Callable[[int], Any], *, largest: int) -> Growth:
    """Double the length until a call costs enough to be measured, and compare with a quarter of it.

    Args:
        call: is given how often to repeat a unit.
        largest: the most.
    """
    length = 64
    try:
        nothing, seconds = _seconds(call, 0), 0.0
        while seconds < FLOOR and length < largest:
            length *= 2
            seconds = _seconds(call, length) - nothing
        found = Growth(length, seconds, _seconds(call, length // 4) - nothing)
        if seconds < FLOOR or not found.steep:
            return Growth(length, min(seconds, FLOOR), FLOOR)
        slow = min(_seconds(call, length) for _ in range(2)) - nothing
        quick = max(_seconds(call, length // 4) for _ in range(3)) - nothing
        return Growth(length, min(slow, seconds), max(quick, found.quarter or 0.0))
    except TookTooLong:
        return Growth(length, LIMIT, None)


def _seconds(call: Callable[[int], Any], length: int) -> float:
    """What a call costs this process; the collector of garbage waits."""
    collects = gc.isenabled()
    gc.disable()
    try:
        with limited(LIMIT):
            begun = time.process_time()
            call(length)
            return time.process_time() - begun
    finally:
        if collects:
            gc.enable()


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Stop what is inside when it takes longer; only in the main thread, and not on Windows.

    Raises:
        TookTooLong: it did. Python's regular expressions can be stopped so, too.
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: Any) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, stop)
    left, again = signal.setitimer(signal.ITIMER_REAL, seconds)
    begun = time.monotonic()
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
        if left:  # somebody else's clock, such as a test's time limit, goes on
            left = max(left - (time.monotonic() - begun), 1e-3)
        signal.setitimer(signal.ITIMER_REAL, left, again)
