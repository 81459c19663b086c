"""EasyR1 without EasyR1: its reward workers, and the files and calls of its training loop."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from builders import entry, wrap

import rankreward as rr
from rankreward.adapters import easyr1, easyr1_files

RECIPE = rr.Recipe.load("dr_seg").override(
    {"accuracy.normalizer.window": 24, "accuracy.normalizer.warm_start": 2}
)
BOX, BATCH = [100, 100, 300, 300], 6
_names = itertools.count()


class Killed(BaseException):
    """The process ends here."""


def worker() -> ModuleType:
    """The adapter as a process of its own has it."""
    name = f"easyr1_process_{next(_names)}"
    spec = importlib.util.spec_from_file_location(name, easyr1.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    time.sleep(0.01)  # a file's time is a few milliseconds behind the clock
    return module


def inputs(texts: list[str], truth: Any) -> list[dict[str, Any]]:
    """What EasyR1 calls a reward function with."""
    return [{"response": t, "response_length": len(t), "ground_truth": truth} for t in texts]


def truth(split: str = "train") -> dict[str, Any]:
    """A ground truth of the tests."""
    return {"reference": json.dumps([entry(BOX, [200, 200])]), "split": split}


def completions(*seed: int) -> list[str]:
    """Answers that are off by random distances, and one that is broken."""
    shifts = np.random.default_rng(seed).uniform(-80, 80, (BATCH - 1, 4)).round(1)
    boxes = [[a + b for a, b in zip(BOX, shift, strict=True)] for shift in shifts.tolist()]
    return [*(wrap([entry(box, box[:2])]) for box in boxes), "broken"]


def totals(scores: list[dict[str, float]]) -> list[float]:
    """The rewards."""
    return [score["overall"] for score in scores]


def settings(folder: Path, **others: Any) -> dict[str, Any]:
    """The keywords of EasyR1's YAML."""
    return {"recipe": RECIPE.to_dict(), "checkpoints": str(folder), **others}


def train(process: Any, folder: Path, seed: int, **others: Any) -> list[float]:
    """Rewards of a training call."""
    return totals(
        process.compute_score(inputs(completions(seed), truth()), **settings(folder, **others))
    )


def validate(process: Any, folder: Path, seed: int, **others: Any) -> list[float]:
    """Rewards of a validation call."""
    batch = inputs(completions(seed), truth("test"))
    return totals(process.compute_score(batch, **settings(folder, **others)))


def write_tracker(folder: Path, step: int) -> None:
    """EasyR1's note of its last checkpoint."""
    (folder / easyr1_files.TRACKER).write_text(json.dumps({"last_global_step": step}))


class Oracle:
    """A run that keeps its window in memory, and at each checkpoint a copy."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[dict[str, Any], int]] = {}
        self.resume(0)

    def resume(self, step: int) -> None:
        self.scorer, self.calls = rr.Scorer(RECIPE), 0
        if step:
            state, self.calls = self.kept[step]
            self.scorer.load_state_dict(state)

    def keep(self, step: int) -> None:
        self.kept[step] = self.scorer.state_dict(), self.calls

    def score(self, texts: list[str], *, record: bool = True) -> list[float]:
        if record:
            self.scorer.flush(self.calls)
            self.calls += 1
        references = [truth()["reference"]] * len(texts)
        total: list[float] = self.scorer.score(texts, references, record=record).total.tolist()
        return total


class Trainer:
    """EasyR1's loop around the reward: steps of some calls, and checkpoints with their tracker.

    Each attempt is a process of its own, and its policy answers differently.
    """

    def __init__(self, folder: Path, *, calls: int = 1, save_every: int = 2) -> None:
        self.folder, self.calls, self.save_every = folder, calls, save_every
        self.oracle, self.attempts, self.scored = Oracle(), 0, 0

    def run(self, steps: int, kill_after: int | None = None, load: Path | None = None) -> int:
        """Train up to a step, or as far as so many events; how many there were."""
        events = iter(range(kill_after)) if kill_after is not None else itertools.count()
        seen = 0

        def tick() -> None:
            nonlocal seen
            if next(events, None) is None:
                raise Killed
            seen += 1

        with contextlib.suppress(Killed):
            self._run(steps, tick, load)
        return seen

    def _run(self, steps: int, tick: Callable[[], None], load: Path | None) -> None:
        self.attempts += 1
        process = worker()
        _watch_saves(process, tick)
        start = self._start(load)
        self.oracle.resume(start)
        for step in range(start + 1, steps + 1):
            for call in range(self.calls):
                tick()
                texts = completions(self.attempts, step, call)
                scores = process.compute_score(
                    inputs(texts, truth()), recipe=RECIPE.to_dict(),
                    checkpoints=str(self.folder), load=None if load is None else str(load),
                )  # fmt: skip
                assert totals(scores) == self.oracle.score(texts), (self.attempts, step, call)
                self.scored += 1
            if step % self.save_every == 0:
                tick()
                (self.folder / f"global_step_{step}").mkdir(exist_ok=True)
                tick()
                write_tracker(self.folder, step)
                self.oracle.keep(step)

    def _start(self, load: Path | None) -> int:
        path = self.folder / easyr1_files.TRACKER
        if load is not None:
            return int(load.name.rpartition("_")[2])
        return int(json.loads(path.read_text())["last_global_step"]) if path.exists() else 0


def _watch_saves(process: Any, tick: Callable[[], None]) -> None:
    """Let the process be killed just before and just after each file that it writes."""

    def watched(write: Callable[..., None]) -> Callable[..., None]:
        def watching(*args: Any) -> None:
            tick()
            write(*args)
            tick()

        return watching

    process.save_state = watched(process.save_state)
    process.settle = watched(process.settle)
