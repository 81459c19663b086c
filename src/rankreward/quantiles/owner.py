"""The process that owns a window which many processes share.

Goes in: numbered calls of clients. Comes out: a window in which every acknowledged row is once,
and which survives the owner's death: pushed rows are in a journal before the answer leaves, and
all else is in a checkpoint. `shared` has the clients.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import time
import zlib
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from rankreward.errors import CheckpointError, StateError
from rankreward.quantiles.checkpoint import load_state, save_state
from rankreward.quantiles.service import FlushStats, QuantileService, _check_count

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


class Owner:
    """The process's own `QuantileService`, for one caller at a time.

    Args:
        config: the arguments of the service.
        folder: where to keep what was acknowledged; None keeps it in memory alone.
        resume: go on with the window that the folder holds; or the path of a file that `save` of
            a service or a scorer wrote, and begin with that, whatever the folder holds.
        overwrite: begin anew, whatever the folder holds.
        birth: a name for this beginning, which the owner's later lives are given too.
        again: whether this is such a later life; it goes on with the folder.

    Raises:
        StateError: the folder holds a window and neither `resume` nor `overwrite` is given, or
            holds none to go on with, or another owner has it.
        OSError: the file to begin with cannot be read, or the folder not be written.
        CheckpointError: what it begins with is damaged, or belongs to another configuration.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        folder: str | Path | None,
        *,
        resume: bool | str | Path = False,
        overwrite: bool = False,
        birth: str = "",
        again: bool = False,
    ) -> None:
        self.service = QuantileService(**config)
        self.version: Version = (uuid4().hex, 0)
        self._done: dict[str, int] = {}  # each client's last number
        self._answers: dict[str, Any] = {}  # and what it was told
        self._open: int | None = None  # the step that pending rows belong to, by `advance`
        self._birth = birth
        self._folder = None if folder is None else Path(folder)
        file = None if isinstance(resume, bool) else Path(resume)
        if self._folder is None:
            self._begin_with(file)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._state, self._log = self._folder / "window.npz", self._folder / "pending.log"
        there = self._state.exists() or self._log.exists()
        fresh = overwrite or file is not None
        if there and not (fresh or resume or again):
            self._refuse()
        if not there and (again or resume is True):
            raise StateError(
                f"{self._folder}: expected a window to go on with, got an empty folder; "
                "leave resume out to begin one here"
            )
        self._journal = os.open(self._log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            self._lock_folder()
            if fresh and not (again and self._has_begun()):
                self._begin_with(file)
                os.ftruncate(self._journal, 0)  # first, for its rows belong to another window
                self._checkpoint()
                return
            self._restore()
            if not (fresh or resume or again) and self._done:  # one came and went while we waited
                self._refuse()
        except BaseException:
            self.close()  # or nobody could try again
            raise

    def call(self, client: str, number: int, method: str, *arguments: Any) -> tuple[Version, Any]:
        """Do a mutating call, once.

        Args:
            client: who asks.
            number: from 1 on, one more with each new call of that client.
            method: ``push``, ``flush``, ``advance``, ``discard``, ``reset`` or
                ``load_state_dict``.
            *arguments: those of the method; rows of a push are (B, N) and (B,) places of keys.

        Returns:
            The version of the window after it, and the method's answer.
        """
        if number <= self._done.get(client, 0):
            return self.version, self._answers.get(client)
        answer: Any = None
        snapshots, open_step = self.service._snapshots, self._open  # noqa: SLF001
        if method == "push":
            rows, codes = arguments
            self._write(client, number, rows, codes)
            self.service._push(rows, codes)  # noqa: SLF001 - checked by the client
        else:
            answer = getattr(self if hasattr(self, method) else self.service, method)(*arguments)
            if isinstance(answer, FlushStats):
                answer = astuple(answer)
        if self.service._snapshots is not snapshots:  # noqa: SLF001
            self.version = self.version[0], self.version[1] + 1
        self._done[client], self._answers[client] = number, answer
        # An `advance` that came too late to do anything would do nothing again.
        idle = method == "advance" and self._open == open_step
        if method != "push" and not idle:
            # If this fails the window has changed and is not saved; the error says what failed,
            # the old files are whole, and the next such call saves all of it.
            self._checkpoint()
        return self.version, answer

    def flush(self, step: int) -> FlushStats:
        """Flush the pending rows, unless they belong to a later step that is open already."""
        step = _check_count("step", step, low=0)
        if self._open is not None and step < self._open:
            return FlushStats(0, 0, self.service.size, step)
        stats = self.service.flush(step)
        self._open = None if self._open is None else step
        return stats

    def advance(self, step: int) -> FlushStats | None:
        """End the open step and open this one; see `SharedQuantileService.advance`."""
        step = _check_count("step", step, low=0)
        reached = [each for each in (self._open, self.service.step) if each is not None]
        if reached and step <= max(reached):
            return None
        stats = None if self._open is None else self.service.flush(self._open)
        self._open = step
        return stats

    def reset(self) -> None:
        """Back to the warm start; no step is open."""
        self.service.reset()
        self._open = None

    def state_dict(self) -> dict[str, Any]:
        """The service's, and ``open``, the step that pending rows belong to."""
        return {**self.service.state_dict(), "open": self._open}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of a service or of an owner; further keys do not matter."""
        open_step, step = state.get("open"), state.get("step")
        if open_step is not None and not (isinstance(open_step, int) and open_step >= (step or 0)):
            raise CheckpointError(
                f"state: expected an open step of at least {step or 0}, got {open_step!r}"
            )
        self.service.load_state_dict(state)
        self._open = open_step

    def frozen(self, version: Version | None) -> Frozen | None:
        """The window, or None if `version` is still the newest."""
        if version == self.version:
            return None
        snapshots = self.service._snapshots  # noqa: SLF001 - one concern in two files
        columns = [(snapshot.columns, snapshot.counts) for snapshot in snapshots]
        return Frozen(self.version, columns)

    def look(self, name: str, *arguments: Any) -> Any:
        """Read an attribute of the service, or call a method that only reads."""
        found = getattr(self if name == "state_dict" else self.service, name)
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
        about = {"done": self._done, "answers": self._answers, "birth": self._birth}
        save_state(self._state, {**self.state_dict(), "owner": about})
        # Pushes that are in both files by a death between these lines are known by their numbers.
        os.ftruncate(self._journal, 0)

    def _begin_with(self, file: Path | None) -> None:
        """Begin with the state in a file, if there is one."""
        if file is None:
            return
        state = load_state(file)
        try:
            self.load_state_dict(state)
        except CheckpointError as error:
            raise CheckpointError(f"{file}: {error}") from error

    def _has_begun(self) -> bool:
        """Whether the window in the folder has this owner's own beginning."""
        if not self._state.exists():
            return False
        about = load_state(self._state).get("owner")
        return isinstance(about, dict) and about.get("birth") == self._birth

    def _refuse(self) -> NoReturn:
        raise StateError(
            f"{self._folder}: expected an empty folder for a new window, got one that "
            "holds a window; pass resume=True to go on with it, overwrite=True to begin anew, or "
            "another folder"
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
            self.load_state_dict(state)
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
