"""What a training step gives a scorer, for any recipe.

Goes in: a recipe and a seed. Comes out: a `Batch` of rollouts as a policy in training writes them,
with references, images and columns, and a scorer with free stand-ins for what no recipe computes
itself: the segmenter fills boxes, and the similarity tells every crop from its image. A time
is thus our own share alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import rankreward as rr
from rankreward.parsing import SCHEMAS

ROLLOUTS, GROUP = 128, 8
OBJECTS = 2
SENTENCES, LENGTH = 5, 12  # sixty words of reasoning
SIDE = 840  # pixels of the images
WORDS = (
    "the", "red", "cup", "stands", "left", "of", "a", "plate", "and", "looks", "larger", "than",
    "that", "behind", "it", "on", "its", "table",
)  # fmt: skip
CAPTION = "<caption>the red cup to the left of the plate</caption>"


class Batch(NamedTuple):
    """The arguments of `Scorer.score`."""

    completions: list[str]
    references: list[Any]
    images: list[Any] | None
    groups: list[int]
    columns: dict[str, list[Any]]

    def score(self, scorer: rr.Scorer, *, record: bool = True) -> rr.RewardBatch:
        texts, references, images, groups, columns = self
        return scorer.score(
            texts, references, images=images, groups=groups, columns=columns, record=record
        )


class Boxes:
    """A segmenter that fills boxes: into masks that it keeps, so that it costs next to nothing."""

    def __init__(self) -> None:
        self._masks = np.zeros((0, 0, 0), dtype=bool)
        self._filled: list[Any] = []

    def segment(self, image: Any, boxes: Any, *_: Any) -> Any:
        count, size = len(boxes), image.shape[:2]
        if len(self._masks) < count or self._masks.shape[1:] != size:
            self._masks, self._filled = np.zeros((count, *size), dtype=bool), []
        for part in self._filled:
            part[:] = False
        places = np.rint(boxes).astype(int).tolist()
        self._filled = [
            mask[y1:y2, x1:x2] for mask, (x1, y1, x2, y2) in zip(self._masks, places, strict=False)
        ]
        for part in self._filled:
            part[:] = True
        return self._masks[:count]


def every_crop_fits(_: Sequence[Any], texts: Sequence[str]) -> Any:
    """A similarity: the crops come first, and are always more similar than the images."""
    return np.repeat([0.3, 0.2], len(texts) // 2)


def make_scorer(recipe: rr.Recipe) -> rr.Scorer:
    """A scorer with the stand-ins that the recipe needs."""
    extra: dict[str, Any] = {}
    if compares(recipe):
        extra["similarity"] = every_crop_fits
    if is_masked(recipe):
        extra["segmenter"] = Boxes()
    return rr.Scorer(recipe, **extra)


def compares(recipe: rr.Recipe) -> bool:
    """Whether it compares captions with images."""
    return any(term.kind == "discriminative" for term in recipe.terms.values())


def is_masked(recipe: rr.Recipe) -> bool:
    """Whether it compares masks."""
    kinds = {metric.kind for metric in recipe.accuracy.metrics.values()}
    return bool(kinds & {"mask_iou", "boundary_iou", "s_measure"})


def make_batch(recipe: rr.Recipe, seed: int, rollouts: int = ROLLOUTS, side: int = SIDE) -> Batch:
    """Rollouts in groups of 8: near-right answers, of which one in sixteen is cut short.

    Args:
        recipe: what they are answers for.
        seed: equal seeds give equal rollouts, of other objects.
        rollouts: how many, a multiple of 8.
        side: pixels of the images, where the recipe looks at them.
    """
    rng = np.random.default_rng(seed)
    write = _Writer(recipe, rng)
    groups = rollouts // GROUP
    truths = [write.scene() for _ in range(groups) for _ in range(GROUP)]
    truths = [truths[row - row % GROUP] for row in range(rollouts)]
    images = None
    if compares(recipe) or is_masked(recipe):
        shown = [_image(rng, side) for _ in range(groups)]
        images = [shown[row // GROUP] for row in range(rollouts)]
    completions = [write.completion(write.near(truth, 30)) for truth in truths]
    columns = {
        "initial": [write.completion(write.near(truth, 60)) for truth in truths],
        "likelihood": rng.random(rollouts).tolist(),
        "difficulty": rng.integers(0, 10, rollouts).tolist(),
        "uncertainty": rng.random(rollouts).tolist(),
        "tokens": rng.integers(60, 200, rollouts).tolist(),
    }
    # A reference is made for each rollout: a trainer copies a row of its dataset for each.
    references = [write.reference(truth, side) for truth in truths]
    ids = [row // GROUP for row in range(rollouts)]
    return Batch(completions, references, images, ids, columns)


class _Writer:
    """Writes scenes (K, 4), xyxy in whole 840ths of the frame, as completions and references."""

    def __init__(self, recipe: rr.Recipe, rng: np.random.Generator) -> None:
        self.recipe, self.rng = recipe, rng
        self.schema = SCHEMAS[recipe.response.schema_]
        self.many = self.schema.form in {"list", "tags"}
        frame = recipe.response.frame
        self.scale = 1.0 if frame is None else frame.width / SIDE

    def scene(self) -> np.ndarray:
        count = OBJECTS if self.many else 1
        corner = self.rng.integers(30, 500, (count, 2))
        return np.hstack([corner, corner + self.rng.integers(100, 300, (count, 2))])

    def near(self, scene: np.ndarray, pixels: int) -> np.ndarray:
        return np.clip(scene + self.rng.integers(-pixels, pixels + 1, scene.shape), 0, SIDE)

    def completion(self, scene: np.ndarray) -> str:
        body = self.answer(scene)
        if self.rng.random() < 1 / 16:
            body = body[: len(body) // 2]
        return self.thoughts() + body

    def thoughts(self) -> str:
        response = self.recipe.response
        if not response.think:
            return ""
        words = self.rng.choice(WORDS, (SENTENCES, LENGTH)).tolist()
        sentences = [f"{' '.join(each)}." for each in words]
        if response.keyword is not None:
            look = " ".join(words[0][:5])
            sentences.insert(3, f"<{response.keyword}>{look}</{response.keyword}>")
        return f"<think>{' '.join(sentences)}</think>\n"

    def answer(self, scene: np.ndarray) -> str:
        if self.schema.form == "text":
            return f"<answer>{'a red cup' if self.rng.random() < 0.5 else 'a blue cup'}</answer>"
        if self.schema.form == "tags":
            boxes = self.scaled(scene)
            points = [point for box in boxes for point in _points(box, 2)]
            tags = "".join(f"<bbox>{box}</bbox>" for box in boxes)
            return f"{tags}<points>{points}</points><labels>{[1] * len(points)}</labels>"
        end = CAPTION if "caption" in self.schema.blocks else ""
        return f"<answer>{json.dumps(self.entries(scene))}</answer>{end}"

    def reference(self, scene: np.ndarray, side: int) -> Any:
        if self.schema.form == "text":
            return "a red cup"
        if self.recipe.released and not self.many:
            x1, y1, x2, y2 = box = self.scaled(scene)[0]
            places = ",".join(f"({x},{y})" for x, y in _points(box, 2))
            return f"<box>({x1},{y1}),({x2},{y2})</box><points>{places}</points>"
        objects = [] if self.schema.form == "tags" else self.entries(scene)
        if not is_masked(self.recipe):
            return json.dumps(objects)
        return {"mask": _run_lengths(scene, side), "objects": objects}

    def entries(self, scene: np.ndarray) -> Any:
        made = []
        for box in self.scaled(scene):
            entry: dict[str, Any] = {self.schema.box: box} if self.schema.box else {}
            entry |= zip(self.schema.points, _points(box, len(self.schema.points)), strict=True)
            made.append(entry | ({self.schema.label: "cup"} if self.schema.label else {}))
        return made if self.many else made[0]

    def scaled(self, scene: np.ndarray) -> list[list[int]]:
        return np.rint(scene * self.scale).astype(int).tolist()


def _points(box: Sequence[int], count: int) -> list[list[int]]:
    """Points on the diagonal of a box."""
    x1, y1, x2, y2 = box
    shares = [(k + 1) / (count + 1) for k in range(count)]
    return [[round(x1 + (x2 - x1) * share), round(y1 + (y2 - y1) * share)] for share in shares]


def _image(rng: np.random.Generator, side: int) -> Any:
    """An image as a trainer hands it on, in Pillow's form and of noise."""
    return Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))


def _run_lengths(scene: np.ndarray, side: int) -> dict[str, Any]:
    """A mask as COCO keeps it, with its runs as a list."""
    mask = np.zeros((side, side), dtype=bool)
    for x1, y1, x2, y2 in np.rint(scene * side / SIDE).astype(int).tolist():
        mask[y1:y2, x1:x2] = True
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False)) if flat.any() else np.empty(0, int)
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return {"size": [side, side], "counts": runs.tolist()}
