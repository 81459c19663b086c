"""Rollouts in steps and groups.

Goes in: the rows of a log, in their order. Comes out: chunks of one step each, no larger than asked
for unless a group is, so that a log of any size can be scored in bounded memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rankreward.errors import InputError
from rankreward.logs.groups import Groups
from rankreward.logs.rows import BadRow, Chunk, LogRow

_logger = logging.getLogger(__name__)

LIMIT = 4096  # rows of a chunk
WITH_IMAGES = 128  # likewise, where a row holds an image, with the memory of a thousand texts
_BYTES = 1 << 25  # of a chunk's texts, roughly, beyond which it ends sooner
_PIXELS = 1 << 26  # likewise of its images, each counted once for neighbours that share it


def chunks(
    rows: Iterable[LogRow | BadRow],
    *,
    ranked: bool = True,
    grouped: bool = False,
    rows_per_step: int | None = None,
    group_size: int | None = None,
    limit: int = LIMIT,
    columns: Container[str] | None = None,
    say: Callable[[str], None] = _logger.warning,
) -> Iterator[Chunk]:
    """Deal rows to steps, and steps to chunks.

    Args:
        rows: what `read_log` gives.
        ranked: whether rewards depend on the steps: a log without them is then refused unless
            `rows_per_step` is given, and taken as one step, 1, otherwise.
        grouped: whether rewards depend on the groups: it is then an error if a group comes back in
            a later chunk, and a step whose groups are mixed from its start is held as a whole.
        rows_per_step: makes steps of so many rows, counted from 1, bad ones included; for logs that
            do not say.
        group_size: makes groups of so many neighbours of a step, bad rows included, whatever the
            log says. Without it and where the log has none they are guessed, as
            `rankreward.logs.groups.Groups` says.
        limit: rows of a chunk, from 1; a group whose rows stand together may take it beyond that.
        columns: those to keep of each row; None keeps all. Prompts are most of many a log.
        say: told once if guessed groups may be wrong.

    Yields:
        Chunks in the order of the rows, each row with its group. One without rows holds bad ones
        alone.

    Raises:
        InputError: a step falls, a log has no steps where they are needed or has them beside
            `rows_per_step`, or a group comes back; the message names the row.
    """
    groups = Groups(group_size, say)
    step = _Step(0, grouped=grouped, groups=groups, limit=limit, columns=columns)
    for number, row in _numbered(rows, ranked=ranked, rows_per_step=rows_per_step):
        if number != step.number:
            yield from step.end()
            groups.begin()
            step = _Step(number, grouped=grouped, groups=groups, limit=limit, columns=columns)
        yield from step.push(row)
    yield from step.end()


def _numbered(
    rows: Iterable[LogRow | BadRow], *, ranked: bool, rows_per_step: int | None
) -> Iterator[tuple[int, LogRow | BadRow]]:
    """Rows with their steps; a bad row belongs where it stands, to 0 before the first step."""
    last: LogRow | None = None
    number = 0
    for index, row in enumerate(rows):
        if rows_per_step is not None:
            number = index // rows_per_step + 1
        if isinstance(row, LogRow):
            if rows_per_step is None:
                _check_step(row, last, ranked=ranked)
                last, number = row, 1 if row.step is None else row.step
            elif row.step is not None:
                raise InputError(
                    f"{row.place}: expected a log without steps, as rows per step are given, got "
                    f"step {row.step}"
                )
        yield number, row


def _check_step(row: LogRow, last: LogRow | None, *, ranked: bool) -> None:
    if row.step is None and ranked:
        raise InputError(
            f"{row.place}: expected a step, as ranks are taken among earlier steps, got none; name "
            "its column with --step, or say how many rows a step has with --rows-per-step"
        )
    if last is None:
        return
    if (row.step is None) != (last.step is None):
        raise InputError(f"{row.place}: expected a step in every file or in none")
    if row.step is not None and last.step is not None and row.step < last.step:
        raise InputError(
            f"{row.place}: expected a step from {last.step} on, which {last.place} has, got "
            f"{row.step}; give runs one by one, and sort a log by its steps"
        )


@dataclass
class _Step:
    """The step that is being read, as far as it has not been dealt out."""

    number: int
    grouped: bool
    groups: Groups
    limit: int
    columns: Container[str] | None
    rows: list[LogRow] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    seen: int = 0  # rows of the step, bad ones included
    size: int = 0  # bytes of `rows`, roughly
    pixels: int = 0  # of their images
    runs: int = 0  # of neighbours of one group among `rows`
    names: set[str | None] = field(default_factory=set)  # groups among `rows`
    closed: set[str | None] = field(default_factory=set)  # groups that have been dealt out

    def push(self, row: LogRow | BadRow) -> Iterator[Chunk]:
        """Take a row; give a chunk that is full."""
        if isinstance(row, BadRow):
            self.bad.append(row)
            if len(self.bad) >= self.limit:
                yield Chunk(self.number, [], self.bad, ends=False)
                self.bad = []
        else:
            kept = self._kept(row)
            if self._full and self._may_be_cut(kept):
                yield self._take(ends=False)
            self._add(kept)
        self.seen += 1

    def end(self) -> Iterator[Chunk]:
        """What is left; a step without a rollout has none that could end it."""
        if self.rows or self.bad:
            yield self._take(ends=bool(self.rows))

    @property
    def _full(self) -> bool:
        large = self.size >= _BYTES or self.pixels >= _PIXELS
        return large or len(self.rows) >= self.limit

    def _kept(self, row: LogRow) -> LogRow:
        """The row with its group, and without what nobody needs."""
        group, columns = self.groups.of(row, self.seen), row.columns
        if self.columns is not None:
            columns = {name: each for name, each in columns.items() if name in self.columns}
        return replace(row, group=group, columns=columns)

    def _may_be_cut(self, row: LogRow) -> bool:
        """Whether a chunk can end before this row."""
        if row.group == self.rows[-1].group:
            return False
        return not self.grouped or (self.runs == len(self.names) and row.group not in self.names)

    def _add(self, row: LogRow) -> None:
        if not self.rows or self.rows[-1].group != row.group:
            self.runs += 1
            self.names.add(row.group)
            if row.group in self.closed:
                raise InputError(
                    f"{row.place}: expected the rows of a group together, got one more of group "
                    f"{row.group!r:.40} of step {self.number}; sort the step by its groups, or "
                    "give --group-size"
                )
        if row.image is not None and not (self.rows and self.rows[-1].image is row.image):
            self.pixels += _pixels(row.image)
        self.rows.append(row)
        self.size += _size(row)

    def _take(self, *, ends: bool) -> Chunk:
        chunk = Chunk(self.number, self.rows, self.bad, ends=ends)
        if self.grouped:
            self.closed |= self.names
        self.rows, self.bad, self.names = [], [], set()
        self.runs = self.size = self.pixels = 0
        return chunk


def _size(row: LogRow) -> int:
    """Bytes of a row, roughly."""
    total, waiting = len(row.completion), [row.reference, *row.columns.values()]
    while waiting:
        value: Any = waiting.pop()
        if isinstance(value, str | bytes):
            total += len(value)
        elif isinstance(value, Mapping):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple) and not {*map(type, value)} <= {int, float}:
            waiting += value
        elif isinstance(value, list | tuple):
            total += 32 * len(value)
        else:
            total += 32
    return total


def _pixels(image: Any) -> int:
    """Of PIL's image or of an array (H, W, 3)."""
    size = getattr(image, "shape", None) or image.size
    return int(size[0]) * int(size[1])
