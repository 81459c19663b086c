"""Records: what a run keeps of each sample, one line of JSON each.

Goes in: the facts of samples. Comes out: files of lines that survive a kill, and the records of
one or many such files in the order of the data.

A record has ``id``, ``place`` (in the data), ``completion``, ``tokens``, ``finish``, ``seconds``,
and what `rankreward.evaluation.facts.facts_of` says. A sample that could not be judged has ``id``,
``place``, ``stage`` and ``error`` instead.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from rankreward.errors import InputError, StateError
from rankreward.evaluation.settings import differences, read_settings

Record = dict[str, Any]
_PATTERN = "samples-*.jsonl"


class RecordFile:
    """A file that records are appended to, by one process at a time.

    A line that was cut short by the death of the process that wrote it is dropped.

    Args:
        path: the file; made if it is not there.

    Raises:
        StateError: another process has it open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a+b")
        try:
            _lock(self._file, path)
            self._file.truncate(_whole_lines(self._file))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, records: Iterable[Record]) -> None:
        """Append records; once this returns they are on the disk."""
        text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
        self._file.write(text.encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def read_records(path: str | Path) -> Iterator[Record]:
    """The records of one file, but for a last line that is not yet whole.

    Raises:
        InputError: the file cannot be read, or a line is no record.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"records: cannot read {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        last = number == len(lines)  # whole but for its line's end, or cut short, or nothing
        try:
            record = json.loads(line)
        except ValueError as error:
            if last:
                return
            raise InputError(f"{path}:{number}: expected a line of JSON, got {error}") from error
        if not isinstance(record, dict) or not isinstance(record.get("id"), str):
            raise InputError(f"{path}:{number}: expected a record with an id, got {line[:60]!r}")
        yield record


def record_files(source: str | Path) -> list[Path]:
    """The files of a run's folder, in the order of their names; or the file itself.

    Raises:
        InputError: there is none.
    """
    path = Path(source)
    files = sorted(path.glob(_PATTERN)) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise InputError(f"records: expected a file, or a folder with {_PATTERN}, got {source}")
    return files


def has_records(folder: Path) -> bool:
    """Whether a run's folder holds any line."""
    return any(file.stat().st_size for file in folder.glob(_PATTERN))


def merge(sources: str | Path | Sequence[str | Path]) -> list[Record]:
    """The records of files and folders together, in the order of the data.

    Args:
        sources: files of records, folders of runs, or one of these.

    Returns:
        One record a sample. A sample's error gives way to its result; results that differ in
        ``seconds`` alone are one.

    Raises:
        InputError: a sample has two results, runs had different settings, or a file is no such
            file.
    """
    paths = [sources] if isinstance(sources, str | Path) else list(sources)
    files = [file for path in paths for file in record_files(path)]
    _check_settings(files)
    records: dict[str, Record] = {}
    for file in files:
        for record in read_records(file):
            known = records.get(record["id"])
            if known is None or "error" in known:
                records[record["id"]] = record
            elif "error" not in record and _content(known) != _content(record):
                keys = sorted(key for key in record if known.get(key) != record[key])
                raise InputError(
                    f"{file}: sample {record['id']!r} has another result before, other in "
                    f"{', '.join(keys)}"
                )
    return sorted(records.values(), key=lambda record: (record.get("place", 0), record["id"]))


def judged(records: Iterable[Record]) -> list[Record]:
    """Those without an error."""
    return [record for record in records if "error" not in record]


def _content(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "seconds"}


def _check_settings(files: Sequence[Path]) -> None:
    folders = list(dict.fromkeys(file.parent for file in files))
    known = [(folder, read_settings(folder)) for folder in folders]
    given = [(folder, settings) for folder, settings in known if settings is not None]
    for folder, settings in given[1:]:
        other = differences(given[0][1], settings)
        if other:
            raise InputError(
                f"records: expected runs with the same settings, {given[0][0]} and {folder} differ "
                f"in {'; '.join(other)}"
            )


def _whole_lines(file: Any) -> int:
    """How many bytes whole lines take."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(end - (1 << 16), 0)
        file.seek(start)
        place = file.read(end - start).rfind(b"\n")
        if place >= 0:
            return int(start + place + 1)
        end = start
    return 0


def _lock(file: Any, path: Path) -> None:
    """Keep others out for as long as this process lives and has the file open."""
    try:
        import fcntl  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StateError(f"{path}: another process is writing this shard; wait for it") from error
    except OSError:  # a file system without locks
        return
