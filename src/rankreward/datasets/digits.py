"""Scenes of real handwritten digits: a grounding task that needs no download.

Goes in: a number of scenes, a seed and a split. Comes out: images with a query, and for every
object that the query asks for its box, an interior point and its mask. The digits are the 1,797
samples of scikit-learn's bundled set (Alpaydin and Kaynak, UCI 1998), enlarged and placed on
textured ground; every fifth sample is kept for evaluation and never seen in training.

Needs the extra ``demo`` (scikit-learn, Pillow, and `datasets` for `to_dataset`).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rankreward.datasets.queries import Digit, ask, ask_unseen
from rankreward.errors import InputError, require
from rankreward.parsing.prompts import prompt
from rankreward.recipe import Recipe

if TYPE_CHECKING:
    import datasets

Split = Literal["train", "eval"]
Queries = Literal["usual", "unseen"]
MOST = 6  # digits a scene
INK = 0.35  # a pixel belongs to a digit if its stroke is at least this strong, of 1
MAX_TRIES = 60  # placements tried before a scene is begun again


@dataclass(frozen=True, eq=False)
class Scene:
    """An image, a query about it, and what the query asks for.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        query: what to find, such as ``"all 7s"`` or ``"the leftmost digit"``.
        digits: every digit in the image, from left to right.
        targets: those that the query asks for, from left to right; empty for a no-target query.
    """

    image: NDArray[np.uint8]
    query: str
    digits: tuple[Digit, ...]
    targets: tuple[Digit, ...]

    @property
    def reference(self) -> str:
        """The targets as the JSON text that `rankreward.Scorer` takes as a reference."""
        return json.dumps(
            [{"bbox_2d": t.box.tolist(), "point_2d": t.point.tolist()} for t in self.targets]
        )

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool, the union of the targets' masks."""
        union = np.zeros(self.image.shape[:2], dtype=bool)
        for target in self.targets:
            union |= target.mask
        return union


def scenes(
    count: int,
    *,
    seed: int,
    split: Split = "train",
    size: int = 84,
    max_digits: int = 2,
    min_digits: int = 1,
    sides: tuple[int, int] | None = None,
    queries: Queries = "usual",
) -> Iterator[Scene]:
    """Compose scenes, the same ones for the same arguments.

    Args:
        count: how many scenes.
        seed: seed of the composition; scene i depends on (seed, i) only, so that a longer
            sequence begins with the shorter one.
        split: ``"train"`` uses four fifths of the handwritten samples, ``"eval"`` the others.
        size: side of the square image in pixels, at least 56.
        max_digits: at most this many digits a scene, up to 6.
        min_digits: at least this many.
        sides: the smallest and the largest side of the square that a digit is drawn in, in pixels;
            unless given a quarter to a half of `size`, and less where there are more than two.
        queries: ``"usual"``, or forms that the usual ones never take, of the same words: to see
            what a policy makes of a question that it was not trained on.

    Yields:
        One `Scene` at a time.

    Raises:
        InputError: an argument is out of its range.
        MissingExtraError: scikit-learn or Pillow is not installed.

    Example:
        >>> scene = next(scenes(1, seed=0))
        >>> scene.image.shape, 1 <= len(scene.digits) <= 2
        ((84, 84, 3), True)
    """
    whole = all(isinstance(value, int) for value in (count, seed, size, max_digits, min_digits))
    digits = whole and 1 <= min_digits <= max_digits <= MOST
    if not digits or min(count, seed) < 0 or size < 56:
        raise InputError(
            "scenes: expected integers count >= 0, seed >= 0, size >= 56 and "
            f"1 <= min_digits <= max_digits <= {MOST}, got count={count}, seed={seed}, "
            f"size={size}, min_digits={min_digits}, max_digits={max_digits}"
        )
    for name, value, known in (("split", split, Split), ("queries", queries, Queries)):
        if value not in get_args(known):
            raise InputError(f"{name}: expected one of {get_args(known)}, got {value!r}")
    if sides is not None and not 8 <= sides[0] <= sides[1] <= size // 2:
        raise InputError(f"sides: expected 8 <= smallest <= largest <= {size // 2}, got {sides}")
    plan = _Plan(split, size, (min_digits, max_digits), sides, queries)
    for index in range(count):
        yield _compose(np.random.default_rng((seed, index, split == "eval")), plan)


