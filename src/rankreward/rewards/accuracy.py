"""Raw accuracy metrics of responses against their references.

Goes in: a batch of read completions and references. Comes out: one value a metric, NaN where it
does not apply. Objects are paired on a continuous cost, so that their order can never matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.errors import InputError
from rankreward.kinds import (
    MASKED,
    PAIRWISE,
    BoxIoU,
    BoxL1,
    Counting,
    CountRatio,
    Detection,
    Matching,
    Metric,
    OwnMetric,
    PointNear,
    PointRamp,
    ReleasedMetric,
    TextMatch,
)
from rankreward.metrics import box_giou, count_ratio, point_ramp
from rankreward.metrics.pairs import box_differences, pair_distances, pair_errors, potentials
from rankreward.metrics.ragged import match_ragged, matched_sums, pair_places, sort_objects
from rankreward.parsing import Objects
from rankreward.recipe import Frame, Recipe
from rankreward.rewards.released import components
from rankreward.rewards.rollouts import Rollouts

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
_LARGEST = 1e12  # what a user's function may say, so that no sum overflows
Own = Mapping[str, Callable[[Any], Any]]  # a user's terms and metrics, by the recipe's names
Masks = Callable[[Rollouts, Sequence[int]], Mapping[str, Floats]]


def raw_metrics(rollouts: Rollouts, recipe: Recipe, own: Own, masks: Masks) -> Floats:
    """The recipe's metrics for B samples, in the recipe's order.

    Returns:
        (B, N) float64; the recipe's failure value where the answer cannot be read. A metric of
        pairs is 0 where one side is empty and NaN where both are; the count of two empty sides
        is 1. What else is in the batch does not change a bit of a sample's values.
    """
    accuracy = recipe.accuracy
    metrics = accuracy.metrics
    raw = np.full((len(rollouts), len(metrics)), accuracy.failure, dtype=np.float64)
    rows = np.flatnonzero(rollouts.answered).tolist()
    columns: dict[str, Floats] = {}
    if any(isinstance(metric, (*PAIRWISE, CountRatio)) for metric in metrics.values()):
        answers = [answer for i in rows if (answer := rollouts.responses[i].answer) is not None]
        columns |= object_metrics(answers, [rollouts.objects(i) for i in rows], recipe)
    if any(isinstance(metric, MASKED) for metric in metrics.values()):
        columns |= masks(rollouts, rows)
    for j, (name, metric) in enumerate(metrics.items()):
        if isinstance(metric, ReleasedMetric):
            # Released code has its own idea of what can be read.
            raw[:, j] = [each[name] for each in components(metric.system, rollouts)]
        elif isinstance(metric, TextMatch):
            raw[rows, j] = [_text_match(rollouts, index) for index in rows]
        elif isinstance(metric, OwnMetric):
            raw[rows, j] = [own_value(own, name, rollouts, index) for index in rows]
        else:
            raw[rows, j] = columns[name]
    return raw


def own_value(own: Own, name: str, rollouts: Rollouts, index: int, *, term: bool = False) -> float:
    """What a user's function says of one completion.

    Raises:
        InputError: it said no number, or infinity, or as a term NaN. What it raises itself goes
            through, with a note that names the completion.
    """
    try:
        value = own[name](rollouts.sample(index))
    except Exception as error:
        error.add_note(f"while the term or metric {name!r} looked at completion {index}")
        raise
    try:
        # float alone would take a text that looks like a number
        number = math.nan if value is None and not term else float(value + 0)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError):
        message = f"{name}: expected a number for completion {index}, got {value!r:.60}"
        raise InputError(message) from None
    if abs(number) > _LARGEST or (term and math.isnan(number)):
        raise InputError(f"{name}: expected a finite number for completion {index}, got {number}")
    return number


def revision_potentials(
    answers: Sequence[Objects], targets: Sequence[Objects], frame: Frame, *, surplus: bool
) -> Floats:
    """(B,) `rankreward.metrics.potential` of answers against targets."""
    flat = _Flat(answers, targets)
    size = (frame.width, frame.height)
    return potentials(
        *(flat.left, flat.distinct, flat.right, flat.columns, flat.points, size),
        given=flat.given,
        surplus=surplus,
    )


class _Flat:
    """The objects of a batch: sorted within their samples, those given twice counted apart.

    Attributes:
        left, right: (T, K) and (S, K): box, points, and a number for the label.
        points: how many points each object has.
        labelled: whether they have labels.
        given: (B,) how many objects each answer lists.
        distinct: (B,) how many different ones; only these can be matched, so that saying a
            thing twice never pays.
        columns: (B,) how many objects each reference has.
    """

    def __init__(self, predicted: Sequence[Objects], references: Sequence[Objects]) -> None:
        self.points = max({o.points.shape[1] for o in (*predicted, *references)}, default=1)
        labels = _label_numbers(predicted, references)
        self.labelled = labels is not None
        left, self.given = _join(predicted, self.points, labels and labels[0])
        right, self.columns = _join(references, self.points, labels and labels[1])
        self.left, self.distinct = _distinct(left, self.given)
        self.right = right


def object_metrics(
    predicted: Sequence[Objects], references: Sequence[Objects], recipe: Recipe
) -> dict[str, Floats]:
    """The recipe's metrics of objects, each (B,), for B answers and their references."""
    flat = _Flat(predicted, references)
    metrics, frame = recipe.accuracy.metrics, recipe.response.frame
    assert frame is not None
    largest = np.maximum(flat.given, flat.columns)
    pairs = np.minimum(flat.distinct, flat.columns)
    result: dict[str, Floats] = {}
    pairwise = {name: each for name, each in metrics.items() if isinstance(each, PAIRWISE)}
    if pairwise:
        matching = recipe.accuracy.matching
        assert matching is not None
        scored = _Scored(flat, frame)
        scores = {name: scored.scores(metric) for name, metric in pairwise.items()}
        shares = {name: metric.share for name, metric in pairwise.items()}
        cost = scored.cost(matching, scores, shares)
        chosen = match_ragged(cost, flat.distinct, flat.columns)
        over = largest if matching.over == "largest" else pairs
        for name, metric in pairwise.items():
            sums = matched_sums(scores[name], chosen, flat.distinct, flat.columns)
            if isinstance(metric, Detection):
                values = _detection(metric, scored, chosen, sums)
            elif isinstance(metric, Counting):
                values = np.maximum(_share(sums, pairs), 0.0) * _share(pairs, largest)
            else:
                values = _share(sums, over)
            values[largest == 0] = np.nan
            result[name] = values
    if any(isinstance(metric, CountRatio) for metric in metrics.values()):
        ratio = count_ratio(pairs, largest)
        result |= {name: ratio for name, each in metrics.items() if isinstance(each, CountRatio)}
    return result


