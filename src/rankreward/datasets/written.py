"""Rows out of the shards that `rankreward.datasets.build` wrote.

Goes in: a folder of shards in the evaluation layout or the training layout. Comes out: their rows,
a few at a time, with PIL images.

Needs the extra ``eval`` (`datasets`, Pillow).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rankreward.datasets.layouts import from_eval
from rankreward.datasets.published import training_row
from rankreward.datasets.rows import Row
from rankreward.datasets.shards import list_path, shards_of
from rankreward.errors import InputError, require

_BATCH = 16  # rows read at a time


def read_rows(
    folder: str | Path,
    split: str = "train",
    *,
    progress: Callable[[Iterable[Row]], Iterable[Row]] = iter,
) -> Iterator[Row]:
    """The rows of a split, in order.

    Those of the training layout are in pixels of the resized image and have no mask; their
    references have to be of VisionReasoner's or Seg-Zero's form and frame, as those of published
    data.

    Args:
        folder: where the shards are.
        split: begins their names, before a dash and five digits.
        progress: wraps the loop over rows, as `tqdm.tqdm` does.

    Yields:
        One `Row` at a time.

    Raises:
        InputError: there is no shard, their build was not finished, one cannot be read or is of
            another layout, or a row in it cannot be read.
    """
    paths, listed = shards_of(Path(folder), split), list_path(Path(folder), split)
    if not paths:
        raise InputError(f"{folder}: expected shards {split}-00000.parquet and so on, got none")
    if not listed.is_file():
        raise InputError(
            f"{folder}: expected {listed.name}, which a finished build writes, beside the shards, "
            "got none; finish the build with the command that began it"
        )
    yield from progress(row for path in paths for row in _rows(path))


def _rows(path: Path) -> Iterator[Row]:
    parquet = require("pyarrow.parquet", extra="eval")
    try:
        opened = parquet.ParquetFile(path)
    except (OSError, ValueError) as error:  # PyArrow's errors are of these kinds
        raise InputError(f"{path}: expected a Parquet file, got {error}") from error
    with opened as file:
        make = _maker(path, set(file.schema_arrow.names))
        for batch in file.iter_batches(_BATCH):
            yield from map(make, batch.to_pylist())


def _maker(path: Path, columns: set[str]) -> Callable[[Mapping[str, Any]], Row]:
    if {"boxes", "points"} <= columns:
        return from_eval
    if {"problem", "solution", "image"} <= columns:
        return _training
    raise InputError(
        f"{path}: expected the layout 'eval' or 'training', got the columns "
        f"{', '.join(sorted(columns))}; build the data once more in one of the two"
    )


def _training(columns: Mapping[str, Any]) -> Row:
    pil = require("PIL.Image", extra="eval")
    try:
        image = pil.open(io.BytesIO(columns["image"]["bytes"]))
    except (OSError, TypeError) as error:
        raise InputError(f"row {columns['id']}: cannot read its image: {error}") from error
    return training_row({**columns, "image": image}, str(columns["id"]))
