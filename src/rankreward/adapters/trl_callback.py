"""The step's end, evaluation and checkpoints of a `RankReward` inside TRL's trainer.

Goes in: the trainer's events. Comes out: a window that moves once a step, is the same on every
rank, never sees evaluation, and is kept with the checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankreward.adapters.common import CHECKPOINT
from rankreward.errors import CheckpointError, StateError, require
from rankreward.quantiles.checkpoint import load_state, save_state
from rankreward.quantiles.distributed import DistributedQuantileService
from rankreward.rewards import Scorer

require("transformers", extra="trl")

from transformers import TrainerCallback  # noqa: E402 - after the check that names the extra

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from rankreward.adapters.trl import RankReward


class StepCallback(TrainerCallback):  # type: ignore[misc]
    """Joins a reward to its trainer, ends steps, and keeps the window beside checkpoints."""

    def __init__(self, reward: RankReward) -> None:
        self._reward = reward

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Make the window one with those of the other ranks, and join the trainer."""
        # All callbacks of a trainer are given the same state.
        if vars(state).setdefault("_rankreward", self._reward) is not self._reward:
            raise StateError(
                "expected one RankReward a trainer, got two: their windows would share a file in "
                "each checkpoint, and their figures a name in the log. Put what both pay into one "
                "recipe, or train with terms()"
            )
        scorer = self._reward.scorer
        if args.world_size > 1 and not isinstance(scorer.quantiles, DistributedQuantileService):
            scorer.share(DistributedQuantileService)
        self._reward._attach(args, kwargs.get("model"))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Go on with the checkpoint's window, or see to it that a new run has a fresh one."""
        self.on_init_end(args, state, control, **kwargs)  # a callback added later missed it
        window = self._reward.scorer.quantiles
        window.discard()  # rows of a step that was broken off
        if state.global_step > 0:
            _resume(self._reward.scorer, args, state)
        elif window.step is not None:
            raise StateError(
                f"a new run begins, and the window holds another one's rows up to step "
                f"{window.step}: call reward.scorer.quantiles.reset() first, or resume that run"
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The step's rows enter the window, on every rank the same."""
        self._reward._end_step(state.global_step)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the window with the checkpoint; one rank writes, for all have the same."""
        if not args.should_save:
            return
        saved = {**self._reward.scorer.state_dict(), "run": _run(state)}
        path = _checkpoint(args, state)
        try:
            save_state(path, saved)
        except OSError as error:
            error.add_note(
                f"{path.parent} has no window to resume with; make room, and resume from "
                "the checkpoint before it"
            )
            raise


def _resume(scorer: Scorer, args: TrainingArguments, state: TrainerState) -> None:
    """Take the window from the checkpoint that the trainer goes on from."""
    path = _checkpoint(args, state)
    if path.exists():
        saved = load_state(path)
        if saved.get("run") != _run(state):
            raise StateError(
                f"resuming at step {state.global_step}, expected the window of the same run in "
                f"{path}, got another run's; resume with that checkpoint's own output_dir"
            )
        try:
            scorer.load_state_dict(saved)
        except CheckpointError as error:
            raise CheckpointError(
                f"{path}: {error}; resume with the recipe of that run, or begin a new run"
            ) from None
    elif scorer.quantiles.step is None or scorer.quantiles.step > state.global_step:
        raise StateError(
            f"resuming at step {state.global_step}, expected the window in {path}, got no such "
            "file; put it back, load a copy with reward.scorer.load(path) before train(), or "
            "resume from an earlier checkpoint"
        )


def _run(state: TrainerState) -> str:
    """A fingerprint of the run up to now, by the last losses that the trainer logged.

    What callbacks log may come between saving and resuming. Runs without a loss are all alike.
    """
    entries = [entry for entry in state.log_history if "loss" in entry][-10:]
    log = json.dumps(entries, default=float, sort_keys=True)
    return hashlib.sha256(log.encode()).hexdigest()


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / CHECKPOINT
