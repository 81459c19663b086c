"""A client's view of a window that another process owns.

Goes in: calls of a `QuantileService`. Comes out: ranks on a copy of the window, and messages to its
`Owner`. How they travel is left to a subclass; `ray` has the one for Ray.

Each mutating call of a client has a number. The owner does each number once and remembers the last
answer, so a client that got no answer simply asks again.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from rankreward.errors import InputError
from rankreward.quantiles.owner import Frozen, Version
from rankreward.quantiles.service import FlushStats, QuantileService
from rankreward.quantiles.summary import MetricSummary
from rankreward.quantiles.window import Snapshot

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

_clients: weakref.WeakSet[SharedQuantileService] = weakref.WeakSet()


def _after_fork() -> None:
    for client in list(_clients):
        client._begin()  # noqa: SLF001 - one concern


os.register_at_fork(after_in_child=_after_fork)


class SharedQuantileService(QuantileService):
    """A client's view of a window that another process owns; a `QuantileService` to its user.

    `rank` works on a copy of the window; by default it asks before each call whether there has been
    a flush, in one small message, so that it always ranks in the newest window. `push` returns when
    the owner has the rows for good; the rows of threads that push at the same time travel together.

    Args:
        metrics: names of the columns, in order.
        max_age: seconds for which `rank` trusts its copy without asking. More than 0 saves the
            message, and for so long after a flush workers may rank in different windows; call
            `refresh` when a step begins.
        **window: everything else that `QuantileService` takes.
    """

    def __init__(self, metrics: Sequence[str], *, max_age: float = 0.0, **window: Any) -> None:
        super().__init__(metrics, **window)
        if not max_age >= 0:
            raise InputError(f"max_age: expected seconds of at least 0, got {max_age!r}")
        self.max_age = max_age
        self._version: Version | None = None  # of this client's copy
        self._seen: Version | None = None  # the newest that the owner told of
        self._checked = float("-inf")
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        """A client of its own, with nothing sent; a fork begins anew as another one.

        The owner would take its calls for repetitions of its parent's, the parent sends what was
        on its way, and threads that held a lock are not in the child.
        """
        self._client, self._number = uuid4().hex, 0
        self._lock = threading.Lock()
        self._sending = threading.Lock()  # one mutating call at a time; the next takes all rows
        self._refreshing = threading.Lock()  # or a slow answer would overwrite a newer one
        self._outbox: list[tuple[Floats, Codes | None]] = []
        self._unacknowledged: tuple[int, Floats, Codes | None] | None = None

    def _ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of the `Owner`, as often as it takes to get an answer.

        Raises:
            StateError: there is none to be had.
        """
        raise NotImplementedError

    def _now(self) -> float:
        return time.monotonic()

    # -- read ---------------------------------------------------------------------------------

    def _current(self) -> tuple[Snapshot, ...]:
        old = self._seen is not None and self._seen != self._version
        if old or self._now() - self._checked >= self.max_age:
            self.refresh()
        return super()._current()

    def refresh(self) -> None:
        """Make sure that `rank` uses the newest window."""
        with self._refreshing:
            now, seen = self._now(), self._seen
            frozen: Frozen | None = self._ask("frozen", self._version)
            if frozen is not None:
                # copies: what a transport hands out may be read-only or shared
                self._snapshots = tuple(
                    Snapshot(np.array(columns), np.array(counts), self.ties)
                    for columns, counts in frozen.columns
                )
                self._version = frozen.version
            self._checked = now
            if self._seen is seen:
                self._seen = None  # this copy is at least as new

    @property
    def size(self) -> int:
        """Rows in the window, those of the warm start included; with keys, in all windows."""
        return int(self._ask("look", "size"))

    @property
    def pending(self) -> int:
        """Rows pushed since the last flush, by all clients."""
        return int(self._ask("look", "pending"))

    @property
    def step(self) -> int | None:
        """The last step whose rows entered the window, or None before the first."""
        step: int | None = self._ask("look", "step")
        return step

    @property
    def rows(self) -> Floats:
        """(size, N) float64, rows from the oldest to the newest, key after key; a copy."""
        return np.array(self._ask("look", "rows"))

    def summary(self, key: str | None = None) -> dict[str, MetricSummary]:
        """What the window says about each metric; see `QuantileService.summary`."""
        summary: dict[str, MetricSummary] = self._ask("look", "summary", key)
        return summary

    def state_dict(self) -> dict[str, Any]:
        """Everything that a restart needs; see `QuantileService.state_dict`."""
        state: dict[str, Any] = self._ask("look", "state_dict")
        return state

    # -- write --------------------------------------------------------------------------------

    def flush(self, step: int) -> FlushStats:
        """Move the pending rows of all clients into the window; see `QuantileService.flush`.

        One client does it, when all have pushed: whoever runs the step, as a rule the driver.
        """
        stats = FlushStats(*self._call("flush", step))
        self.refresh()
        return stats

    def advance(self, step: int) -> FlushStats | None:
        """Say that what this client pushes from now on belongs to a step.

        For trainers that tell nobody when a step ends. Every client says it before its first rows
        of a step. The first one that names a later step than the open one ends that: the rows
        pending by then enter the window as that step's, before any of the new step. The others
        come too late to do anything, and a `flush` by hand before the next step leaves it nothing
        to do; a `flush` of a step that is no longer open does nothing.

        Args:
            step: an integer from 0 to 2**63 - 1. An older one than the open step does nothing.

        Returns:
            What the flush of the step before added and evicted; None if nothing was to do.

        Raises:
            InputError: `step` is no such integer.
        """
        answer = self._call("advance", step)
        return None if answer is None else FlushStats(*answer)

    def discard(self) -> int:
        """Drop the pending rows of all clients; returns how many they were."""
        return int(self._call("discard"))

    def reset(self) -> None:
        """Back to the warm start: no pending rows, no step."""
        self._call("reset")
        self.refresh()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state_dict` gave; see `QuantileService.load_state_dict`."""
        self._call("load_state_dict", state)
        self.refresh()

    def _push(self, rows: Floats, codes: Codes | None) -> None:
        """Send rows; on an error they stay here, and travel with the next call."""
        with self._lock:
            self._outbox.append((rows, codes))
        with self._sending:
            self._send_rows()

    def _call(self, method: str, *arguments: Any) -> Any:
        with self._sending:
            self._send_rows()
            self._number += 1
            return self._numbered(self._number, method, *arguments)

    def _send_rows(self) -> None:
        while True:
            if self._unacknowledged is None:
                with self._lock:
                    self._pending, self._outbox = self._outbox, []
                    rows, codes = self._waiting()
                    self._pending = []
                if len(rows) == 0:
                    return
                self._number += 1
                self._unacknowledged = self._number, rows, codes
            number, rows, codes = self._unacknowledged
            self._numbered(number, "push", rows, codes)
            self._unacknowledged = None

    def _check(self) -> None:
        self._ask("look", "_check")

    def _numbered(self, number: int, method: str, *arguments: Any) -> Any:
        version, answer = self._ask("call", self._client, number, method, *arguments)
        self._seen = tuple(version)
        return answer
