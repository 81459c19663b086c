"""verl 0.9: the ranked reward in its reward loop.

Goes in: rollouts, as verl's reward workers get them one by one. Comes out: their rewards, from one
window for all workers, which moves when a step ends.

    reward.reward_manager.source=importlib
    reward.reward_manager.name=RankRewardManager
    reward.reward_manager.module.path=pkg://rankreward.adapters.verl
    trainer.v1.sampler.custom_sampler.path=pkg://rankreward.adapters.verl
    trainer.v1.sampler.custom_sampler.name=RankRewardReplayBuffer
    trainer.checkpoint_callback_class=rankreward.adapters.verl.RankRewardCheckpoint
    +rankreward.recipe=dr_seg

The manager scores; the replay buffer ends steps, fills the log, and stops a run that cannot be
scored; the checkpoint keeps the window with the policy. Without that buffer a step ends when the
first rollout of the next one is scored, and nothing stops a run but the log's errors. Every row of
the data says what it is for in ``extra_info["split"]``: ``train`` enters the window; ``val``,
``test`` and the like are scored and enter none; anything else is an error of that row.

Further keys: ``rankreward.folder``, where the window is kept (``rankreward`` in the trainer's
``default_local_dir``, on a disk that all machines have); ``rankreward.begin``, ``auto``, or ``new``
to begin a new window though the trainer goes on from a checkpoint; and ``rankreward.timeout``,
seconds to wait for the window (60). verl does not tell the replay buffer that; it has its own,
``+trainer.v1.sampler.sampler_kwargs.timeout``.

Needs verl and the extra ``ray``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rankreward.adapters.common import is_training
from rankreward.adapters.verl_driver import (
    RankRewardCheckpoint,
    RankRewardReplayBuffer,
    RankRewardReplayBufferAsync,
)
from rankreward.adapters.verl_rewards import SECONDS, Paid, Rewards, Rollout, unpaid
from rankreward.adapters.verl_window import (
    Settings,
    load_recipe,
    make_scorer,
    read_settings,
    verl_module,
    window_name,
)
from rankreward.errors import ConfigError, InputError

__all__ = [
    "RankRewardCheckpoint",
    "RankRewardManager",
    "RankRewardReplayBuffer",
    "RankRewardReplayBufferAsync",
    "compute_score",
]

_log = logging.getLogger(__name__)
_base = verl_module("experimental.reward_loop.reward_manager.base")
_RewardManagerBase: Any = _base.RewardManagerBase


class RankRewardManager(_RewardManagerBase):  # type: ignore[misc]
    """Scores rollouts in one of verl's reward workers.

    Those that wait while a batch is being scored are the next batch. Each result has the keys
    ``rankreward/raw/<metric>``, ``rankreward/rank/<metric>``, ``rankreward/term/<term>``,
    ``rankreward/failure`` (a code, or nothing), ``rankreward/error`` and ``rankreward/seconds``.

    The reference is the dataset's ``reward_model.ground_truth``: a JSON text, a list or a mapping.
    What else the recipe needs comes from ``extra_info``; ``tokens`` is counted.

    Raises:
        ConfigError: the section ``rankreward`` of the configuration is wrong, or verl is told to do
            what it cannot do beside it, or the recipe needs groups or images, which verl does not
            hand over.
        StateError: the run goes on from a checkpoint without a window.
        CheckpointError: the window to go on with is another recipe's, or damaged.
    """

    def __init__(
        self,
        config: Any,
        tokenizer: Any,
        compute_score: Any = None,
        reward_router_address: str | None = None,
        reward_model_tokenizer: Any = None,
    ) -> None:
        self._rewards = Rewards(make_scorer(read_settings(config)))
        super().__init__(config, tokenizer, compute_score)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rankreward")
        self._waiting: list[tuple[Any, asyncio.Future[Paid]]] = []
        self._working: asyncio.Task[None] | None = None

    async def run_single(self, data: Any) -> dict[str, Any]:
        """Score a rollout as verl asks for it; never raises.

        Args:
            data: a `DataProto` of one rollout, of which the last sequence counts.

        Returns:
            ``reward_score`` and ``reward_extra_info``.
        """
        paid: asyncio.Future[Paid] = asyncio.get_running_loop().create_future()
        self._waiting.append((data, paid))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        info = dict(await paid)
        return {"reward_score": info.pop("score"), "reward_extra_info": info}

    async def _work(self) -> None:
        """Score what waits, as one batch, until nothing does."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            rows = await loop.run_in_executor(
                self._thread, self._score, [data for data, _ in batch]
            )
            for (_, paid), row in zip(batch, rows, strict=True):
                if not paid.done():  # whoever asked may have gone
                    paid.set_result(row)

    def _score(self, batch: Sequence[Any]) -> list[Paid]:
        rollouts: list[Rollout | Exception] = []
        for data in batch:
            try:
                rollouts.append(read_rollout(data, self.tokenizer))
            except Exception as error:  # noqa: BLE001 - verl would drop the rollout in silence
                rollouts.append(error)
        return self._rewards.score(rollouts)


