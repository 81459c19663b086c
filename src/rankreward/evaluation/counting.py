"""Counting: whether as many objects were found as there are.

Goes in: predicted and true counts of n samples. Comes out: the measures that counting benchmarks
print, each a `Measure`, and the share of completions that could not be read.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from rankreward.errors import InputError
from rankreward.evaluation.measures import Floats, Ratio, mean, per_sample
from rankreward.metrics.arrays import as_floats

Unreadable = Literal["wrong", "one", "zero", "drop"]


def count_measures(
    predicted: ArrayLike, reference: ArrayLike, *, unreadable: Unreadable
) -> dict[str, Ratio]:
    """The measures of counting.

    Args:
        predicted: (n,) whole numbers, at least 0; NaN for a completion that could not be read.
        reference: (n,) whole numbers, at least 0.
        unreadable: what a completion that could not be read counts: ``"one"``, a count of 1, as in
            VisionReasoner's script, which makes it right wherever one object is sought;
            ``"zero"``, a count of 0, which is right where there is nothing; ``"drop"``, left out of
            all but the last measure; or ``"wrong"``, never right, and left out of MAE and RMSE.

    Returns:
        - ``count accuracy``: share of equal counts, in [0, 1];
        - ``MAE``: mean absolute difference, in objects;
        - ``RMSE``: root of the mean squared difference, in objects;
        - ``unreadable answers``: share of all n, in [0, 1].

        NaN where nothing is left to average.

    Raises:
        InputError: a shape or number is another one, or the policy does not exist.

    Example:
        >>> found = count_measures([3, 5, 0, 10], [3, 4, 2, 10], unreadable="one")
        >>> {name: round(measure.value, 3) for name, measure in found.items()}
        {'count accuracy': 0.5, 'MAE': 0.75, 'RMSE': 1.118, 'unreadable answers': 0.0}

    Source:
        VisionReasoner, arXiv 2505.12081, its evaluation of counting.
    """
    if unreadable not in get_args(Unreadable):
        raise InputError(
            f"unreadable: expected 'wrong', 'one', 'zero' or 'drop', got {unreadable!r}"
        )
    given = as_floats("predicted", predicted)
    lost = np.isnan(given)
    counts = _whole("predicted", np.where(lost, 1.0 if unreadable == "one" else 0.0, given))
    true = _whole("reference", reference)
    if counts.shape != true.shape:
        raise InputError(
            f"predicted, reference: expected one shape, got {counts.shape} and {true.shape}"
        )
    where = ~lost if unreadable in {"drop", "wrong"} else np.ones(lost.shape, dtype=bool)
    asked = ~lost if unreadable == "drop" else np.ones(lost.shape, dtype=bool)
    right = (counts == true) & (~lost if unreadable == "wrong" else asked)
    off = np.abs(counts - true)
    squares = mean(off**2, where)
    return {
        "count accuracy": mean(right, asked),
        "MAE": mean(off, where),
        "RMSE": Ratio(squares.top, squares.bottom, root=True),
        "unreadable answers": mean(lost),
    }


def _whole(name: str, values: ArrayLike) -> Floats:
    numbers = per_sample(name, values)
    if not np.all((numbers >= 0) & (numbers == np.floor(numbers))):
        raise InputError(f"{name}: expected whole numbers of at least 0")
    return numbers
