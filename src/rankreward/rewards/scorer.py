"""The scorer: completions and references in, rewards out.

Goes in: a batch of completions with their references. Comes out: a `RewardBatch`. The scorer owns
the window that ranks are taken in; a trainer's adapter flushes it when a step ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.errors import CheckpointError, InputError
from rankreward.parsing import Failure, Objects, Response, parse
from rankreward.quantiles import FlushStats, QuantileService
from rankreward.quantiles.checkpoint import load_state, save_state
from rankreward.recipe import CountRatio, Frame, Recipe
from rankreward.rewards.accuracy import raw_metrics
from rankreward.rewards.normalizers import make_window, normalize
from rankreward.rewards.references import read_reference
from rankreward.rewards.terms import term_value

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RewardBatch:
    """What a batch of B completions was paid, and why.

    Attributes:
        total: (B,) float64, the rewards.
        terms: name to (B,) float64, the weighted contributions; they add up to `total`.
        raw: metric to (B,) float64, its value before ranking, NaN where it does not apply.
        ranks: metric to (B,) float64, what it was replaced by: a rank in [0, 1], or what else
            the recipe's normalizer makes of it; NaN where it does not apply.
        failures: B entries, None or what was wrong with that completion.
    """

    total: Floats
    terms: Mapping[str, Floats]
    raw: Mapping[str, Floats]
    ranks: Mapping[str, Floats]
    failures: list[Failure | None]

    def __len__(self) -> int:
        return len(self.total)


class Scorer:
    """Scores completions by a recipe. Safe under threads.

    Score: `score`, `flush`. Keep: `state_dict`, `load_state_dict`, `save`, `load`. Look:
    `recipe`, `quantiles` (the `QuantileService` behind the ranks).

    Args:
        recipe: a name from `rankreward.recipes()`, the path of a YAML file, a mapping, or a
            `Recipe`.
        quantiles: makes the window, called with the arguments of `QuantileService`. For many
            processes pass `DistributedQuantileService`, or `RayQuantileService` with its name
            bound by `functools.partial`.

    Raises:
        ConfigError: the recipe cannot be found or understood.

    Example:
        >>> scorer = Scorer("dr_seg")
        >>> entry = '[{"bbox_2d": [10, 10, 90, 90], "point_2d": [50, 50]}]'
        >>> text = f"<think><look>a cup</look></think><answer>{entry}</answer>"
        >>> batch = scorer.score([text], [entry])
        >>> batch.total.tolist(), batch.raw["iou"].tolist(), batch.failures
        ([5.0], [1.0], [None])
        >>> scorer.flush(step=1).added
        1
    """

    def __init__(
        self,
        recipe: str | Path | Mapping[str, Any] | Recipe,
        *,
        quantiles: Callable[..., QuantileService] = QuantileService,
    ) -> None:
        self.recipe = Recipe.load(recipe)
        accuracy = self.recipe.accuracy
        self.quantiles = make_window(accuracy.normalizer, tuple(accuracy.metrics), quantiles)

    def score(
        self,
        completions: Sequence[str],
        references: Sequence[Any],
        *,
        images: Sequence[Any] | None = None,
        groups: Sequence[Any] | None = None,
        keys: str | Sequence[str] | None = None,
        record: bool = True,
    ) -> RewardBatch:
        """Score a batch.

        Args:
            completions: B texts of the policy; anything they hold is data, never an error.
            references: B references, each a JSON text or the list it stands for.
            images: B images, for recipes that look at them; `dr_seg` does not.
            groups: B group ids, for recipes that normalize within a group; `dr_seg` does not.
            keys: B names of windows, or one for all, where `quantiles` has several: a task or
                dataset is then ranked within itself.
            record: True makes the raw metrics pending for the window; evaluation passes False.

        Returns:
            The batch's rewards. A completion that cannot be read gets the recipe's failure
            value for every metric, and its `Failure`; the others are untouched by it.

        Raises:
            InputError: the lengths differ, a completion is no string, or a key is unknown;
                nothing is recorded.
            BadReferenceError: a reference cannot be read; nothing is recorded.
        """
        _check_lengths(completions, references=references, images=images, groups=groups)
        targets = _read_references(references, self.recipe.response.frame)
        responses = [self._parse(text, index) for index, text in enumerate(completions)]
        raw = self._raw(responses, targets)
        ranks = self._ranks(raw, targets, keys, groups)
        terms = self._terms(responses, ranks)
        if record:
            self.quantiles.push(raw, keys)
        names = tuple(self.recipe.accuracy.metrics)
        return RewardBatch(
            total=_exact_sum(terms),
            terms=terms,
            raw=dict(zip(names, raw.T, strict=True)),
            ranks=dict(zip(names, ranks.T, strict=True)),
            failures=[response.failure for response in responses],
        )

    def flush(self, step: int) -> FlushStats:
        """End a step: the rows recorded since the last flush enter the window.

        Args:
            step: the trainer's step, an integer that never falls.

        Returns:
            What was added and evicted.

        Raises:
            StepOrderError: `step` is older than the last one flushed.
        """
        return self.quantiles.flush(step)

    def state_dict(self) -> dict[str, Any]:
        """The recipe's name and accuracy, and the window, as plain values and arrays."""
        return {**self._identity(), **self.quantiles.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state_dict` gave.

        Raises:
            CheckpointError: the state is malformed or of another recipe; nothing changes.
        """
        if not isinstance(state, Mapping):
            raise CheckpointError(f"state: expected a mapping, got {type(state).__name__}")
        for key, mine in self._identity().items():
            if state.get(key) != mine:
                raise CheckpointError(
                    f"state: expected one of {key} {mine!r}, got {state.get(key)!r}"
                )
        self.quantiles.load_state_dict(state)

    def save(self, path: str | Path) -> None:
        """Write the state to one .npz file, atomically and without pickle.

        Raises:
            OSError: the file cannot be written; an older one at `path` is untouched.
        """
        save_state(path, self.state_dict())

    def load(self, path: str | Path) -> None:
        """Continue from a file that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: it is damaged, or of another recipe; nothing changes.
        """
        self.load_state_dict(load_state(path))

    def _identity(self) -> dict[str, Any]:
        """What gives the window's numbers their meaning."""
        accuracy = self.recipe.accuracy.model_dump(mode="json")
        return {"recipe": self.recipe.name, "accuracy": accuracy}

    def _parse(self, text: str, index: int) -> Response:
        if not isinstance(text, str):
            kind = type(text).__name__
            raise InputError(f"completions[{index}]: expected a string, got {kind}")
        expected = self.recipe.response
        return parse(
            text, expected.schema_, keyword=expected.keyword, max_objects=expected.max_objects
        )

    def _raw(self, responses: Sequence[Response], targets: Sequence[Objects]) -> Floats:
        """(B, N) raw metric values."""
        accuracy = self.recipe.accuracy
        raw = np.full((len(responses), len(accuracy.metrics)), accuracy.failure, dtype=np.float64)
        read = [
            (index, response.answer)
            for index, response in enumerate(responses)
            if response.answer is not None
        ]
        places = [index for index, _ in read]
        raw[places] = raw_metrics(
            [answer for _, answer in read], [targets[index] for index in places], accuracy.metrics
        )
        return raw

    def _ranks(
        self,
        raw: Floats,
        targets: Sequence[Objects],
        keys: str | Sequence[str] | None,
        groups: Sequence[Any] | None,
    ) -> Floats:
        """(B, N) normalized; on a no-target sample the count is right or wrong, and stays so."""
        normalizer = self.recipe.accuracy.normalizer
        ranks = normalize(normalizer, raw, self.quantiles, keys, groups)
        no_target = np.array([len(target) == 0 for target in targets], dtype=bool)
        for column, metric in enumerate(self.recipe.accuracy.metrics.values()):
            if isinstance(metric, CountRatio):
                ranks[no_target, column] = raw[no_target, column]
        return ranks

    def _terms(self, responses: Sequence[Response], ranks: Floats) -> dict[str, Floats]:
        """Weighted contributions; the defined metrics of a row share the accuracy weight.

        Where none is defined there was nothing to find and nothing was given: paid in full.
        """
        terms = {
            name: term.weight * np.array([term_value(term, r) for r in responses], dtype=np.float64)
            for name, term in self.recipe.terms.items()
        }
        accuracy = self.recipe.accuracy
        ranks = np.where(np.isnan(ranks).all(axis=1, keepdims=True), 1.0, ranks)
        defined = np.count_nonzero(~np.isnan(ranks), axis=1)
        for column, name in enumerate(accuracy.metrics):
            terms[name] = accuracy.weight * np.nan_to_num(ranks[:, column], nan=0.0) / defined
        return terms


def _exact_sum(terms: Mapping[str, Floats]) -> Floats:
    """(B,) sums over the terms, rounded once, so that three thirds and four ones make five."""
    return np.array([math.fsum(row) for row in zip(*terms.values(), strict=True)], dtype=np.float64)


def _check_lengths(completions: Sequence[str], **others: Sequence[Any] | None) -> None:
    given: dict[str, Any] = {"completions": completions, **others}
    for name, values in given.items():
        if values is None and name in {"images", "groups"}:
            continue
        if isinstance(values, str) or not hasattr(values, "__len__"):
            kind = type(values).__name__
            raise InputError(f"{name}: expected a sequence, one entry a completion, got {kind}")
        if len(values) != len(completions):
            raise InputError(
                f"{name}: expected {len(completions)}, one a completion, got {len(values)}"
            )


def _read_references(references: Sequence[Any], frame: Frame) -> list[Objects]:
    """Rollouts of a group share their reference; each text is read once."""
    read: dict[str, Objects] = {}
    targets = []
    for index, reference in enumerate(references):
        if not isinstance(reference, str):
            targets.append(read_reference(reference, index, frame))
            continue
        if reference not in read:
            read[reference] = read_reference(reference, index, frame)
        targets.append(read[reference])
    return targets
