"""Parquet shards, each written whole or not at all, and used again as long as they stand.

Goes in: rows of columns, by shard. Comes out: ``<split>-00000.parquet`` and so on in a folder, each
with its origin in its metadata, and at last ``<split>.json``, which lists them with their hashes.
A run that was broken off goes on with the shards that stand; one that was damaged since is made
again; shards of another origin are an error.

Needs the extra ``eval`` (`datasets`, which brings PyArrow).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rankreward.errors import InputError, require

_log = logging.getLogger(__name__)
_KEY = b"rankreward"  # in a file's metadata
_GROUP = 64  # rows of a row group; what is held in memory at a time


@dataclass(frozen=True)
class Shard:
    """A shard that stands.

    Attributes:
        name: the file's name.
        rows: how many rows it holds.
        notes: what was to be remembered with it, as JSON has it.
        sha256: of its bytes.
    """

    name: str
    rows: int
    notes: Any
    sha256: str


@dataclass(frozen=True)
class Standing:
    """What there is of a split.

    Attributes:
        shards: whole shards by their number.
        complete: whether these are all.
        notes: what was to be remembered of all of it; None if it is not complete.
    """

    shards: dict[int, Shard]
    complete: bool
    notes: Any


def origin_of(*paths: str | Path, **settings: Any) -> str:
    """A hash of inputs and settings, which tells outputs of one origin from those of another.

    A file counts with its content, a folder with the names and sizes of the files in it, and
    neither with its place, so that a copy on another machine is the same.

    Args:
        paths: files and folders.
        settings: whatever else makes a difference, as JSON has it.

    Raises:
        InputError: a path is not there, or a setting is nothing that JSON has.
    """
    try:
        content = [_content(Path(path)) for path in paths]
        text = json.dumps([content, settings], sort_keys=True)
    except (OSError, TypeError, ValueError) as error:
        raise InputError(
            f"origin: expected paths that are there and settings as JSON has them, got {error}"
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()


def shard_path(folder: Path, split: str, place: int) -> Path:
    """Where the shard of this number is."""
    return folder / f"{split}-{place:05d}.parquet"


def list_path(folder: Path, split: str) -> Path:
    """Where the list is that a finished build writes."""
    return folder / f"{split}.json"


def shards_of(folder: Path, split: str) -> list[Path]:
    """The files with names of a split's shards, in order; ``train-hard`` is not ``train``."""
    name = re.compile(rf"{re.escape(split)}-[0-9]{{5}}\.parquet")
    return sorted(path for path in folder.glob("*.parquet") if name.fullmatch(path.name))


def standing(folder: Path, split: str, origin: str) -> Standing:
    """The shards of a split that can be used again.

    Args:
        folder: where they are.
        split: begins their names.
        origin: see `origin_of`.

    Returns:
        What can be used.

    Raises:
        InputError: the folder holds shards of this split of another origin, or a file in a shard's
            place that is none and that no list says to be ours.

    Cost:
        Listed shards are read once, for their hash.
    """
    listed, notes = _listed(folder, split, origin)
    found: dict[int, Shard] = {}
    for path in shards_of(folder, split):
        shard = _standing(path, origin, listed.get(path.name))
        if shard is not None:
            found[int(path.stem[-5:])] = shard
    lost = sorted(set(listed) - {each.name for each in found.values()})
    if lost:
        _log.warning("%s: %s missing or damaged, made again", folder, ", ".join(lost))
    complete = bool(listed) and not lost
    return Standing(found, complete, notes if complete else None)


def write_shard(
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    features: Any,
    origin: str,
    notes: Callable[[], Any],
) -> Shard:
    """Write a shard; rows are taken and written a row group at a time.

    Args:
        path: where it goes. Until it is whole it has another name.
        rows: the columns' values, a mapping a row.
        features: the columns, as `rankreward.datasets.layouts.features` gives them.
        origin: see `origin_of`.
        notes: asked after the last row for what to remember with it.
    """
    parquet, arrow = require("pyarrow.parquet", extra="eval"), require("pyarrow", extra="eval")
    half, schema = path.with_suffix(f".{os.getpid()}.half"), features.arrow_schema
    iterator, count = iter(rows), 0
    try:
        with parquet.ParquetWriter(half, schema) as writer:
            while part := list(islice(iterator, _GROUP)):
                writer.write_table(arrow.Table.from_pylist(part, schema=schema))
                count += len(part)
            kept = notes()
            writer.add_key_value_metadata({_KEY: json.dumps({"origin": origin, "notes": kept})})
        shard = Shard(path.name, count, kept, _sha256(half))
        _settle(half, path)
    finally:
        half.unlink(missing_ok=True)
    return shard


def seal(folder: Path, split: str, origin: str, shards: Sequence[Shard], notes: Any) -> None:
    """Write the list that says that these are all shards of a split, and what to remember."""
    path = list_path(folder, split)
    half = path.with_suffix(f".{os.getpid()}.half")
    data: dict[str, Any] = {"origin": origin, "shards": [asdict(each) for each in shards]}
    data["notes"] = notes
    try:
        half.write_text(json.dumps(data, indent=1) + "\n")
        _settle(half, path)
    finally:
        half.unlink(missing_ok=True)


def _settle(half: Path, path: Path) -> None:
    """Give a whole file its name, its content being on the disk before the name is."""
    with half.open("rb") as opened:
        os.fsync(opened.fileno())
    half.replace(path)


def _content(path: Path) -> Any:
    if not path.is_dir():
        return _sha256(path)
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return [[each.relative_to(path).as_posix(), each.stat().st_size] for each in files]


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _listed(folder: Path, split: str, origin: str) -> tuple[dict[str, str], Any]:
    """Names and hashes of all shards, and the notes; none if they are not all written."""
    path = list_path(folder, split)
    try:
        data = json.loads(path.read_bytes())
        made, notes = data["origin"], data["notes"]
        listed = {each["name"]: each["sha256"] for each in data["shards"]}
    except FileNotFoundError:
        return {}, None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected the list of shards that this library writes, got {error!r}; delete "
            "it, and the shards will be read again"
        ) from error
    if made != origin:
        raise _other(path)
    return listed, notes


def _standing(path: Path, origin: str, sha256: str | None) -> Shard | None:
    """A shard that is whole and of this origin; None for one that is ours and damaged."""
    parquet = require("pyarrow.parquet", extra="eval")
    if sha256 is not None and _sha256(path) != sha256:
        return None
    try:
        metadata = parquet.read_metadata(path)
    except (OSError, ValueError) as error:  # PyArrow's errors are of these kinds
        raise InputError(
            f"{path}: expected a Parquet file, got {error}; delete it or write elsewhere"
        ) from error
    held = _held(metadata.metadata)
    if held.get("origin") != origin:
        raise _other(path)
    return Shard(path.name, metadata.num_rows, held["notes"], sha256 or _sha256(path))


def _held(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """What this library wrote into a file's metadata; nothing if another wrote the file."""
    try:
        held = json.loads((metadata or {}).get(_KEY, b"{}"))
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}


def _other(path: Path) -> InputError:
    return InputError(
        f"{path}: expected the output of the same input and settings, got that of others; delete "
        "it or write to another folder"
    )
