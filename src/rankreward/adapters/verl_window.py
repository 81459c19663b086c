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

from rankreward.adapters.common import CHECKPOINT, check_served
from rankreward.errors import ConfigError, MissingExtraError, StateError, require
from rankreward.quantiles.ray import NAMESPACE, RayQuantileService
from rankreward.recipe import Recipe
from rankreward.rewards import Scorer

_KEYS = ("recipe", "folder", "begin", "timeout")
_BEGINNINGS = ("auto", "new")
_BUFFERS = ("RankRewardReplayBuffer", "RankRewardReplayBufferAsync")


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
    """What the whole configuration says about the reward, and about going on with a run.

    Raises:
        ConfigError: the section ``rankreward`` is wrong, or verl is told to do what it cannot do
            beside this adapter.
    """
    omegaconf: Any = importlib.import_module("omegaconf").OmegaConf
    section = read_section(omegaconf.to_container(omegaconf.create(config.get("rankreward"))))
    _check_trainer(config)
    folder = Path(config.trainer.default_local_dir).absolute() / "rankreward"
    new = section.pop("begin", "auto") == "new"
    checkpoint = None if new else _resumed(config.trainer)
    begin = {"overwrite": True} if checkpoint is None else {"resume": checkpoint / CHECKPOINT}
    return Settings(**{"folder": str(folder), "begin": begin, **section})


def _check_trainer(config: Any) -> None:
    """Refuse what verl would leave undone in silence."""
    if not config.trainer.get("use_v1"):
        raise ConfigError(
            "trainer.use_v1: expected true, got "
            f"{config.trainer.get('use_v1')!r}; verl's older trainer tells a reward no step, by "
            "which the window moves: set trainer.use_v1=True, which is verl's default"
        )
    buffer = (config.trainer.v1.sampler.get("custom_sampler") or {}).get("name")
    if buffer in _BUFFERS:
        _check_buffer(config, buffer)


def _check_buffer(config: Any, buffer: str) -> None:
    """Refuse what verl does in its own replay buffers alone."""
    groups, sampler = config.algorithm.get("filter_groups") or {}, config.trainer.v1.sampler
    keys = {
        "algorithm.filter_groups.enable": groups.get("enable"),
        "trainer.v1.sampler.sync_refill_failed_groups": sampler.get("sync_refill_failed_groups"),
    }
    on = next((key for key, value in keys.items() if value), None)
    if on is not None:
        raise ConfigError(
            f"{on}: expected false beside trainer.v1.sampler.custom_sampler.name={buffer}, got "
            "true; verl does this in its own replay buffer alone: unset one of the two"
        )


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
        ConfigError: it is missing, lacks the recipe, or has a key or a value that means nothing.
    """
    if not isinstance(section, Mapping) or section.get("recipe") is None:
        raise ConfigError(
            "configuration: expected a recipe in the section rankreward, got none; "
            "add for example +rankreward.recipe=dr_seg"
        )
    unknown = next((key for key in section if key not in _KEYS), None)
    if unknown is not None:
        raise ConfigError(f"rankreward.{unknown}: expected one of {', '.join(_KEYS)}")
    if section.get("begin", "auto") not in _BEGINNINGS:
        raise ConfigError(f"rankreward.begin: expected auto or new, got {section['begin']!r}")
    return dict(section)


def load_recipe(source: Any) -> Recipe:
    """The recipe, if verl gives what it needs.

    Raises:
        ConfigError: it cannot be found or understood, or needs what verl does not give.
    """
    why = "hands its reward one rollout at a time, without images"
    return check_served(Recipe.load(source), "verl", why)


def make_scorer(settings: Settings) -> Scorer:
    """A scorer whose window all processes of the Ray job share.

    Raises:
        ConfigError: the recipe cannot be found or understood, or needs what verl does not give.
        StateError: the checkpoint that the run goes on from has no window, or there is another
            window of that name or in that folder.
        CheckpointError: the window to go on with is another recipe's, or damaged.
    """
    recipe, name = load_recipe(settings.recipe), window_name()
    file = settings.begin.get("resume")
    if isinstance(file, Path) and not _is_there(name):
        _check_file(recipe, file)
    window = partial(
        RayQuantileService,
        name=name,
        folder=settings.folder,
        timeout=settings.timeout,
        max_age=float("inf"),  # `Rewards` asks for the newest once a batch
        **settings.begin,
    )
    try:
        return Scorer(recipe, quantiles=window)
    except StateError as error:
        if "expected folder=" not in str(error):
            raise
        raise StateError(
            f"{error}. Processes that work in different folders read a relative path differently: "
            "make trainer.default_local_dir or rankreward.folder absolute, or the folder that a "
            "function is given"
        ) from error


def _is_there(name: str) -> bool:
    """Whether the window has begun; a worker that is made again in mid run finds it."""
    ray: Any = require("ray", extra="ray")
    try:
        ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return False
    return True


def _check_file(recipe: Recipe, file: Path) -> None:
    """See whether a run of this recipe can go on from a file."""
    if not file.exists():
        raise StateError(
            f"the run goes on from {file.parent}, expected its window in {CHECKPOINT}, got no such "
            "file; put it back, or go on from another checkpoint (trainer.resume_mode=resume_path),"
            " or let the window alone begin anew (+rankreward.begin=new), or all of the run "
            "(trainer.resume_mode=disable); it is written with trainer."
            "checkpoint_callback_class=rankreward.adapters.verl.RankRewardCheckpoint"
        )
    Scorer(recipe).load(file)
