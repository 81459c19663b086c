"""The verl adapter's settings, and the window that they ask for.

Goes in: verl's configuration, with the section ``rankreward``. Comes out: a scorer whose window all
processes of the Ray job share, begun as verl begins or goes on with the run.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rankreward.errors import ConfigError, MissingExtraError, StateError, require
from rankreward.quantiles.ray import RayQuantileService
from rankreward.recipe import Recipe
from rankreward.rewards import Scorer

CHECKPOINT = "rankreward.npz"  # the window's file inside a checkpoint folder of the trainer

_KEYS = ("recipe", "folder", "timeout")


@dataclass(frozen=True)
class Settings:
    """What a job is told about its reward.

    Attributes:
        recipe: whatever `rankreward.Scorer` takes.
        folder: where the window is kept; None keeps it in memory alone.
        begin: keywords of `RayQuantileService` that say how the window begins.
        timeout: seconds to wait for the window.
    """

    recipe: Any
    folder: str | None
    begin: Mapping[str, Any]
    timeout: float = 60.0


def verl_module(module: str) -> Any:
    """A module of verl, or what to install."""
    try:
        return importlib.import_module(f"verl.{module}")
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] != "verl":
            raise  # verl is there and lacks something of its own: not our message to give
        raise MissingExtraError(
            "this needs the package 'verl', which is not installed: pip install verl==0.9.1"
        ) from error


def read_settings(config: Any) -> Settings:
    """What the whole configuration says about the reward, and about going on with a run."""
    omegaconf: Any = importlib.import_module("omegaconf").OmegaConf
    section = read_section(omegaconf.to_container(omegaconf.create(config.get("rankreward"))))
    folder = Path(config.trainer.default_local_dir).absolute() / "rankreward"
    checkpoint = _resumed(config.trainer)
    begin = {"overwrite": True} if checkpoint is None else {"resume": checkpoint / CHECKPOINT}
    return Settings(**{"folder": str(folder), "begin": begin, **section})


def _resumed(trainer: Any) -> Path | None:
    """The checkpoint folder that the trainer goes on from, by its own rules."""
    if trainer.resume_mode == "disable":
        return None
    if trainer.resume_mode == "resume_path":
        if not trainer.resume_from_path:
            raise ConfigError("trainer.resume_from_path: expected a folder, got none")
        return Path(trainer.resume_from_path).absolute()
    if trainer.resume_mode == "auto":
        manager = verl_module("utils.checkpoint.checkpoint_manager")
        latest = manager.find_latest_ckpt_path(str(Path(trainer.default_local_dir).absolute()))
        return None if latest is None else Path(latest)
    raise ConfigError(
        f"trainer.resume_mode: expected auto, disable or resume_path, got {trainer.resume_mode!r}"
    )


def window_name() -> str:
    """The name of this job's window, unlike that of any other job on the cluster."""
    ray: Any = require("ray", extra="ray")
    return f"rankreward-{ray.get_runtime_context().get_job_id()}"


def read_section(section: Mapping[str, Any] | None) -> dict[str, Any]:
    """The section ``rankreward`` of the configuration, checked.

    Raises:
        ConfigError: it is missing, lacks the recipe, or has a key that means nothing.
    """
    if not isinstance(section, Mapping) or section.get("recipe") is None:
        raise ConfigError(
            "configuration: expected a recipe in the section rankreward, got none; "
            "add for example +rankreward.recipe=dr_seg"
        )
    unknown = next((key for key in section if key not in _KEYS), None)
    if unknown is not None:
        raise ConfigError(f"rankreward.{unknown}: expected one of {', '.join(_KEYS)}")
    return dict(section)


def load_recipe(source: Any) -> Recipe:
    """The recipe, if verl gives what it needs.

    Raises:
        ConfigError: it cannot be found or understood, or needs what verl does not give.
    """
    recipe = Recipe.load(source)
    if recipe.needs_groups or recipe.needs_images:
        what = "images" if recipe.needs_images else "the other answers to the same question"
        raise ConfigError(
            f"recipe {recipe.name!r} needs {what}, and verl hands its reward one rollout at a "
            "time, without images; choose another recipe"
        )
    return recipe


def make_scorer(settings: Settings) -> Scorer:
    """A scorer whose window all processes of the Ray job share.

    Raises:
        ConfigError: the recipe cannot be found or understood, or needs what verl does not give.
        StateError: the checkpoint that the run goes on from has no window, or there is another
            window of that name or in that folder.
        CheckpointError: the window to go on with is another recipe's, or damaged.
    """
    recipe = load_recipe(settings.recipe)
    file = settings.begin.get("resume")
    if isinstance(file, Path):
        _check_file(recipe, file)
    window = partial(
        RayQuantileService,
        name=window_name(),
        folder=settings.folder,
        timeout=settings.timeout,
        max_age=float("inf"),  # every step begins with a message that tells of a new window
        **settings.begin,
    )
    return Scorer(recipe, quantiles=window)


def _check_file(recipe: Recipe, file: Path) -> None:
    """See whether a run of this recipe can go on from a file."""
    if not file.exists():
        raise StateError(
            f"the run goes on from {file.parent}, expected its window in {CHECKPOINT}, got no such "
            "file; put it back, or go on from another checkpoint (trainer.resume_mode=resume_path) "
            "or begin anew (trainer.resume_mode=disable); it is written with trainer."
            "checkpoint_callback_class=rankreward.adapters.verl.RankRewardCheckpoint"
        )
    Scorer(recipe).load(file)