@dataclass(eq=False)
class _Scored:
    """The pairs of a batch and what the metrics make of them; computed when first asked for."""

    flat: _Flat
    frame: Frame

    @cached_property
    def _measured(self) -> tuple[Floats, Floats]:
        flat = self.flat
        return pair_distances(flat.left, flat.distinct, flat.right, flat.columns, flat.points)

    @property
    def iou(self) -> Floats:
        return self._measured[0]

    @property
    def apart(self) -> Floats:
        return self._measured[1]

    @cached_property
    def box(self) -> Floats:
        flat = self.flat
        return box_differences(flat.left, flat.distinct, flat.right, flat.columns)

    @cached_property
    def places(self) -> tuple[Counts, Counts]:
        return pair_places(self.flat.distinct, self.flat.columns)

    @cached_property
    def same_label(self) -> NDArray[np.bool_]:
        row, column = self.places
        if not self.flat.labelled:
            return np.ones(len(row), dtype=bool)
        return np.asarray(self.flat.left[row, -1] == self.flat.right[column, -1])

    def scores(self, metric: Metric) -> Floats:  # noqa: PLR0911 - one return a kind
        """What a metric says of each pair."""
        match metric:
            case BoxIoU():
                if metric.above is not None:
                    return (self.iou > metric.above).astype(np.float64)
                return self.iou if metric.power == 1 else self.iou**metric.power
            case BoxL1():
                return (self.box < metric.below).astype(np.float64)
            case PointRamp():
                return point_ramp(self.apart, metric.near, metric.far)
            case PointNear():
                near = self.apart < metric.below
                return (near & self._inside() if metric.inside else near).astype(np.float64)
            case Detection():
                kept = (self.iou > metric.above).astype(np.float64)
                parts = {"iou": self.iou * kept, "label": kept * self.same_label}
                return parts.get(metric.part, kept)
            case Counting():
                diagonal = math.hypot(self.frame.width, self.frame.height)
                return np.asarray(1.0 - self.apart / diagonal)
        raise AssertionError(metric)

    def cost(
        self, matching: Matching, scores: Mapping[str, Floats], shares: Mapping[str, float]
    ) -> Floats:
        """What pairing costs, least is best."""
        flat = self.flat
        match matching.cost:
            case "scores":
                paid = (max(shares[name], 0.0) * column for name, column in scores.items())
                return -sum(paid, np.zeros(len(self.iou)))
            case "distance":
                size = (self.frame.width, self.frame.height)
                return pair_errors(
                    *(flat.left, flat.distinct, flat.right, flat.columns, flat.points, size)
                )
            case "point":
                return self.apart
            case "detr":
                return (~self.same_label) + 5.0 * 4.0 * self.box - 2.0 * self._giou()

    def _inside(self) -> NDArray[np.bool_]:
        """(P,) whether all points of the pair's prediction lie in its own box, edges included."""
        left, count = self.flat.left, self.flat.points
        points = left[:, 4 : 4 + 2 * count].reshape(len(left), count, 2)
        inside = (points >= left[:, None, :2]) & (points <= left[:, None, 2:4])
        every: NDArray[np.bool_] = np.all(inside, axis=(1, 2))
        return every[self.places[0]]

    def _giou(self) -> Floats:
        """(P,) generalised IoU."""
        flat, result = self.flat, [np.empty(0)]
        ends = np.cumsum(flat.distinct), np.cumsum(flat.columns)
        for m, n, a, b in zip(flat.distinct, flat.columns, *ends, strict=True):
            result.append(box_giou(flat.left[a - m : a, :4], flat.right[b - n : b, :4]).ravel())
        return np.concatenate(result)


