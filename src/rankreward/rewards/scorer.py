"""The scorer: completions and references in, rewards out.

Goes in: a batch of completions with their references. Comes out: a `RewardBatch`. The scorer owns
the window that ranks are taken in; a trainer's adapter flushes it when a step ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward import own
from rankreward.errors import CheckpointError, InputError
from rankreward.kinds import CountRatio, MaskIoU, OwnMetric, OwnTerm
from rankreward.parsing import Failure
from rankreward.parsing.batch import parse_many
from rankreward.quantiles import FlushStats, QuantileService
from rankreward.quantiles.checkpoint import load_state, save_state
from rankreward.recipe import Recipe
from rankreward.rewards.accuracy import raw_metrics
from rankreward.rewards.masks import Segmenter
from rankreward.rewards.normalizers import make_window, normalize, window_values
from rankreward.rewards.references import read_references
from rankreward.rewards.resources import Resources
from rankreward.rewards.rollouts import Rollouts
from rankreward.rewards.similarity import Similarity
from rankreward.rewards.terms import length_factor, term_values

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RewardBatch:
    """What a batch of B completions was paid, and why.

    Attributes:
        total: (B,) float64, the rewards.
        terms: name to (B,) float64, the weighted contributions; they add up to `total`. Where the
            recipe clips the total, ``clip`` is what that added or took.
        raw: metric to (B,) float64, its value before ranking, NaN where it does not apply.
        ranks: metric to (B,) float64, what it was replaced by: a rank in [0, 1], or what else
            the recipe's normalizer makes of it; NaN where it does not apply.
        scale: (B,) float64, the factor that all terms have been multiplied by; 1 unless the
            recipe has a `scale`.
        failures: B entries, None or what was wrong with that completion.
    """

    total: Floats
    terms: Mapping[str, Floats]
    raw: Mapping[str, Floats]
    ranks: Mapping[str, Floats]
    scale: Floats
    failures: list[Failure | None]

    def __len__(self) -> int:
        return len(self.total)

    @property
    def codes(self) -> list[str | None]:
        """B failure codes, None where nothing is wrong."""
        return [None if failure is None else failure.code for failure in self.failures]


class Scorer:
    """Scores completions by a recipe. Safe under threads.

    Score: `score`, `flush`. Keep: `state_dict`, `load_state_dict`, `save`, `load`. Move: `share`.
    Look: `recipe`, `quantiles` (the `QuantileService` behind the ranks).

    Args:
        recipe: a name from `rankreward.recipes()`, the path of a YAML file, a mapping, or a
            `Recipe`.
        quantiles: makes the window, called with the arguments of `QuantileService`. For many
            processes pass `DistributedQuantileService`, or `RayQuantileService` with its name
            bound by `functools.partial`.
        similarity: for recipes that compare captions with images (`dpad`): a function of images
            and as many texts that returns their cosines, NaN for a text it cannot take. CLIP
            ViT-B/32 through transformers unless given, loaded when first used.
        segmenter: for recipes that look at masks (`genseg_r1_g`, `sam_r1`, `seg_r1`, `lens`): an
            object with a method ``segment(image, boxes, points)``, for `seg_r1` with ``signs``
            as well, see `rankreward.evaluation.segmenters.Segmenter`. Called by one thread at a
            time.

    Raises:
        ConfigError: the recipe cannot be found or understood, needs a segmenter and has none, or
            has no use for what it was given.
        MissingExtraError: the recipe compares captions with images, no similarity was given, and
            transformers is not installed.

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
        similarity: Similarity | None = None,
        segmenter: Segmenter | None = None,
    ) -> None:
        self.recipe = Recipe.load(recipe)
        accuracy = self.recipe.accuracy
        self._resources = Resources(self.recipe, similarity, segmenter)
        self._own = {
            name: own.make(part.kind, part.model_extra or {})
            for name, part in (*self.recipe.terms.items(), *accuracy.metrics.items())
            if isinstance(part, OwnTerm | OwnMetric)
        }
        self.quantiles = make_window(accuracy.normalizer, tuple(accuracy.metrics), quantiles)

    def score(
        self,
        completions: Sequence[str],
        references: Sequence[Any],
        *,
        images: Sequence[Any] | None = None,
        groups: Sequence[Any] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
        keys: str | Sequence[str] | None = None,
        record: bool = True,
    ) -> RewardBatch:
        """Score a batch.

        Args:
            completions: B texts of the policy; anything they hold is data, never an error.
            references: B references, each a JSON text or the list it stands for; a mapping with
                a mask, or a text, for recipes that need one.
            images: B images, PIL's or (H, W, 3) uint8, for recipes that look at them.
            groups: B group ids, for recipes that look at a group: the normalizer `group` and
                the term `consistency`. A group has to be in one batch.
            columns: name to B entries each: what `recipe.columns` names, and what a term of your
                own reads besides.
            keys: B names of windows, or one for all, where `quantiles` has several: a task or
                dataset is then ranked within itself.
            record: True makes the raw metrics pending for the window; evaluation passes False.

        Returns:
            The batch's rewards. A completion that cannot be read gets the recipe's failure
            value for every metric, and its `Failure`; the others are untouched by it.

        Raises:
            InputError: the lengths differ, a completion is no string, something that the recipe
                needs is missing or malformed, or a key is unknown; nothing is recorded.
            BadReferenceError: a reference cannot be read; nothing is recorded.
        """
        rollouts = self._read(completions, references, images, groups, columns or {})
        accuracy = self.recipe.accuracy
        raw = raw_metrics(rollouts, self.recipe, self._own, self._resources.mask_metrics)
        ranks = self._ranks(raw, rollouts, keys)
        named = dict(zip(accuracy.metrics, raw.T, strict=True))
        terms = self._terms(rollouts, named, ranks)
        scale = np.ones(len(rollouts))
        if self.recipe.scale is not None:
            scale = length_factor(self.recipe.scale, rollouts)
            terms = {name: values * scale for name, values in terms.items()}
        total = _exact_sum(terms, len(rollouts))
        if self.recipe.clip is not None:
            clipped = np.clip(total, self.recipe.clip.low, self.recipe.clip.high)
            terms["clip"], total = clipped - total, clipped
        if record:
            self.quantiles.push(window_values(accuracy.normalizer, raw), keys)
        return RewardBatch(
            total=total,
            terms=terms,
            raw=named,
            ranks=dict(zip(accuracy.metrics, ranks.T, strict=True)),
            scale=scale,
            failures=rollouts.failures,
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

    def share(self, quantiles: Callable[..., QuantileService]) -> None:
        """Go on with a window of another kind, as when it turns out that several processes score.

        Args:
            quantiles: makes the window, as for the constructor. What the old one holds goes along.
        """
        accuracy = self.recipe.accuracy
        window = make_window(accuracy.normalizer, tuple(accuracy.metrics), quantiles)
        if self.quantiles.step is not None or self.quantiles.pending:
            window.load_state_dict(self.quantiles.state_dict())
        self.quantiles = window

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
                place, expected, got = _difference(key, mine, state.get(key))
                raise CheckpointError(f"state: expected {place} {expected!r}, got {got!r}")
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
        state = load_state(path)
        try:
            self.load_state_dict(state)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None

    def _identity(self) -> dict[str, Any]:
        """What gives the window's numbers their meaning."""
        accuracy = self.recipe.accuracy.model_dump(mode="json")
        return {"recipe": self.recipe.name, "accuracy": accuracy}

    def _read(
        self,
        completions: Sequence[str],
        references: Sequence[Any],
        images: Sequence[Any] | None,
        groups: Any,
        columns: Mapping[str, Sequence[Any]],
    ) -> Rollouts:
        if not isinstance(columns, Mapping):
            raise InputError(f"columns: expected a mapping, got {type(columns).__name__}")
        given = {"references": references, "images": images, "groups": groups}
        _check_lengths(completions, given, optional={"images", "groups"})
        missing = [name for name in self.recipe.columns if name not in columns]
        if missing:
            raise InputError(
                f"columns: expected {', '.join(self.recipe.columns)}, which recipe "
                f"{self.recipe.name!r} needs, got {', '.join(columns) or 'none'}"
            )
        _check_lengths(completions, columns)
        if self.recipe.needs_images:
            lacking = "images" if images is None else _first_none(images)
            if lacking:
                raise InputError(
                    f"{lacking}: recipe {self.recipe.name!r} looks at the images, got none"
                )
        texts = list(completions)
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                kind = type(text).__name__
                raise InputError(f"completions[{index}]: expected a string, got {kind}")
        responses = parse_many(texts, self.recipe.response)
        references = list(references)  # a lazy column would make each entry anew when asked
        return Rollouts(
            responses=responses,
            references=references,
            targets=[] if self.recipe.released else read_references(references, self.recipe),
            images=images,
            groups=groups,
            columns=columns,
            failures=[response.failure for response in responses],
        )

    def _ranks(self, raw: Floats, rollouts: Rollouts, keys: str | Sequence[str] | None) -> Floats:
        """(B, N) normalized; with nothing to find counts and masks are right or wrong, and stay."""
        normalizer, metrics = self.recipe.accuracy.normalizer, self.recipe.accuracy.metrics
        ranks = normalize(normalizer, raw, self.quantiles, keys, rollouts.groups)
        for column, metric in enumerate(metrics.values()):
            if isinstance(metric, CountRatio | MaskIoU):
                ranks[rollouts.no_target, column] = raw[rollouts.no_target, column]
        return ranks

    def _terms(
        self, rollouts: Rollouts, raw: dict[str, Floats], ranks: Floats
    ) -> dict[str, Floats]:
        """Weighted contributions; the defined metrics of a row share the accuracy weight.

        Where none is defined, an answer that is rightly empty is paid in full, and any other (of
        which only a user's metrics say that they do not apply) nothing.
        """
        similarity = self._resources.similarity
        terms = {
            name: term.weight
            * term_values(name, term, rollouts, raw, self.recipe, self._own, similarity)
            for name, term in self.recipe.terms.items()
        }
        accuracy = self.recipe.accuracy
        shares = np.array([metric.share for metric in accuracy.metrics.values()])
        paid = np.maximum(shares, 0.0)
        undefined: NDArray[np.bool_] = np.all(np.isnan(ranks), axis=1)
        if undefined.any():
            full = (undefined & rollouts.rightly_empty)[:, None] * np.sign(paid)
            ranks = np.where(undefined[:, None], full, ranks)
        defined = (~np.isnan(ranks) * paid).sum(axis=1)
        for column, name in enumerate(accuracy.metrics):
            part = accuracy.weight * shares[column] * np.nan_to_num(ranks[:, column], nan=0.0)
            terms[name] = np.divide(part, defined, out=np.zeros(len(part)), where=defined > 0)
        return terms


def _difference(place: str, mine: Any, other: Any) -> tuple[str, Any, Any]:
    """Where two settings differ first, and in what."""
    if isinstance(mine, dict) and isinstance(other, Mapping) and mine.keys() == other.keys():
        key = next(key for key in mine if mine[key] != other[key])
        return _difference(f"{place}.{key}", mine[key], other[key])
    return place, mine, other


def _exact_sum(terms: Mapping[str, Floats], count: int) -> Floats:
    """(B,) sums over the terms, rounded once, so that three thirds and four ones make five."""
    if not terms:
        return np.zeros(count)
    columns = [values.tolist() for values in terms.values()]
    return np.array([math.fsum(row) for row in zip(*columns, strict=True)], dtype=np.float64)


def _first_none(images: Sequence[Any]) -> str:
    """The first image that is missing, by its name in errors; none of them is."""
    return next((f"images[{index}]" for index, each in enumerate(images) if each is None), "")


def _check_lengths(
    completions: Sequence[str], others: Mapping[str, Any], optional: Collection[str] = ()
) -> None:
    for name, values in (("completions", completions), *others.items()):
        if values is None and name in optional:
            continue
        try:
            count = -1 if isinstance(values, str) else len(values)
        except TypeError:
            count = -1
        if count < 0:
            kind = type(values).__name__
            raise InputError(f"{name}: expected a sequence, one entry a completion, got {kind}")
        if count != len(completions):
            raise InputError(f"{name}: expected {len(completions)}, one a completion, got {count}")
