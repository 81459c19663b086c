"""A step of many workers on one shared window, in one process and in virtual time.

    python benchmarks/simulate.py            # 10 to 1,000 workers, 10,000 to 1,000,000 rows a step

The owner of the window, the clients and every row are real, and so are the seconds that the owner
spends on a call; the network is a formula. Each worker fetches the frozen window, ranks its rows,
and pushes them, the next call when the last is answered, all workers at once: the worst case, for
in training rollouts end one by one. Then one client flushes, and the window is compared with that
of a local service. Writes `simulation.json` beside this file, the table of `docs/performance.md`
and its picture.
"""

from __future__ import annotations

import argparse
import heapq
import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "rankreward"

from matplotlib import pyplot as plt  # noqa: E402 - after the backend is chosen
from report import PAGE, write_table  # noqa: E402
from tqdm import tqdm  # noqa: E402

import rankreward as rr  # noqa: E402
from rankreward.quantiles.owner import Owner  # noqa: E402
from rankreward.quantiles.shared import SharedQuantileService  # noqa: E402

HERE = Path(__file__).parent
RESULTS = HERE / "simulation.json"
LATENCY = 0.3e-3  # seconds one way: a call to an actor on one machine took 0.6 ms there and back
DISPATCH = 0.15e-3  # seconds that the actor's process spends on a call besides the owner's work
BANDWIDTH = 1e9  # bytes a second, each way, of the owner's one line to all workers
ENVELOPE = 300  # bytes of a call besides its arrays
METRICS = ("iou", "count", "point")


@dataclass
class Step:
    """What one step cost."""

    workers: int
    rows: int
    rows_per_push: int
    window: int
    calls: int
    megabytes_to_owner: float
    megabytes_from_owner: float
    owner_busy_seconds: float
    step_seconds: float
    flush_seconds: float