def _detection(metric: Detection, scored: _Scored, chosen: Counts, sums: Floats) -> Floats:
    """One part of a detector's score, from the sums over the kept pairs."""
    flat = scored.flat
    if metric.part in {"f1", "errors"}:
        kept = sums
    else:
        above = (scored.iou > metric.above).astype(np.float64)
        kept = matched_sums(above, chosen, flat.distinct, flat.columns)
    match metric.part:
        case "f1":
            return _share(2.0 * kept, flat.given + flat.columns)
        case "errors":
            both = (flat.given > 0) & (flat.columns > 0)
            wrong = _share(flat.given - kept, flat.given)
            return np.where(both, wrong + _share(flat.columns - kept, flat.columns), 0.0)
        case _:
            return _share(sums, kept)


def _share(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """The quotient, 0 where there is nothing to divide by."""
    result = np.zeros(len(part))
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def _join(
    samples: Sequence[Objects], points: int, labels: Sequence[Sequence[float]] | None
) -> tuple[Floats, Counts]:
    """Boxes, points and labels of all samples (T, K), each sample sorted, and its counts (B,)."""
    boxes = [objects.boxes for objects in samples]
    counts = np.fromiter(map(len, boxes), np.int64, len(boxes))
    width = 4 + 2 * points
    values = np.empty((int(counts.sum()), width + (labels is not None)))
    if len(values):
        np.concatenate(boxes, out=values[:, :4])
        places = [objects.points for objects in samples if len(objects.boxes)]
        values[:, 4:width] = np.concatenate(places).reshape(len(values), 2 * points)
    if labels is not None:
        values[:, width] = np.concatenate([np.empty(0), *labels])
    return sort_objects(values, counts), counts


def _distinct(values: Floats, counts: Counts) -> tuple[Floats, Counts]:
    """Sorted objects without repetitions, and how many are left of each sample."""
    same: NDArray[np.bool_] = np.all(values[1:] == values[:-1], axis=1)
    if not same.any():
        return values, counts
    sample = np.repeat(np.arange(len(counts)), counts)
    repeated = np.zeros(len(values), dtype=bool)
    repeated[1:] = same & (sample[1:] == sample[:-1])
    lost = np.bincount(sample[repeated], minlength=len(counts))
    return np.ascontiguousarray(values[~repeated]), counts - lost


def _label_numbers(
    predicted: Sequence[Objects], references: Sequence[Objects]
) -> tuple[list[list[float]], list[list[float]]] | None:
    """Labels as numbers, which mean the same within a sample; None where there are none."""
    if not any(objects.labels is not None for objects in (*predicted, *references)):
        return None
    left, right = [], []
    for mine, true in zip(predicted, references, strict=True):
        names = mine.labels or (), true.labels or ()
        number = {label: float(k) for k, label in enumerate(sorted({*names[0], *names[1]}))}
        left.append([number[label] for label in names[0]])
        right.append([number[label] for label in names[1]])
    return left, right


def _text_match(rollouts: Rollouts, index: int) -> float:
    said, target = rollouts.responses[index].said, rollouts.targets[index].text
    assert said is not None
    assert target is not None
    return float(said.casefold().split() == target.casefold().split())
