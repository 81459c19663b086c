"""The rollouts of a real run, which the plots of the gallery are drawn from.

A tiny Qwen2.5-VL learned to box handwritten digits on images of 84 x 84 pixels, by GRPO with the
recipe `dr_seg`: each step is 16 questions with 8 answers. Its log is in the repository,
`examples/logs/digits.jsonl.gz`, and everything in the gallery is computed from it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import rankreward as rr
from rankreward import shaping
from rankreward.logs import LogRow, chunks, read_log

LOG = Path(__file__).resolve().parents[2] / "examples" / "logs" / "digits.jsonl.gz"
RECIPE = rr.Recipe.load("dr_seg").resized(84)


@dataclass(frozen=True)
class Scored:
    """All n rollouts of the run, scored again.

    Attributes:
        step: (n,) the step of each.
        group: (n,) the number of its question, from 0.
        total: (n,) what it is paid.
        raw: metric to (n,) values as measured, NaN where it does not apply.
        ranks: metric to (n,) what they count for.
        codes: what is wrong with each, or None.
    """

    step: NDArray[np.int64]
    group: NDArray[np.int64]
    total: NDArray[np.float64]
    raw: dict[str, NDArray[np.float64]]
    ranks: dict[str, NDArray[np.float64]]
    codes: list[str | None]


def steps(last: int | None = None) -> Iterator[tuple[int, list[LogRow]]]:
    """The steps of the log with their rollouts, up to the step `last`."""
    for chunk in chunks(read_log([LOG], say=lambda _: None)):
        if last is not None and chunk.step > last:
            return
        yield chunk.step, chunk.rows


def score(
    recipe: rr.Recipe = RECIPE,
    last: int | None = None,
    *,
    look: Callable[[int, rr.Scorer], None] | None = None,
) -> Scored:
    """Score the run as it was scored in training: a step at a time, the window after each.

    Args:
        recipe: by which.
        last: the last step to score.
        look: called after each step, with its number and the scorer.
    """
    scorer = rr.Scorer(recipe)
    batches, numbers, groups = [], [], []
    for step, rows in steps(last):
        completions, references = zip(
            *((row.completion, row.reference) for row in rows), strict=True
        )
        batches.append(scorer.score(completions, references))
        scorer.flush(step)
        if look is not None:
            look(step, scorer)
        numbers += [step] * len(rows)
        groups += [f"{step} {row.group}" for row in rows]
    metrics = recipe.accuracy.metrics
    return Scored(
        step=np.array(numbers),
        group=np.unique(groups, return_inverse=True)[1],
        total=np.concatenate([batch.total for batch in batches]),
        raw={name: np.concatenate([batch.raw[name] for batch in batches]) for name in metrics},
        ranks={name: np.concatenate([batch.ranks[name] for batch in batches]) for name in metrics},
        codes=[code for batch in batches for code in batch.codes],
    )


def agreement(run: Scored, begin: int = 20) -> dict[str, float]:
    """How the advantages of GRPO go along with each metric, within the groups.

    Args:
        run: a scored run.
        begin: the steps left out, until the window is full of rollouts.

    Returns:
        Metric to Pearson's correlation of the advantage with it, both about their group's mean.
    """
    late = run.step > begin
    advantage = shaping.grpo(run.total, groups=run.group)
    found = {}
    for name, values in run.raw.items():
        used = late & ~np.isnan(values)
        centred = shaping.dr_grpo(values[used], groups=run.group[used])
        found[name] = float(np.corrcoef(advantage[used], centred)[0, 1])
    return found


def smooth(values: NDArray[np.float64], width: int = 10) -> NDArray[np.float64]:
    """The mean of each value and the ones before it."""
    sums = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(ends - width, 0)
    return (sums[ends] - sums[begins]) / (ends - begins)
