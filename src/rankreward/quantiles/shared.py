"""One window for many processes: its owner, and the clients that rank on their own copy.

Goes in: calls of clients, which may come twice or not at all. Comes out: a window in which every
acknowledged row is once. How the calls travel is left to a subclass; `ray` has the one for Ray.

Each mutating call of a client has a number. The owner does each number once and remembers the last
answer, so a client that got no answer simply asks again. What was acknowledged survives the owner's
death: pushed rows are in a journal before the answer leaves, and all else is in a checkpoint.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import threading
import time
import weakref
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from rankreward.errors import CheckpointError, InputError, StateError
from rankreward.quantiles.checkpoint import load_state, save_state
from rankreward.quantiles.service import FlushStats, QuantileService
from rankreward.quantiles.summary import MetricSummary
from rankreward.quantiles.window import Snapshot

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

_PATIENCE = 3.0  # seconds for an owner that is dying to let go of its folder
_LENGTH = struct.Struct("<I")
_FRAME = struct.Struct("<III")  # before each entry of the journal: length, CRC-32 of that, of it


Version = tuple[str, int]  # a life of the owner, and how often the window has changed in it


class Frozen(NamedTuple):
    """A window as it travels to the clients: a version, and columns and counts a key."""

    version: Version
    columns: list[tuple[Floats, NDArray[np.int64]]]


_clients: weakref.WeakSet[SharedQuantileService] = weakref.WeakSet()


def _after_fork() -> None:
    for client in list(_clients):
        client._begin()  # noqa: SLF001 - one concern


os.register_at_fork(after_in_child=_after_fork)


class Owner:
    """The process's own `QuantileService`, for one caller at a time.

    Args:
        config: the arguments of the service.
        folder: where to keep what was acknowledged; None keeps it in memory alone.
        resume: whether to go on with the window that the folder holds.

    Raises:
        StateError: the folder holds a window and `resume` is false, or holds none and it is true,
            or another owner has it.
        CheckpointError: what it holds is damaged, or belongs to another configuration.
    """

    def __init__(
        self, config: Mapping[str, Any], folder: str | Path | None, *, resume: bool
    ) -> None:
        self.service = QuantileService(**config)
        self.version: Version = (uuid4().hex, 0)
        self._done: dict[str, int] = {}  # each client's last number
        self._answers: dict[str, Any] = {}  # and what it was told
        self._folder = None if folder is None else Path(folder)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._state, self._log = self._folder / "window.npz", self._folder / "pending.log"
            there = self._state.exists() or self._log.exists()
            if there and not resume:
                self._refuse()
            if resume and not there:
                raise StateError(
                    f"{self._folder}: expected a window to go on with, got an empty folder; "
                    "leave resume out to begin one here"
                )
            self._journal = os.open(self._log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                self._lock_folder()
                self._restore()
                if not resume and self._done:  # an owner came and went while we waited
                    self._refuse()
            except BaseException:
                self.close()  # or nobody could try again
                raise

    def call(self, client: str, number: int, method: str, *arguments: Any) -> tuple[Version, Any]:
        """Do a mutating call, once.

        Args:
            client: who asks.
            number: from 1 on, one more with each new call of that client.
            method: ``push``, ``flush``, ``discard``, ``reset`` or ``load_state_dict``.
            *arguments: those of the method; rows of a push are (B, N) and (B,) places of keys.

        Returns:
            The version of the window after it, and the method's answer.
        """
        if number <= self._done.get(client, 0):
            return self.version, self._answers.get(client)
        answer: Any = None
        if method == "push":
            rows, codes = arguments
            self._write(client, number, rows, codes)
            self.service._push(rows, codes)  # noqa: SLF001 - checked by the client
        else:
            answer = getattr(self.service, method)(*arguments)
            if isinstance(answer, FlushStats):
                answer = astuple(answer)
            self.version = self.version[0], self.version[1] + 1
        self._done[client], self._answers[client] = number, answer
        if method != "push":
            # If this fails the window has changed and is not saved; the error says what failed,
            # the old files are whole, and the next such call saves all of it.
            self._checkpoint()
        return self.version, answer

    def frozen(self, version: Version | None) -> Frozen | None:
        """The window, or None if `version` is still the newest."""
        if version == self.version:
            return None
        snapshots = self.service._snapshots  # noqa: SLF001 - one concern in two files
        columns = [(snapshot.columns, snapshot.counts) for snapshot in snapshots]
        return Frozen(self.version, columns)

    def look(self, name: str, *arguments: Any) -> Any:
        """Read an attribute of the service, or call a method that only reads."""
        found = getattr(self.service, name)
        return found(*arguments) if callable(found) else found

    def close(self) -> None:
        """Let go of the folder; another owner may have it then."""
        if self._folder is not None:
            os.close(self._journal)

    # -- what survives ------------------------------------------------------------------------

    def _write(self, client: str, number: int, rows: Floats, codes: Codes | None) -> None:
        """Append a push to the journal.

        The system has it then, whatever becomes of this process; that it is on disk, should the
        machine fail, is sure from the next checkpoint on.
        """
        if self._folder is None:
            return
        places = None if codes is None else codes.tolist()
        head = json.dumps([client, number, list(rows.shape), places]).encode()
        entry = head + b"\n" + rows.tobytes()
        length = zlib.crc32(_LENGTH.pack(len(entry)))
        whole = _FRAME.pack(len(entry), length, zlib.crc32(entry)) + entry
        before = os.fstat(self._journal).st_size
        written = 0
        try:
            written = os.write(self._journal, whole)
        finally:
            if written < len(whole):
                os.ftruncate(self._journal, before)  # half an entry would hide those after it
        if written < len(whole):
            raise OSError(errno.ENOSPC, "the disk is full", str(self._log))

    def _checkpoint(self) -> None:
        if self._folder is None:
            return
        about = {"done": self._done, "answers": self._answers}
        save_state(self._state, {**self.service.state_dict(), "owner": about})
        # Pushes that are in both files by a death between these lines are known by their numbers.
        os.ftruncate(self._journal, 0)

    def _refuse(self) -> NoReturn:
        raise StateError(
            f"{self._folder}: expected an empty folder for a new window, got one that "
            "holds a window; pass resume=True to go on with it, or another folder"
        )

    def _lock_folder(self) -> None:
        """Two owners of one folder would undo each other's work; a dead one's lock is gone."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StateError(
                        f"{self._folder}: expected a folder of its own, got one that another "
                        "window is using; give this one another folder"
                    ) from None
                time.sleep(0.05)

    def _restore(self) -> None:
        if self._state.exists():
            state = load_state(self._state)
            try:
                about = state["owner"]
                self._done, self._answers = about["done"], about["answers"]
            except (KeyError, TypeError) as error:
                raise CheckpointError(
                    f"{self._state}: expected the state of a shared window, got {error}"
                ) from error
            self.service.load_state_dict(state)
        data, place = self._log.read_bytes(), 0
        while (entry := self._entry(data, place)) is not None:
            head, _, body = entry.partition(b"\n")
            client, number, shape, places = json.loads(head)
            if number > self._done.get(client, 0):
                codes = None if places is None else np.array(places, dtype=np.intp)
                self.service._push(np.frombuffer(body).reshape(shape), codes)  # noqa: SLF001
                self._done[client], self._answers[client] = number, None
            place += _FRAME.size + len(entry)
        os.ftruncate(self._journal, place)  # an entry cut by death was never acknowledged

    def _entry(self, data: bytes, place: int) -> bytes | None:
        """The journal's entry at a place, or None where death cut it short, or nothing follows."""
        if place + _FRAME.size > len(data):
            return None
        length, of_length, of_entry = _FRAME.unpack_from(data, place)
        entry = data[place + _FRAME.size : place + _FRAME.size + length]
        sound = zlib.crc32(_LENGTH.pack(length)) == of_length
        if sound and len(entry) < length:
            return None
        if not sound or zlib.crc32(entry) != of_entry:
            raise CheckpointError(
                f"{self._log}: expected the journal of acknowledged rows, got one that is damaged "
                f"from byte {place} on; delete it to go on without the rows pushed since the last "
                "flush"
            )
        return entry


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
