"""Evaluate completions, and compare two evaluations of the same samples.

Goes in: completions, references, images and masks of n samples. Comes out: an `Evaluation` with
one value a sample, its summary, and paired differences with bootstrap intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.errors import InputError
from rankreward.evaluation.facts import box_score, predicted_mask
from rankreward.evaluation.protocols import cumulative_iou, mask_overlap, mean_image_iou
from rankreward.evaluation.segmenters import Segmenter
from rankreward.parsing import Objects, Response
from rankreward.parsing.response import parse_for
from rankreward.recipe import Recipe
from rankreward.rewards.references import read_references


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Per-sample results of n samples.

    Attributes:
        parsable: (n,) bool, whether the format is right and the answer could be read.
        box_iou: (n,) float64 in [0, 1], the IoU of matched boxes summed and divided by the larger
            of the two counts, so that a missed and a surplus box both cost; NaN where the
            reference is empty.
        count_correct: (n,) bool, whether as many objects were given as there are.
        intersection: (n,) float64, pixels, of the union of predicted masks with the reference's.
        union: (n,) float64, pixels.
    """

    parsable: NDArray[np.bool_]
    box_iou: NDArray[np.float64]
    count_correct: NDArray[np.bool_]
    intersection: NDArray[np.float64]
    union: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.parsable)

    def summary(self) -> dict[str, float]:
        """The measures over all samples, by name; see `MEASURES`."""
        return {name: measure(self) for name, measure in MEASURES.items()}

    def take(self, index: NDArray[np.intp]) -> Evaluation:
        """The samples at `index`, repeated as it repeats them."""
        return Evaluation(*(getattr(self, field.name)[index] for field in fields(self)))


def _defined_mean(values: NDArray[np.float64]) -> float:
    """The mean of what is not NaN; NaN if nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


# gIoU and cIoU stand here for mean-per-image and cumulative mask IoU. An image that asks for
# nothing and gets an empty mask counts 1, be the answer `[]` or unreadable.
MEASURES: dict[str, Callable[[Evaluation], float]] = {
    "parsable answers": lambda e: float(e.parsable.mean()),
    "mean box IoU": lambda e: _defined_mean(e.box_iou),
    "count accuracy": lambda e: float(e.count_correct.mean()),
    "gIoU": lambda e: mean_image_iou(e.intersection, e.union, empty="one"),
    "cIoU": lambda e: cumulative_iou(e.intersection, e.union),
}


def evaluate(
    completions: Sequence[str],
    references: Sequence[Any],
    images: Sequence[NDArray[np.uint8]],
    masks: Sequence[NDArray[np.bool_]],
    *,
    recipe: str | Recipe,
    segmenter: Segmenter,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Evaluation:
    """Evaluate n completions.

    Args:
        completions: n texts of the policy; one that cannot be read finds nothing.
        references: n references, as `rankreward.Scorer` takes them.
        images: n images, (H, W, 3) uint8.
        masks: n reference masks, (H, W) bool, of the images' sizes.
        recipe: says in which frame the answers are; boxes are scaled from it to each image.
        segmenter: makes the predicted masks.
        progress: wraps the loop over samples, as `tqdm.tqdm` does.

    Returns:
        One result a sample, in order.

    Raises:
        InputError: the lengths differ.
        BadReferenceError: a reference cannot be read.
    """
    lengths = {len(completions), len(references), len(images), len(masks)}
    if len(lengths) != 1 or lengths == {0}:
        raise InputError(
            "evaluate: expected as many completions, references, images and masks, at least one, "
            f"got {len(completions)}, {len(references)}, {len(images)} and {len(masks)}"
        )
    recipe, rows = Recipe.load(recipe), []
    targets = read_references(references, recipe)
    for index in progress(range(len(completions))):
        response = parse_for(completions[index], recipe.response)
        target = targets[index].objects
        if target is None:
            raise InputError(
                f"evaluate: recipe {recipe.name!r} compares masks alone: give references objects"
            )
        predicted = predicted_mask(response, np.asarray(images[index]), recipe, segmenter, index)
        rows.append((*_boxes(response, target), *mask_overlap(predicted, masks[index])))
    parsable, iou, correct, intersection, union = map(np.asarray, zip(*rows, strict=True))
    return Evaluation(
        parsable, iou, correct, intersection.astype(np.float64), union.astype(np.float64)
    )


def compare(
    before: Evaluation, after: Evaluation, *, resamples: int = 2000, seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """Differences between two evaluations of the same samples, with 95% intervals.

    The interval is the percentile bootstrap over samples, drawn in pairs.

    Args:
        before: the first evaluation.
        after: the second one, of the same samples in the same order.
        resamples: how many bootstrap samples.
        seed: seed of their drawing.

    Returns:
        Measure to (difference, lower end, upper end); NaN for a measure that no sample defines.

    Raises:
        InputError: the evaluations differ in length.
    """
    if len(before) != len(after):
        raise InputError(
            f"compare: expected two evaluations of the same samples, got {len(before)} and "
            f"{len(after)} samples"
        )
    draws = np.random.default_rng(seed).integers(0, len(before), (resamples, len(before)))
    spread = np.array([_differences(before.take(index), after.take(index)) for index in draws])
    result = {}
    for name, whole, column in zip(MEASURES, _differences(before, after), spread.T, strict=True):
        defined = column[~np.isnan(column)]
        ends = np.percentile(defined, [2.5, 97.5]) if len(defined) else (math.nan, math.nan)
        result[name] = (whole, float(ends[0]), float(ends[1]))
    return result


def _differences(before: Evaluation, after: Evaluation) -> list[float]:
    return [measure(after) - measure(before) for measure in MEASURES.values()]


def _boxes(response: Response, target: Objects) -> tuple[bool, float, bool]:
    """Parsable, box IoU and whether the count is right, for one sample."""
    found = response.answer
    correct = found is not None and len(found) == len(target)
    score = box_score(None if found is None else found.boxes, target.boxes)
    return response.failure is None, score, correct
