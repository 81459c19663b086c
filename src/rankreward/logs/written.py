"""The folder that a scored log is written to.

Goes in: scored chunks. Comes out: ``settings.json``, ``scored.jsonl`` (a line a rollout),
``steps.jsonl`` (a line a step), ``bad.jsonl``, ``examples.jsonl``, ``windows/`` and
``summary.json``. What an interrupted run leaves ends with a complete step.
"""

from __future__ import annotations

import heapq
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rankreward.errors import InputError
from rankreward.logs.rows import LogRow
from rankreward.logs.scoring import Scored
from rankreward.logs.sums import tokens_of
from rankreward.parsing import Failure
from rankreward.rewards import RewardBatch, Scorer

RESULTS = (
    "settings.json", "scored.jsonl", "steps.jsonl", "bad.jsonl", "examples.jsonl", "summary.json",
)  # fmt: skip
_WINDOWS = 20  # snapshots kept at most, beside the last
_EXAMPLES = 3  # rollouts a failure code, and of the best and the worst paid

_quote = json.JSONEncoder().encode


class Folder:
    """The folder, while it is being written; before the first chunk nothing of it is touched.

    Args:
        path: made if it is not there.
        settings: what was asked for.
        overwrite: whether to delete an earlier result in it.

    Raises:
        InputError: there is an earlier result.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, overwrite: bool) -> None:
        self.path = path
        self._settings = settings
        _refuse(path, overwrite=overwrite)
        self._files: dict[str, _Lines] = {}
        self._last: int | None = None
        self._examples = _Examples()
        self._windows = _Windows(path / "windows")

    def add(self, scored: Scored) -> None:
        """Write a chunk.

        Raises:
            OSError: it cannot be written; the message names the file.
        """
        self._open()
        bad = [_line({"place": row.place, "reason": row.reason}) for row in scored.bad]
        self._files["bad.jsonl"].write(bad)
        self._files["bad.jsonl"].keep()
        if scored.batch is not None:
            self._files["scored.jsonl"].write(_texts(scored.step, scored.rows, scored.batch))
            self._examples.add(scored.step, scored.rows, scored.batch)

    def end_step(self, line: Mapping[str, Any], scorer: Scorer) -> None:
        """Write a step's line, after its last chunk."""
        self._files["steps.jsonl"].write([_line(line)])
        self._files["scored.jsonl"].keep()
        self._files["steps.jsonl"].keep()
        self._last = line["step"]
        self._windows.add(line["step"], scorer)

    def close(self, summary: Mapping[str, Any], scorer: Scorer) -> None:
        """Write the rest; of a step that has not ended nothing is left."""
        if not self._files:
            return
        for file in self._files.values():
            file.close()
        try:
            examples = self._examples.lines(self._last)
            _replace(self.path / "examples.jsonl", b"".join(map(_line, examples)))
            if summary["finished"] and self._last is not None:
                self._windows.end(self._last, scorer)
        finally:
            _write(self.path / "summary.json", summary)

    def _open(self) -> None:
        if self._files:
            return
        _clear(self.path)
        (self.path / "windows").mkdir(parents=True, exist_ok=True)
        _write(self.path / "settings.json", self._settings)
        names = ("scored.jsonl", "steps.jsonl", "bad.jsonl")
        self._files = {name: _Lines(self.path / name) for name in names}


class _Lines:
    """A file of lines, of which a full disk leaves what is worth keeping."""

    def __init__(self, path: Path) -> None:
        self._path, self._kept = path, 0
        self._stream = path.open("wb", buffering=0)

    def write(self, lines: Iterable[bytes]) -> None:
        waiting = memoryview(b"".join(lines))
        with _named(self._path):
            while waiting:
                waiting = waiting[self._stream.write(waiting) :]

    def keep(self) -> None:
        """What has been written stays."""
        self._kept = self._stream.tell()

    def close(self) -> None:
        self._stream.truncate(self._kept)
        self._stream.close()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Writing says why it failed, but not where."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _refuse(path: Path, *, overwrite: bool) -> None:
    there = [name for name in RESULTS if (path / name).exists()]
    if there and not overwrite:
        raise InputError(
            f"{path}: expected a folder without results, got one with {', '.join(there)}; choose "
            "another, or give --overwrite"
        )


def _clear(path: Path) -> None:
    for name in RESULTS:
        (path / name).unlink(missing_ok=True)
    for file in path.glob("windows/step-*.npz"):
        file.unlink()


def _write(path: Path, values: Mapping[str, Any]) -> None:
    _replace(path, f"{json.dumps(values, indent=1)}\n".encode())


def _replace(path: Path, content: bytes) -> None:
    """In one move, so that a reader finds a whole file."""
    part = path.with_name(f".{path.name}.tmp")
    try:
        with _named(path):
            part.write_bytes(content)
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _line(values: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(values)}\n".encode()


