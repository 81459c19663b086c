"""Rollouts that could not be read, to look at.

Goes in: what trainers wrote down of their rollouts. Comes out: a few examples of each failure.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rankreward.errors import MissingExtraError, RankRewardError, require
from rankreward.parsing import Failure
from rankreward.parsing.response import parse_for
from rankreward.recipe import Recipe
from rankreward.runs.lines import LARGEST, LAST_STEP, json_lines
from rankreward.runs.names import DEAD, GROUP_STD
from rankreward.runs.parts import Example, Notes
from rankreward.runs.windows import numbered, spread

A_CODE = 3  # examples of each failure
FILES = 200  # of rollouts, that are looked through at most


def from_score(path: Path, notes: Notes) -> list[Example]:
    """The examples that `rankreward score` kept."""
    found = []
    for place, row in json_lines(path, notes):
        if not isinstance(row.get("completion"), str):
            notes.bad(path.name, f"{place}: expected a rollout with its completion, got none")
            continue
        failure = row.get("failure")
        failure = failure if isinstance(failure, dict) else {}
        code, position = failure.get("code"), failure.get("position")
        found.append(
            Example(
                step=_whole(row.get("step")),
                place=str(row.get("place", place)),
                completion=row["completion"],
                reference=_text(row.get("reference")),
                code=None if code is None else str(code),
                message=str(failure.get("message", "")),
                position=_whole(position),
                total=_number(row.get("total")),
                why=str(row.get("why", "")) if code is None else "",
            )
        )
    return found


def from_tables(folder: Path, recipe: str, notes: Notes) -> list[Example]:
    """Failures in TRL's tables of completions, ``completions_<step>.parquet``."""
    files = numbered(folder.glob("completions_*.parquet"))
    if not files:
        notes.add("no examples of failures: expected completions/*.parquet (log_completions=True)")
        return []
    try:
        parquet: Any = require("pyarrow.parquet", extra="eval")
    except MissingExtraError as error:
        notes.add(f"no examples of failures: {error}")
        return []
    return _few(_table_failures(_looked_through(files, notes), parquet, _layout(recipe), notes))


def from_dumps(
    files: Sequence[Path], recipe: str, notes: Notes
) -> tuple[list[Example], list[tuple[int, dict[str, float]]]]:
    """Failures in verl's dumps of rollouts, ``<step>.jsonl``, and the spread within groups.

    verl writes no failure beside a rollout, so that the recipe's own reading finds it again.
    """
    layout = _layout(recipe)
    if layout is None:
        notes.add("no examples of failures: expected a window that names the recipe, got none")
    found: list[Example] = []
    figures: list[tuple[int, dict[str, float]]] = []
    for file in _looked_through(files, notes):
        rows = [(place, row) for place, row in json_lines(file, notes) if "output" in row]
        figures += _group_figures([row for _, row in rows])
        if layout is not None:
            found += _few(_dump_failures(rows, layout))
    return _few(found), figures


def _layout(recipe: str) -> Any:
    """How the recipe lays out a completion; None for a recipe that is not known here."""
    try:
        return Recipe.load(recipe).response if recipe else None
    except RankRewardError:
        return None


def _looked_through(files: Sequence[Path], notes: Notes) -> list[Path]:
    """Newest first: the policy of the end is the one that matters."""
    some = spread(files, FILES)
    if len(some) < len(files):
        notes.add(f"examples: looked for in {len(some)} of {len(files)} files, evenly spaced")
    return some[::-1]


def _few(examples: Iterable[Example]) -> list[Example]:
    """The first few of each failure, by code."""
    kept: list[Example] = []
    counts: Counter[str | None] = Counter()
    for example in examples:
        counts[example.code] += 1
        if counts[example.code] <= A_CODE:
            kept.append(example)
    return sorted(kept, key=lambda example: example.code or "")


def _table_failures(
    files: Iterable[Path], parquet: Any, layout: Any, notes: Notes
) -> Iterator[Example]:
    for file in files:
        try:
            table = parquet.read_table(file).to_pylist()
        except Exception as error:  # noqa: BLE001 - pyarrow raises anything on a damaged file
            notes.bad("completions", f"{file.name}: expected a Parquet file, got {error!s:.200}")
            continue
        if table and "failure" not in table[0]:
            notes.bad("completions", f"{file.name}: expected a column failure, got none")
            continue
        for number, row in enumerate(table):
            if row["failure"] and row.get("split") != "eval":  # evaluation shares the table
                yield _table_example(f"{file.name}:{number}", row, layout)


def _table_example(place: str, row: Mapping[str, Any], layout: Any) -> Example:
    code, _, message = str(row["failure"]).partition(": ")
    text = _message_text(row.get("completion"))
    again = _failure(text, layout)
    return Example(
        step=_whole(row.get("step")),
        place=place,
        completion=text,
        reference=_text(row.get("reference")),
        code=code,
        message=message,
        position=again.position if again is not None and again.code == code else None,
    )


def _dump_failures(rows: Iterable[tuple[str, Mapping[str, Any]]], layout: Any) -> Iterator[Example]:
    for place, row in rows:
        text = _text(row["output"])
        failure = _failure(text, layout)
        if failure is not None:
            yield Example(
                step=_whole(row.get("step")),
                place=place,
                completion=text,
                reference=_text(row.get("gts")),
                code=failure.code,
                message=failure.message,
                position=failure.position,
                total=_number(row.get("score")),
            )


def _group_figures(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, float]]]:
    """The spread within groups, by verl's keys ``<prompt>_<session>_<sequence>``."""
    groups: dict[tuple[int, str], list[float]] = {}
    for row in rows:
        step, score, uid = _whole(row.get("step")), _number(row.get("score")), row.get("uid")
        if step is not None and score is not None and isinstance(uid, str):
            groups.setdefault((step, uid.rsplit("_", 2)[0]), []).append(score)
    for step in dict.fromkeys(step for step, _ in groups):
        paid = [each for (of, _), each in groups.items() if of == step and len(each) > 1]
        # equal rewards may differ from their rounded mean
        spreads = [0.0 if min(each) == max(each) else float(np.std(each)) for each in paid]
        if spreads:
            dead = spreads.count(0.0) / len(spreads)
            yield step, {GROUP_STD: float(np.mean(spreads)), DEAD: dead}


def _failure(text: str, layout: Any) -> Failure | None:
    return None if layout is None else parse_for(text, layout).failure


def _message_text(completion: Any) -> str:
    """The text of a completion, which for conversational data is a list of messages."""
    if isinstance(completion, list):
        parts = [part for part in completion if isinstance(part, dict)]
        return "".join(_text(part.get("content")) for part in parts)
    return _text(completion)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _whole(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LAST_STEP
    return value if whole else None


def _number(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and abs(value) <= LARGEST else None
