"""The window that the EasyR1 adapter keeps: kills, resumes, older checkpoints, validation."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from easyr1_process import (
    RECIPE,
    Oracle,
    Trainer,
    completions,
    train,
    validate,
    worker,
    write_tracker,
)

import rankreward as rr
from rankreward.adapters.common import CHECKPOINT
from rankreward.adapters.easyr1_files import TRACKER


@pytest.mark.parametrize(("calls", "save_every", "steps"), [(1, 2, 5), (1, 1, 3), (3, 2, 3)])
def test_killed_anywhere_a_run_goes_on_alike(
    tmp_path: Path, calls: int, save_every: int, steps: int
) -> None:
    """Killed at any event (a call, a checkpoint, its tracker, a file half way), the resumed run's
    rewards are bit for bit those of a window that was never lost; with several calls a step too."""
    events = Trainer(tmp_path / "whole", calls=calls, save_every=save_every).run(steps)
    assert events > 3 * calls * steps
    for kill in range(events):
        run = Trainer(tmp_path / str(kill), calls=calls, save_every=save_every)
        assert run.run(steps, kill_after=kill) == kill
        run.run(steps)
        assert run.scored >= calls * steps


@pytest.mark.parametrize("seed", range(12))
def test_killed_often_and_sent_back(tmp_path: Path, seed: int) -> None:
    """Killed again and again and sent back to older checkpoints, whose later ones are written
    anew, a run always ranks in the window of the checkpoint that it goes on from."""
    rng = np.random.default_rng(seed)
    run, back = Trainer(tmp_path, calls=int(rng.choice([1, 2])), save_every=1), 0
    for _ in range(8):
        kept = sorted(run.oracle.kept)
        load = tmp_path / f"global_step_{rng.choice(kept)}" if kept and rng.random() < 0.5 else None
        back += load is not None
        run.run(6, kill_after=int(rng.integers(4, 30)), load=load)
    run.run(7)
    assert back > 0
    assert run.attempts == 9


def test_a_checkpoint_of_another_run(tmp_path: Path) -> None:
    """A run that starts from another's checkpoint takes that window, and leaves that folder be."""
    old, new = tmp_path / "old", tmp_path / "new"
    run = Trainer(old)
    run.run(4)  # its last window is in no checkpoint yet
    before = {path: path.stat().st_mtime_ns for path in old.rglob("*")}
    for step in (2, 4):
        run.oracle.resume(step)
        rewards = train(worker(), new / str(step), 7, load=str(old / f"global_step_{step}"))
        assert rewards == run.oracle.score(completions(7))
    assert {path: path.stat().st_mtime_ns for path in old.rglob("*")} == before


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_copied_folder_goes_on(tmp_path: Path, attempts: int) -> None:
    """Files that were copied have other times; the window is the checkpoint's all the same."""
    run = Trainer(tmp_path / "run")
    for _ in range(attempts):
        run.run(3)
    run.oracle.resume(2)
    shutil.copytree(tmp_path / "run", tmp_path / "copy", copy_function=shutil.copyfile)
    assert train(worker(), tmp_path / "copy", 7) == run.oracle.score(completions(7))


def test_validation_ranks_in_the_training_window(tmp_path: Path) -> None:
    """Validation, in its own process, ranks in the window of the last training call, enters it
    not, and writes nothing."""
    training, validation, oracle = worker(), worker(), Oracle()
    assert validate(validation, tmp_path, 50) == oracle.score(completions(50), record=False)
    assert not list(tmp_path.iterdir())
    for call in range(3):
        assert train(training, tmp_path, call) == oracle.score(completions(call))
        before = (tmp_path / CHECKPOINT).read_bytes()
        for batch in (50, 51):
            expected = oracle.score(completions(batch), record=False)
            assert validate(validation, tmp_path, batch) == expected
        assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_validation_before_training(tmp_path: Path) -> None:
    """Before the first training call validation ranks in the checkpoint's window, and not in what
    a killed run left behind; in a new run with an old file in the folder in neither."""
    run = Trainer(tmp_path / "run")
    run.run(3)
    run.oracle.resume(2)
    expected = run.oracle.score(completions(50), record=False)
    assert validate(worker(), tmp_path / "run", 50) == expected
    (tmp_path / "run" / TRACKER).unlink()
    assert validate(worker(), tmp_path / "run", 50) == Oracle().score(completions(50), record=False)


def test_a_new_run_in_a_used_folder(tmp_path: Path) -> None:
    """A run that is told not to resume begins anew, and the old checkpoints keep their windows."""
    run = Trainer(tmp_path)
    run.run(4)
    process, oracle = worker(), Oracle()
    for call in range(2):
        rewards = train(process, tmp_path, call, find_last=False)
        assert rewards == oracle.score(completions(call))
    for step in (2, 4):
        run.oracle.resume(step)
        rewards = train(worker(), tmp_path, 7, load=str(tmp_path / f"global_step_{step}"))
        assert rewards == run.oracle.score(completions(7))


def test_a_checkpoint_without_its_window_is_an_error(tmp_path: Path) -> None:
    """Resuming without the window raises, says where it was looked for and what to do."""
    Trainer(tmp_path).run(3)
    (tmp_path / "global_step_2" / CHECKPOINT).unlink()
    for go in (train, validate):
        with pytest.raises(rr.StateError, match=r"step 2, expected .*put it back, or .*find_last"):
            go(worker(), tmp_path, 1)
    assert train(worker(), tmp_path, 1, find_last=False) == Oracle().score(completions(1))


def test_a_window_of_another_recipe_is_an_error(tmp_path: Path) -> None:
    """The error names the file and what differs."""
    Trainer(tmp_path).run(3)
    other = RECIPE.override({"accuracy.normalizer.window": 25}).to_dict()
    with pytest.raises(rr.CheckpointError, match=r"global_step_2.*normalizer.window 25, got 24"):
        train(worker(), tmp_path, 1, recipe=other)
    rr.Scorer(RECIPE).save(tmp_path / "global_step_2" / CHECKPOINT)
    with pytest.raises(rr.CheckpointError, match="expected a window that was saved in EasyR1"):
        train(worker(), tmp_path, 1)


def test_checkpoints_that_are_deleted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Old checkpoints may go while a run trains, even the one it came from; the last one warns."""
    Trainer(tmp_path).run(3)
    process, load = worker(), str(tmp_path / "global_step_2")
    train(process, tmp_path, 1, load=load)
    shutil.rmtree(load)
    train(process, tmp_path, 2, load=load)
    assert not caplog.records
    write_tracker(tmp_path, 4)
    train(process, tmp_path, 3, load=load)
    assert "global_step_4 is gone" in caplog.text
