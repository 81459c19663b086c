"""A replay as plain values, and as a folder of files.

Goes in: `Replayed`, and what was asked for. Comes out: a mapping for JSON, and

| file | what |
|---|---|
| ``summary.json`` | settings, all measures with intervals, the paragraph; written last |
| ``signal``, ``agreement``, ``terms``, ``metrics`` | the tables, each as ``.csv`` and ``.md`` |
| ``steps.jsonl`` | the measures of each step by itself, a step a line |
| ``disagreements.jsonl`` | the groups that two recipes disagree about most, a group a line |
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rankreward
from rankreward.replay.contestants import Contestant
from rankreward.replay.replaying import Replayed
from rankreward.replay.sums import Measured
from rankreward.replay.tables import sheets, verdict


def settings(contestants: Sequence[Contestant], log: Sequence[str]) -> dict[str, Any]:
    """What was asked for: the version, the log's paths, and the recipes by label."""
    recipes = {each.label: each.recipe.to_dict() for each in contestants}
    return {"rankreward": rankreward.__version__, "log": list(log), "recipes": recipes}


def as_dict(found: Replayed) -> dict[str, Any]:
    """All measures as plain values, None where undefined."""
    pairs = [
        {"first": a, "second": b, "measures": _measures(found, (a, b))} for a, b in found.pairs
    ]
    return {
        "steps": found.steps,
        "rows": found.rows,
        "groups": found.groups,
        "bad": found.bad,
        "bad_rows": [{"place": bad.place, "reason": bad.reason} for bad in found.bad_shown],
        "recipes": {label: _measures(found, (label,)) for label in found.labels},
        "pairs": pairs,
        "verdict": verdict(found),
    }


def write(
    folder: Path, found: Replayed, steps: Iterable[Mapping[str, Any]], asked: Mapping[str, Any]
) -> None:
    """Write the folder; each file is there in full or as it was before.

    Args:
        folder: made if there is none; files of the same name are replaced.
        found: the replay.
        steps: the figures of each step.
        asked: the settings.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, sheet in sheets(found).items():
        put(folder / f"{name}.csv", sheet.csv())
        put(folder / f"{name}.md", sheet.markdown())
    put(folder / "steps.jsonl", "".join(f"{json.dumps(step)}\n" for step in steps))
    cases = (f"{json.dumps(case, default=str)}\n" for case in found.cases)
    put(folder / "disagreements.jsonl", "".join(cases))
    summary = {"settings": asked, **as_dict(found)}
    put(folder / "summary.json", json.dumps(summary, indent=1) + "\n")


def put(file: Path, text: str) -> None:
    """Write a text beside a file and put it in its place."""
    beside = file.with_name(f"{file.name}.part")
    try:
        # Half a surrogate pair is no character, and a policy can write one.
        beside.write_bytes(text.encode("utf-8", "replace"))
        os.replace(beside, file)  # noqa: PTH105 - over an older one, on every system
    finally:
        beside.unlink(missing_ok=True)


def _measures(found: Replayed, labels: tuple[str, ...]) -> dict[str, Any]:
    return {each.name: _plain(each) for each in found.measures if each.labels == labels}


def _plain(each: Measured) -> dict[str, Any]:
    numbers = {"value": each.value, "low": each.low, "high": each.high}
    plain: dict[str, Any] = {name: _number(value) for name, value in numbers.items()}
    return {**plain, "groups": each.groups, "thirds": [_number(value) for value in each.thirds]}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
