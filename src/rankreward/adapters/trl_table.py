"""TRL's completions table, with all that scoring its rollouts again needs.

Goes in: what a reward was asked to score. Comes out: columns beside TRL's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainingArguments

_NONE = {"train": 0, "eval": 0}


class CompletionsTable:
    """The columns ``reference``, ``group``, ``split``, ``rollout`` and ``rollout_step``.

    TRL's table holds the last batch of generation, and evaluation's on top of it; groups and
    rollouts are therefore counted over a step, so that a reader sees what the table lacks.

    Attributes:
        kept: whether the trainer keeps a table.
    """

    def __init__(self) -> None:
        self.kept = False
        self._rank, self._ranks = 0, 1
        self._groups, self._rollouts = 0, dict(_NONE)  # since the last step ended

    def attach(self, args: TrainingArguments) -> None:
        """A trainer has the reward."""
        self.kept = getattr(args, "log_completions", False)
        self._rank, self._ranks = args.process_index, args.world_size
        self.end_step()  # one that was broken off is no more

    def end_step(self) -> None:
        """The rollouts to come are of the next step."""
        self._rollouts = dict(_NONE)

    def log(
        self,
        references: Sequence[Any],
        split: str,
        size: int,
        step: int,
        log_extra: Callable[[str, list[Any]], None],
    ) -> None:
        """Add the columns of a batch.

        Args:
            references: B references, of this rank.
            split: ``train`` or ``eval``.
            size: completions a group.
            step: the step that the batch belongs to.
            log_extra: TRL's, which takes a column.
        """
        begin, count = self._rollouts[split], len(references)
        first = self._rank * count
        if split == "train" and begin == 0:  # evaluation counts on, as it shares a step's table
            self._groups = 0
        log_extra("reference", [_text(reference) for reference in references])
        log_extra("group", [self._groups + (first + index) // size for index in range(count)])
        log_extra("split", [split] * count)
        log_extra("rollout", [begin + first + index for index in range(count)])
        log_extra("rollout_step", [step] * count)
        self._rollouts[split] += self._ranks * count
        self._groups += -(-self._ranks * count // size)


def _text(reference: Any) -> str | None:
    """A reference as the table can hold it; None for what is no JSON, such as masks."""
    if isinstance(reference, str):
        return reference
    try:
        return json.dumps(reference)
    except (TypeError, ValueError):
        return None
