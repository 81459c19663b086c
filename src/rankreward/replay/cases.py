"""The groups that two recipes disagree about most.

Goes in: what both pay the rollouts of each step. Comes out: a few whole groups, with the
completions, what each earns under both, and which terms make the difference.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankreward.logs.rows import LogRow
from rankreward.replay.agreement import Earned, cosines, distances
from rankreward.rewards.scorer import RewardBatch
from rankreward.shaping.groups import Index


@dataclass(frozen=True, eq=False)
class Payment:
    """What a recipe pays B rollouts.

    Attributes:
        label: the recipe's.
        batch: rewards and terms.
        earned: the same beside the other answers to the same question.
    """

    label: str
    batch: RewardBatch
    earned: Earned


class Cases:
    """The groups of two recipes with the largest root mean square difference of advantages.

    Args:
        most: how many are kept; of equal ones those that came first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen = 0
        self._heap: list[tuple[float, int, dict[str, Any]]] = []

    def add(
        self, step: int, rows: Sequence[LogRow], index: Index, first: Payment, second: Payment
    ) -> None:
        """Look at the groups of a step; only those that are kept are written out."""
        apart = distances(first.earned, second.earned, index)
        near = cosines(first.earned, second.earned, index)
        for group in range(len(apart)):
            self._seen += 1
            value = float(np.round(apart[group], 12))  # or rounding would decide among equals
            full = len(self._heap) >= self._most
            if value <= 0 or not self._most or (full and value <= self._heap[0][0]):
                continue
            members = np.flatnonzero(index == group).tolist()
            case = {
                "first": first.label,
                "second": second.label,
                "step": step,
                "group": rows[members[0]].group,
                "distance": value,
                "cosine": None if np.isnan(near[group]) else float(near[group]),
                "because": because(first.earned, second.earned, members),
                "reference": rows[members[0]].reference,
                "rollouts": [_rollout(rows[row], row, (first, second)) for row in members],
            }
            push = heapq.heapreplace if full else heapq.heappush
            push(self._heap, (value, -self._seen, case))

    def found(self) -> list[dict[str, Any]]:
        """The groups, the largest difference first."""
        return [case for _, _, case in sorted(self._heap, key=lambda each: each[:2], reverse=True)]


def because(first: Earned, second: Earned, members: Sequence[int]) -> dict[str, float]:
    r"""Which terms make the difference between two advantages of a group.

    With :math:`d_i` the difference of the advantages of rollout i and :math:`d_{ik}` what term k
    adds to it (a term that one recipe lacks adds 0 there), the share of term k is

    .. math:: \frac{\sum_i d_{ik} d_i}{\sum_l |\sum_i d_{il} d_i|}

    Returns:
        Term to share, the largest first; without their signs they add up to 1, and one that brings
        the two nearer to each other has less than 0. A term that adds nothing is left out.
    """
    nothing = np.zeros(len(members))
    names = dict.fromkeys([*first.parts, *second.parts])
    apart = {
        name: _of(first, name, members, nothing) - _of(second, name, members, nothing)
        for name in names
    }
    together = np.sum(list(apart.values()), axis=0)
    sums = {name: float(values @ together) for name, values in apart.items()}
    total = sum(map(abs, sums.values()))
    shares = {name: each / total for name, each in sums.items() if each}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _of(earned: Earned, name: str, members: Sequence[int], nothing: Any) -> Any:
    return earned.parts[name][members] if name in earned.parts else nothing


def _rollout(row: LogRow, place: int, payments: Sequence[Payment]) -> dict[str, Any]:
    failure = next(filter(None, (each.batch.failures[place] for each in payments)), None)
    return {
        "place": row.place,
        "completion": row.completion,
        "failure": None if failure is None else failure.code,
        "rewards": [float(each.batch.total[place]) for each in payments],
        "advantages": [float(each.earned.advantages[place]) for each in payments],
        "terms": [
            {name: float(values[place]) for name, values in each.batch.terms.items()}
            for each in payments
        ],
    }
