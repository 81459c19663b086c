"""Save and load a flat state: numbers, texts and arrays, in one .npz file without pickle.

Goes in: a mapping of plain values. Comes out: a file, or the same mapping read back. A save that
is cut short leaves the old file as it was. A file that was changed in any way that matters is
refused: it holds a checksum of all it says.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.errors import CheckpointError

SCHEMA = 2  # raise it when the meaning of a saved state, or of its file, changes


def save_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write a state atomically.

    Args:
        path: the file to write; its folder has to exist. The old file is replaced in one move,
            after the new one is whole and on disk. A process that is killed in between leaves
            `.NAME.*.tmp` beside it, which may be deleted.
        state: arrays of numbers, and values that JSON can hold.

    Raises:
        OSError: the file cannot be written; the old one is untouched.
        TypeError: the state holds something else; the old file is untouched.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path}: expected an existing folder {str(path.parent)!r}, got none"
        )
    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    plain = {key: value for key, value in state.items() if key not in arrays}
    odd = next((key for key, array in arrays.items() if array.dtype.hasobject), None)
    if odd is not None:
        raise TypeError(f"state: expected arrays of numbers, got one of objects as {odd!r}")
    text = json.dumps({"schema": SCHEMA, "state": plain}).encode()
    header = np.frombuffer(text, dtype=np.uint8)
    checksum = np.frombuffer(_checksum({**arrays, "header": header}), dtype=np.uint8)
    # Not `tempfile`: its files are readable by their owner alone, and would stay so.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            np.savez(file, header=header, checksum=checksum, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.add_note(f"{path} was not written; make room or mend the folder, and save again")
        raise
    _sync_folder(path.parent)


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a state that `save_state` wrote.

    Args:
        path: the file.

    Returns:
        The mapping that was saved, arrays as arrays.

    Raises:
        OSError: there is no such file, or it cannot be read.
        CheckpointError: the file is damaged, or was written with another schema.
    """
    raw = Path(path).read_bytes()
    try:
        return _parse(raw)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:
        # A damaged zip can make its reader raise anything at all.
        raise CheckpointError(
            f"{path}: expected a state saved by rankreward, got a damaged or foreign file ({error})"
        ) from error


def _parse(raw: bytes) -> dict[str, Any]:
    """The state in the bytes of a file; raises anything if there is none."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        header = json.loads(_member(archive, "header.npy").tobytes())
        if header["schema"] != SCHEMA:  # first, for another schema may keep the rest elsewhere
            raise CheckpointError(f"expected schema {SCHEMA}, got {header['schema']!r}")
        names = archive.namelist()
        arrays = {name.removesuffix(".npy"): _member(archive, name) for name in names}
    if len(arrays) != len(names):
        raise ValueError(f"two members of one name among {', '.join(names)}")
    checksum = arrays.pop("checksum")
    if checksum.tobytes() != _checksum(arrays):
        raise CheckpointError("expected the state that was saved, but the checksum does not match")
    del arrays["header"]
    return {**header["state"], **arrays}


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """One array of the file."""
    # Read to the end before NumPy sees it: only there does the zip notice damaged bytes, and
    # NumPy may warn of them.
    whole = io.BytesIO(archive.read(name))
    array: NDArray[Any] = np.lib.format.read_array(whole, allow_pickle=False)
    return array


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """SHA-256 of every name, dtype, shape and value; neither zip nor memory layout matters."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        # This line says how many bytes follow, so no two contents make one stream.
        digest.update(json.dumps([name, array.dtype.descr, array.shape]).encode() + b"\n")
        digest.update(array.tobytes())
    return digest.digest()


def _sync_folder(folder: Path) -> None:
    """Make the rename durable; file systems that cannot sync a folder are left alone."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