def read_rollout(data: Any, tokenizer: Any) -> Rollout:
    """The last sequence of a `DataProto`.

    Raises:
        InputError: a column that verl's data always have is missing or malformed, or the split is
            none that is known.
    """
    columns = {name: values[-1] for name, values in data.non_tensor_batch.items()}
    response = data.batch["responses"][-1]
    length = columns.get("response_len")
    if length is None:
        length = data.batch["attention_mask"][-1, -len(response) :].sum()
    model = columns.get("reward_model")
    if not isinstance(model, Mapping) or "ground_truth" not in model:
        raise InputError(f"reward_model: expected a mapping with 'ground_truth', got {model!r:.80}")
    step, extra = columns.get("global_steps"), dict(columns.get("extra_info") or {})
    uid, session = columns.get("uid"), columns.get("session_id")
    return Rollout(
        text=tokenizer.decode(response[: int(length)], skip_special_tokens=True),
        reference=model["ground_truth"],
        columns={**extra, "tokens": int(length)},
        step=_step(extra, step, "global_steps"),
        identity=None if uid is None or session is None else (str(uid), int(session)),
    )


def _step(extra: Mapping[str, Any], step: Any, name: str) -> int | None:
    """The step that a rollout of training belongs to; None for one of validation."""
    if not is_training(extra.get("split")):
        return None
    if step is None:
        raise InputError(f"{name}: expected the trainer's step, got none; set trainer.use_v1=True")
    return int(step)


_making = threading.Lock()
_made: dict[str, Rewards] = {}
_failed: dict[str, tuple[float, Exception]] = {}  # when, and how


def compute_score(
    data_source: str,  # noqa: ARG001 - verl's signature
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    recipe: Any = "dr_seg",
    folder: str | None = None,
    resume: bool | str = False,
    timeout: float = 60.0,
) -> Paid:
    """The reward as a plain function, for verl's own managers.

        reward.custom_reward_function.path=pkg://rankreward.adapters.verl
        +reward.custom_reward_function.reward_kwargs.recipe=dr_seg

    It shares the window, the keys and the treatment of errors with `RankRewardManager`. It is not
    told what the trainer goes on from, so that a run that is started again begins with a new
    window, unless `resume` says otherwise.

    Args:
        data_source: not used.
        solution_str: the completion.
        ground_truth: the reference.
        extra_info: the dataset's, with what verl adds to it.
        recipe: whatever `rankreward.Scorer` takes.
        folder: as for `RayQuantileService`; whatever it holds makes way for a new window, unless
            `resume` is given.
        resume: likewise; a path is that of a file that a checkpoint or a scorer wrote.
        timeout: likewise.

    Returns:
        ``score``, and the keys of `RankRewardManager`.

    Raises:
        ConfigError: the recipe cannot be found or understood, or needs what verl does not give.
    """
    begin = {"overwrite": True} if resume is False else {"resume": resume}
    rewards = _rewards(Settings(recipe, folder, begin, timeout))
    if isinstance(rewards, Exception):
        _log.error("a rollout was not scored: %r", rewards)
        return {**unpaid(load_recipe(recipe), rewards), SECONDS: 0.0}
    extra = dict(extra_info or {})
    try:
        # rollouts of step s come from the weights after s - 1 steps
        version = extra.get("max_global_steps")
        step = _step(extra, None if version is None else version + 1, "max_global_steps")
        rollout: Rollout | Exception = Rollout(solution_str, ground_truth, extra, step)
    except InputError as error:
        rollout = error
    return rewards.score([rollout])[0]


def _rewards(settings: Settings) -> Rewards | Exception:
    """The process's one scorer for these settings, or why there is none.

    What failed is tried again, but not by those who waited while it failed: each would wait for
    the window as long again.
    """
    called = time.monotonic()
    with _making:
        key = repr((settings, window_name()))
        if key in _made:
            return _made[key]
        when, error = _failed.get(key, (called, None))
        if error is not None and when > called:
            return error
        made = _make(settings)
        if isinstance(made, Exception):
            _failed[key] = time.monotonic(), made
        else:
            _made[key] = made
        return made


def _make(settings: Settings) -> Rewards | Exception:
    if "tokens" in load_recipe(settings.recipe).columns:
        raise ConfigError(
            f"recipe {settings.recipe!r} needs the lengths of the completions, which verl does not "
            "tell a function; use RankRewardManager"
        )
    try:
        return Rewards(make_scorer(settings))
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - verl would drop the rollout in silence
        return error
