"""TRL's completions tables, which hold the last rollouts that were scored, whatever they are.

Goes in: rows with the columns ``split``, ``rollout`` and ``rollout_step`` of our reward for TRL.
Comes out: the rollouts of training, each once, at the step that it was scored in; and a word on the
rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rankreward.logs.gaps import Gaps
from rankreward.logs.rows import LogRow

COLUMNS = ("split", "rollout", "rollout_step")


class Tables:
    """What the tables of a run held so far.

    Args:
        gaps: told of steps that trained on rollouts of an earlier one.
    """

    def __init__(self, gaps: Gaps) -> None:
        self._gaps = gaps
        self._evaluated = self._lacking = self._steps = 0
        self._last = (-1, -1)  # step and number of the last rollout

    def training(self, row: LogRow) -> LogRow | None:
        """The rollout with its own step; None for one of evaluation, or one that came before."""
        split, number, step = (row.columns.get(name) for name in COLUMNS)
        if split == "eval":
            self._evaluated += 1
            return None
        if type(number) is not int or type(step) is not int:  # another reward's table
            return row
        if (step, number) <= self._last:
            self._gaps.add(row.step)
            return None
        wanted = self._last[1] + 1 if step == self._last[0] else 0
        self._lacking += number - wanted
        self._steps += number > wanted
        self._last = step, number
        return replace(row, step=step)

    def end(self, say: Callable[[str], None]) -> None:
        """Say what was left out, and what is not there."""
        if self._evaluated:
            say(f"{self._evaluated} rollouts of evaluation in TRL's tables: left out")
        if self._lacking:
            say(
                f"TRL's tables lack {self._lacking} rollouts in {self._steps} of the steps, as one "
                "holds a single batch of generation, and evaluation writes over it: windows differ "
                "from training's"
            )
