"""Logs of rollouts, read row by row in the order of their steps.

Goes in: files and folders, as trainers write them (`rankreward.logs.formats` says which columns).
Comes out: `LogRow` and `BadRow`, one at a time, for `rankreward.logs.steps.chunks`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from rankreward.errors import InputError
from rankreward.logs.formats import TRL, Format, Names, detect, read_row, unknown
from rankreward.logs.gaps import Gaps
from rankreward.logs.pictures import Pictures
from rankreward.logs.records import SUFFIXES, Record, read_records, table_mark
from rankreward.logs.references import read_pairs, text_of
from rankreward.logs.rows import BadRow, LogRow
from rankreward.logs.trl_tables import Tables

_logger = logging.getLogger(__name__)
_PEEK = 1000  # rows looked at for a file's first step
# What `rankreward score` writes beside its settings: rewards and examples, but no log.
_RESULTS = ("scored.jsonl", "steps.jsonl", "bad.jsonl", "examples.jsonl")


def read_log(
    paths: Sequence[str | Path],
    *,
    completion: str | None = None,
    reference: str | None = None,
    group: str | None = None,
    step: str | None = None,
    references: str | Path | None = None,
    images: bool = False,
    say: Callable[[str], None] = _logger.info,
    progress: Callable[[int], None] = lambda _: None,
    gaps: Gaps | None = None,
) -> Iterator[LogRow | BadRow]:
    """Read a log.

    Args:
        paths: files that end in ``.jsonl``, ``.jsonl.gz``, ``.parquet`` or ``.log`` (EasyR1's), and
            folders of such files; read in the order of their first steps, without steps in the
            order given, those of a folder by name.
        completion: the column with the completions, where no format is known.
        reference: likewise of the references.
        group: likewise of the groups.
        step: likewise of the steps.
        references: a file of the columns ``prompt`` and ``reference`` for a log without references,
            joined by the prompt's text; it is held in memory.
        images: whether to open the images in the columns ``images`` or ``image``.
        say: told the format of the files, once for each that differs, and what is left out.
        progress: told the bytes read so far, of `size_of`.
        gaps: told the steps.

    Yields:
        Rollouts and bad rows as they stand. TRL writes its table at each logged step, also where
        that trained on rollouts of an earlier one; a table like the one before it is left out, and
        of the tables of `rankreward.adapters.trl` all that is no new rollout of training.

    Raises:
        InputError: there is no such file, a Parquet file is damaged, or the file of references is.
        MissingExtraError: a file is Parquet, and pyarrow is not installed.
    """
    names = Names(completion, reference, group, step)
    pairs = None if references is None else read_pairs(references)
    told: set[str] = set()

    def tell(text: str) -> None:
        if text not in told:
            told.add(text)
            say(text)

    files, found = files_of(paths, say), gaps or Gaps()
    calls, tables = _names(files), Tables(found)
    before = 0
    for file in _once(_in_order(files, names), found, say):
        reader = _File(file, calls[file], names, images=images, say=tell)
        begun = before
        for row in reader.rows(lambda done, begun=begun: progress(begun + done)):  # type: ignore[misc]
            kept = row if isinstance(row, BadRow) or not reader.trl else tables.training(row)
            if isinstance(kept, LogRow):
                found.add(kept.step)
                yield _joined(kept, pairs) if kept.reference is None else kept
            elif kept is not None:
                yield kept
        before += file.stat().st_size
    tables.end(say)


def size_of(paths: Sequence[str | Path]) -> int:
    """Bytes of a log's files."""
    return sum(file.stat().st_size for file in files_of(paths))


def files_of(paths: Sequence[str | Path], say: Callable[[str], None] = _logger.info) -> list[Path]:
    """The files of a log, those of a folder by the numbers in their names.

    Args:
        paths: files and folders.
        say: told of a folder's results of `rankreward score`, which are left out.

    Raises:
        InputError: a path is not there, or a folder has no such files.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        inside = _inside(path, say) if path.is_dir() else [path]
        if not inside or not path.exists():
            got = "none" if path.is_dir() else "no such file or folder"
            if (path / "completions").is_dir():
                got += f"; TRL's tables are in {path / 'completions'}"
            raise InputError(f"{path}: expected files that end in {', '.join(SUFFIXES)}, got {got}")
        files += sorted(inside, key=_natural)
    return files


def _inside(folder: Path, say: Callable[[str], None]) -> list[Path]:
    inside = [each for each in folder.iterdir() if each.name.endswith(SUFFIXES)]
    results = [each for each in inside if each.name in _RESULTS]
    if not results or not (folder / "settings.json").exists():
        return inside
    if len(results) == len(inside):
        raise InputError(f"{folder}: expected a log, got what rankreward score made of one")
    say(f"{folder}: left out {', '.join(sorted(each.name for each in results))}, which are results")
    return [each for each in inside if each not in results]


def _natural(file: Path) -> list[tuple[int, str]]:
    """Sorts ``9.jsonl`` before ``10.jsonl``."""
    parts = re.split(r"(\d+)", file.name)
    return [(int(part) if part.isdecimal() else 0, part) for part in parts]


def _names(files: Sequence[Path]) -> dict[Path, str]:
    """What the files are called in messages: their names, or their paths where those are shared."""
    short = len({file.name for file in files}) == len(set(files))
    return {file: file.name if short else str(file) for file in files}


def _in_order(files: list[Path], names: Names) -> list[tuple[Path, int | None]]:
    """Files with their first steps; one file alone is not looked into."""
    if len(files) == 1:
        return [(files[0], None)]
    first = [(file, _first_step(file, names)) for file in files]
    return sorted(first, key=lambda each: -1 if each[1] is None else each[1])


def _first_step(file: Path, names: Names) -> int | None:
    rows = _File(file, file.name, names, images=False, say=lambda _: None).rows(lambda _: None)
    found = (row.step for row in islice(rows, _PEEK) if isinstance(row, LogRow))
    return next(found, None)


def _once(
    files: Sequence[tuple[Path, int | None]], gaps: Gaps, say: Callable[[str], None]
) -> Iterator[Path]:
    """The files without TRL's tables that hold what the one before holds."""
    before: str | None = None
    for file, step in files:
        content = table_mark(file) if len(files) > 1 else None
        if content is not None and content == before:
            say(
                f"{file.name}: the rollouts of the table before it, which TRL wrote again: left out"
            )
            gaps.add(step)
        else:
            yield file
        before = content


def _joined(row: LogRow, pairs: dict[str, Any] | None) -> LogRow | BadRow:
    if pairs is None:
        return BadRow(
            row.place,
            "expected a reference, got none; name its column with --reference, or give a file of "
            "prompts and references with --references",
        )
    prompt = text_of(row.columns.get("prompt"))
    if prompt is None or prompt not in pairs:
        return BadRow(row.place, f"expected a prompt that has a reference, got {prompt!r:.60}")
    return replace(row, reference=pairs[prompt])


class _File:
    """One file, and the format that its first record tells."""

    def __init__(
        self, file: Path, name: str, names: Names, *, images: bool, say: Callable[[str], None]
    ) -> None:
        self._file, self._name, self._names, self._say = file, name, names, say
        self._pictures = Pictures(file.parent) if images else None
        self._format: Format | None = None

    @property
    def trl(self) -> bool:
        """Whether it is one of TRL's tables, as far as it has been read."""
        return self._format is not None and self._format.name == TRL.name

    def rows(self, progress: Callable[[int], None]) -> Iterator[LogRow | BadRow]:
        records = read_records(
            self._file, self._name, images=self._pictures is not None, progress=progress
        )
        for record in records:
            yield record if isinstance(record, BadRow) else self._row(*record)

    def _row(self, place: str, record: Record) -> LogRow | BadRow:
        if self._format is None:
            self._format = detect(record, self._names)
            if self._format is None:
                return BadRow(place, unknown(record, self._names))
            self._say(str(self._format))
        row = read_row(place, record, self._format)
        return row if self._pictures is None or isinstance(row, BadRow) else self._pictures.add(row)
