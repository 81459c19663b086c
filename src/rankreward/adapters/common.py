"""What the adapters have in common.

Goes in: a recipe, or what a dataset calls its splits. Comes out: whether a trainer can serve the
recipe, and whether a rollout is one of training.
"""

from __future__ import annotations

from typing import Any

from rankreward.errors import ConfigError, InputError
from rankreward.recipe import Recipe

CHECKPOINT = "rankreward.npz"  # the window's file inside a checkpoint folder of the trainer

_EVALUATION = ("val", "validation", "valid", "dev", "test", "eval", "evaluation")


def is_training(split: Any) -> bool:
    """Whether a split is the one of training; its rollouts alone enter the window.

    Raises:
        InputError: it is none of the usual names. A misspelt ``train`` would leave the window as it
            begins, where every answer ranks alike.
    """
    if split == "train":
        return True
    if split in _EVALUATION:
        return False
    raise InputError(f"split: expected train, or one of {', '.join(_EVALUATION)}, got {split!r}")


def check_served(recipe: Recipe, trainer: str, why: str) -> Recipe:
    """The recipe, if it needs neither images nor groups.

    Args:
        recipe: the recipe.
        trainer: its name.
        why: what that trainer does, as the end of a sentence.

    Raises:
        ConfigError: it does.
    """
    if recipe.needs_images or recipe.needs_groups:
        what = "images" if recipe.needs_images else "the other answers to the same question"
        raise ConfigError(
            f"recipe {recipe.name!r} needs {what}, and {trainer} {why}; choose another recipe, or "
            "TRL"
        )
    return recipe
