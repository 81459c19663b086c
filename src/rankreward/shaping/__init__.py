"""Advantages: what a reward is worth beside the other answers to the same question.

Goes in: rewards and the groups they belong to, many groups at once. Comes out: an advantage a
completion. Every function is pure, deterministic and blind to the order of the rows; a torch
tensor as the first argument gives a tensor back.
"""

from rankreward.shaping.advantages import dr_grpo, gdpo, grpo, rloo
from rankreward.shaping.revision import group_revision, revision_gain

__all__ = ["dr_grpo", "gdpo", "group_revision", "grpo", "revision_gain", "rloo"]
