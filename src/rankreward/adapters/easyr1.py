"""EasyR1: the ranked reward inside its reward workers.

Goes in: the list with which EasyR1 calls a reward function. Comes out: its list of scores. EasyR1
tells a reward function neither the step nor when a checkpoint is written, so the function reads
both from EasyR1's own files, and keeps the window beside them. In EasyR1's YAML:

    worker:
      reward:
        reward_function: /absolute/path/of/easyr1_entry.py:compute_score
        reward_function_kwargs:
          recipe: dr_seg
          checkpoints: ${trainer.save_checkpoint_path}
          load: ${trainer.load_checkpoint_path}
          find_last: ${trainer.find_last_checkpoint}

Each training call is a step of the window, which so stands still within a call.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rankreward.adapters.common import CHECKPOINT, check_served, is_training
from rankreward.adapters.easyr1_files import (
    Place,
    Tracker,
    absolute,
    checkpoint_of,
    read_window,
    settle,
    step_of,
    window_of,
)
from rankreward.adapters.easyr1_rollouts import forget_rollouts, write_rollouts
from rankreward.errors import CheckpointError, InputError
from rankreward.quantiles.checkpoint import save_state
from rankreward.recipe import Recipe
from rankreward.rewards import Scorer
from rankreward.rewards.figures import WindowLog, batch_log

_logger = logging.getLogger(__name__)
_IMPORTED = time.time_ns()  # a window that is older on disk is an earlier run's
_runs: dict[str, _Run] = {}


def compute_score(
    reward_inputs: Sequence[Mapping[str, Any]],
    recipe: str | Mapping[str, Any] | Recipe = "dr_seg",
    checkpoints: str = "",
    load: str | None = None,
    find_last: bool = True,  # noqa: FBT001, FBT002 - EasyR1 passes keywords
    rollouts: str | None = None,
) -> list[dict[str, float]]:
    """Score a batch as EasyR1 calls it.

    Args:
        reward_inputs: B mappings of ``response``, ``response_length`` (tokens) and
            ``ground_truth``. That is the reference, or a mapping (or its JSON text) of
            ``reference``, ``split`` and the columns that the recipe needs besides. The splits of a
            batch are alike: ``train``, or a usual name of evaluation such as ``val``, which is
            ranked in the window and does not enter it.
        recipe: whatever `rankreward.Scorer` takes; recipes that need groups or images cannot be
            had here.
        checkpoints: EasyR1's ``save_checkpoint_path``, absolute, on a file system that all nodes
            share; every ground truth then says its split. Without it nothing is kept: a resumed
            run begins with a new window, and validation has one of its own.
        load: EasyR1's ``load_checkpoint_path``.
        find_last: EasyR1's ``find_last_checkpoint``.
        rollouts: an absolute path of a folder that gets a file of each training batch,
            ``<step>.jsonl``, which `rankreward score` reads; every ground truth then says its
            split. A run begins by deleting the files from its first step on, which are of a run
            that was given up: a resumed one so replaces the steps that it does again.

    Returns:
        B mappings with the same keys: ``overall``, the reward; ``rankreward/term/<term>``, its
        parts; and the figures of `rankreward.rewards.figures`, the same for all B. None is NaN.

    Raises:
        ConfigError: the recipe cannot be understood, or needs what EasyR1 does not pass.
        InputError: an argument or a ground truth lacks something, or splits are mixed.
        BadReferenceError: a reference cannot be read.
        StateError: the run goes on from a checkpoint without a window.
        CheckpointError: a saved window is damaged, or of another recipe.
    """
    if not len(reward_inputs):
        return []
    kept = checkpoints != "" or load is not None
    truths = _truths([each["ground_truth"] for each in reward_inputs])
    splits = [truth.get("split") for truth in truths]
    training = _training(splits, needed=kept or rollouts is not None)
    key = repr((recipe, checkpoints, load, find_last, rollouts, training))
    if key not in _runs:
        place = Place.of(checkpoints, load, find_last=find_last) if kept else None
        kept_in = None if rollouts is None else absolute("rollouts", rollouts, "rollouts")
        _runs[key] = _Run(Scorer(_usable(recipe)), place, kept_in)
    return (_runs[key].train if training else _runs[key].validate)(reward_inputs, truths)


@dataclass
class _Run:
    """What one of EasyR1's two reward workers has of the window."""

    scorer: Scorer
    place: Place | None
    rollouts: Path | None = None
    log: WindowLog = field(default_factory=WindowLog)
    wrote: bool = False  # whether a file of rollouts is this process's
    calls: int = 0  # training calls so far, the window's clock
    last: int = 0  # step of the last checkpoint on the way here
    tracker: Tracker | None = None  # as the last call saw it
    loaded: tuple[Path, int] | None = None  # the file that validation read, and its time

    def train(
        self, inputs: Sequence[Mapping[str, Any]], truths: Sequence[dict[str, Any]]
    ) -> list[dict[str, float]]:
        if self.place is not None:
            self._keep_up(self.place)
        self.log.flushed(self.scorer.flush(self.calls))
        scores = self._score(inputs, truths, record=True)
        self.calls += 1
        if self.rollouts is not None:
            if not self.wrote:
                forget_rollouts(self.rollouts, self.calls)
                self.wrote = True
            paid = [score["overall"] for score in scores]
            write_rollouts(self.rollouts, self.calls, inputs, truths, paid)
        if self.place is not None:
            self._save(self.place.folder / CHECKPOINT)
        return scores

    def validate(
        self, inputs: Sequence[Mapping[str, Any]], truths: Sequence[dict[str, Any]]
    ) -> list[dict[str, float]]:
        if self.place is not None:
            self._follow(self.place)
        return self._score(inputs, truths, record=False)

    def _keep_up(self, place: Place) -> None:
        """Begin where EasyR1 begins; later give each new checkpoint the window it belongs with."""
        tracker = Tracker.of(place.folder)
        if self.tracker is None:
            place.folder.mkdir(parents=True, exist_ok=True)
            settle(place.folder)
            start = place.start()
            if start is not None:
                self._load(window_of(start))
                self.last = step_of(start)
        elif tracker != self.tracker:
            self._attach(checkpoint_of(place.folder, tracker.step))
            self.last = tracker.step
        self.tracker = tracker

    def _attach(self, checkpoint: Path) -> None:
        if checkpoint.is_dir():
            self._save(checkpoint / CHECKPOINT)
        else:
            _logger.warning("%s is gone, and nothing can resume there", checkpoint)

    def _follow(self, place: Place) -> None:
        """Take the window of the last training call; before the first that of the checkpoint."""
        path: Path | None = place.folder / CHECKPOINT
        assert path is not None
        if not path.exists() or path.stat().st_mtime_ns < _IMPORTED:
            start = place.start()
            path = None if start is None else window_of(start)
        if path is not None and self.loaded != (path, path.stat().st_mtime_ns):
            self.loaded = (path, path.stat().st_mtime_ns)
            self._load(path)

    def _score(
        self,
        inputs: Sequence[Mapping[str, Any]],
        truths: Sequence[dict[str, Any]],
        *,
        record: bool,
    ) -> list[dict[str, float]]:
        start = time.perf_counter()
        batch = self.scorer.score(
            [each["response"] for each in inputs],
            [truth["reference"] for truth in truths],
            columns=_columns(inputs, truths, self.scorer.recipe),
            record=record,
        )
        log = batch_log(batch.raw, batch.ranks, batch.terms, batch.codes)
        log |= self.log.figures(self.scorer.quantiles.size)
        log["rankreward/seconds"] = time.perf_counter() - start
        columns = {f"rankreward/term/{name}": term.tolist() for name, term in batch.terms.items()}
        columns["overall"] = batch.total.tolist()
        return [
            {**log, **{name: column[index] for name, column in columns.items()}}
            for index in range(len(batch))
        ]

    def _save(self, path: Path) -> None:
        mark = "" if self.tracker is None else self.tracker.mark
        easyr1 = {"calls": self.calls, "last": self.last, "tracker": mark}
        save_state(path, {**self.scorer.state_dict(), "easyr1": easyr1})

    def _load(self, path: Path) -> None:
        state = read_window(path)
        try:
            self.scorer.load_state_dict(state)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        self.calls = state["easyr1"]["calls"]


