"""The rows as each trainer reads them.

Goes in: the rows of the Seg-Zero family and the recipe, which writes the prompt. Comes out: TRL's
rows, or a Parquet file of verl's or EasyR1's, written whole or not at all, that says in its own
metadata what it was made from, so that it is used again as long as that stands.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from hub import fingerprint
from rows import Source, read, split
from tqdm import tqdm

import rankreward as rr
from rankreward.datasets.layouts import Layout, features, to_easyr1, to_trl, to_verl

Row = dict[str, Any]
ORIGIN = b"rankreward"  # the key in a file's metadata
CHUNK = 64  # rows written at a time


def trl_rows(source: Source) -> tuple[datasets.Dataset, datasets.Dataset]:
    """The rows for training and for evaluation in TRL; no image is copied or decoded."""
    recipe = rr.Recipe.load(source.recipe)
    rows = read(source.folder())
    asked = rows.remove_columns("image")  # a question is read without its image
    prompts = [to_trl({**row, "image": None}, recipe)["prompt"] for row in tqdm(asked, "prompts")]
    kept = rows.select_columns(["image", "solution"]).cast_column("image", datasets.Image())
    return split(kept.add_column("prompt", prompts), source.held_out, source.seed)


def parquet(source: Source, layout: Layout, out: Path) -> tuple[Path, Path]:
    """Files ``train.parquet`` and ``val.parquet`` in a folder; whole ones are used again.

    Args:
        source: the rows.
        layout: ``"verl"`` or ``"easyr1"``.
        out: the folder, made if need be.

    Returns:
        The paths of the two files.
    """
    recipe = rr.Recipe.load(source.recipe)
    folder = source.folder()
    settings = {
        "layout": layout,
        "recipe": recipe.to_dict(),
        "held_out": source.held_out,
        "seed": source.seed,
    }
    paths = out / "train.parquet", out / "val.parquet"
    origins = [fingerprint(folder, {**settings, "split": path.stem}) for path in paths]
    if not all(map(_made_from, paths, origins)):
        parts = split(read(folder), source.held_out, source.seed)
        for rows, path, origin in zip(parts, paths, origins, strict=True):
            made = _rows(rows, layout, recipe, path.stem)
            write(made, path, features(layout), origin, total=len(rows))
    return paths


def _made_from(path: Path, origin: str) -> bool:
    """Whether a file is there and made from just this; a half written one has another name."""
    if not path.exists():
        return False
    metadata = pq.read_schema(path).metadata or {}
    return metadata.get(ORIGIN) == origin.encode()


def _rows(rows: datasets.Dataset, layout: Layout, recipe: rr.Recipe, part: str) -> Iterator[Row]:
    for index, row in enumerate(rows):
        if layout == "verl":
            yield to_verl(row, recipe, split=part, index=index, data_source="visionreasoner_7k")
        else:
            yield to_easyr1(row, recipe, split=part)


def write(
    rows: Iterator[Row], path: Path, features: datasets.Features, origin: str, *, total: int
) -> None:
    """Write rows to a Parquet file, atomically, with its origin in its metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = features.arrow_schema
    schema = schema.with_metadata({**(schema.metadata or {}), ORIGIN: origin.encode()})
    half = path.with_suffix(f".{os.getpid()}.half")
    try:
        with pq.ParquetWriter(half, schema) as writer:
            for part in _chunks(tqdm(rows, f"write {path.name}", total=total)):
                writer.write_table(pa.Table.from_pylist(part, schema=schema))
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    part: list[Row] = []
    for row in rows:
        part.append(row)
        if len(part) == CHUNK:
            yield part
            part = []
    if part:
        yield part
