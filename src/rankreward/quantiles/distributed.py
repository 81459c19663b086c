"""One window on every rank of a torch.distributed group, for trainers such as TRL.

Goes in: the rows that each rank scored. Comes out: the same window everywhere. When a step ends the
ranks gather their pending rows and each flushes the union; as a flush is a function of the rows and
the step alone, the windows stay identical to the bit, and ranking needs no messages.

Needs torch, with its process group initialised.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rankreward.errors import (
    InputError,
    RankRewardError,
    StateError,
    StepOrderError,
    require,
)
from rankreward.quantiles.service import FlushStats, QuantileService

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

# How many services this process has made for a list of ranks: the same number on each of them.
_made: collections.Counter[tuple[int, ...]] = collections.Counter()


class DistributedQuantileService(QuantileService):
    """A `QuantileService` with the same window on every rank of a group.

    Make it on every rank of the group, in the same order as other such services, and call `flush`,
    `reset` and `load` on all of them; `push` and `rank` are local, and a rank may have no rows at
    all. Messages go through gloo, whatever the backend of `group`; rows never touch a GPU.

    Args:
        metrics: names of the columns, in order.
        group: a process group; None is the default one.
        timeout: seconds that a flush waits for the other ranks; None is the group's own.
        verify: compare a hash of the window over all ranks after each flush.
        **window: everything else that `QuantileService` takes.

    Raises:
        InputError: an argument is out of its range.
        StateError: there is no process group, or this rank is not in `group`.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        *,
        group: ProcessGroup | None = None,
        timeout: float | None = None,
        verify: bool = False,
        **window: Any,
    ) -> None:
        super().__init__(metrics, **window)
        dist: Any = require("torch.distributed", extra="trl")
        if not dist.is_available() or not dist.is_initialized():
            raise StateError(
                "expected an initialised process group, got none: call "
                "torch.distributed.init_process_group first, or use QuantileService"
            )
        if timeout is not None and not timeout > 0:
            raise InputError(f"timeout: expected seconds above 0, got {timeout!r}")
        self._ranks = dist.get_process_group_ranks(group or dist.group.WORLD)
        if dist.get_rank() not in self._ranks:
            raise StateError(f"expected one of the ranks {self._ranks}, got {dist.get_rank()}")
        self._me = self._ranks.index(dist.get_rank())
        # torch has no public name for the store that every rank reaches; it finds a missing rank
        # where a collective would only say that something is lost.
        store = dist.distributed_c10d._get_default_store()  # noqa: SLF001
        # A client of its own: while one waits, no other thread could use it.
        with contextlib.suppress(AttributeError, RuntimeError, NotImplementedError):
            store = store.clone()
        self._timeout = store.timeout if timeout is None else timedelta(seconds=timeout)
        ranks = tuple(self._ranks)
        _made[ranks] += 1
        name = f"rankreward/{'-'.join(map(str, ranks))}/{_made[ranks]}"
        self._store = dist.PrefixStore(name, store)
        try:
            # Not `new_group`: it wants all ranks of the world, or as many groups made on each.
            self._group = dist.ProcessGroupGloo(
                dist.PrefixStore("gloo", self._store), self._me, len(ranks), self._timeout
            )
        except RuntimeError as error:
            raise StateError(
                f"expected the ranks {self._ranks} to make this service, at the same time and in "
                f"the same order, got not all of them ({error})"
            ) from error
        self._flushing = threading.Lock()  # one flush at a time: the ranks' messages are paired
        self._calls = 0
        self._counts: tuple[int, ...] = ()  # pending rows of each rank, at the last roll call
        self._broken: str | None = None
        self.verify = verify

    def flush(self, step: int) -> FlushStats:
        """Gather the pending rows of all ranks and move them into the window; call it on all.

        Returns:
            What was added and evicted, the same on every rank.

        Raises:
            StateError: a rank did not come within the timeout, has another configuration, or, with
                `verify`, another window; it is named. The window and the pending rows stay as they
                were, save with `verify`. When a rank did not come, the ranks no longer agree on
                what was sent, and every later flush is an error: start the run again.
            StepOrderError: `step` is older than the last one flushed, or not that of the others.
        """
        with self._flushing:
            if self._broken is not None:
                raise StateError(f"flush: impossible since an earlier one failed: {self._broken}")
            stats = super().flush(step)
            if self.verify and stats.added:
                self._compare_windows(step)
            return stats

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state_dict` gave on one rank; call it on all.

        The state's pending rows, if any, are pending on the group's first rank alone.
        """
        super().load_state_dict(state)
        if self._me != 0:
            self.discard()

    def _check_step(self, step: int) -> int:
        # A rank that refuses the step tells the others, who would wait for it otherwise.
        mine: RankRewardError | None = None
        try:
            step = super()._check_step(step)
        except RankRewardError as error:
            mine, step = error, -1
        word = [len(self._waiting()[0]), step, self._config(), str(mine or "")]
        words = map(json.loads, self._roll_call("flush", json.dumps(word).encode()))
        self._counts, steps, configs, refusals = zip(*words, strict=True)
        if mine is not None:
            raise mine
        for rank, refusal in zip(self._ranks, refusals, strict=True):
            if refusal:
                raise StateError(f"flush: rank {rank} refused: {refusal}")
        for key in configs[0]:
            self._same(f"{key}=", [config[key] for config in configs], StateError)
        self._same("step ", steps, StepOrderError)
        return step

    def _gathered(self, rows: Floats, codes: Codes | None) -> tuple[Floats, Codes | None]:
        counts = self._counts
        if max(counts) == 0:
            return rows, codes
        # gloo gathers blocks of one size, so all are as long as the longest.
        block = np.zeros((max(counts), rows.shape[1] + 1))
        block[: len(rows), :-1] = rows
        block[: len(rows), -1] = 0 if codes is None else codes
        blocks = self._all_gather(block)
        union = np.concatenate([each[:count] for each, count in zip(blocks, counts, strict=True)])
        return union[:, :-1].copy(), None if codes is None else union[:, -1].astype(np.intp)

    def _compare_windows(self, step: int) -> None:
        digest = hashlib.sha256(self.rows.tobytes()).digest()
        hashes = self._all_gather(np.frombuffer(digest, dtype=np.uint8))
        sums = [each.tobytes().hex()[:8] for each in hashes]
        self._same(f"after step {step} the window ", sums, StateError)

    def _same(self, what: str, values: Sequence[Any], error: type[StateError]) -> None:
        """Raise unless all ranks have the value of the first."""
        others = [place for place, value in enumerate(values) if value != values[0]]
        if others:
            first = others[0]
            raise error(
                f"flush: expected the same on all ranks, got {what}{values[0]} on rank "
                f"{self._ranks[0]} and {what}{values[first]} on "
                f"{_names([self._ranks[place] for place in others])}"
            )

    def _roll_call(self, about: str, word: bytes) -> list[bytes]:
        """Leave a word for the others and wait for theirs.

        Raises:
            StateError: some rank's word did not come; it is named.
        """
        self._calls += 1
        keys = [f"{about}/{self._calls}/{rank}" for rank in self._ranks]
        try:
            self._store.set(keys[self._me], word)
            try:
                self._store.wait(keys, self._timeout)
            except RuntimeError:
                there = [self._store.check([key]) for key in keys]
                missing = [r for r, came in zip(self._ranks, there, strict=True) if not came]
                if missing:
                    raise self._final(
                        f"{_names(missing)} did not come within "
                        f"{self._timeout.total_seconds():g} s; dead, or at another step"
                    ) from None
            words = [self._store.get(key) for key in keys]
            # By now everybody has read the words of the call before.
            if self._calls > 1:
                self._store.delete_key(f"{about}/{self._calls - 1}/{self._ranks[self._me]}")
        except StateError:
            raise
        except RuntimeError as error:
            raise self._final(
                "rank 0, which keeps the group's store, cannot be reached; it has died"
            ) from error
        return words

    def _final(self, reason: str) -> StateError:
        self._broken = reason
        return StateError(f"flush: {reason}")

    def _all_gather(self, mine: NDArray[Any]) -> list[NDArray[Any]]:
        """Equal arrays, one a rank, in the order of the ranks."""
        torch: Any = require("torch", extra="trl")
        tensor = torch.from_numpy(np.array(mine))
        parts = [torch.empty_like(tensor) for _ in self._ranks]
        try:
            self._group.allgather([parts], [tensor]).wait()
        except RuntimeError as error:
            self._roll_call("alive", b"")  # names who is missing
            raise self._final(f"the rows could not be gathered ({error})") from error
        return [part.numpy() for part in parts]


def _names(ranks: Sequence[int]) -> str:
    return ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(map(str, ranks))
