"""Rows as trainers and evaluation read them.

Goes in: a `Row` in pixels of its own image, and a recipe. Comes out: the columns of
VisionReasoner's training data, in the recipe's frame, and from these a row for TRL, verl or EasyR1;
or the columns that evaluation reads, at the original size.

Needs the extra ``eval`` (Pillow, pycocotools and `datasets`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rankreward.datasets.rows import Row, open_image
from rankreward.datasets.solutions import PLACEHOLDERS, size_of, solution_of
from rankreward.errors import InputError, require
from rankreward.parsing.prompts import prompt
from rankreward.recipe import Recipe

Layout = Literal["training", "trl", "verl", "easyr1", "eval"]
Columns = dict[str, Any]
LAYOUTS: tuple[Layout, ...] = ("training", "trl", "verl", "easyr1", "eval")
STRATUM = "strata_"  # begins the name of a column that holds a stratum


def to_training(row: Row, recipe: str | Recipe, *, quality: int | None = None) -> Columns:
    """A row in the layout of VisionReasoner's training data.

    Args:
        row: in pixels of its image.
        recipe: the recipe that will score answers. Where its frame is in pixels, the image is
            resized to it, sides apart, by Pillow's bicubic filter (the published images by OpenCV's
            mean over areas); a grid leaves the image as it is.
        quality: None for PNG, which loses nothing; 1 to 100 for JPEG, which is smaller.

    Returns:
        ``id``, ``problem`` (the query), ``solution`` (see `solution_of`), ``image`` (its bytes)
        and ``img_height``, ``img_width``, the original size.

    Raises:
        InputError: as for `solution_of` and `rankreward.datasets.rows.open_image`.
    """
    recipe = Recipe.load(recipe)
    solution = solution_of(row, recipe)
    image, size = open_image(row), size_of(row, recipe)
    if image.size != size:
        image = image.resize(size, require("PIL.Image", extra="eval").Resampling.BICUBIC)
    return {
        "id": row.id,
        "problem": row.query,
        "solution": solution,
        "image": {"bytes": _encoded(image, quality), "path": None},
        "img_height": row.height,
        "img_width": row.width,
    }


def to_eval(row: Row, strata: Sequence[str] = ()) -> Columns:
    """A row in the layout that evaluation reads, at the original size.

    Args:
        row: the row; a file's bytes are taken as they are, a PIL.Image becomes a PNG.
        strata: which strata get a column; None where the row has none of that name.

    Raises:
        InputError: the image cannot be read.
    """
    return {
        "id": row.id,
        "image": {"bytes": _original(row), "path": None},
        "problem": row.query,
        "boxes": row.boxes.tolist(),
        "points": row.points.tolist(),
        "mask": _rle_text(row.mask),
        "ignore": _rle_text(row.ignore),
        "void": _rle_text(row.void),
        "width": row.width,
        "height": row.height,
        **{STRATUM + name: row.strata.get(name) for name in strata},
    }


def from_eval(columns: Mapping[str, Any]) -> Row:
    """The row that `to_eval` made these columns from; its image is a PIL.Image.

    Raises:
        InputError: a column is missing, or its image cannot be read.
    """
    lacks = [name for name in _EVAL if name not in columns]
    if lacks:
        raise InputError(f"eval layout: expected the columns {', '.join(_EVAL)}, lacks {lacks}")
    pil, image = require("PIL.Image", extra="eval"), columns["image"]
    if isinstance(image, Mapping):
        try:
            image = pil.open(io.BytesIO(image["bytes"]))
        except (OSError, TypeError) as error:
            raise InputError(f"row {columns['id']}: cannot read its image: {error}") from error
    strata = {
        name.removeprefix(STRATUM): value
        for name, value in columns.items()
        if name.startswith(STRATUM) and value is not None
    }
    names = "mask", "ignore", "void"
    masks = {name: columns[name] and json.loads(columns[name]) for name in names}
    return Row(
        columns["id"],
        image,
        columns["problem"],
        np.array(columns["boxes"], dtype=np.float64).reshape(-1, 4),
        np.array(columns["points"], dtype=np.float64),
        masks["mask"],
        columns["width"],
        columns["height"],
        strata,
        masks["ignore"],
        masks["void"],
    )


def to_trl(row: Mapping[str, Any], recipe: Recipe) -> Columns:
    """A training row for TRL: ``prompt`` (one user turn), ``image`` and ``solution``."""
    turn = {"role": "user", "content": prompt(recipe, row["problem"])}
    return {"prompt": [turn], "image": row["image"], "solution": row["solution"]}


def to_verl(
    row: Mapping[str, Any], recipe: Recipe, *, split: str, index: int, data_source: str
) -> Columns:
    """A training row for verl's RLHFDataset; ``<image>`` marks the picture's place."""
    return {
        "data_source": data_source,
        "prompt": [{"role": "user", "content": _with_image(row, recipe)}],
        "images": [row["image"]],
        "reward_model": {"style": "rule", "ground_truth": row["solution"]},
        "extra_info": {"split": split, "index": index, "id": str(row["id"])},
    }


def to_easyr1(row: Mapping[str, Any], recipe: Recipe, *, split: str) -> Columns:
    """A training row for EasyR1's RLHFDataset; its reward is told of ``answer`` alone."""
    return {
        "problem": _with_image(row, recipe),
        "images": [row["image"]],
        "answer": {"reference": row["solution"], "split": split},
    }


