"""TRL: the ranked reward inside `GRPOTrainer`.

Goes in: the keywords with which TRL calls a reward function. Comes out: its list of floats. The
callback tells training from evaluation, ends the step, and keeps the window with the checkpoint.

    reward = RankReward("dr_seg", reference="solution")
    trainer = GRPOTrainer(reward_funcs=[reward], callbacks=[reward.callback()], ...)

Needs the extra ``trl``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankreward.errors import InputError, StateError, require
from rankreward.recipe import Recipe
from rankreward.rewards import RewardBatch, Scorer

require("transformers", extra="trl")

from transformers import TrainerCallback  # noqa: E402 - after the check that names the extra

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

CHECKPOINT = "rankreward.npz"  # the scorer's file inside a trainer's checkpoint folder


class RankReward:
    """A reward function for TRL's `GRPOTrainer`.

    Pass it as a reward function, or `terms()` in its place, and always pass `callback()`. In the
    trainer's log stand, batch by batch, ``rankreward/raw/<metric>``, ``rankreward/rank/<metric>``,
    ``rankreward/term/<term>`` (means) and ``rankreward/failures`` (a share); the completions
    table gets a column ``failure``.

    Args:
        recipe: whatever `rankreward.Scorer` takes.
        reference: the dataset's column that holds the reference.

    Attributes:
        scorer: the `Scorer` behind it.

    Raises:
        ConfigError: the recipe cannot be found or understood.
    """

    def __init__(
        self, recipe: str | Path | Mapping[str, Any] | Recipe, reference: str = "solution"
    ) -> None:
        self.scorer = Scorer(recipe)
        self.reference = reference
        self.__name__ = self.scorer.recipe.name.replace("-", "_")
        self._model: Any = None
        self._last: _Scored | None = None

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float]:
        """Score a batch as TRL calls it.

        Args:
            completions: B texts, or B lists of one chat message.
            **columns: what TRL passes besides: the dataset's columns, ``trainer_state``,
                ``log_metric`` and ``log_extra``.

        Returns:
            B rewards.

        Raises:
            InputError: the dataset lacks the reference column.
            BadReferenceError: a reference cannot be read.
            StateError: a trainer calls without this object's callback among its callbacks.
        """
        totals: list[float] = self._score(self.__name__, completions, columns).total.tolist()
        return totals

    def terms(self) -> list[Callable[..., list[float]]]:
        """One reward function a term, for trainers that normalise them one by one (GDPO).

        Returns:
            Functions to pass as `reward_funcs` in place of this object; together they score each
            batch once. Their sum is what this object would have paid.
        """
        recipe = self.scorer.recipe
        return [_Term(self, name) for name in (*recipe.terms, *recipe.accuracy.metrics)]

    def callback(self) -> TrainerCallback:
        """The callback that belongs to this object; pass it to the same trainer."""
        return _Callback(self)

    def _score(
        self, caller: str, completions: Sequence[Any], columns: Mapping[str, Any]
    ) -> RewardBatch:
        # TRL hands one list to all its reward functions in turn; each takes its share of the same
        # batch once. A function that comes back has a new batch, be it in the same list.
        last = self._last
        if last is not None and last.completions is completions and caller not in last.served:
            last.served.add(caller)
            return last.batch
        batch = self.scorer.score(
            [_text(completion, index) for index, completion in enumerate(completions)],
            self._references(columns),
            record=self._training(columns),
        )
        _log(batch, columns.get("log_metric"), columns.get("log_extra"))
        self._last = _Scored(completions, batch, {caller})
        return batch

    def _references(self, columns: Mapping[str, Any]) -> Sequence[Any]:
        if self.reference not in columns:
            passed = {"prompts", "completion_ids", "trainer_state", "log_extra", "log_metric"}
            there = ", ".join(sorted(columns.keys() - passed)) or "none"
            raise InputError(
                f"dataset: expected a column {self.reference!r} with the references, got the "
                f"columns {there}; name yours with RankReward(..., reference=<column>)"
            )
        references: Sequence[Any] = columns[self.reference]
        return references

    def _training(self, columns: Mapping[str, Any]) -> bool:
        """TRL evaluates through the same function; only the model's mode tells the two apart."""
        if self._model is not None:
            return bool(self._model.training)
        if columns.get("trainer_state") is not None:
            raise StateError(
                "the trainer never ends a step of this reward: pass it the reward's callback, "
                "GRPOTrainer(reward_funcs=[reward], callbacks=[reward.callback()])"
            )
        return True


@dataclass
class _Scored:
    """The batch last scored, for the reward functions that share it.

    It holds on to the list of completions, so that no other list can get its identity.
    """

    completions: Sequence[Any]
    batch: RewardBatch
    served: set[str]


class _Term:
    """One term of a shared `RankReward`, as a reward function of its own."""

    def __init__(self, owner: RankReward, term: str) -> None:
        self._owner = owner
        self.__name__ = term

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float]:
        batch = self._owner._score(self.__name__, completions, columns)
        values: list[float] = batch.terms[self.__name__].tolist()
        return values


class _Callback(TrainerCallback):  # type: ignore[misc]
    """Ends steps, and keeps the window beside the trainer's checkpoints."""

    def __init__(self, reward: RankReward) -> None:
        self._reward = reward

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.world_size > 1:
            raise StateError(
                f"expected one process, got {args.world_size}: each would rank in a window of its "
                "own, and their rewards would not be comparable"
            )
        self._reward._model = kwargs["model"]

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._reward._model = kwargs["model"]
        scorer = self._reward.scorer
        if state.global_step in {0, scorer.quantiles.step}:
            return
        path = _checkpoint(args, state)
        if not path.exists():
            raise StateError(
                f"resuming at step {state.global_step}, expected the window in {path}, got no such "
                "file; call reward.scorer.load(<checkpoint>/rankreward.npz) before train()"
            )
        scorer.load(path)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._reward.scorer.flush(state.global_step)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._reward.scorer.save(_checkpoint(args, state))


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / CHECKPOINT


def _text(completion: Any, index: int) -> str:
    """The text of a completion, which for conversational data is a list of one message."""
    if isinstance(completion, str):
        return completion
    try:
        content = completion[-1]["content"]
    except (TypeError, KeyError, IndexError):
        content = None
    if not isinstance(content, str):
        raise InputError(
            f"completions[{index}]: expected a text or a list with one chat message, "
            f"got {completion!r:.80}"
        )
    return content


def _log(
    batch: RewardBatch,
    log_metric: Callable[[str, float], None] | None,
    log_extra: Callable[[str, list[Any]], None] | None,
) -> None:
    if log_metric is not None:
        for kind, columns in (("raw", batch.raw), ("rank", batch.ranks), ("term", batch.terms)):
            for name, values in columns.items():
                defined = values[~np.isnan(values)]
                mean = float(defined.mean()) if len(defined) else float("nan")
                log_metric(f"rankreward/{kind}/{name}", mean)
        failed = sum(failure is not None for failure in batch.failures)
        log_metric("rankreward/failures", failed / max(len(batch), 1))
    if log_extra is not None:
        log_extra(
            "failure", ["" if f is None else f"{f.code}: {f.message}" for f in batch.failures]
        )
