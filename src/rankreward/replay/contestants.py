"""The recipes that a log is replayed under, as they are typed.

Goes in: a recipe's name or file, perhaps with changes, such as ``dr_seg+window=512``. Comes out: a
`Contestant`: a label for the tables, and a scorer with a window of its own.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rankreward.errors import BadReferenceError, ConfigError, InputError
from rankreward.logs.rows import BadRow, LogRow
from rankreward.logs.scoring import pay
from rankreward.recipe import Recipe
from rankreward.rewards.normalizers import window_values
from rankreward.rewards.references import read_references
from rankreward.rewards.scorer import RewardBatch, Scorer

# A file's name may hold a plus, and a number such as 1e+3 does: one that begins a change is
# followed by a key and an equals sign.
_CHANGE = re.compile(r"\+(?=[a-z_][\w.\-]*=)")
# What may be left out at the start of a key, the longest first.
_SECTIONS = ("accuracy.normalizer", "accuracy.metrics", "accuracy", "terms")
# What a normalizer has unless the recipe's own, or another change, says something else.
_USUAL: dict[str, dict[str, Any]] = {
    "ecdf": {"window": 2048, "warm_start": 128, "ties": "weak", "order": "canonical"},
    "zscore": {"window": 2048},
    "group": {"eps": 1e-4},
    "none": {},
}


@dataclass(frozen=True, eq=False)
class Contestant:
    """A recipe among others.

    Attributes:
        label: what tables call it.
        recipe: the recipe.
        scorer: pays by it; its window has seen nothing yet.
    """

    label: str
    recipe: Recipe
    scorer: Scorer

    @cached_property
    def _needs(self) -> tuple[tuple[str, ...], bool]:
        return self.recipe.columns, self.recipe.needs_images

    def lacking(self, row: LogRow) -> str:
        """What the recipe needs and a row has not, such as ``an image``; empty if nothing."""
        columns, image = self._needs
        missing = [f"the column {name!r}" for name in columns if name not in row.columns]
        missing += ["an image"] * (image and row.image is None)
        return " and ".join(missing)

    def unreadable(self, rows: Sequence[LogRow]) -> list[BadRow | None]:
        """For each row what is wrong with its reference, or None."""
        if self.recipe.released:
            return [_no_text(row) for row in rows]
        try:
            read_references([row.reference for row in rows], self.recipe)
        except BadReferenceError:
            return [self._unreadable(row) for row in rows]
        return [None] * len(rows)

    def score(self, rows: Sequence[LogRow]) -> RewardBatch:
        """Pay rows that all have what is needed; the window knows nothing of them until `record`.

        Raises:
            InputError: as `Scorer.score`; the message begins with the label.
        """
        try:
            return pay(self.scorer, rows, record=False)
        except InputError as error:
            raise InputError(f"{self.label}, {rows[0].place} and after: {error}") from error

    def refused(self, rows: Sequence[LogRow]) -> list[BadRow | None]:
        """For each row by itself why it cannot be paid, or None."""
        return [self._refused(row) for row in rows]

    def record(self, batch: RewardBatch) -> None:
        """What was paid waits for the window, which moves when the scorer is flushed."""
        raw = np.stack(list(batch.raw.values()), axis=1)
        self.scorer.quantiles.push(window_values(self.recipe.accuracy.normalizer, raw))

    def _refused(self, row: LogRow) -> BadRow | None:
        try:
            pay(self.scorer, [row], record=False)
        except InputError as error:
            reason = str(error).replace("[0]", "", 1)
            return BadRow(row.place, f"refused by {self.label}: {reason}")
        return None

    def _unreadable(self, row: LogRow) -> BadRow | None:
        try:
            read_references([row.reference], self.recipe)
        except BadReferenceError as error:
            reason = str(error).removeprefix("references[0]: ")
            return BadRow(row.place, f"reference, read by {self.label}: {reason}")
        return None


def read_contestants(
    typed: Sequence[str], *, frame: int = 0, make: Callable[[Recipe], Scorer] = Scorer
) -> list[Contestant]:
    """Read what was typed.

    Args:
        typed: two or more of ``NAME``, ``FILE.yaml``, and ``NAME+KEY=VALUE+KEY=VALUE``. A key is a
            path as `Recipe.override` takes it, of which ``accuracy.normalizer.``,
            ``accuracy.metrics.``, ``accuracy.`` or ``terms.`` may be left out at the start:
            ``window=512`` is ``accuracy.normalizer.window=512``. A value is JSON or YAML; ``null``
            takes a term or a metric away, and an empty one is refused. ``kind=zscore`` (or another
            normalizer) keeps the window that there is, and has the usual 2048 rows, 128 of warm
            start and eps 1e-4 otherwise.
        frame: side in pixels of the square frame that the log's coordinates are in; 0 for the
            recipes' own. Changes come after, and are in the frame's pixels.
        make: makes the scorer of a recipe, as where it needs a segmenter.

    Returns:
        The contestants, in that order. A label is what was typed, without folders, ``.yaml`` and
        the starts of keys that may be left out; in full where two would be called the same.

    Raises:
        InputError: there are fewer than two, or the same twice.
        ConfigError: a recipe or a change cannot be understood, or needs what there is not.

    Example:
        >>> ranked, short = read_contestants(["dr_seg", "dr_seg+accuracy.normalizer.window=512"])
        >>> short.label, short.recipe.accuracy.normalizer.window
        ('dr_seg+window=512', 512)
    """
    if len(typed) < 2:
        raise InputError(f"recipes: expected two or more to compare, got {', '.join(typed) or 0}")
    twice = [text for text, count in Counter(typed).items() if count > 1]
    if twice:
        raise InputError(f"recipes: expected each once, got {twice[0]!r} again")
    recipes = [_recipe(text, frame) for text in typed]
    labels = [_label(text) for text in typed]
    return [
        Contestant(label if labels.count(label) == 1 else text, recipe, make(recipe))
        for text, label, recipe in zip(typed, labels, recipes, strict=True)
    ]


def _recipe(text: str, frame: int) -> Recipe:
    source, *changes = _CHANGE.split(text)
    try:
        recipe = Recipe.load(source)
        recipe = recipe.resized(frame) if frame else recipe
        together: dict[str, Any] = {}  # a window and its warm start fit only when both are new
        for key, value in (change.split("=", 1) for change in changes):
            path, wanted = _path(recipe, key), _value(value)
            if path.removesuffix(".kind") == "accuracy.normalizer" and str(wanted) in _USUAL:
                recipe = recipe.override({"accuracy.normalizer": _normalizer(recipe, wanted)})
            else:
                together[path] = wanted
        return recipe.override(together)
    except (ConfigError, InputError) as error:
        raise type(error)(f"recipes: {text!r}: {error}") from None


def _path(recipe: Recipe, key: str) -> str:
    """The whole path of a key; the key itself where nothing is called so."""
    data = recipe.model_dump(by_alias=True)
    first = key.partition(".")[0]
    section = next((path for path in ("", *_SECTIONS) if first in _at(data, path)), "")
    return f"{section}.{key}" if section else key


def _normalizer(recipe: Recipe, kind: str) -> dict[str, Any]:
    """Another normalizer, with what it shares with the recipe's own."""
    old, usual = recipe.accuracy.normalizer.model_dump(), _USUAL[kind]
    new = {**usual, **{name: old[name] for name in usual if name in old}}
    if "warm_start" in new:
        new["warm_start"] = min(new["warm_start"], new["window"])
    return {"kind": kind, **new}


def _at(data: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    for name in filter(None, path.split(".")):
        data = data[name]
    return data


def _value(text: str) -> Any:
    try:
        return json.loads(text)  # which reads 1e-3 as the number that it is
    except ValueError:
        pass
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"expected a value in JSON or YAML, got {text!r}: {reason}") from None
    if found is None and text.strip().lower() not in {"null", "~"}:
        raise ConfigError(f"expected a value after '=', such as 0.5 or null, got {text!r}")
    return found


def _label(text: str) -> str:
    source, *changes = _CHANGE.split(text)
    name = Path(source).stem if source.endswith((".yaml", ".yml")) else source
    return "+".join([name, *map(_short, changes)])


def _short(change: str) -> str:
    starts = (f"{section}." for section in _SECTIONS)
    return next((change[len(start) :] for start in starts if change.startswith(start)), change)


def _no_text(row: LogRow) -> BadRow | None:
    """Released code reads references its own way, as long as they are texts."""
    if isinstance(row.reference, str):
        return None
    kind = type(row.reference).__name__
    return BadRow(row.place, f"reference: expected a text, which released code reads, got {kind}")
