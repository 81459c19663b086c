"""Beginning, going on and being made again, with verl's own checkpoints and callback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from verl.trainer.ppo.checkpoint_callback import build_checkpoint_callback
from verl_manager import (
    CALLBACK,
    end_window,
    expected,
    make,
    rows_of,
    score,
    totals,
    window_of,
)

import rankreward as rr
from rankreward.adapters.verl_window import window_name
from rankreward.quantiles.ray import RayQuantileService

pytestmark = pytest.mark.usefixtures("cluster", "no_window_left")


def save(config: Any, step: int) -> Path:
    """A checkpoint, as verl's trainer saves it."""
    output = Path(config.trainer.default_local_dir)
    folder = output / f"global_step_{step}"
    folder.mkdir(parents=True, exist_ok=True)
    callback = build_checkpoint_callback(config)
    callback.on_save(SimpleNamespace(), step, checkpoint_dir=str(folder), async_save=False)
    (output / "latest_checkpointed_iteration.txt").write_text(str(step))
    return folder


def test_a_step_that_was_open_is_ended_after_the_restart(
    configure: Callable[..., Any], tokenizer: str
) -> None:
    """Where nobody flushes a checkpoint has rows of its own step pending; they enter as that
    step's when the next one begins, as in a run that was not interrupted."""
    config = configure(f"trainer.checkpoint_callback_class={CALLBACK}")
    twin, manager = rr.Scorer("dr_seg"), make(config, tokenizer)
    for step in (1, 2):
        assert totals(score(manager, rows_of(step), step=step)) == expected(twin, rows_of(step))
        if step == 1:
            twin.flush(1)
    save(config, 2)
    score(manager, rows_of(77), step=3)  # is lost
    end_window()
    manager = make(config, tokenizer)
    assert window_of(manager).pending == 16
    twin.flush(2)
    assert totals(score(manager, rows_of(3), step=3)) == expected(twin, rows_of(3))
    assert window_of(manager).rows.tobytes() == twin.quantiles.rows.tobytes()


def test_a_checkpoint_that_does_not_fit_is_refused(
    configure: Callable[..., Any], tokenizer: str
) -> None:
    """Another recipe, another window, no file, a damaged file: each says what, and what to do."""
    config = configure(f"trainer.checkpoint_callback_class={CALLBACK}")
    folder = save(config, 5)
    end_window()
    with pytest.raises(rr.CheckpointError, match="recipe 'vision_reasoner', got 'dr_seg'"):
        make(configure(recipe="vision_reasoner"), tokenizer)
    smaller = {"accuracy.normalizer.window": 500}
    recipe = (
        rr.Recipe.load("dr_seg")
        .override(smaller)
        .model_dump(mode="json", exclude_none=True, by_alias=True)
    )
    path = folder.parent / "smaller.yaml"
    path.write_text(yaml.safe_dump(recipe))
    with pytest.raises(rr.CheckpointError, match=r"normalizer\.window 500, got 2048"):
        make(configure(recipe=path), tokenizer)
    whole = (folder / "rankreward.npz").read_bytes()
    (folder / "rankreward.npz").write_bytes(whole[:100])
    with pytest.raises(rr.CheckpointError, match="damaged or foreign"):
        make(config, tokenizer)
    (folder / "rankreward.npz").unlink()
    for mode in (
        [],
        ["trainer.resume_mode=resume_path", f"trainer.resume_from_path={folder}"],
    ):
        with pytest.raises(rr.StateError, match=r"no such file; put it back.*RankRewardCheckpoint"):
            make(configure(*mode), tokenizer)


def test_a_window_can_begin_anew_though_the_trainer_goes_on(
    configure: Callable[..., Any], tokenizer: str
) -> None:
    """From a checkpoint without a window; the error that it is otherwise names the key."""
    config = configure(f"trainer.checkpoint_callback_class={CALLBACK}")
    score(make(config, tokenizer), rows_of(16))
    save(config, 1).joinpath("rankreward.npz").unlink()
    end_window()
    for mode in ([], ["+rankreward.begin=auto"]):
        with pytest.raises(rr.StateError, match=r"anew \(\+rankreward\.begin=new\)"):
            make(configure(*mode), tokenizer)
    window = window_of(make(configure("+rankreward.begin=new"), tokenizer))
    assert (window.size, window.pending, window.step) == (128, 0, None)


def test_a_worker_that_is_made_again_in_mid_run_finds_the_window(
    configure: Callable[..., Any], tokenizer: str
) -> None:
    """Though the trainer has meanwhile written a checkpoint without a window, or a damaged one."""
    config, twin = configure(), rr.Scorer("dr_seg")
    first = make(config, tokenizer)
    assert totals(score(first, rows_of(17))) == expected(twin, rows_of(17))
    file = save(config, 1) / "rankreward.npz"
    again = make(config, tokenizer)
    assert window_of(again).pending == 16
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"cut short")
    again = make(config, tokenizer)
    twin.flush(1)
    assert totals(score(again, rows_of(18), step=2)) == expected(twin, rows_of(18))


def test_a_relative_folder_in_two_working_folders_is_said(
    configure: Callable[..., Any],
    tokenizer: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error names the keys to make absolute; with the folder given, nothing is wrong."""
    relative = "trainer.default_local_dir=checkpoints"
    monkeypatch.chdir(tmp_path)
    owner = make(configure(relative), tokenizer)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    said = r"make trainer\.default_local_dir or rankreward\.folder absolute"
    with pytest.raises(rr.StateError, match=said):
        make(configure(relative), tokenizer)
    absolute = f"+rankreward.folder={tmp_path / 'checkpoints' / 'rankreward'}"
    score(owner, rows_of(19))
    assert window_of(make(configure(relative, absolute), tokenizer)).pending == 16


def test_a_run_begins_as_the_trainer_says(configure: Callable[..., Any], tokenizer: str) -> None:
    """`disable`, or no checkpoint: a new window, whatever an old run left in the folder.
    `resume_path`: that checkpoint, though there is a later one."""
    config = configure(f"trainer.checkpoint_callback_class={CALLBACK}")
    first = make(config, tokenizer)
    for step in (1, 2):
        score(first, rows_of(step), step=step)
        window_of(first).flush(step)
        folder = save(config, step)
        if step == 1:
            early = folder
    path = ["trainer.resume_mode=resume_path", f"trainer.resume_from_path={early}"]
    disable = ["trainer.resume_mode=disable"]
    for mode, size in (([], 160), (path, 144), (disable, 128), ([], 160)):
        end_window()
        manager = make(configure(*mode), tokenizer)
        assert window_of(manager).size == size
    end_window()
    (folder.parent / "latest_checkpointed_iteration.txt").unlink()
    manager = make(config, tokenizer)
    assert window_of(manager).step is None


def test_the_driver_owns_the_window_and_says_what_is_wrong(
    configure: Callable[..., Any],
) -> None:
    """verl makes the callback before any worker: a wrong recipe ends the run there."""
    name = f"trainer.checkpoint_callback_class={CALLBACK}"
    with pytest.raises(rr.ConfigError, match="dr_sge"):
        build_checkpoint_callback(configure(name, recipe="dr_sge"))
    callback = build_checkpoint_callback(configure(name))
    assert RayQuantileService.attach(window_name(), timeout=5).size == 128
    assert callback.config is not None
