"""Scores the single rollouts that verl hands over, in batches.

Goes in: rollouts. Comes out: a row of plain values for each, whatever happens.

verl drops a rollout whose reward raises, says so in the log of a worker alone, and trains on. So
nothing raises here: what went wrong stands in ``rankreward/error`` of the rollout, for the driver,
which can stop the run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rankreward.errors import BadReferenceError, InputError
from rankreward.recipe import Recipe
from rankreward.rewards import RewardBatch, Scorer

ERROR, FAILURE, SECONDS = "rankreward/error", "rankreward/failure", "rankreward/seconds"

_OF_A_ROW = (InputError.__name__, BadReferenceError.__name__)

_log = logging.getLogger(__name__)

Paid = dict[str, Any]  # ``score`` and what verl calls the reward's extra info


@dataclass(frozen=True)
class Rollout:
    """One completion and what verl says of it.

    Attributes:
        text: the completion.
        reference: what it is scored against.
        columns: what else is known of it.
        step: the trainer's step that it belongs to; None for one of validation.
        identity: what no other rollout of the step has; None if it is not known.
    """

    text: str
    reference: Any
    columns: Mapping[str, Any]
    step: int | None
    identity: tuple[str, int] | None = None


class Rewards:
    """Scores batches of single rollouts for one process. Safe under threads.

    Args:
        scorer: one whose window is a `RayQuantileService`, or anything else with ``advance`` and
            ``refresh``. Its window is asked for once a batch: what is scored at the same time is
            ranked in the same window, whichever worker scores it.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self._window: Any = scorer.quantiles
        self._lock = threading.Lock()
        self._step = -1  # the newest whose beginning was told
        self._seen: set[tuple[str, int]] = set()  # rollouts of that step

    def score(self, rollouts: Sequence[Rollout | Exception]) -> list[Paid]:
        """Score rollouts together.

        Args:
            rollouts: B rollouts, or why one could not be read.

        Returns:
            B dictionaries with the same keys. A rollout that was not scored has ``score`` 0 and
            says why in ``rankreward/error``; it enters no window. Never raises.
        """
        begun = time.perf_counter()
        paid: dict[int, Paid] = {}
        parts: dict[int, list[int]] = {}  # of a step; of validation at -1
        for place, rollout in enumerate(rollouts):
            if isinstance(rollout, Rollout):
                step = -1 if rollout.step is None else rollout.step
                parts.setdefault(step, []).append(place)
            else:
                paid[place] = self._unpaid(rollout)
        for _, places in sorted(parts.items()):
            part = [rollouts[place] for place in places]
            paid.update(zip(places, self._part(part), strict=True))
        seconds = (time.perf_counter() - begun) / max(len(rollouts), 1)
        return [{**paid[place], SECONDS: seconds} for place in range(len(rollouts))]

    def _part(self, rollouts: Sequence[Any]) -> list[Paid]:
        """Rollouts of one step, or of validation."""
        try:
            new = self._begin(rollouts)
            if all(new) or not any(new):
                return self._pay(rollouts, record=all(new))
            paid: dict[int, Paid] = {}
            for record in (True, False):
                places = [place for place, each in enumerate(new) if each is record]
                part = self._pay([rollouts[place] for place in places], record=record)
                paid.update(zip(places, part, strict=True))
            return [paid[place] for place in range(len(rollouts))]
        except Exception as error:  # noqa: BLE001 - verl would drop the rollouts in silence
            _log.exception("%d rollouts were not scored", len(rollouts))
            return [self._unpaid(error, log=False) for _ in rollouts]

    def _begin(self, rollouts: Sequence[Rollout]) -> list[bool]:
        """Make sure of the right window; returns which rollouts are to enter the next one."""
        step = rollouts[0].step
        new = [False] * len(rollouts) if step is None else self._enter(step, rollouts)
        self._window.refresh()  # the driver flushes without a word to the workers
        return new

    def _enter(self, step: int, rollouts: Sequence[Rollout]) -> list[bool]:
        """Open a step, if it is new; returns which rollouts are seen for the first time."""
        with self._lock:
            if step > self._step:
                self._window.advance(step)
                self._step = step
                self._seen.clear()
            new = []
            for rollout in rollouts:
                new.append(rollout.identity not in self._seen)
                if rollout.identity is not None:
                    self._seen.add(rollout.identity)
            return new

    def _pay(self, rollouts: Sequence[Rollout], *, record: bool) -> list[Paid]:
        """Score rollouts, those that are broken apart from the others."""
        try:
            return self._score(rollouts, record=record)
        except InputError as error:
            if len(rollouts) == 1:
                return [self._unpaid(error, rollouts[0])]
            broken = [self._error(rollout) for rollout in rollouts]
            if not any(broken):
                raise
        sound = [each for each, error in zip(rollouts, broken, strict=True) if error is None]
        paid = iter(self._score(sound, record=record) if sound else [])
        return [
            next(paid) if error is None else self._unpaid(error, rollout)
            for rollout, error in zip(rollouts, broken, strict=True)
        ]

    def _error(self, rollout: Rollout) -> InputError | None:
        """What is wrong with one rollout, if anything is."""
        try:
            self._score([rollout], record=False)
        except InputError as error:
            return error
        return None

    def _score(self, rollouts: Sequence[Rollout], *, record: bool) -> list[Paid]:
        batch = self.scorer.score(
            [rollout.text for rollout in rollouts],
            [rollout.reference for rollout in rollouts],
            columns=self._columns(rollouts),
            record=record,
        )
        return flatten(batch)

    def _columns(self, rollouts: Sequence[Rollout]) -> dict[str, list[Any]]:
        """Everything known of any of them; what the recipe needs has to be known of all."""
        recipe = self.scorer.recipe
        for rollout in rollouts:
            lacking = next((name for name in recipe.columns if name not in rollout.columns), None)
            if lacking is not None:
                raise InputError(
                    f"extra_info: expected {lacking!r}, which recipe {recipe.name!r} needs, got "
                    f"{', '.join(map(str, rollout.columns)) or 'nothing'}"
                )
        names = dict.fromkeys(name for rollout in rollouts for name in rollout.columns)
        return {name: [rollout.columns.get(name) for rollout in rollouts] for name in names}

    def _unpaid(
        self, error: Exception, rollout: Rollout | None = None, *, log: bool = True
    ) -> Paid:
        if log:
            identity = None if rollout is None else rollout.identity
            _log.error("rollout %s was not scored: %r", identity or "", error)
        return unpaid(self.scorer.recipe, error)


