"""TRL: the ranked reward inside `GRPOTrainer`.

Goes in: the keywords with which TRL calls a reward function. Comes out: its list of floats. The
callback tells training from evaluation, ends the step, and keeps the window with the checkpoint.

    reward = RankReward("dr_seg", reference="solution")
    trainer = GRPOTrainer(reward_funcs=[reward], callbacks=[reward.callback()], ...)

Needs the extra ``trl``.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rankreward.adapters.trl_callback import StepCallback
from rankreward.adapters.trl_table import CompletionsTable
from rankreward.errors import InputError, StateError
from rankreward.recipe import Recipe
from rankreward.rewards import RewardBatch, Scorer
from rankreward.rewards.figures import WindowLog, batch_log
from rankreward.rewards.masks import Segmenter
from rankreward.rewards.similarity import Similarity

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainingArguments


class RankReward:
    """A reward function for TRL's `GRPOTrainer`.

    Pass it as a reward function, or its `terms()` in its place, and always pass `callback()`; one
    such object a trainer. Under several ranks (``torchrun``, accelerate) each makes its own, and
    the callback makes their windows one. The trainer's log shows the figures of
    `rankreward.rewards.figures`, averaged over the batches and ranks between two entries; the
    completions table gets the columns ``failure``, ``reference``, ``group`` and ``rollout`` (both
    counted over the step), ``rollout_step`` (in which it was scored) and ``split`` (``train`` or
    ``eval``), which is all that `rankreward score` and `rankreward replay` need of it.

    Args:
        recipe: whatever `rankreward.Scorer` takes.
        reference: the dataset's column that holds the reference. What else the recipe needs comes
            from the columns of that name (`Recipe.columns`) and from ``image`` or ``images``;
            ``tokens`` is counted; groups are the trainer's, and by hand the column ``groups``.
        similarity: as for `rankreward.Scorer`.
        segmenter: as for `rankreward.Scorer`.

    Attributes:
        scorer: the `Scorer` behind it.

    Raises:
        ConfigError: the recipe cannot be found or understood.
    """

    def __init__(
        self,
        recipe: str | Path | Mapping[str, Any] | Recipe,
        reference: str = "solution",
        *,
        similarity: Similarity | None = None,
        segmenter: Segmenter | None = None,
    ) -> None:
        self.scorer = Scorer(recipe, similarity=similarity, segmenter=segmenter)
        self.reference = reference
        self.__name__ = self.scorer.recipe.name.replace("-", "_")
        self._group: dict[str, int] = {}  # the trainer's completions a prompt, by mode
        self._table = CompletionsTable()
        self._attached = False  # whether a trainer has this object's callback
        self._model: Any = None  # that trainer's policy
        self._last: _Scored | None = None
        self._window_log = WindowLog()

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
            StateError: a trainer calls without this object's callback among its callbacks, or
                with this object and its terms together.
        """
        totals: list[float] = self._score(self.__name__, completions, columns).total.tolist()
        return totals

    def terms(self) -> list[Callable[..., list[float]]]:
        """One reward function a term, for trainers that normalise them one by one (GDPO).

        Returns:
            Functions to pass as `reward_funcs` in place of this object; together they score each
            batch once. Their sum is what this object would have paid.
        """
        return [_Term(self, name) for name in self.scorer.recipe.parts]

    def callback(self) -> TrainerCallback:
        """The callback that belongs to this object; pass it to the same trainer."""
        return StepCallback(self)

    def _attach(self, args: TrainingArguments, model: Any) -> None:
        """A trainer has this object's callback."""
        self._attached, self._model = True, model
        self._table.attach(args)
        train = getattr(args, "num_generations", None) or 1
        self._group = {"train": train, "eval": getattr(args, "num_generations_eval", None) or train}

    def _end_step(self, step: int) -> None:
        self._window_log.flushed(self.scorer.flush(step))
        self._table.end_step()

    def _score(
        self, caller: str, completions: Sequence[Any], columns: Mapping[str, Any]
    ) -> RewardBatch:
        # TRL hands one list to all its reward functions in turn; each takes its share of the same
        # batch once. A function that comes back has a new batch, be it in the same list.
        last, references = self._last, self._references(columns)
        if (
            last is not None
            and last.completions is completions
            and last.references is references
            and caller not in last.served
        ):
            if columns.get("trainer_state") is not None and self.__name__ in {caller, *last.served}:
                raise StateError("reward_funcs: expected the reward or its terms, got both")
            last.served.add(caller)
            return last.batch
        begun, images = time.perf_counter(), _images(columns)
        if self._last is None:
            self._check_frame(images)
        batch = self.scorer.score(
            [_text(completion, index) for index, completion in enumerate(completions)],
            references,
            images=images,
            groups=self._groups(completions, columns),
            columns=_columns(columns),
            record=self._training(columns),
        )
        self._log(batch, references, columns, time.perf_counter() - begun)
        self._last = _Scored(completions, references, batch, {caller})
        return batch

    def _check_frame(self, images: Sequence[Any] | None) -> None:
        """Warn where the policy sees images of another size than the recipe's answers are in."""
        frame = self.scorer.recipe.response.frame
        size = getattr(images[0], "size", None) if images else None
        if frame is None or frame.unit == "grid" or not isinstance(size, tuple):
            return
        if size != (frame.width, frame.height):
            warnings.warn(
                f"images: recipe {self.scorer.recipe.name!r} reads boxes and points in a frame of "
                f"{frame.width} x {frame.height} pixels, and the first image has {size[0]} x "
                f"{size[1]}: resize images and references, or take Recipe.load(...).resized(...)",
                stacklevel=2,
            )

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

    def _groups(self, completions: Sequence[Any], columns: Mapping[str, Any]) -> list[Any] | None:
        """Which completions answer the same question: TRL hands a group over as neighbours.

        By hand it is the column ``groups`` that says so.
        """
        if columns.get("trainer_state") is None or not self._group:
            groups: list[Any] | None = columns.get("groups")
            return groups
        size = self._group_size(columns)
        if self.scorer.recipe.needs_groups and len(completions) % size:
            raise InputError(
                f"groups: recipe {self.scorer.recipe.name!r} compares the {size} answers to a "
                f"prompt, and this rank got {len(completions)} completions, which splits a group; "
                "make per_device_train_batch_size times steps_per_generation (in evaluation "
                f"per_device_eval_batch_size) a multiple of {size}"
            )
        return [index // size for index in range(len(completions))]

    def _log(
        self,
        batch: RewardBatch,
        references: Sequence[Any],
        columns: Mapping[str, Any],
        seconds: float,
    ) -> None:
        log_metric, log_extra = columns.get("log_metric"), columns.get("log_extra")
        if log_metric is not None:
            figures = {
                **batch_log(batch.raw, batch.ranks, batch.terms, batch.codes),
                **self._window_log.figures(self.scorer.quantiles.size),
                "rankreward/seconds": seconds,
            }
            for name, value in figures.items():
                log_metric(name, value)
        if log_extra is not None:
            log_extra(
                "failure", ["" if f is None else f"{f.code}: {f.message}" for f in batch.failures]
            )
            if self._table.kept and columns.get("trainer_state") is not None:
                split, step = self._split(columns), columns["trainer_state"].global_step + 1
                self._table.log(references, split, self._group[split], step, log_extra)

    def _group_size(self, columns: Mapping[str, Any]) -> int:
        return self._group[self._split(columns)]

    def _split(self, columns: Mapping[str, Any]) -> str:
        return "train" if self._training(columns) else "eval"

    def _training(self, columns: Mapping[str, Any]) -> bool:
        """Whether this batch is one of training; TRL evaluates through the same function.

        As in TRL itself, the policy's mode tells: evaluation may come at any time.
        """
        if columns.get("trainer_state") is None:
            return True  # called by hand
        if not self._attached:
            raise StateError(
                "the trainer never ends a step of this reward: pass it the reward's callback, "
                "GRPOTrainer(..., callbacks=[reward.callback()])"
            )
        return self._model is None or bool(self._model.training)

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied into another process, where no step would ever end."""
        raise StateError(
            "RankReward cannot go to another process: its window would be a copy that no callback "
            "reaches. Use GRPOTrainer, which scores in the trainer's own process"
        )


@dataclass
class _Scored:
    """The batch last scored, for the reward functions that share it.

    It holds on to the lists, so that no others can get their identity.
    """

    completions: Sequence[Any]
    references: Sequence[Any]
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


def _text(completion: Any, index: int) -> str:
    """The text of a completion, which for conversational data is a list of one message."""
    if isinstance(completion, str):
        return completion
    message = completion[0] if isinstance(completion, list) and len(completion) == 1 else None
    content = message.get("content") if isinstance(message, Mapping) else None
    if message is None or not isinstance(content, str):
        raise InputError(
            f"completions[{index}]: expected a text or a list with one chat message, "
            f"got {completion!r:.80}"
        )
    # With the chat templates of some models TRL takes the think block out of the text.
    reasoning = message.get("reasoning_content")
    return f"<think>{reasoning}</think>{content}" if reasoning else content


def _images(columns: Mapping[str, Any]) -> list[Any] | None:
    """The image of each completion, where the dataset has one image a row."""
    for name in ("images", "image"):  # in TRL's order
        rows = columns.get(name)
        if rows is not None and any(row is not None for row in rows):
            return [row[0] if isinstance(row, list) and len(row) == 1 else row for row in rows]
    return None


def _columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that stand for one entry a completion, and the completions' lengths."""
    others = {name: rows for name, rows in columns.items() if isinstance(rows, list)}
    ids = columns.get("completion_ids")
    return others if ids is None else {**others, "tokens": [len(row) for row in ids]}
