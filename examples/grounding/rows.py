"""The rows of the Seg-Zero family: read, checked and split.

Goes in: a folder with Parquet files of ``id, problem, solution, image, img_height, img_width``.
Comes out: a `datasets.Dataset` of which every image has the recipe's size and every reference can
be read, and its two parts. Images stay encoded; nothing is decoded before a trainer asks.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
from hub import DATA, folder, once
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

import rankreward as rr

COLUMNS = ("id", "problem", "solution", "image", "img_height", "img_width")
CHUNK = 512  # references read at a time; small enough for a bar that moves


@dataclass(frozen=True)
class Source:
    """Where the rows come from, and how they are divided.

    Attributes:
        data: a folder, or a name on the Hub.
        recipe: what `rankreward.Scorer` takes; it says what a reference is and how large an image.
        revision: of a name on the Hub; None for the one that the examples were written for.
        least: how many rows there have to be; fewer are a download that stopped half way.
        held_out: how many rows are kept for evaluation.
        seed: of the choice of those.
    """

    data: str = DATA
    recipe: str = "dr_seg"
    revision: str | None = None
    least: int = 7000
    held_out: int = 100
    seed: int = 42

    def folder(self) -> Path:
        """The folder with the rows, downloaded if need be and checked."""
        path = folder(self.data, "dataset", self.revision)
        recipe = rr.Recipe.load(self.recipe)
        settings = {"recipe": recipe.to_dict(), "least": self.least}
        once(path, lambda: check(read(path), recipe, self.least), **settings)
        return path


def read(path: Path) -> datasets.Dataset:
    """All rows of a folder's Parquet files, images still encoded.

    Raises:
        FileNotFoundError: there is no Parquet file.
        ValueError: a column is missing.
    """
    files = sorted(str(each) for each in path.rglob("*.parquet"))
    if not files:
        raise FileNotFoundError(f"data {path}: expected Parquet files, got none")
    rows = datasets.load_dataset("parquet", data_files=files, split="train")
    missing = [name for name in COLUMNS if name not in rows.column_names]
    if missing:
        raise ValueError(
            f"data {path}: expected the columns {', '.join(COLUMNS)}, lacks {', '.join(missing)}"
        )
    return rows.cast_column("image", datasets.Image(decode=False))


def check(rows: datasets.Dataset, recipe: rr.Recipe, least: int) -> None:
    """Look at every row; about a minute for seven thousand.

    Raises:
        ValueError: there are too few, an image has the wrong size or cannot be read, or a
            reference cannot be read; the message names the row.
    """
    if len(rows) < least:
        raise ValueError(
            f"data: expected at least {least} rows, got {len(rows)}: not the whole data set, or "
            "another one"
        )
    frame = recipe.response.frame
    assert frame is not None  # recipes of objects in pixels have one
    for index, row in enumerate(tqdm(rows.select_columns(["id", "image"]), "check images")):
        _check_image(row, index, (frame.width, frame.height))
    scorer = rr.Scorer(recipe)
    for begin in tqdm(range(0, len(rows), CHUNK), "check references"):
        part = rows.select_columns(["id", "solution"])[begin : begin + CHUNK]
        _check_references(scorer, part["id"], part["solution"], begin)


def _check_image(row: dict, index: int, size: tuple[int, int]) -> None:
    try:
        with Image.open(io.BytesIO(row["image"]["bytes"])) as image:  # reads the header alone
            got = image.size
    except (UnidentifiedImageError, TypeError) as error:
        raise ValueError(f"data: row {index} (id {row['id']}): no readable image") from error
    if got != size:
        raise ValueError(
            f"data: row {index} (id {row['id']}): expected an image of {size[0]} x {size[1]}, "
            f"the recipe's frame, got {got[0]} x {got[1]}; resize it and its reference with it"
        )


def _check_references(scorer: rr.Scorer, ids: list, references: list, begin: int) -> None:
    """Read references as training will; on an error, one by one to find the row."""
    try:
        scorer.score([""] * len(references), references, record=False)
    except rr.BadReferenceError:
        for offset, (name, reference) in enumerate(zip(ids, references, strict=True)):
            try:
                scorer.score([""], [reference], record=False)
            except rr.BadReferenceError as error:
                raise ValueError(f"data: row {begin + offset} (id {name}): {error}") from error
        raise


def split(
    rows: datasets.Dataset, held_out: int, seed: int
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Rows for training and `held_out` rows for evaluation, the same ones for the same seed.

    Raises:
        ValueError: fewer than one row would be left for either.
    """
    if not 0 < held_out < len(rows):
        raise ValueError(f"held_out: expected 1 to {len(rows) - 1} rows, got {held_out}")
    order = np.random.default_rng(seed).permutation(len(rows))
    return rows.select(sorted(order[held_out:])), rows.select(sorted(order[:held_out]))
