"""Samples to evaluate on: images at their original size, what is asked, and what is right.

Goes in: Parquet files in the layout for evaluation or that for training, or digit scenes. Comes
out: `Samples`, which know their ids at once and load the rest one by one, so that a set may be
larger than memory.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.errors import InputError, require
from rankreward.evaluation.files import files_of, fingerprint_of
from rankreward.recipe import Recipe
from rankreward.rewards.masks import read_mask
from rankreward.rewards.references import read_references

Mask = NDArray[np.bool_]
STRATUM = "strata_"  # begins the name of a column that holds a stratum
_BATCH = 32  # rows held at a time
_EVAL = ("id", "image", "problem", "boxes", "mask")
_TRAINING = ("id", "image", "problem", "solution")


@dataclass(frozen=True, eq=False)
class Question:
    """One question on one image, and what it asks for.

    Attributes:
        image: a PIL.Image, RGB, W x H.
        query: what to find.
        boxes: (K, 4) float64, xyxy, in pixels of the image; None if unknown.
        mask: (H, W) bool, the union of what is asked for; None if unknown.
        ignore: (H, W) bool, pixels marked to be ignored, of which protocols make what is their
            rule; None if there are none.
        strata: names of the groups that results are told apart by.
        void: (H, W) bool, pixels that nobody annotated, such as crowds, which every protocol
            leaves out; None if there are none.
    """

    image: Any
    query: str
    boxes: NDArray[np.float64] | None
    mask: Mask | None
    ignore: Mask | None = None
    strata: Mapping[str, str] = field(default_factory=dict)
    void: Mask | None = None


@dataclass(frozen=True)
class Sample:
    """A sample that is not yet read.

    Attributes:
        id: its name, unique in its set.
        place: where it stands in the whole set, from 0.
        load: reads it; raises if its image or its reference cannot be read.
    """

    id: str
    place: int
    load: Callable[[], Question]


class Samples:
    """An ordered set of samples, read as they are iterated over.

    Args:
        ids: of all, in order.
        read: yields the samples at some places, in ascending order, without decoding them.
        fingerprint: of the whole set's content; equal for equal sets.
        places: which of them are in this set; all unless given.

    Raises:
        InputError: an id stands twice.
    """

    def __init__(
        self,
        ids: Sequence[str],
        read: Callable[[Sequence[int]], Iterator[Sample]],
        fingerprint: str,
        places: Sequence[int] | None = None,
    ) -> None:
        self._ids, self._read, self.fingerprint = ids, read, fingerprint
        self.places = range(len(ids)) if places is None else places
        if places is None:
            twice = [name for name, count in Counter(ids).items() if count > 1]
            if twice:
                raise InputError(f"samples: expected each id once, twice or more: {twice[:5]}")

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Sample]:
        return self._read(self.places)

    @property
    def ids(self) -> list[str]:
        """The samples' names, in order."""
        return [self._ids[place] for place in self.places]

    def limit(self, count: int) -> Samples:
        """The first `count` of them, or all if there are fewer."""
        if count < 1:
            raise InputError(f"limit: expected at least 1, got {count}")
        return self._with(self.places[:count])

    def shard(self, index: int, count: int) -> Samples:
        """Every `count`-th of them, from the one at `index` on; all shards together are the set.

        Raises:
            InputError: expected 0 <= index < count.
        """
        if not 0 <= index < count:
            raise InputError(f"shard: expected 0 <= i < n, got {index}/{count}")
        return self._with(self.places[index::count])

    def without(self, ids: Collection[str]) -> Samples:
        """Those with other names."""
        return self._with([place for place in self.places if self._ids[place] not in ids])

    def _with(self, places: Sequence[int]) -> Samples:
        return Samples(self._ids, self._read, self.fingerprint, places)


def read_samples(
    path: str | Path | Sequence[str | Path], recipe: str | Recipe, split: str | None = None
) -> Samples:
    """The samples of Parquet files.

    Args:
        path: a file, a folder (its ``*.parquet``, at any depth, in the order of their names), or
            several of them.
        recipe: in whose frame the references of the training layout are.
        split: only a folder's shards of this split; a file that is named is taken as it is.

    Returns:
        The samples. The layout for evaluation has the columns ``id``, ``image``, ``problem``,
        ``boxes``, ``mask``, and perhaps ``ignore``, ``void`` and ``strata_*``; that for training
        has ``solution`` in place of boxes and mask, and its images are taken as they are stored.

    Raises:
        InputError: there is no file, columns are missing, an id stands twice, a folder holds
            shards of several splits and none is named, or of a build that was not finished.
        MissingExtraError: pyarrow is not installed.

    Cost:
        The files are read once for their fingerprint, at about 1 GB a second.
    """
    files = files_of([path] if isinstance(path, str | Path) else list(path), split)
    table = _Table(files, Recipe.load(recipe))
    return Samples(table.ids, table.read, fingerprint_of(files))


def scene_samples(scenes: Sequence[Any]) -> Samples:
    """The samples of digit scenes, as `rankreward.datasets.digits.scenes` composes them.

    Their names are ``scene-0``, ``scene-1`` and so on; their stratum ``count`` is the number of
    digits that are asked for.
    """
    digest = hashlib.sha256()
    for scene in scenes:
        digest.update(f"{scene.query} {scene.image.shape} {scene.reference}".encode())
        digest.update(scene.image.tobytes() + scene.mask.tobytes())
    ids = [f"scene-{place}" for place in range(len(scenes))]
    return Samples(ids, _Scenes(tuple(scenes)).read, f"sha256:{digest.hexdigest()}")


