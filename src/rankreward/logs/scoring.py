"""A log, scored by a recipe as if it were trained with it.

Goes in: chunks of rollouts, and a scorer. Comes out: what each was paid, chunk by chunk; the window
moves where a step ends. Rows that the recipe cannot score join the bad ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rankreward.errors import InputError
from rankreward.kinds import OwnMetric, OwnTerm
from rankreward.logs.rows import BadRow, Chunk, LogRow
from rankreward.quantiles import FlushStats
from rankreward.recipe import Recipe
from rankreward.rewards import RewardBatch, Scorer

_HOPELESS = 1000  # rows, none of which can be scored, after which the rest is not tried


@dataclass(frozen=True, eq=False)
class Scored:
    """A chunk and what it was paid.

    Attributes:
        step: its step.
        rows: B rollouts that could be scored.
        batch: their B rewards; None where B is 0.
        bad: rows that could not.
        window: rows in the window that ranks were taken in.
        flush: what the step's end did to the window; None if the step goes on.
    """

    step: int
    rows: list[LogRow]
    batch: RewardBatch | None
    bad: list[BadRow]
    window: int
    flush: FlushStats | None


def score_chunks(chunks: Iterable[Chunk], scorer: Scorer) -> Iterator[Scored]:
    """Score a log.

    Args:
        chunks: of `rankreward.logs.steps.chunks`.
        scorer: its window goes on from where it is.

    Yields:
        A scored chunk for each; rewards are bit for bit those of `Scorer.score` for whole steps and
        of `Scorer.flush` at their ends.

    Raises:
        InputError: none of the first thousand rows can be scored, or none of a shorter log; the
            message gives the first reason.
        StepOrderError: a step is older than the scorer's window.
    """
    faults: list[BadRow] | None = []  # None once a row has been scored
    for chunk in chunks:
        rows, bad, batch = chunk.rows, chunk.bad, None
        window = scorer.quantiles.size
        if rows:
            rows, more, batch = _score(scorer, rows)
            bad = [*bad, *more]
        faults = None if rows or faults is None else [*faults, *bad]
        if faults is not None and len(faults) >= _HOPELESS:
            raise _none(faults)
        flush = scorer.flush(chunk.step) if chunk.ends else None
        yield Scored(chunk.step, rows, batch, bad, window, flush)
    if faults is not None:
        raise _none(faults)


def _none(faults: Sequence[BadRow]) -> InputError:
    if not faults:
        return InputError("log: expected rows, got none")
    first = f"{faults[0].place}: {faults[0].reason}"
    return InputError(f"none of the first {len(faults)} rows can be scored; {first}")


def _score(
    scorer: Scorer, rows: list[LogRow]
) -> tuple[list[LogRow], list[BadRow], RewardBatch | None]:
    """Score what can be, and say of the rest why not; a refused batch has recorded nothing."""
    try:
        return rows, [], pay(scorer, rows)
    except InputError:
        faults = _faults(scorer, rows, 0)
        if not faults:
            raise
    bad = [BadRow(rows[index].place, reason) for index, reason in faults.items()]
    good = [row for index, row in enumerate(rows) if index not in faults]
    return good, bad, pay(scorer, good) if good else None


def _faults(scorer: Scorer, rows: Sequence[LogRow], start: int) -> dict[int, str]:
    """Which rows cannot be scored, by their places from `start`, found by halving."""
    try:
        pay(scorer, rows, record=False)
    except InputError as error:
        if len(rows) == 1:
            return {start: str(error).replace("[0]", "", 1)}
        half = len(rows) // 2
        first = _faults(scorer, rows[:half], start)
        return {**first, **_faults(scorer, rows[half:], start + half)}
    return {}


def pay(scorer: Scorer, rows: Sequence[LogRow], *, record: bool = True) -> RewardBatch:
    """Score rollouts of a log.

    Args:
        scorer: the scorer.
        rows: rollouts of one step.
        record: as for `Scorer.score`.

    Raises:
        InputError: as `Scorer.score`.
    """
    columns = {
        name: [row.columns.get(name) for row in rows] for name in _wanted(scorer.recipe, rows)
    }
    return scorer.score(
        [row.completion for row in rows],
        [row.reference for row in rows],
        images=[row.image for row in rows] if scorer.recipe.needs_images else None,
        groups=[row.group for row in rows],
        columns=columns,
        record=record,
    )


def columns_of(recipe: Recipe) -> frozenset[str] | None:
    """The columns of a log that scoring by a recipe may read; None for all of them."""
    parts = (*recipe.terms.values(), *recipe.accuracy.metrics.values())
    if any(isinstance(part, OwnTerm | OwnMetric) for part in parts):
        return None
    return frozenset({*recipe.columns, "tokens"})  # tokens are counted, whatever the recipe


def _wanted(recipe: Recipe, rows: Sequence[LogRow]) -> list[str]:
    """The columns that a recipe may read: those it names, and all for terms of a user's own."""
    if columns_of(recipe) is None:
        return list({name: None for row in rows for name in row.columns})
    return [name for name in recipe.columns if any(name in row.columns for row in rows)]
