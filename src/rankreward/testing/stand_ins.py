"""Stand-ins: what a recipe needs beside completions and references, without a model or an image.

Goes in: a recipe. Comes out: a scorer that can score with nothing but texts, and its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.kinds import Discriminative
from rankreward.quantiles import QuantileService
from rankreward.recipe import Recipe
from rankreward.rewards import Scorer
from rankreward.rewards.references import needs_masks
from rankreward.testing.layouts import Layout

ROWS = 256  # of a warmed window


class FilledBoxes:
    """A segmenter whose mask is the box, as far as it lies in the image.

    Example:
        >>> from rankreward.testing import FilledBoxes
        >>> masks = FilledBoxes().segment(np.zeros((2, 4, 3), np.uint8), [[1, 0, 3, 1]], None)
        >>> masks.astype(int).tolist()
        [[[0, 1, 1, 0], [0, 0, 0, 0]]]
    """

    def segment(self, image: Any, boxes: Any, points: Any, signs: Any = None) -> NDArray[np.bool_]:
        """The masks of K boxes.

        Args:
            image: (H, W, 3).
            boxes: (K, 4), xyxy, pixels of the image.
            points: not looked at.
            signs: not looked at.

        Returns:
            (K, H, W) bool.
        """
        del points, signs
        height, width = np.asarray(image).shape[:2]
        corners = np.asarray(boxes, dtype=float).reshape(-1, 4).round().astype(int)
        masks = np.zeros((len(corners), height, width), dtype=bool)
        for mask, (x1, y1, x2, y2) in zip(masks, np.maximum(corners, 0), strict=True):
            mask[y1:y2, x1:x2] = True
        return masks


def crop_similarity(images: Sequence[Any], texts: Sequence[str]) -> list[float]:
    """A similarity of images and captions that falls with the image's size.

    So that every caption fits the crop of the target better than the whole image.

    Example:
        >>> from rankreward.testing import crop_similarity
        >>> crop_similarity([np.zeros((50, 50, 3)), np.zeros((100, 100, 3))], ["a", "a"])
        [0.29, 0.28]
    """
    del texts
    return [round(0.3 - 1e-4 * sum(np.asarray(image).shape[:2]), 6) for image in images]


def warmed(
    recipe: str | Mapping[str, Any] | Recipe, quantiles: Callable[..., Any] = QuantileService
) -> Scorer:
    """A scorer of a recipe as it is amid a training run.

    Its window holds 256 rows between 0 and 1, the same each time; in an empty or new one every
    answer ranks alike. Segmenter and similarity, if needed, are the stand-ins of this module.

    Args:
        recipe: whatever `rankreward.Scorer` takes.
        quantiles: as for `rankreward.Scorer`.

    Example:
        >>> from rankreward.testing import warmed
        >>> scorer = warmed("dr_seg")
        >>> scorer.quantiles.size
        384
    """
    loaded = Recipe.load(recipe)
    parts = (*loaded.terms.values(), *loaded.accuracy.metrics.values())
    compares = any(isinstance(part, Discriminative) for part in parts)
    compares |= "dpad" in {getattr(part, "system", None) for part in parts}
    scorer = Scorer(
        loaded,
        quantiles=quantiles,
        segmenter=FilledBoxes() if needs_masks(loaded) else None,
        similarity=crop_similarity if compares else None,
    )
    rng = np.random.default_rng(0)
    scorer.quantiles.push(rng.beta(2, 1, (ROWS, len(loaded.accuracy.metrics))))
    scorer.flush(1)
    return scorer


def score_arguments(layout: Layout, texts: Sequence[str]) -> dict[str, Any]:
    """What the layout's recipe needs beside completions and references, for each of them."""
    count, recipe = len(texts), layout.recipe
    given: dict[str, Any] = {}
    if recipe is None:
        return given
    if recipe.needs_images:
        width, height = (side // layout.step for side in layout.frame)
        given["images"] = [np.zeros((height, width, 3), dtype=np.uint8)] * count
    if recipe.needs_groups:
        given["groups"] = ["all"] * count
    if recipe.columns:
        known = _columns(layout, texts)
        given["columns"] = {name: known[name] for name in recipe.columns}
    return given


def _columns(layout: Layout, texts: Sequence[str]) -> dict[str, list[Any]]:
    """Plain values for what published recipes ask for."""
    width, height = layout.frame
    corner = {key: [width // 20, height // 20] for key in layout.schema.points}
    box = {layout.schema.box: [0, 0, width // 10, height // 10]} if layout.schema.box else {}
    revised = "0" if layout.textual else layout.text([{**box, **corner}])
    return {
        "initial": [revised] * len(texts),
        "likelihood": [0.5] * len(texts),
        "difficulty": [2] * len(texts),
        "uncertainty": [0.5] * len(texts),
        "tokens": [len(text) // 4 + 1 for text in texts],
    }
