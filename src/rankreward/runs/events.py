"""TensorBoard's event files, where nothing else is there.

Goes in: a folder of them. Comes out: an entry a step. Needs the package ``tensorboard``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rankreward.errors import MissingExtraError
from rankreward.runs.lines import LARGEST, merged
from rankreward.runs.names import OF_TRAINERS, renamed
from rankreward.runs.parts import Entry, Notes

_READER = "tensorboard.backend.event_processing.event_accumulator"
PATTERN = "events.out.tfevents.*"


def read_events(folder: Path, notes: Notes) -> list[Entry]:
    """The scalars of all event files below a folder, by step.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """
    try:
        events: Any = importlib.import_module(_READER)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{folder}: figures in TensorBoard's event files alone need the package 'tensorboard', "
            "which is not installed: pip install tensorboard"
        ) from error
    figures: list[tuple[int, Mapping[str, float]]] = []
    for place in sorted({file.parent for file in folder.rglob(PATTERN)}):
        try:
            reader = events.EventAccumulator(str(place), size_guidance={events.SCALARS: 0})
            reader.Reload()
            figures += _scalars(reader)
        except Exception as error:  # noqa: BLE001 - its readers raise anything on a damaged file
            notes.bad("events", f"{place}: expected TensorBoard's event files, got {error!r:.200}")
    return merged((step, renamed(values, OF_TRAINERS)) for step, values in _by_step(figures))


def _scalars(reader: Any) -> Iterator[tuple[int, dict[str, float]]]:
    """One figure at a time; transformers writes ``train/`` before those of training."""
    for tag in reader.Tags()["scalars"]:
        for event in reader.Scalars(tag):
            if abs(event.value) <= LARGEST:
                yield int(event.step), {tag.removeprefix("train/"): float(event.value)}


def _by_step(
    figures: list[tuple[int, Mapping[str, float]]],
) -> Iterator[tuple[int, dict[str, float]]]:
    """All figures of a step together, so that of two with one meaning the first counts."""
    for entry in merged(figures):
        yield int(entry["step"]), {name: value for name, value in entry.items() if name != "step"}