def to_dataset(items: Sequence[Scene], recipe: Recipe) -> datasets.Dataset:
    """The scenes as rows for a trainer.

    Args:
        items: the scenes.
        recipe: the recipe that will score the answers; it writes the prompt, and its frame has
            to be the size of the images.

    Returns:
        A `datasets.Dataset` with the columns ``prompt`` (one user turn), ``image`` and
        ``solution`` (the reference, JSON).

    Raises:
        InputError: an image is not of the recipe's frame.
        MissingExtraError: `datasets` or Pillow is not installed.
    """
    library = require("datasets", extra="demo")
    pil = require("PIL.Image", extra="demo")
    rows = []
    for scene in items:
        frame, (height, width) = recipe.response.frame, scene.image.shape[:2]
        assert frame is not None  # scenes are of objects, whose recipes have one
        if (width, height) != (frame.width, frame.height):
            raise InputError(
                f"image: expected the recipe's frame of {frame.width} x {frame.height}, "
                f"got {width} x {height}; Recipe.resized({width}) makes a recipe that fits"
            )
        turn = {"role": "user", "content": prompt(recipe, scene.query)}
        image = pil.fromarray(scene.image)
        rows.append({"prompt": [turn], "image": image, "solution": scene.reference})
    dataset: datasets.Dataset = library.Dataset.from_list(rows)
    return dataset


@functools.cache
def _samples(split: Split) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The handwritten samples of one split: images (n, 8, 8) in [0, 1] and labels (n,)."""
    data = require("sklearn.datasets", extra="demo").load_digits()
    held_out = np.arange(len(data.target)) % 5 == 0
    chosen = held_out if split == "eval" else ~held_out
    return data.images[chosen] / 16.0, data.target[chosen].astype(np.int64)


@dataclass(frozen=True)
class _Plan:
    """What all scenes of a sequence have in common."""

    split: Split
    size: int
    digits: tuple[int, int]
    sides: tuple[int, int] | None
    queries: Queries

    def span(self, count: int) -> tuple[int, int]:
        """The smallest and largest side of a digit's square, in a scene of so many."""
        if self.sides is not None:
            return self.sides
        # More digits need smaller ones, or they would not fit side by side.
        parts = (4, 2) if count <= 2 else (5, 3) if count <= 4 else (6, 4)
        return self.size // parts[0], self.size // parts[1]


def _compose(rng: np.random.Generator, plan: _Plan) -> Scene:
    fewest, most = plan.digits
    count = int(rng.integers(fewest, most + 1))
    image = _ground(rng, plan.size)
    smallest, largest = plan.span(count)
    placed: list[Digit] = []
    tiles: list[tuple[int, int, int]] = []
    while len(placed) < count:
        tile = _free_tile(rng, tiles, plan.size, smallest, largest)
        if tile is None:
            return _compose(rng, plan)
        tiles.append(tile)
        placed.append(_draw(rng, image, tile, plan.split))
    placed.sort(key=lambda digit: (digit.box[0], digit.box[1]))
    query, targets = (ask if plan.queries == "usual" else ask_unseen)(rng, placed)
    pixels = (image.clip(0.0, 1.0) * 255).astype(np.uint8)
    return Scene(pixels, query, tuple(placed), tuple(targets))


def _ground(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """A dark, tinted texture: coarse blotches under fine grain, (size, size, 3) in [0, 1]."""
    blotches = ndimage.zoom(rng.uniform(-1.0, 1.0, (5, 5)), size / 5, order=1, mode="nearest")
    grain = rng.normal(0.0, 0.02, (size, size))
    tint = rng.uniform(0.5, 1.0, 3)
    level = rng.uniform(0.08, 0.2) + 0.06 * blotches[:size, :size] + grain
    ground: NDArray[np.float64] = level[:, :, None] * tint
    return ground


def _free_tile(
    rng: np.random.Generator,
    tiles: list[tuple[int, int, int]],
    size: int,
    smallest: int,
    largest: int,
) -> tuple[int, int, int] | None:
    """A square (x, y, side) that touches none of `tiles`, or None if none was found."""
    for _ in range(MAX_TRIES):
        side = int(rng.integers(smallest, largest + 1))
        x, y = (int(v) for v in rng.integers(0, size - side + 1, 2))
        if all(
            x + side <= tx or tx + ts <= x or y + side <= ty or ty + ts <= y for tx, ty, ts in tiles
        ):
            return x, y, side
    return None


def _draw(
    rng: np.random.Generator,
    image: NDArray[np.float64],
    tile: tuple[int, int, int],
    split: Split,
) -> Digit:
    """Paint one handwritten sample into the tile and say where its stroke is."""
    samples, labels = _samples(split)
    pick = int(rng.integers(len(samples)))
    x, y, side = tile
    pil = require("PIL.Image", extra="demo")
    small = pil.fromarray((samples[pick] * 255).astype(np.uint8))
    stroke = np.asarray(small.resize((side, side), pil.Resampling.BICUBIC)) / 255.0
    ink = rng.uniform(0.7, 1.0) * rng.uniform(0.8, 1.0, 3)
    patch = image[y : y + side, x : x + side]
    patch += stroke[:, :, None] * (ink - patch)
    mask = np.zeros(image.shape[:2], dtype=bool)
    mask[y : y + side, x : x + side] = stroke >= INK
    rows, columns = np.nonzero(mask)
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    # The frame of one pixel lets the distance transform treat the image's border as outside.
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return Digit(int(labels[pick]), box, np.array([column, row]), mask)
