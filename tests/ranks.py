"""One rank of a gloo group, as `test_distributed.py` starts it: ranks.py SCENARIO RANK WORLD PORT.

It prints one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import numpy as np
import torch.distributed as dist

import rankreward as rr
from rankreward.quantiles.distributed import DistributedQuantileService

scenario, rank, world, port = sys.argv[1], *map(int, sys.argv[2:5])


def rows(step: int, who: int) -> np.ndarray:
    """What a rank scores in a step: uneven, and sometimes nothing."""
    count = [0, 5, 40, 1][(step + who) % 4]
    return np.random.default_rng([step, who]).choice([0.0, 0.5, 1.0, np.nan, 0.3], (count, 2))


def make(**changes: Any) -> DistributedQuantileService:
    arguments = {"window": 64, "warm_start": 8, "timeout": 60.0, "verify": True, **changes}
    return DistributedQuantileService(("a", "b"), **arguments)


def identical() -> dict[str, Any]:
    """Six steps on all ranks; the parent compares with one process that saw every row."""
    service, hashes, added = make(), [], []
    for step in range(6):
        service.push(rows(step, rank))
        added.append(service.flush(step).added)
        hashes.append(hashlib.sha256(service.rows.tobytes()).hexdigest())
    keyed = make(keys=("x", "y"))
    mine = rows(2, rank)
    keyed.push(mine, ["x" if n % 2 else "y" for n in range(len(mine))])
    stats = keyed.flush(0)
    keyed.reset()
    state = {**keyed.state_dict(), "pending": np.ones((3, 2)), "pending_keys": np.zeros(3, int)}
    keyed.load_state_dict(state)
    return {
        "hashes": hashes,
        "added": added,
        "keyed": [stats.added, stats.size],
        "keys_left": service._store.num_keys(),
        "after_load": [keyed.pending, keyed.flush(1).added],
        "empty": keyed.flush(2).added,
    }


def subgroup() -> dict[str, Any]:
    """Ranks 0 and 2 share a window; the others have one each."""
    group = dist.new_group([0, 2])
    if rank not in {0, 2}:
        try:
            make(group=group)
        except rr.StateError as error:
            return {"error": str(error)}
    service = make(group=group)
    service.push([[float(rank), 0.0]])
    return {"added": service.flush(1).added}


def differ() -> dict[str, Any]:
    """Mistakes that every rank hears of, by name."""
    errors = []
    service = make()
    for breaks in ("step", "window", "config"):
        if breaks == "config":
            service = make(ties="mid" if rank == 1 else "weak")
        if breaks == "window" and rank == 2:
            service._windows[0]._ring[0] += 0.25
        service.push([[0.5, 0.5]])
        before = service.rows.tobytes()
        try:
            service.flush(step=1 + (breaks == "step" and rank == 1))
        except rr.StateError as error:
            errors.append(f"{type(error).__name__}: {error}")
        if breaks != "window":
            assert service.rows.tobytes() == before
        service.discard()
    return {"errors": errors}


def die(who: int, how: int) -> dict[str, Any]:
    """One rank dies or stops in the middle of a run."""
    service = make(timeout=5.0)
    service.push([[0.5, 0.5]])
    service.flush(0)
    if rank == who:
        os.kill(os.getpid(), how)
    service.push([[0.25, 0.5]])
    begun, before = time.monotonic(), service.rows.tobytes()
    try:
        service.flush(1)
    except rr.StateError as error:
        assert (service.pending, service.rows.tobytes()) == (1, before)
        seconds = time.monotonic() - begun
        try:
            service.flush(1)
        except rr.StateError as again:
            return {"error": str(error), "seconds": seconds, "again": str(again)}
    return {"error": None}


def die_while_gathering() -> dict[str, Any]:
    """A rank answers the roll call and dies before its rows come."""
    service = make(timeout=5.0)
    service.push([[0.5, 0.5]])
    if rank == 1:
        service._all_gather = lambda block: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    begun = time.monotonic()
    try:
        service.flush(1)
    except rr.StateError as error:
        assert service.pending == 1
        return {"error": str(error), "seconds": time.monotonic() - begun}
    return {"error": None}


def refuse() -> dict[str, Any]:
    """One rank alone calls with a step that it must refuse; all hear of it, and all go on."""
    service, errors = make(), []
    service.push([[0.5, 0.5]])
    service.flush(4)
    service.push([[0.25, 0.5]])
    for step in (3, -1):
        try:
            service.flush(step if rank == 1 else 5)
        except rr.RankRewardError as error:
            errors.append(f"{type(error).__name__}: {error}")
    return {"errors": errors, "added": service.flush(6).added}


def crossing() -> dict[str, Any]:
    """Two services, flushed from two threads in another order on each rank."""
    services = [make(), make()]
    order = services if rank == 0 else services[::-1]
    begun = time.monotonic()

    def flush(service: DistributedQuantileService) -> None:
        service.push([[0.5, 0.5]])
        service.flush(1)

    threads = [threading.Thread(target=flush, args=(service,)) for service in order]
    threads[0].start()
    time.sleep(1.0)
    threads[1].start()
    for thread in threads:
        thread.join()
    return {"sizes": [s.size for s in services], "seconds": time.monotonic() - begun}


def overlapping() -> dict[str, Any]:
    """Ranks 0 and 1 have a window that rank 2 lacks, and all three share another."""
    pair = dist.new_group([0, 1])
    added = []
    if rank < 2:
        small = make(group=pair)
        small.push([[0.5, 0.5]])
        added.append(small.flush(1).added)
    whole = make()
    whole.push([[0.5, 0.5]])
    return {"added": [*added, whole.flush(1).added]}


dist.init_process_group(
    "gloo",
    init_method=f"tcp://127.0.0.1:{port}",
    rank=rank,
    world_size=world,
    timeout=timedelta(seconds=60),
)
SCENARIOS = {
    "identical": identical,
    "subgroup": subgroup,
    "differ": differ,
    "refuse": refuse,
    "overlapping": overlapping,
    "crossing": crossing,
    "killed": lambda: die(1, signal.SIGKILL),
    "stopped": lambda: die(1, signal.SIGSTOP),
    "first": lambda: die(0, signal.SIGKILL),
    "gathering": die_while_gathering,
}
print(json.dumps(SCENARIOS[scenario]()), flush=True)
if scenario in {"identical", "subgroup", "differ", "refuse", "overlapping", "crossing"}:
    dist.barrier()
    dist.destroy_process_group()
else:
    time.sleep(1.5)  # rank 0 keeps the store: the others still ask it who is missing
    os._exit(0)
