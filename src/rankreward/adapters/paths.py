"""What each trainer's configuration wants, to be copied.

Goes in: a trainer and a recipe. Comes out: the lines that put the recipe into that trainer.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from rankreward.errors import InputError

TRAINERS = ("trl", "verl", "easyr1")

_TRL = """\
from rankreward.adapters.trl import RankReward

reward = RankReward("{recipe}", reference="solution")
trainer = GRPOTrainer(..., reward_funcs=[reward], callbacks=[reward.callback()])
"""

_VERL = """\
reward.reward_manager.source=importlib
reward.reward_manager.name=RankRewardManager
reward.reward_manager.module.path=pkg://rankreward.adapters.verl
+rankreward.recipe={recipe}
trainer.v1.sampler.custom_sampler.path=pkg://rankreward.adapters.verl
trainer.v1.sampler.custom_sampler.name=RankRewardReplayBuffer
trainer.checkpoint_callback_class=rankreward.adapters.verl.RankRewardCheckpoint
"""

_EASYR1 = """\
worker:
  reward:
    reward_function: {entry}:compute_score
    reward_function_kwargs:
      recipe: {recipe}
      checkpoints: ${{trainer.save_checkpoint_path}}
      load: ${{trainer.load_checkpoint_path}}
      find_last: ${{trainer.find_last_checkpoint}}
trainer:
  save_checkpoint_path: ${{oc.env:PWD}}/checkpoints/my-run  # has to be absolute
"""


def easyr1_entry() -> Path:
    """The file that EasyR1 loads the reward from."""
    return Path(str(files("rankreward.adapters") / "easyr1_entry.py"))


def paths(trainer: str, recipe: str = "dr_seg") -> str:
    """The lines that put a recipe into a trainer.

    Args:
        trainer: ``trl`` (Python), ``verl`` (command line) or ``easyr1`` (YAML).
        recipe: name of a recipe, or path of its file.

    Raises:
        InputError: there is no adapter for that trainer.
    """
    templates = {"trl": _TRL, "verl": _VERL, "easyr1": _EASYR1}
    if trainer not in templates:
        raise InputError(f"trainer: expected one of {', '.join(templates)}, got {trainer!r}")
    return templates[trainer].format(recipe=recipe, entry=easyr1_entry())