def features(layout: Layout, strata: Sequence[str] = ()) -> Any:
    """The columns of a layout, as `datasets.Features`.

    Args:
        layout: one of `LAYOUTS`.
        strata: as for `to_eval`.

    Raises:
        InputError: there is no such layout.
    """
    library = require("datasets", extra="eval")
    text, whole, image = library.Value("string"), library.Value("int64"), library.Image()
    many, turn = library.List(image), {"role": text, "content": text}
    if layout == "training":
        columns = {"id": text, "problem": text, "solution": text, "image": image}
        columns |= {"img_height": whole, "img_width": whole}
    elif layout == "trl":
        columns = {"prompt": library.List(turn), "image": image, "solution": text}
    elif layout == "verl":
        columns = {"data_source": text, "prompt": library.List(turn), "images": many}
        columns["reward_model"] = {"style": text, "ground_truth": text}
        columns["extra_info"] = {"split": text, "index": whole, "id": text}
    elif layout == "easyr1":
        columns = {"problem": text, "images": many, "answer": {"reference": text, "split": text}}
    elif layout == "eval":
        columns = _eval_features(library, strata)
    else:
        raise InputError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    return library.Features(columns)


_EVAL = (
    "id",
    "image",
    "problem",
    "boxes",
    "points",
    "mask",
    "ignore",
    "void",
    "width",
    "height",
)


def _eval_features(library: Any, strata: Sequence[str]) -> Columns:
    text, whole = library.Value("string"), library.Value("int64")
    numbers = library.List(library.Value("float64"))
    kinds = (
        text,
        library.Image(),
        text,
        library.List(numbers),
        library.List(library.List(numbers)),
        text,
        text,
        text,
        whole,
        whole,
    )
    return dict(zip(_EVAL, kinds, strict=True)) | {STRATUM + name: text for name in strata}


def _encoded(image: Any, quality: int | None) -> bytes:
    buffer = io.BytesIO()
    if quality is None:
        image.save(buffer, "PNG", compress_level=1)  # a sixth of the time, a tenth more bytes
    elif 1 <= quality <= 100:
        image.save(buffer, "JPEG", quality=quality, subsampling=0)
    else:
        raise InputError(f"quality: expected None for PNG or 1 to 100 for JPEG, got {quality}")
    return buffer.getvalue()


def _original(row: Row) -> bytes:
    if isinstance(row.image, str | Path):
        try:
            return Path(row.image).read_bytes()
        except OSError as error:
            raise InputError(f"row {row.id}: cannot read its image {row.image}: {error}") from error
    return _encoded(open_image(row), None)


def _rle_text(rle: Mapping[str, Any] | None) -> str | None:
    if rle is None:
        return None
    counts = rle["counts"]
    held = counts.decode() if isinstance(counts, bytes) else counts
    return json.dumps({"size": [int(side) for side in rle["size"]], "counts": held})


def _with_image(row: Mapping[str, Any], recipe: Recipe) -> str:
    """The prompt behind its picture's mark.

    Raises:
        InputError: the query holds such a mark itself, and would ask for a second picture.
    """
    asked = prompt(recipe, row["problem"])
    held = [each for each in PLACEHOLDERS if each in asked]
    if held:
        raise InputError(f"row {row['id']}: expected a query without {held[0]}, got {asked!r:.80}")
    return f"<image>{asked}"