@dataclass(frozen=True)
class _Scenes:
    scenes: tuple[Any, ...]

    def read(self, places: Sequence[int]) -> Iterator[Sample]:
        for place in places:
            scene = self.scenes[place]
            yield Sample(f"scene-{place}", place, partial(_of_scene, scene))


def _of_scene(scene: Any) -> Question:
    boxes = np.array([target.box for target in scene.targets], dtype=np.float64).reshape(-1, 4)
    image = require("PIL.Image", extra="eval").fromarray(scene.image)
    return Question(image, scene.query, boxes, scene.mask, None, {"count": str(len(boxes))})


class _Table:
    """The rows of Parquet files."""

    def __init__(self, files: Sequence[Path], recipe: Recipe) -> None:
        self.files, self.recipe = files, recipe
        parquet: Any = require("pyarrow.parquet", extra="eval")
        self.ids: list[str] = []
        for file in files:
            try:
                opened = parquet.ParquetFile(file)
            except Exception as error:
                raise InputError(f"{file}: expected a Parquet file, got {error}") from error
            _check_columns(file, opened.schema_arrow.names)
            self.ids += [str(name) for name in opened.read(columns=["id"])["id"].to_pylist()]

    def read(self, places: Sequence[int]) -> Iterator[Sample]:
        """The samples at these places; only the row groups that hold one are read."""
        parquet: Any = require("pyarrow.parquet", extra="eval")
        wanted, start = set(places), 0
        for file in self.files:
            opened = parquet.ParquetFile(file)
            for group in range(opened.num_row_groups):
                count = opened.metadata.row_group(group).num_rows
                if not wanted.isdisjoint(range(start, start + count)):
                    yield from self._group(opened, group, start, wanted)
                start += count

    def _group(self, opened: Any, group: int, start: int, wanted: set[int]) -> Iterator[Sample]:
        for batch in opened.iter_batches(_BATCH, row_groups=[group]):
            for offset in range(batch.num_rows):
                if start + offset in wanted:
                    row = batch.slice(offset, 1).to_pylist()[0]
                    yield Sample(str(row["id"]), start + offset, partial(self._question, row))
            start += batch.num_rows

    def _question(self, row: Mapping[str, Any]) -> Question:
        image = _decoded(row["image"])
        if "boxes" not in row:
            return _of_training(row, image, self.recipe)
        boxes = np.array(row["boxes"], dtype=np.float64).reshape(-1, 4)
        strata = {
            name.removeprefix(STRATUM): str(value)
            for name, value in row.items()
            if name.startswith(STRATUM) and value is not None
        }
        mask, ignore, void = (
            _mask(row.get(name), name, image.size) for name in ("mask", "ignore", "void")
        )
        return Question(image, row["problem"], boxes, mask, ignore, strata, void)


def _check_columns(file: Path, names: Collection[str]) -> None:
    if not any(set(layout) <= set(names) for layout in (_EVAL, _TRAINING)):
        raise InputError(
            f"{file}: expected the columns {', '.join(_EVAL)}, or {', '.join(_TRAINING)}, got "
            f"{', '.join(names)}"
        )


def _of_training(row: Mapping[str, Any], image: Any, recipe: Recipe) -> Question:
    """A row in the training layout, whose references are in the recipe's frame."""
    target, frame = read_references([row["solution"]], recipe)[0], recipe.response.frame
    boxes = None
    if target.objects is not None and frame is not None:
        scale = np.tile(image.size, 2) / np.tile([frame.width, frame.height], 2)
        boxes = target.objects.boxes * scale
    if target.mask is not None and target.mask.shape != image.size[::-1]:
        raise InputError(
            f"mask: expected the image's size {image.size[::-1]}, got {target.mask.shape}"
        )
    return Question(image, row["problem"], boxes, target.mask)


def _decoded(image: Any) -> Any:
    """A PIL.Image, RGB, of the bytes of a file."""
    pil: Any = require("PIL.Image", extra="eval")
    content = image.get("bytes") if isinstance(image, Mapping) else image
    if not isinstance(content, bytes):
        raise InputError(f"image: expected the bytes of a file, got {type(content).__name__}")
    try:
        with pil.open(io.BytesIO(content)) as opened:
            opened.load()
    except Exception as error:  # a decoder that meets broken data raises whatever it stumbled on
        raise InputError(f"image: cannot be read: {type(error).__name__}: {error}") from error
    if opened.mode[0] in "IF":  # those convert by cutting off at 255
        raise InputError(f"image: expected 8 bits a channel, got mode {opened.mode}")
    return opened.convert("RGB")


def _mask(text: str | None, name: str, size: tuple[int, int]) -> Mask | None:
    if text is None:
        return None
    try:
        mask = read_mask(json.loads(text), 0)
    except ValueError as error:
        raise InputError(f"{name}: expected the JSON of a COCO RLE, got {error}") from error
    if mask.shape != size[::-1]:
        raise InputError(f"{name}: expected the image's size {size[::-1]}, got {mask.shape}")
    return mask
