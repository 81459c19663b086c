"""What a recipe needs besides the texts: something that compares images with texts, or segments.

Goes in: a recipe and what the user gave. Comes out: `Resources`, checked when the scorer is made
and loaded when first used.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankreward.errors import ConfigError, InputError
from rankreward.kinds import MASKED, Discriminative
from rankreward.recipe import Recipe
from rankreward.rewards.masks import Segmenter, mask_value, no_target, predict_mask
from rankreward.rewards.references import needs_masks
from rankreward.rewards.rollouts import Rollouts
from rankreward.rewards.similarity import ClipSimilarity, Similarity

Floats = NDArray[np.float64]


class Resources:
    """What a recipe needs, and the metrics that need it.

    Args:
        recipe: the recipe.
        similarity: compares images with texts; CLIP if left out where it is needed.
        segmenter: segments.

    Raises:
        ConfigError: the recipe needs a segmenter and has none, something given is not callable
            or cannot segment, or the recipe has no use for it.
        MissingExtraError: CLIP is needed and transformers is not installed.
    """

    def __init__(
        self, recipe: Recipe, similarity: Similarity | None, segmenter: Segmenter | None
    ) -> None:
        self._recipe, self._segmenter = recipe, segmenter
        self._lock = threading.Lock()  # a segmenter keeps its image between two calls
        compares = any(isinstance(term, Discriminative) for term in recipe.terms.values())
        segments = needs_masks(recipe)
        if similarity is not None and not callable(similarity):
            kind = type(similarity).__name__
            raise ConfigError(f"similarity: expected a function of images and texts, got {kind}")
        if segmenter is not None and not callable(getattr(segmenter, "segment", None)):
            raise ConfigError(
                "segmenter: expected an object with a method segment(image, boxes, points), "
                f"got {type(segmenter).__name__}"
            )
        signs = ", signs" if recipe.response.schema_ == "prompt_tags" else ""
        if segments and segmenter is None:
            raise ConfigError(
                f"segmenter: recipe {recipe.name!r} looks at masks, and needs an object with a "
                f"method segment(image, boxes, points{signs}), such as "
                "rankreward.evaluation.segmenters.GrabCut()"
            )
        if segmenter is not None and segments and signs and not _takes(segmenter, 4):
            raise ConfigError(
                f"segmenter: the points of recipe {recipe.name!r} have signs, and its segmenter "
                "takes them as a fourth argument, segment(image, boxes, points, signs), got "
                f"{type(segmenter).__name__}.segment{inspect.signature(segmenter.segment)}"
            )
        for name, given, used in (
            ("similarity", similarity, compares),
            ("segmenter", segmenter, segments),
        ):
            if given is not None and not used:
                raise ConfigError(f"{name}: recipe {recipe.name!r} has no use for it")
        self.similarity = similarity
        if compares and similarity is None:
            self.similarity = ClipSimilarity()

    def mask_metrics(self, rollouts: Rollouts, rows: Sequence[int]) -> dict[str, Floats]:
        """The metrics of masks, for the completions at `rows`; NaN where nothing was asked for."""
        metrics = self._recipe.accuracy.metrics
        found: dict[str, list[float]] = {
            name: [] for name, metric in metrics.items() if isinstance(metric, MASKED)
        }
        for index in rows:
            values = self._one(rollouts, index)
            for name, column in found.items():
                column.append(values[name])
        return {name: np.array(column, dtype=np.float64) for name, column in found.items()}

    def _one(self, rollouts: Rollouts, index: int) -> dict[str, float]:
        """The metrics of one completion that can be read."""
        metrics = self._recipe.accuracy.metrics
        answer, true = rollouts.responses[index].answer, rollouts.targets[index].mask
        assert answer is not None
        assert true is not None
        if not true.any():
            rejected = not len(answer)
            return {name: no_target(metric, rejected=rejected) for name, metric in metrics.items()}
        predicted = self._segment(rollouts, index)
        if predicted.shape != true.shape:
            raise InputError(
                f"references[{index}]: expected a mask of the image's size {predicted.shape}, "
                f"got {true.shape}"
            )
        return {
            name: mask_value(metric, predicted, true)
            for name, metric in metrics.items()
            if isinstance(metric, MASKED)
        }

    def _segment(self, rollouts: Rollouts, index: int) -> NDArray[np.bool_]:
        answer, frame = rollouts.responses[index].answer, self._recipe.response.frame
        assert answer is not None
        assert frame is not None
        assert rollouts.images is not None
        assert self._segmenter is not None
        with self._lock:
            return predict_mask(
                self._segmenter,
                rollouts.images[index],
                answer.boxes,
                answer.points,
                answer.signs,
                frame.width,
                frame.height,
                index,
            )


def _takes(segmenter: Segmenter, count: int) -> bool:
    """Whether a segmenter can be called with so many arguments; True where nobody can tell."""
    try:
        inspect.signature(segmenter.segment).bind(*range(count))
    except TypeError:
        return False
    except ValueError:
        return True
    return True