class Wire:
    """The owner at the end of a network; it serves one call at a time, in order of arrival."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.free = self.busy = 0.0  # when it is done with all calls so far; seconds it worked
        self.inward = self.outward = 0.0  # when its two lines are free
        self.calls = self.sent = self.received = 0

    def carry(self, now: float, method: str, arguments: tuple[Any, ...]) -> tuple[float, Any]:
        """Serve a call made at `now`; when its answer is back, and the answer."""
        outgoing = ENVELOPE + _bytes(arguments)
        self.inward = max(self.inward, now + LATENCY) + outgoing / BANDWIDTH
        before = time.perf_counter()
        answer = getattr(self.owner, method)(*arguments)
        work = time.perf_counter() - before + DISPATCH
        incoming = ENVELOPE + _bytes(answer)
        self.free = max(self.free, self.inward) + work
        self.outward = max(self.outward, self.free) + incoming / BANDWIDTH
        self.busy += work
        self.calls += 1
        self.received += outgoing
        self.sent += incoming
        return self.outward + LATENCY, answer


class Worker(SharedQuantileService):
    """A client with a clock of its own."""

    def __init__(self, wire: Wire, **arguments: Any) -> None:
        super().__init__(METRICS, max_age=1e9, **arguments)
        self.wire, self.clock = wire, 0.0

    def _ask(self, method: str, *arguments: Any) -> Any:
        self.clock, answer = self.wire.carry(self.clock, method, arguments)
        return answer


def _bytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 8


def step(workers: int, rows: int, rows_per_push: int, window: int) -> Step:
    """Play one step."""
    arguments = {"window": window, "warm_start": 128}
    rng = np.random.default_rng(workers)
    local = rr.QuantileService(METRICS, **arguments)
    local.push(rng.random((window, 3)))
    local.flush(0)
    wire = Wire(Owner({"metrics": METRICS, **arguments}, None, resume=False))
    wire.owner.service.load_state_dict(local.state_dict())
    everyone = [Worker(wire, **arguments) for _ in range(workers)]
    shares = np.split(rng.random((rows, 3)), workers)
    queue = [(0.0, which, 0) for which in range(workers)]
    with tqdm(total=rows, desc=f"{workers} workers, {rows_per_push} a push", leave=False) as bar:
        while queue:  # always the worker whose clock is behind all others
            _, which, done = heapq.heappop(queue)
            worker, share = everyone[which], shares[which]
            if done == 0:
                worker.refresh()
            worker.push(share[done : done + rows_per_push])
            done += rows_per_push
            bar.update(rows_per_push)
            if done < len(share):
                heapq.heappush(queue, (worker.clock, which, done))
    scored = max(worker.clock for worker in everyone)
    everyone[0].clock = scored
    added = everyone[0].flush(1).added
    local.push(np.concatenate(shares))
    if added != rows or local.flush(1).size != wire.owner.service.size:
        raise AssertionError((added, rows))
    if local.rows.tobytes() != wire.owner.service.rows.tobytes():
        raise AssertionError("another window than that of one process")
    return Step(
        workers,
        rows,
        rows_per_push,
        window,
        wire.calls,
        wire.received / 1e6,
        wire.sent / 1e6,
        wire.busy,
        everyone[0].clock,
        everyone[0].clock - scored,
    )


def table(steps: list[dict[str, Any]]) -> str:
    """A line a step, in Markdown."""
    lines = [
        (
            "| workers | rows | rows a push | window | calls | MB to the owner | MB from it "
            "| owner's seconds | seconds a step | of them flush |"
        ),
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for each in steps:
        values = [
            f"{value:,}" if isinstance(value, int) else f"{value:.2f}" for value in each.values()
        ]
        lines.append(f"| {' | '.join(values)} |")
    return "\n".join(lines)


def draw(steps: list[Step], path: Path) -> None:
    """Seconds a step over messages, a line for each size of a push."""
    figure, axes = plt.subplots(figsize=(6, 3.6))
    grey = "#808080"
    for size in sorted({each.rows_per_push for each in steps}):
        line = [each for each in steps if each.rows_per_push == size and each.window == 2048]
        axes.plot(
            [each.calls for each in line],
            [each.step_seconds for each in line],
            "o-",
            label=f"{size} row{'s' * (size > 1)} a push",
        )
    axes.set(xscale="log", yscale="log", xlabel="messages a step", ylabel="seconds a step")
    axes.set_title("10, 100, 1,000 workers of 1,000 rows each, virtual time", color=grey)
    axes.tick_params(colors=grey, which="both")
    axes.xaxis.label.set_color(grey)
    axes.yaxis.label.set_color(grey)
    for spine in axes.spines.values():
        spine.set_color(grey)
    axes.legend(labelcolor=grey, framealpha=0)
    figure.tight_layout()
    figure.savefig(path, transparent=True, metadata={"Date": None})


def main() -> None:
    """Play all sizes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1000], help="how many")
    parser.add_argument(
        "--rows-per-push", type=int, nargs="+", default=[1, 8, 128, 1000], help="rows in a message"
    )
    parser.add_argument(
        "--rows-per-worker", type=int, default=1000, help="rows that each scores in the step"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="the figures")
    parser.add_argument("--picture", type=Path, default=HERE.parent / "docs" / "simulation.svg")
    options = parser.parse_args()
    rr.warmup()
    plan = [(w, size, 2048) for size in options.rows_per_push for w in options.workers]
    if options.out == RESULTS:
        plan += [(1000, 1000, 65536)]
    steps = [
        step(workers, workers * options.rows_per_worker, size, window)
        for workers, size, window in plan
    ]
    print(table([asdict(each) for each in steps]))
    print("After each step the window was, bit for bit, that of one process.")
    network = {"latency": LATENCY, "dispatch": DISPATCH, "bandwidth": BANDWIDTH}
    about = {"python": platform.python_version(), "numpy": np.__version__, **network}
    record = {"about": about, "steps": [asdict(each) for each in steps]}
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    if options.out == RESULTS:
        write_table(PAGE, "simulation", table(record["steps"]))
    draw(steps, options.picture)


if __name__ == "__main__":
    main()
