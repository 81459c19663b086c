"""Which Parquet files hold a set of samples.

Goes in: files and folders, and perhaps the name of a split. Comes out: the files, in order, and a
fingerprint of their content.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from rankreward.errors import InputError

# As `rankreward.datasets.shards` names them, or as others do who count them.
_SHARD = re.compile(r"(?P<split>.+?)-[0-9]{5}(?P<counted>-of-[0-9]{5})?\.parquet")


def files_of(paths: Sequence[str | Path], split: str | None = None) -> list[Path]:
    """The Parquet files of paths.

    Args:
        paths: files, which are taken as they are, and folders, of which the ``*.parquet`` are
            taken, at any depth, in the order of their names.
        split: of folders only the shards of this split, such as ``<split>-00000.parquet``.

    Raises:
        InputError: there is no file; a folder has not the split, or several and none is named; or
            it has shards named as `rankreward.datasets.build` does, without the list
            ``<split>.json`` that a finished build writes.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        files += _of_folder(path, split) if path.is_dir() else [path]
    missing = [str(file) for file in files if not file.is_file()]
    if missing or not files:
        raise InputError(f"samples: expected Parquet files, got {missing or list(map(str, paths))}")
    return files


def fingerprint_of(files: Sequence[Path]) -> str:
    """A hash of what files hold, in their order."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


def _of_folder(folder: Path, split: str | None) -> list[Path]:
    files = sorted(folder.rglob("*.parquet"))
    splits = sorted({name for file in files if (name := _split_of(file)) is not None})
    listed = ", ".join(splits) or "none"
    if split is None and len(splits) > 1:
        raise InputError(
            f"{folder}: expected shards of one split, got those of {listed}; name one of these"
        )
    if split is not None:
        files = [file for file in files if _split_of(file) == split]
        if not files:
            raise InputError(f"{folder}: expected shards of the split {split!r}, got {listed}")
    _check_finished(files)
    return files


def _split_of(file: Path) -> str | None:
    """The split that a shard's name begins with; None for a file that is named otherwise."""
    match = _SHARD.fullmatch(file.name)
    return None if match is None else match["split"]


def _check_finished(files: Sequence[Path]) -> None:
    """A build that was killed leaves shards without a list of them."""
    for file in files:
        match = _SHARD.fullmatch(file.name)
        if match is None or match["counted"]:
            continue
        listed = file.with_name(f"{match['split']}.json")
        if not listed.is_file():
            raise InputError(
                f"{file}: expected {listed.name}, which a finished build writes, beside the "
                "shard, got none; finish the build with the command that began it, or give the "
                "files themselves if they are all"
            )
