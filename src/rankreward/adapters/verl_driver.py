"""verl's driver: the replay buffer that ends steps, and the callback that keeps the window.

Goes in: what the reward workers said of a batch. Comes out: figures for the trainer's log, a window
that has moved on, and a run that stops where nothing can be scored. `verl` has the whole adapter.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankreward.adapters.common import CHECKPOINT
from rankreward.adapters.verl_rewards import ERROR, FAILURE, SECONDS, columns_of, stop_reason
from rankreward.adapters.verl_window import make_scorer, read_settings, verl_module, window_name
from rankreward.errors import StateError
from rankreward.quantiles.ray import RayQuantileService
from rankreward.rewards.figures import WindowLog, batch_log

_buffers: Any = verl_module("trainer.ppo.v1.replay_buffer")
_CheckpointCallback: Any = verl_module("trainer.ppo.checkpoint_callback").CheckpointCallback


class _Watched:
    """A replay buffer that ends the window's steps and says what was scored.

    verl tells a buffer nothing of ``rankreward.timeout``: it waits for the window for
    ``trainer.v1.sampler.sampler_kwargs.timeout`` seconds (60).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._window: RayQuantileService | None = None
        self._window_log = WindowLog()
        self._flushed = -1
        self._size = 0  # rows in the window before the last flush

    def sample(
        self, global_steps: int, partition_id: str, batch_size: int
    ) -> tuple[Any, dict[str, Any]]:
        """A batch, as verl's own buffer gives it.

        To one of training it adds the figures of `rankreward.rewards.figures`, and
        ``rankreward/errors``, the rollouts that could not be scored and got 0.

        Raises:
            StateError: there is no window, or it is broken, or nothing of the batch was scored, be
                it of training or of validation.
        """
        if self._window is None:
            timeout = (self.sampler_kwargs or {}).get("timeout", 60.0)  # type: ignore[attr-defined]
            self._window = _find_window(timeout)
        sampled, metrics = super().sample(  # type: ignore[misc]
            global_steps=global_steps, partition_id=partition_id, batch_size=batch_size
        )
        rows = _fetch(sampled)
        _stop_if_broken([row[ERROR] for row in rows])
        if partition_id != "train":
            return sampled, metrics
        if global_steps > self._flushed:  # asynchronous trainers sample several times a step
            stats = self._window.flush(global_steps)
            self._window_log.flushed(stats)
            self._size = stats.size - stats.added + stats.evicted
            self._flushed = global_steps
        return sampled, {**metrics, **_log_of(rows), **self._window_log.figures(self._size)}


class RankRewardReplayBuffer(_Watched, _buffers.ReplayBuffer):  # type: ignore[misc]
    """verl's buffer for `trainer_mode=sync`, watched.

    verl configures the filtering of groups (`algorithm.filter_groups`) and the replacement of
    failed ones for its own classes alone: with this buffer, setting them is an error.
    """


class RankRewardReplayBufferAsync(_Watched, _buffers.ReplayBufferAsync):  # type: ignore[misc]
    """verl's buffer for the asynchronous trainers, watched; for the rest as above.

    There a rollout counts to the step in which its prompt was sent out, or to the newest that
    has begun, if it comes late.
    """


def _find_window(timeout: float) -> RayQuantileService:
    try:
        return RayQuantileService.attach(window_name(), timeout=timeout)
    except StateError as error:
        raise StateError(
            f"{error}. In verl the reward workers make it: see in their log why they did not, or "
            "configure them as rankreward.adapters.verl says"
        ) from error


def _fetch(batch: Any) -> list[dict[str, Any]]:
    """What the reward said of each session of a batch; a session may have several sequences."""
    queue: Any = importlib.import_module("transfer_queue")
    fields = queue.kv_batch_get(
        keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields"]
    )["extra_fields"]
    # the newest of the same session; keys are <prompt>_<session>_<sequence>
    sessions = {key.rpartition("_")[0]: each for key, each in zip(batch.keys, fields, strict=True)}
    rows = [getattr(each, "data", each).get("reward_extra_info", {}) for each in sessions.values()]
    if any(ERROR not in row for row in rows):
        raise StateError(
            "expected rewards of rankreward, got those of another reward; configure reward."
            "reward_manager or reward.custom_reward_function as rankreward.adapters.verl says"
        )
    return rows


def _stop_if_broken(errors: Sequence[str]) -> None:
    reason = stop_reason(errors)
    if reason is not None:
        count = sum(map(bool, errors))
        raise StateError(
            f"{count} of {len(errors)} rollouts could not be scored, and training on would learn "
            f"from zeros. The first error: {reason}. Mend that, and go on from the last checkpoint"
        )


def _log_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The figures of a batch; rollouts that were not scored are counted and else left out."""
    scored = [row for row in rows if not row[ERROR]]
    raw, ranks, terms = (columns_of(scored, kind) for kind in ("raw", "rank", "term"))
    log = batch_log(raw, ranks, terms, [row[FAILURE] or None for row in scored])
    log["rankreward/errors"] = float(len(rows) - len(scored))
    log[SECONDS] = float(sum(row[SECONDS] for row in rows))
    return log


class RankRewardCheckpoint(_CheckpointCallback):  # type: ignore[misc]
    """Keeps the window beside the policy: ``rankreward.npz`` in each checkpoint folder.

    verl makes it first of all, in the driver, which has two merits: what is wrong with the
    configuration or the checkpoint is said before any model is loaded, and the window outlives
    every worker.

    Raises:
        RankRewardError: as `RankRewardManager`.
    """

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._scorer = make_scorer(read_settings(config))

    def on_save(
        self,
        trainer: Any,
        global_step: int,
        checkpoint_dir: str,
        async_save: bool = False,  # noqa: FBT001, FBT002 - verl's signature
        **kwargs: Any,
    ) -> None:
        """Write the window, as `rankreward.Scorer.save` does."""
        self._scorer.save(Path(checkpoint_dir) / CHECKPOINT)
