"""How far two rewards of the same rollouts agree, as sums that add up over a log.

Goes in: what two recipes paid the rollouts of a step, and their groups. Comes out: sums, whose
ratios are the measures (`PAIR`) once they have been added up over steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from rankreward.shaping import grpo
from rankreward.shaping.groups import Index, centred, deviation

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

DIGITS = 9  # decimal places of a reward that count: sums in another order differ beyond them
EPS = 1e-6  # of the advantages, as verl has it
_ZERO = 1e-9  # an advantage that is smaller is none


class Ratio(NamedTuple):
    """A measure: one sum over another, or over the root of the product of two.

    Attributes:
        top: the sum's name.
        bottom: likewise.
        groups: the sum that says how many groups the measure rests on.
        other: the second sum of the product, if there is one.
    """

    top: str
    bottom: str
    groups: str
    other: str = ""


# The measures of two recipes; `pair_sums` says what is added up.
PAIR: dict[str, Ratio] = {
    "spearman": Ratio("spearman", "spearman_rows", "spearman_groups"),
    "kendall": Ratio("kendall", "spearman_rows", "spearman_groups"),
    "cosine": Ratio("cosine", "both", "both"),
    "correlation": Ratio("product", "squares_first", "groups", "squares_second"),
    "sign_changed": Ratio("sign_changed", "both_rows", "both"),
    "discordant": Ratio("discordant", "told_apart", "both"),
    "one_sided": Ratio("one_sided", "pairs", "groups"),
    "same_best": Ratio("same_best", "both", "both"),
    "signal_first_only": Ratio("first_only", "groups", "groups"),
    "signal_second_only": Ratio("second_only", "groups", "groups"),
    "signal_neither": Ratio("neither", "groups", "groups"),
}


@dataclass(frozen=True, eq=False)
class Earned:
    """What a recipe pays B rollouts of a step in G groups.

    Attributes:
        rewards: (B,) float64, the rewards to `DIGITS` places.
        advantages: (B,) float64, GRPO's; 0 in a group without a signal.
        parts: term to (B,) float64, what it adds to the advantages.
        signal: (G,) whether a group's rewards differ.
        best: (B,) whether a rollout is the best of its group, or one of them.
    """

    rewards: Floats
    advantages: Floats
    parts: Mapping[str, Floats]
    signal: Flags
    best: Flags


def earned(total: ArrayLike, terms: Mapping[str, Floats], index: Index) -> Earned:
    """Put a recipe's rewards beside those of the other answers to the same question.

    Args:
        total: (B,) the rewards.
        terms: term to (B,), adding up to `total`.
        index: (B,) the number of each rollout's group, from 0 without gaps.

    Returns:
        What follows from the rewards. The advantages are `rankreward.shaping.grpo` with verl's eps
        of 1e-6; a group of one has 0, and no signal.
    """
    rewards: Floats = np.asarray(total, dtype=np.float64).round(DIGITS)
    count = int(index.max(initial=-1)) + 1
    highest, lowest = np.full(count, -np.inf), np.full(count, np.inf)
    np.maximum.at(highest, index, rewards)
    np.minimum.at(lowest, index, rewards)
    signal = highest > lowest
    spread = deviation(centred(rewards, index), index) + EPS
    parts = {
        name: np.where(signal[index], centred(values, index) / spread, 0.0)
        for name, values in terms.items()
    }
    advantages = grpo(rewards, index, eps=EPS)
    return Earned(rewards, advantages, parts, signal, rewards == highest[index])


def pair_sums(first: Earned, second: Earned, index: Index) -> dict[str, float]:
    """The sums of two recipes over the rollouts of one step.

    Args:
        first: what one pays B rollouts.
        second: what the other pays them.
        index: (B,) the number of each rollout's group.

    Returns:
        The sums that `PAIR` names. Of these measures:

        - ``spearman``, ``kendall``: rank correlation (tau-b) of the rewards of a step, questions
          mixed; the mean over steps, weighted by rollouts. A step in which a recipe pays all alike
          has none.
        - ``cosine``: of the two vectors of advantages of a group; the mean over the groups that
          have a signal under both. Advantages have mean 0, so that it is also the correlation of
          the rewards within the group.
        - ``correlation``: of the advantages of all rollouts, those of groups without a signal
          being 0.
        - ``sign_changed``: of the rollouts of groups with a signal under both, the share whose
          advantage is above 0 under one and below under the other.
        - ``discordant``: of the pairs of rollouts of a group that both recipes tell apart, the
          share that they order differently.
        - ``one_sided``: of all pairs of a group, the share that only one of them tells apart.
        - ``same_best``: over groups with a signal under both, the mean of the number of rollouts
          that are best under both over the number of those best under either.
        - ``signal_first_only``, ``signal_second_only``, ``signal_neither``: share of groups.
    """
    both = first.signal & second.signal
    rows = both[index]
    sums = {
        "groups": float(len(both)),
        "both": float(both.sum()),
        "both_rows": float(rows.sum()),
        "first_only": float((first.signal & ~second.signal).sum()),
        "second_only": float((second.signal & ~first.signal).sum()),
        "neither": float((~first.signal & ~second.signal).sum()),
        "cosine": float(cosines(first, second, index)[both].sum()),
        "product": float(first.advantages @ second.advantages),
        "squares_first": float(first.advantages @ first.advantages),
        "squares_second": float(second.advantages @ second.advantages),
        "sign_changed": float((_sign(first) * _sign(second) < 0)[rows].sum()),
        "same_best": float(_same_best(first, second, index)[both].sum()),
    }
    return (
        sums | _order_sums(first.rewards, second.rewards, index) | _rank_sums(first, second, both)
    )


def cosines(first: Earned, second: Earned, index: Index) -> Floats:
    """(G,) the cosine of the two advantages of each group; NaN where one has no signal."""
    a, b = first.advantages, second.advantages
    below = np.sqrt(np.bincount(index, a * a) * np.bincount(index, b * b))
    defined = first.signal & second.signal
    empty = np.full(len(defined), np.nan)
    near: Floats = np.divide(np.bincount(index, a * b), below, out=empty, where=defined)
    return near


def distances(first: Earned, second: Earned, index: Index) -> Floats:
    """(G,) the root mean square difference of the two advantages of each group."""
    squares = (first.advantages - second.advantages) ** 2
    apart: Floats = np.sqrt(np.bincount(index, squares) / np.bincount(index))
    return apart


def _sign(earned: Earned) -> Floats:
    large = np.abs(earned.advantages) > _ZERO
    return np.where(large, np.sign(earned.advantages), 0.0)


def _same_best(first: Earned, second: Earned, index: Index) -> Floats:
    shared = np.bincount(index, first.best & second.best)
    return np.asarray(shared / np.bincount(index, first.best | second.best))


def _rank_sums(first: Earned, second: Earned, both: Flags) -> dict[str, float]:
    a, b = first.rewards, second.rewards
    if not (np.ptp(a) > 0 and np.ptp(b) > 0):
        return dict.fromkeys(("spearman", "kendall", "spearman_rows", "spearman_groups"), 0.0)
    spearman = np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1]
    kendall = stats.kendalltau(a, b).statistic
    return {
        "spearman": float(spearman) * len(a),
        "kendall": float(kendall) * len(a),
        "spearman_rows": float(len(a)),
        "spearman_groups": float(len(both)),
    }


def _order_sums(a: Floats, b: Floats, index: Index) -> dict[str, float]:
    """Of pairs of the same group, counted without going through them."""
    x, y = _codes(index, a), _codes(index, b)
    tied = _equal(x), _equal(y), _equal(_codes(x, b))
    pairs = _equal(index)
    return {
        "pairs": float(pairs),
        "told_apart": float(pairs - tied[0] - tied[1] + tied[2]),
        "one_sided": float(tied[0] + tied[1] - 2 * tied[2]),
        "discordant": float(_discordant(x, y, tied)),
    }


def _codes(index: Index, values: ArrayLike) -> Index:
    """(B,) numbers in the order of the groups and, within a group, in that of the values."""
    ranks = np.unique(values, return_inverse=True)[1]
    codes: Index = index * (ranks.max(initial=0) + 1) + ranks
    return codes


def _equal(codes: Index) -> int:
    """How many pairs are equal."""
    counts = np.unique(codes, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


def _discordant(x: Index, y: Index, tied: tuple[int, int, int]) -> int:
    """How many pairs of the same group are ordered differently: those of two groups never are.

    Kendall's tau-b is the difference of the pairs ordered alike and differently, over the root of
    the product of those that x and those that y tells apart.
    """
    every = len(x) * (len(x) - 1) // 2
    told = every - tied[0] - tied[1] + tied[2]
    if not told:
        return 0
    below = math.sqrt(every - tied[0]) * math.sqrt(every - tied[1])
    return round((told - float(stats.kendalltau(x, y).statistic) * below) / 2)
