"""The records of one file of a log, one at a time.

Goes in: a file: JSON lines, plain or compressed, Parquet, or EasyR1's ``generations.log``. Comes
out: a mapping a rollout, or what is wrong with the place where one should be. Memory is bounded
whatever the file's size: by the longest line, or by a thousand rows.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from rankreward.errors import InputError, require
from rankreward.logs.rows import BadRow

Record = dict[str, Any]
Progress = Callable[[int], None]  # told how many bytes of the file have been read

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".log")
IMAGES = ("images", "image")  # of a Parquet file they are read only where they are wanted
_LONGEST = 1 << 26  # bytes of a line; what is longer is no rollout
_HELD = 1 << 25  # bytes of Parquet that are made Python's at a time
_BATCH = 1000  # rows of Parquet at a time, and lines between two words of progress


def read_records(
    file: Path, name: str, *, images: bool, progress: Progress
) -> Iterator[tuple[str, Record] | BadRow]:
    """Read a file.

    Args:
        file: its path; the name's end says what it is.
        name: what its rows are called by, as ``name:17``.
        images: whether images are wanted.
        progress: called now and then with the bytes read so far.

    Yields:
        Place and record; or a bad row.

    Raises:
        InputError: the name ends otherwise, or a Parquet file is damaged.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    if file.name.endswith(".parquet"):
        return _parquet(file, name, images=images, progress=progress)
    if file.name.endswith(".log"):
        return _generations(_lines(file, name, progress))
    if file.name.endswith((".jsonl", ".jsonl.gz")):
        return _json(_lines(file, name, progress))
    raise InputError(f"{file}: expected a name that ends in {', '.join(SUFFIXES)}")


def _lines(file: Path, name: str, progress: Progress) -> Iterator[tuple[str, bytes] | BadRow]:
    """The lines with their places; a compressed file may break off, as when its writer died."""
    number = 0
    with file.open("rb") as raw:
        packed = file.name.endswith(".gz")
        stream: Any = gzip.GzipFile(fileobj=raw) if packed else raw
        try:
            while line := stream.readline(_LONGEST):
                number += 1
                if number % _BATCH == 0:
                    progress(raw.tell())
                if len(line) == _LONGEST and not line.endswith(b"\n"):
                    _skip_line(stream)
                    reason = f"expected a line of less than {_LONGEST >> 20} MiB, got a longer one"
                    yield BadRow(f"{name}:{number}", reason)
                else:
                    yield f"{name}:{number}", line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            yield BadRow(f"{name}:{number + 1}", f"expected compressed data, got {error}")
        progress(raw.tell())


def _skip_line(stream: IO[bytes]) -> None:
    while (line := stream.readline(_LONGEST)) and not line.endswith(b"\n"):
        pass


def _json(
    lines: Iterator[tuple[str, bytes] | BadRow],
) -> Iterator[tuple[str, Record] | BadRow]:
    decode = json.JSONDecoder().decode
    for line in lines:
        if isinstance(line, BadRow):
            yield line
            continue
        place, text = line
        try:
            record = decode(str(text.removeprefix(b"\xef\xbb\xbf"), "utf-8"))
        except (ValueError, RecursionError) as error:
            if not text.isspace():
                yield BadRow(place, f"expected a JSON object, got {_why(error)}")
            continue
        if isinstance(record, dict):
            yield place, record
        else:
            yield BadRow(place, f"expected a JSON object, got {type(record).__name__}")


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"none: {error.msg} at column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return f"bytes that are not UTF-8 at column {error.start + 1}"
    return "none: it is nested too deep" if isinstance(error, RecursionError) else f"none: {error}"


def _parquet(
    file: Path, name: str, *, images: bool, progress: Progress
) -> Iterator[tuple[str, Record] | BadRow]:
    parquet: Any = require("pyarrow.parquet", extra="eval")
    arrow: Any = require("pyarrow", extra="eval")
    size, row = file.stat().st_size, 0
    try:
        with parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as table:
            total = max(table.metadata.num_rows, 1)
            columns = [each for each in table.schema_arrow.names if images or each not in IMAGES]
            for batch in table.iter_batches(_BATCH, columns=columns):
                few = max(1, _BATCH * _HELD // max(batch.nbytes, _HELD))
                for start in range(0, len(batch), few):
                    for record in batch.slice(start, few).to_pylist():
                        row += 1
                        yield f"{name}:{row}", _filled(record)
                progress(size * row // total)
    except (arrow.ArrowException, OSError) as error:
        raise InputError(f"{file}: expected a whole Parquet file, got {error}") from error


def table_mark(file: Path) -> str | None:
    """A hash of the rollouts of one of TRL's tables, whatever its step; None for other files.

    Raises:
        InputError: the file is damaged.
    """
    if not file.name.endswith(".parquet"):
        return None
    parquet: Any = require("pyarrow.parquet", extra="eval")
    arrow: Any = require("pyarrow", extra="eval")
    told = ["prompt", "completion", "advantage"]
    digest = hashlib.sha256()
    try:
        with parquet.ParquetFile(file, pre_buffer=False) as table:
            if not {*told} <= {*table.schema_arrow.names}:
                return None
            for batch in table.iter_batches(_BATCH, columns=told):
                digest.update(repr(batch.to_pylist()).encode("utf-8", "surrogatepass"))
    except (arrow.ArrowException, OSError) as error:
        raise InputError(f"{file}: expected a whole Parquet file, got {error}") from error
    return digest.hexdigest()


def _filled(value: Any) -> Any:
    """Nested mappings without their empty fields: a table gives each the fields of all."""
    if isinstance(value, dict):
        return {key: _filled(each) for key, each in value.items() if each is not None}
    return [_filled(each) for each in value] if isinstance(value, list) else value


_FIELDS = re.compile(rb"^\[(prompt|output|ground_truth|score)\] ", re.MULTILINE)
_ORDER = [b"prompt", b"output", b"ground_truth", b"score"]


def _generations(
    lines: Iterator[tuple[str, bytes] | BadRow],
) -> Iterator[tuple[str, Record] | BadRow]:
    """EasyR1's text, where nothing marks its delimiters inside an answer.

    A rollout ends with a line of its score and an empty one. Where a field is not there once and in
    its place, it cannot be told what is the answer, and the row is a bad one.
    """
    place, held, size, scored = "", [b""], 0, False
    for line in lines:
        if isinstance(line, BadRow):
            yield line
            continue
        if not size:
            place = line[0]
        if size < _LONGEST:
            held.append(line[1])
        size += len(line[1])
        if scored and line[1] == b"\n":
            yield _generation(place, b"".join(held), size)
            held, size = [], 0
        scored = line[1].startswith(b"[score] ")
    if size and b"".join(held).strip():
        yield _generation(place, b"".join(held), size)


def _generation(place: str, text: bytes, size: int) -> tuple[str, Record] | BadRow:
    parts = _FIELDS.split(text)
    if size > _LONGEST or parts[1::2] != _ORDER or parts[0].strip():
        got = ", ".join(each.decode() for each in parts[1::2]) or "none of them"
        return BadRow(
            place,
            f"expected [prompt], [output], [ground_truth] and [score] once each, got {got:.80}",
        )
    try:
        prompt, output, truth, score = (part.decode() for part in parts[2::2])
        number = float(score)
    except ValueError as error:
        return BadRow(place, f"expected UTF-8 and a number as score, got {error}")
    return place, {
        "prompt": prompt.removesuffix("\n"), "completion": output.removesuffix("\n"),
        "reference": truth.removesuffix("\n"), "score": number,
    }  # fmt: skip