def flatten(batch: RewardBatch) -> list[Paid]:
    """A row of plain values for each rollout; None where a metric does not apply."""
    columns: dict[str, list[Any]] = {"score": batch.total.tolist()}
    for kind, named in (("raw", batch.raw), ("rank", batch.ranks), ("term", batch.terms)):
        for name, values in named.items():
            # verl leaves None out of its means, and one NaN makes them NaN
            defined = [None if value != value else value for value in values.tolist()]  # noqa: PLR0124
            columns[f"rankreward/{kind}/{name}"] = defined
    columns[FAILURE] = [code or "" for code in batch.codes]
    columns[ERROR] = [""] * len(batch)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def unpaid(recipe: Recipe, error: Exception) -> Paid:
    """The row of a rollout that was not scored, with the keys that every other one has."""
    metrics = recipe.accuracy.metrics
    row: Paid = {"score": 0.0}
    row |= {f"rankreward/{kind}/{name}": None for kind in ("raw", "rank") for name in metrics}
    row |= {f"rankreward/term/{name}": 0.0 for name in recipe.parts}
    return row | {FAILURE: "", ERROR: f"{type(error).__name__}: {error}"}


def stop_reason(errors: Sequence[str]) -> str | None:
    """Why a run has to stop after a batch with these errors ("" is none); None if it has not.

    A rollout with a broken reference of its own is left out; a service that is broken, or a batch
    of which nothing could be scored, makes every further step meaningless.
    """
    there = [error for error in errors if error]
    service = next((each for each in there if each.partition(":")[0] not in _OF_A_ROW), None)
    if service is None and len(there) < len(errors):
        return None
    return service or next(iter(there), None)


def columns_of(rows: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Any]:
    """Name to (B,) float64 of one kind (``raw``, ``rank``, ``term``), NaN for None."""
    prefix = f"rankreward/{kind}/"
    names = [key for key in (rows[0] if rows else ()) if key.startswith(prefix)]
    return {
        name.removeprefix(prefix): np.array([row[name] for row in rows], dtype=np.float64)
        for name in names
    }
