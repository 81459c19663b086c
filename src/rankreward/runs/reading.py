"""Reads a run: the figures, windows and failures that some trainer wrote down.

Goes in: a folder, or the file of a log. Comes out: a `Run`. Who wrote it is seen by its files:

| written by | its figures | its windows | its failures |
|---|---|---|---|
| `rankreward score` | ``steps.jsonl`` | ``windows/*.npz`` | ``examples.jsonl`` |
| the digits demo | ``log.jsonl`` | ``window.npz``, ``trainer/`` | as TRL, in ``trainer/`` |
| TRL | ``trainer_state.json``, here or in the newest ``checkpoint-*``, whichever goes further | ``checkpoint-*/rankreward.npz`` | ``completions/*.parquet`` |
| EasyR1 | ``experiment_log.jsonl`` | ``rankreward.npz``, ``global_step_*/`` | none |
| verl | any ``*.jsonl`` of its file logger | ``global_step_*/rankreward.npz`` | ``*/<step>.jsonl`` |
| any, to TensorBoard | ``events.out.tfevents.*`` | wherever the above are | none |
"""  # noqa: E501 - a table's rows

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rankreward.errors import InputError
from rankreward.runs.events import PATTERN, read_events
from rankreward.runs.examples import from_dumps, from_score, from_tables
from rankreward.runs.lines import json_lines, merged, read_entries
from rankreward.runs.names import OF_TRAINERS, OWN
from rankreward.runs.parts import Entry, Example, Notes, Run, Window
from rankreward.runs.windows import numbered, read_windows

_KNOWN = {"steps.jsonl", "log.jsonl", "experiment_log.jsonl", "trainer_state.json"}


def read_run(path: str | Path) -> Run:
    """Read a run.

    Args:
        path: the folder that a trainer or `rankreward score` wrote, or the file of its log, beside
            which the rest is looked for.

    Returns:
        The run. What was not there or could not be read is in its notes.

    Raises:
        InputError: nothing of a run is there; the message says what was looked for.
        MissingExtraError: the figures are in TensorBoard's files alone, and tensorboard is not
            installed.

    Cost:
        Time and memory for the log; six windows, and at most 200 files of rollouts.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"run: expected a folder or the file of a log, got {str(path)!r}")
    folder = path if path.is_dir() else path.parent
    notes = Notes()
    if path.is_file() and path.name not in _KNOWN:
        if not _is_verl(path):
            raise InputError(f"{path}: {_looked_for()}, got another file")
        run = _verl(path, folder, notes)
    else:
        run = _found(folder, notes)
    if not run.entries:
        raise InputError(f"{path}: expected figures by step, got none. {' '.join(notes.all())}")
    return replace(run, name=path.absolute().resolve().name, notes=notes.all())


def _found(folder: Path, notes: Notes) -> Run:
    """The run in a folder, by what lies there."""
    if (folder / "steps.jsonl").exists():
        return _score(folder, notes)
    if (folder / "experiment_log.jsonl").exists():
        return _easyr1(folder, notes)
    logs = [file for file in sorted(folder.glob("*.jsonl")) if _is_verl(file)]
    if logs:
        for other in logs[1:]:
            notes.bad("logs", f"{other.name} was not read, as {logs[0].name} is a log, too")
        return _verl(logs[0], folder, notes)
    if (folder / "log.jsonl").exists():
        return _demo(folder, notes)
    states = _states(folder)
    if states:
        return _trl(folder, states, notes)
    if next(folder.rglob(PATTERN), None) is not None:
        return _events(folder, notes)
    raise InputError(f"{folder}: {_looked_for()}, got none of them")


def _looked_for() -> str:
    return (
        "expected steps.jsonl (rankreward score), trainer_state.json or checkpoint-*/"
        "trainer_state.json (TRL), experiment_log.jsonl (EasyR1), a .jsonl of verl's file logger, "
        f"log.jsonl (the demo) or {PATTERN} (TensorBoard)"
    )


def _score(folder: Path, notes: Notes) -> Run:
    entries = read_entries(folder / "steps.jsonl", OWN, notes)
    windows, recipe = _windows(folder, ["windows/*.npz"], notes)
    examples: list[Example] = []
    if (folder / "examples.jsonl").exists():
        examples = from_score(folder / "examples.jsonl", notes)
    else:
        notes.add("no examples of failures: expected examples.jsonl, got none")
    _note_bad_rows(folder / "bad.jsonl", notes)
    recipe = recipe or _settings_recipe(folder / "settings.json", notes)
    return Run("", "rankreward score", entries, windows, examples, recipe)


def _note_bad_rows(path: Path, notes: Notes) -> None:
    count = sum(1 for _ in json_lines(path, notes)) if path.exists() else 0
    if count:
        notes.add(f"{count} rows of the log were no rollouts and are in no figure; see {path.name}")


def _settings_recipe(path: Path, notes: Notes) -> str:
    try:
        return str(json.loads(path.read_bytes())["recipe"]["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        notes.add(f"settings.json: expected JSON that names the recipe, got {error!r:.200}")
        return ""


def _demo(folder: Path, notes: Notes) -> Run:
    entries = read_entries(folder / "log.jsonl", OF_TRAINERS, notes)
    patterns = ["trainer/checkpoint-*/rankreward.npz", "window.npz"]
    windows, recipe = _windows(folder, patterns, notes)
    examples = from_tables(folder / "trainer" / "completions", recipe, notes)
    return Run("", "the digits demo (TRL)", entries, windows, examples, recipe)


def _states(folder: Path) -> list[Path]:
    """Where TRL's history may be, the one that goes furthest first."""
    top = folder / "trainer_state.json"
    rest = numbered(folder.glob("checkpoint-*/trainer_state.json"))[::-1]
    if not top.exists():
        return rest
    return [*rest, top] if _end(rest) > _end([top]) else [top, *rest]


