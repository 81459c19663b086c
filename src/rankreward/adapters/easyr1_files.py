"""EasyR1's checkpoint folder: which checkpoint is the last, and which window belongs with which.

Goes in: EasyR1's own settings and files. Comes out: the checkpoint that a run goes on from, and the
file with its window. After each training call the window is in the folder itself; at the first
call after a checkpoint a copy goes into that, and where no such call came, `settle` makes it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rankreward.adapters.common import CHECKPOINT
from rankreward.errors import CheckpointError, InputError, StateError
from rankreward.quantiles.checkpoint import load_state, save_state

TRACKER = "checkpoint_tracker.json"  # where EasyR1 writes down which checkpoint is the last


class Tracker(NamedTuple):
    """EasyR1's last checkpoint: its step, 0 for none, and a mark that a rewritten file changes."""

    step: int
    mark: str

    @classmethod
    def of(cls, folder: Path) -> Tracker:
        """Read it."""
        path = folder / TRACKER
        if not path.exists():
            return cls(0, "")
        try:
            step = int(json.loads(path.read_bytes())["last_global_step"])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}: expected EasyR1's JSON with last_global_step, got {error!r}; mend the "
                "file, or delete it and name the checkpoint in trainer.load_checkpoint_path"
            ) from error
        return cls(step, f"{step}@{path.stat().st_mtime_ns}")


@dataclass(frozen=True)
class Place:
    """Where EasyR1 keeps its checkpoints, and which one it goes on from."""

    folder: Path
    load: Path | None
    find_last: bool

    @classmethod
    def of(cls, checkpoints: Any, load: Any, *, find_last: bool) -> Place:
        """Check the settings."""
        folder = absolute("checkpoints", checkpoints, "trainer.save_checkpoint_path")
        if load is not None:
            load = absolute("load", load, "trainer.load_checkpoint_path")
        return cls(folder, load, find_last)

    def start(self) -> Path | None:
        """The checkpoint that EasyR1 goes on from, or None for a new run.

        Asked once, as the run begins: EasyR1 may delete that checkpoint later.
        """
        if self.load is not None:
            # without such a folder EasyR1 would go on from another, or from none
            if not re.fullmatch(r"global_step_\d+", self.load.name) or not self.load.is_dir():
                raise InputError(
                    f"load: expected an existing folder global_step_<step>, got {str(self.load)!r}"
                )
            return self.load
        checkpoint = checkpoint_of(self.folder, Tracker.of(self.folder).step)
        return checkpoint if self.find_last and checkpoint.is_dir() else None


def read_window(path: Path) -> dict[str, Any]:
    """A saved window, with the key ``easyr1``: ``calls``, ``last`` and ``tracker``.

    Raises:
        CheckpointError: the file is damaged, or another adapter's.
    """
    state = load_state(path)
    if "easyr1" not in state:
        raise CheckpointError(
            f"{path}: expected a window that was saved in EasyR1, got another; put that one back"
        )
    return state


def checkpoint_of(folder: Path, step: int) -> Path:
    """The folder of the checkpoint of a step."""
    return folder / f"global_step_{step}"


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint's folder."""
    return int(checkpoint.name.removeprefix("global_step_"))


def _current(folder: Path, tracker: Tracker) -> bool:
    """Whether the last training call came before the last checkpoint, and so belongs with it.

    The tracker has been written since, and names a later step than the call knew of. The first
    alone would not do, as copied files have other times; nor the second, as a run that went back
    to an older checkpoint finds later ones that it has not written.
    """
    if tracker.step == 0 or not (folder / CHECKPOINT).exists():
        return False
    saved = read_window(folder / CHECKPOINT)["easyr1"]
    return bool(saved["tracker"] != tracker.mark and saved["last"] < tracker.step)


def settle(folder: Path) -> None:
    """Give the last checkpoint its window, if the process that had it was ended before it could."""
    tracker = Tracker.of(folder)
    if checkpoint_of(folder, tracker.step).is_dir() and _current(folder, tracker):
        save_state(
            checkpoint_of(folder, tracker.step) / CHECKPOINT, load_state(folder / CHECKPOINT)
        )


def window_of(checkpoint: Path) -> Path:
    """The file with a checkpoint's window.

    Raises:
        StateError: there is none.
    """
    folder, path = checkpoint.parent, checkpoint / CHECKPOINT
    tracker = Tracker.of(folder)
    if tracker.step == step_of(checkpoint) and _current(folder, tracker):
        return folder / CHECKPOINT
    if not path.exists():
        raise StateError(
            f"resuming at step {step_of(checkpoint)}, expected the window in {path}, got no such "
            f"file, and none in {folder / CHECKPOINT} from just before; put it back, or to begin "
            "with a new window leave load out of reward_function_kwargs and set find_last: false "
            "there"
        )
    return path


def absolute(name: str, path: Any, setting: str) -> Path:
    """A path that EasyR1's setting gives, checked."""
    if not isinstance(path, str | Path) or not Path(path).is_absolute():
        raise InputError(
            f"{name}: expected an absolute path, as a worker may run in another folder, got "
            f"{path!r}; write one in {setting}, such as ${{oc.env:PWD}}/checkpoints/my-run"
        )
    return Path(path)
