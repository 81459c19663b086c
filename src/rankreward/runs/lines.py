"""The figures of a run, from a trainer's log.

Goes in: lines of JSON, or TRL's ``trainer_state.json``. Comes out: an entry a step. What cannot be
read is noted and passed over.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rankreward.runs.names import renamed
from rankreward.runs.parts import Entry, Notes

LARGEST = 1e100  # sums of what is beyond are not finite any more
LAST_STEP = 2**53  # beyond which two steps may be one float


def read_entries(path: Path, table: Mapping[str, str], notes: Notes) -> list[Entry]:
    """The entries of a log, by step.

    Args:
        path: lines of JSON, each a mapping with ``step`` and figures, flat, nested (EasyR1) or
            under ``data`` (verl); or a JSON file whose ``log_history`` is a list of such mappings.
        table: what to call which figure; see `rankreward.runs.names`.
        notes: where to say what was left out.

    Returns:
        A mapping a step, in order. Where a step was logged twice, the later value counts. Where a
        figure goes back to an earlier step the run was resumed there: the entries after that step,
        which the resumed run replaced, are left out, and a note says so.

    Raises:
        OSError: the file cannot be read.
    """
    objects = _history(path, notes) if path.suffix == ".json" else json_lines(path, notes)
    return merged(_continued(_figures(objects, path.name, table, notes), path.name, notes))


def json_lines(path: Path, notes: Notes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The mappings in a file of JSON lines, each with its place.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            place = f"{path.name}:{number}"
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                notes.bad(path.name, f"{place}: expected a line of JSON, got {str(error)[:200]}")
                continue
            if isinstance(found, dict):
                yield place, found
            else:
                kind = type(found).__name__
                notes.bad(path.name, f"{place}: expected a JSON object, got {kind}")


def merged(figures: Iterable[tuple[int, Mapping[str, float]]]) -> list[Entry]:
    """One entry a step, in order."""
    steps: dict[int, dict[str, float]] = {}
    for step, values in figures:
        steps.setdefault(step, {"step": float(step)}).update(values)
    return [steps[step] for step in sorted(steps)]


def _history(path: Path, notes: Notes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        history = list(json.loads(path.read_bytes())["log_history"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        notes.add(f"{path.name}: expected JSON with a log_history, got {error!r:.200}")
        return
    for number, entry in enumerate(history):
        place = f"{path.name}: log_history[{number}]"
        if isinstance(entry, dict):
            yield place, entry
        else:
            notes.bad(path.name, f"{place}: expected an object, got {type(entry).__name__}")


def _continued(
    figures: Iterable[tuple[int, dict[str, float]]], file: str, notes: Notes
) -> list[tuple[int, dict[str, float]]]:
    """By step, without what a resumed run replaced; a figure of its own may well come late."""
    kept: list[tuple[int, dict[str, float]]] = []
    logged: dict[str, list[int]] = {}  # the steps of each figure, rising
    for step, values in figures:
        if any(logged[name][-1] > step for name in values if logged.get(name)):
            begin = bisect_right(kept, step, key=_step)
            notes.bad(
                file,
                f"{file}: the step goes back from {kept[-1][0]} to {step}, as in a resumed run; "
                f"{len(kept) - begin} earlier entries of later steps are left out",
            )
            del kept[begin:]
            for steps in logged.values():
                del steps[bisect_right(steps, step) :]
        insort(kept, (step, values), key=_step)
        for name in values:
            logged.setdefault(name, []).append(step)
    return kept


def _step(figures: tuple[int, Mapping[str, float]]) -> int:
    return figures[0]


def _figures(
    objects: Iterable[tuple[str, Mapping[str, Any]]],
    file: str,
    table: Mapping[str, str],
    notes: Notes,
) -> Iterator[tuple[int, dict[str, float]]]:
    endless: dict[str, int] = {}
    for place, found in objects:
        step = found.get("step")
        if isinstance(step, bool) or not isinstance(step, int) or abs(step) > LAST_STEP:
            notes.bad(
                file, f"{place}: expected a whole number up to 2**53 as step, got {step!r:.80}"
            )
            continue
        inner = found.get("data")
        try:
            numbers = dict(_flat(inner if isinstance(inner, dict) else found))
        except RecursionError:
            notes.bad(file, f"{place}: expected figures, got a mapping too deep to read")
            continue
        numbers.pop("step", None)
        for name in [name for name, value in numbers.items() if not abs(value) <= LARGEST]:
            endless[name] = endless.get(name, 0) + 1
            del numbers[name]
        yield step, renamed(numbers, table)
    for name, count in list(endless.items())[:20]:
        notes.add(
            f"{file}: {name} was no number, not finite, or beyond {LARGEST:g}, in {count} entries; "
            "left out"
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a mapping, nested ones by the path to them."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        elif value is None or _is_number(value):  # null is what writers of strict JSON make of NaN
            yield f"{prefix}{name}", math.inf
        elif isinstance(value, int | float) and not isinstance(value, bool):
            try:
                yield f"{prefix}{name}", float(value)
            except OverflowError:  # a whole number beyond every float
                yield f"{prefix}{name}", math.inf


def _is_number(value: Any) -> bool:
    """Whether a text holds a number, which its writer meant to log as one."""
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True