def _end(states: Sequence[Path]) -> float:
    """The last step of the first history that can be read, -1 where none can."""
    histories = (read_entries(state, OF_TRAINERS, Notes()) for state in states)
    return next((entries[-1]["step"] for entries in histories if entries), -1.0)


def _trl(folder: Path, states: Sequence[Path], notes: Notes) -> Run:
    histories: Iterator[list[Entry]] = (read_entries(state, OF_TRAINERS, notes) for state in states)
    entries = next(filter(None, histories), [])
    if states[-1].parent == folder and len(states) > 1:
        notes.add("trainer_state.json ends before that of the newest checkpoint, which was read")
    windows, recipe = _windows(folder, ["checkpoint-*/rankreward.npz", "rankreward.npz"], notes)
    examples = from_tables(folder / "completions", recipe, notes)
    return Run("", "TRL", entries, windows, examples, recipe)


def _easyr1(folder: Path, notes: Notes) -> Run:
    entries = read_entries(folder / "experiment_log.jsonl", OF_TRAINERS, notes)
    patterns = ["global_step_*/rankreward.npz", "rankreward.npz"]
    windows, recipe = _windows(folder, patterns, notes)
    notes.add("no examples of failures: EasyR1 keeps no rollouts of training")
    return Run("", "EasyR1", entries, windows, (), recipe)


def _is_verl(path: Path) -> bool:
    """Whether a file's first line is one of verl's file logger."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        line = file.readline(1_000_000)
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and isinstance(found.get("data"), dict) and "step" in found


def _verl(log: Path, folder: Path, notes: Notes) -> Run:
    entries = read_entries(log, OF_TRAINERS, notes)
    windows, recipe = _windows(folder, ["global_step_*/rankreward.npz"], notes)
    dumps = _dumps(folder, entries, notes)
    if not dumps:
        notes.add(
            "no examples of failures: expected verl's rollouts in a folder beside the log "
            "(trainer.rollout_data_dir), got none"
        )
        return Run("", "verl", entries, windows, (), recipe)
    examples, spreads = from_dumps(numbered(dumps), recipe, notes)
    logged = [(int(entry["step"]), entry) for entry in entries]
    return Run("", "verl", merged([*spreads, *logged]), windows, examples, recipe)


def _dumps(folder: Path, entries: Sequence[Entry], notes: Notes) -> list[Path]:
    """Rollouts of training; those of steps after the log's end are of an earlier run."""
    dumps = [
        file
        for file in (*folder.glob("*.jsonl"), *folder.glob("*/*.jsonl"))
        if file.stem.isdecimal() and not file.parent.name.startswith("val")
    ]
    last = entries[-1]["step"] if entries else float("inf")
    late = [file for file in dumps if int(file.stem) > last]
    if late:
        notes.add(f"{len(late)} files of rollouts are of steps after the log's last; left out")
    return [file for file in dumps if int(file.stem) <= last]


def _events(folder: Path, notes: Notes) -> Run:
    entries = read_events(folder, notes)
    patterns = [f"{place}rankreward.npz" for place in ("", "checkpoint-*/", "global_step_*/")]
    windows, recipe = _windows(folder, patterns, notes)
    examples: list[Example] = []
    if (folder / "completions").is_dir():
        examples = from_tables(folder / "completions", recipe, notes)
    return Run("", "TensorBoard", entries, windows, examples, recipe)


def _windows(folder: Path, patterns: Sequence[str], notes: Notes) -> tuple[list[Window], str]:
    """The windows below a folder; those of the last pattern count as the newest."""
    files = [file for pattern in patterns for file in numbered(folder.glob(pattern))]
    if not files:
        notes.add(f"no distributions: expected windows in {', '.join(patterns)}, got none")
    return read_windows(files, notes)