def _usable(recipe: str | Mapping[str, Any] | Recipe) -> Recipe:
    why = "shuffles a batch and passes a reward neither images nor group ids"
    return check_served(Recipe.load(recipe), "EasyR1", why)


def _truths(given: Sequence[Any]) -> list[dict[str, Any]]:
    """Ground truths, each read once: the rollouts of a group share theirs."""
    read: dict[Any, dict[str, Any]] = {}
    for each in given:
        key = each if isinstance(each, str) else id(each)
        if key not in read:
            read[key] = _truth(each)
    return [read[each if isinstance(each, str) else id(each)] for each in given]


def _truth(given: Any) -> dict[str, Any]:
    """A ground truth as a mapping with the key ``reference``, without other keys that are None."""
    truth = _object(given) if isinstance(given, str) else given
    if isinstance(truth, Mapping) and "reference" in truth:
        return {"reference": None, **_plain(truth)}
    return {"reference": _plain(given)}


def _object(text: str) -> Any:
    """What a JSON text stands for, if that is an object; what else it may be the scorer reads."""
    try:
        return json.loads(text) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        return None


def _plain(value: Any) -> Any:
    """Lists for arrays, and mappings without their entries that are None.

    A table gives every row the fields of all rows, and NumPy makes lists of one length an array.
    """
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items() if entry is not None}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _training(splits: Sequence[Any], *, needed: bool) -> bool:
    """Whether a batch is one of training; all of it or none."""
    if needed and None in splits:
        raise InputError(
            f"reward_inputs[{splits.index(None)}]: expected a ground truth with a split, as "
            "{'reference': ..., 'split': 'train'}, got none: training and validation share what "
            "is given as checkpoints and rollouts, and differ in nothing else"
        )
    kinds = set(splits)
    if len(kinds) > 1:
        shown = ", ".join(sorted(map(repr, kinds)))
        raise InputError(f"reward_inputs: expected one split a batch, got {shown}")
    return all(kind is None or is_training(kind) for kind in kinds)


def _columns(
    inputs: Sequence[Mapping[str, Any]], truths: Sequence[dict[str, Any]], recipe: Recipe
) -> dict[str, list[Any]]:
    """What the ground truths hold besides, and the lengths."""
    for name in recipe.columns:
        for index, truth in enumerate(truths):
            if name != "tokens" and name not in truth:
                raise InputError(
                    f"reward_inputs[{index}]: expected a ground truth with {name!r} beside its "
                    f"'reference', which recipe {recipe.name!r} needs, got {', '.join(truth)}"
                )
    names = {name for truth in truths for name in truth} - {"reference", "split"}
    columns = {name: [truth.get(name) for truth in truths] for name in sorted(names)}
    return {**columns, "tokens": [each["response_length"] for each in inputs]}