def _texts(step: int, rows: Sequence[LogRow], batch: RewardBatch) -> Iterable[bytes]:
    """The lines of a batch; written by hand, since that takes a third of the time."""
    parts = {"terms": batch.terms, "raw": batch.raw, "ranks": batch.ranks}
    columns = [_numbers(batch.total)]
    form = f'{{"place": %s, "step": {step}, "group": %s, "total": %s'
    for name, values in parts.items():
        inside = ", ".join(_quote(each).replace("%", "%%") + ": %s" for each in values)
        form += f', "{name}": {{{inside}}}'
        columns += [_numbers(column) for column in values.values()]
    form += ', "failure": %s, "length": %d%s}\n'
    for row, failure, numbers in zip(rows, batch.failures, zip(*columns, strict=True), strict=True):
        tokens = tokens_of(row)
        more = "" if math.isnan(tokens) else f', "tokens": {tokens!r}'
        place, group = _quote(row.place), _quote(row.group)
        wrong = "null" if failure is None else _quote(_fields(failure))
        text = form % (place, group, *numbers, wrong, len(row.completion), more)
        yield text.encode()


def _fields(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {"code": failure.code, "message": failure.message, "position": failure.position}


def _numbers(column: Any) -> list[str]:
    """Numbers as JSON has them; NaN, which it has not, as null."""
    texts = list(map(repr, column.tolist()))
    for index in np.flatnonzero(np.isnan(column)).tolist():
        texts[index] = "null"
    return texts


class _Examples:
    """Whole rollouts: a few for each failure code, the best paid, and the worst of the readable."""

    def __init__(self) -> None:
        self._failed: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._paid: dict[str, list[tuple[float, int, dict[str, Any]]]] = {"best": [], "worst": []}
        self._count = 0

    def add(self, step: int, rows: Sequence[LogRow], batch: RewardBatch) -> None:
        for index, failure in enumerate(batch.failures):
            if failure is not None and len(self._failed[failure.code]) < _EXAMPLES:
                self._failed[failure.code].append(
                    self._entry(failure.code, step, rows, batch, index)
                )
        totals = batch.total
        read = np.flatnonzero([failure is None for failure in batch.failures])
        order = read[np.argsort(-totals[read], kind="stable")]
        for why, sign, some in (("best", 1, order[:_EXAMPLES]), ("worst", -1, order[-_EXAMPLES:])):
            for index in some.tolist():
                self._offer(why, sign * float(totals[index]), step, rows, batch, index)

    def _offer(
        self,
        why: str,
        worth: float,
        step: int,
        rows: Sequence[LogRow],
        batch: RewardBatch,
        index: int,
    ) -> None:
        kept = self._paid[why]
        if len(kept) == _EXAMPLES and kept[0][0] >= worth:
            return
        self._count += 1
        entry = self._entry(why, step, rows, batch, index)
        heapq.heappush(kept, (worth, -self._count, entry))
        if len(kept) > _EXAMPLES:
            heapq.heappop(kept)

    @staticmethod
    def _entry(
        why: str, step: int, rows: Sequence[LogRow], batch: RewardBatch, index: int
    ) -> dict[str, Any]:
        row, failure = rows[index], batch.failures[index]
        return {
            "why": why, "place": row.place, "step": step, "group": row.group,
            "total": float(batch.total[index]), "completion": row.completion,
            "reference": _plain(row.reference),
            "failure": _fields(failure),
        }  # fmt: skip

    def lines(self, last: int | None) -> list[dict[str, Any]]:
        """Those of complete steps, each once."""
        paid = [entry for why in self._paid.values() for _, _, entry in sorted(why, reverse=True)]
        failed = [entry for entries in self._failed.values() for entry in entries]
        unique = {entry["place"]: entry for entry in reversed([*failed, *paid])}
        whole = [each for each in unique.values() if last is not None and each["step"] <= last]
        return whole[::-1]


def _plain(reference: Any) -> Any:
    """A reference as JSON, or as Python shows it where it is none."""
    try:
        json.dumps(reference)
    except (TypeError, ValueError, RecursionError):
        return f"{reference!r:.1000}"
    return reference


class _Windows:
    """Snapshots of the window, at even distances, thinned as the run goes on."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._every, self._steps = folder, 1, 0
        self._kept: list[Path] = []

    def add(self, step: int, scorer: Scorer) -> None:
        if self._steps % self._every == 0:
            self._kept.append(self._save(step, scorer))
        self._steps += 1
        if len(self._kept) > _WINDOWS:
            for file in self._kept[1::2]:
                file.unlink()
            self._kept = self._kept[::2]
            self._every *= 2

    def end(self, step: int, scorer: Scorer) -> None:
        if not self._file(step).exists():
            self._save(step, scorer)

    def _file(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}.npz"

    def _save(self, step: int, scorer: Scorer) -> Path:
        with _named(self._file(step)):
            scorer.save(self._file(step))
        return self._file(step)
