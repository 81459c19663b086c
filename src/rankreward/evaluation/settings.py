"""Settings of a run: what its results depend on.

Goes in: policy, recipe, segmenter and data. Comes out: ``settings.json`` in the run's folder, which
a run that goes on has to match.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rankreward.errors import CheckpointError, InputError

_FILE = "settings.json"
_NO_MATTER = {"device", "cache", "chunk"}  # they change how fast masks come, not which
Settings = dict[str, Any]


def describe(part: Any) -> Any:
    """What the answers of a policy, a segmenter or an encoder depend on, as plain values.

    Args:
        part: anything; its ``settings`` if it has them, else its class and its public attributes
            that are plain values.

    Example:
        >>> from rankreward.evaluation import GrabCut
        >>> describe(GrabCut())
        {'kind': 'GrabCut', 'iterations': 5, 'slack': 0.2}
    """
    if part is None:
        return None
    if hasattr(part, "settings"):
        return dict(part.settings)
    plain = {
        name: value
        for name, value in getattr(part, "__dict__", {}).items()
        if not name.startswith("_") and name not in _NO_MATTER
        if isinstance(value, str | int | float | bool | None)
    }
    return {"kind": getattr(part, "__name__", type(part).__name__), **plain}


def keep_settings(folder: Path, settings: Mapping[str, Any], *, begun: bool) -> None:
    """Write the settings of a new run; of one that goes on, compare them.

    Args:
        folder: of the run; made if it is not there.
        settings: plain values.
        begun: whether the folder has results; until it has, other settings take the place of what
            is there.

    Raises:
        CheckpointError: the folder's run had others; the message names what differs.
        InputError: a value is not plain.
    """
    try:
        text = json.dumps(settings, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"settings: expected plain values, got {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{_FILE}.{os.getpid()}"
    part.write_text(text, encoding="utf-8")
    try:  # of shards that begin at once one writes
        os.link(part, folder / _FILE)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        if not (folder / _FILE).exists():
            part.replace(folder / _FILE)
    finally:
        part.unlink(missing_ok=True)
    before = read_settings(folder)
    assert before is not None  # it is there now
    other = differences(before, json.loads(text))
    if other and not begun:
        (folder / _FILE).write_text(text, encoding="utf-8")
    elif other:
        raise CheckpointError(
            f"{folder}: expected the settings of the run that is there, got others: "
            f"{'; '.join(other)}. Take another folder"
        )


def read_settings(folder: str | Path) -> Settings | None:
    """The settings of a run's folder; None if it has none.

    Raises:
        CheckpointError: the file cannot be read.
    """
    path = Path(folder) / _FILE
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: expected the settings of a run, got {error}") from error
    return dict(settings)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two settings, a text each.

    Example:
        >>> differences({"a": {"b": 1}}, {"a": {"b": 2}})
        ['a.b was 1, now 2']
    """
    first, second = dict(_flat(before)), dict(_flat(after))
    return [
        f"{key} was {_shown(first, key)}, now {_shown(second, key)}"
        for key in sorted(first.keys() | second.keys())
        if key not in first or key not in second or first[key] != second[key]
    ]


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "not there"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
