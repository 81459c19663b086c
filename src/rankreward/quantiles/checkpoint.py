"""Save and load a flat state: numbers, texts and arrays, in one .npz file without pickle.

Goes in: a mapping of plain values. Comes out: a file, or the same mapping read back. A save that
is cut short leaves the old file as it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rankreward.errors import CheckpointError

SCHEMA = 1  # raise it when the meaning of a saved state changes


def save_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write a state atomically.

    Args:
        path: the file to write; its folder has to exist. The old file is replaced in one move,
            after the new one is whole and on disk.
        state: arrays, and values that JSON can hold.

    Raises:
        OSError: the file cannot be written; the old one is untouched.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path}: expected an existing folder {str(path.parent)!r}, got none"
        )
    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    plain = {key: value for key, value in state.items() if key not in arrays}
    header = json.dumps({"schema": SCHEMA, "state": plain}).encode()
    # Not `tempfile`: its files are readable by their owner alone, and would stay so.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            np.savez(file, header=np.frombuffer(header, dtype=np.uint8), **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a state that `save_state` wrote.

    Args:
        path: the file.

    Returns:
        The mapping that was saved, arrays as arrays.

    Raises:
        OSError: there is no such file, or it may not be read.
        CheckpointError: the file is damaged, or was written with another schema.
    """
    try:
        # np.load leaves a damaged file open if it has to open it itself
        with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        header = json.loads(arrays.pop("header").tobytes())
        schema, state = header["schema"], {**header["state"], **arrays}
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except Exception as error:
        # A damaged zip can make its reader raise anything at all.
        raise CheckpointError(
            f"{path}: expected a state saved by rankreward, got a damaged or foreign file ({error})"
        ) from error
    if schema != SCHEMA:
        raise CheckpointError(f"{path}: expected schema {SCHEMA}, got {schema!r}")
    return state


def _sync_folder(folder: Path) -> None:
    """Make the rename durable; file systems that cannot sync a folder are left alone."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
