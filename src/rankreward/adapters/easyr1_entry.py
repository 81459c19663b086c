"""EasyR1: the file that its setting ``worker.reward.reward_function`` names.

Goes in: the path of this file, as EasyR1 loads a reward function by path alone. Comes out: the
function, and what EasyR1 has to know of it.
"""

from rankreward.adapters.easyr1 import compute_score

__all__ = ["REWARD_NAME", "REWARD_TYPE", "compute_score"]

REWARD_NAME = "rankreward"
REWARD_TYPE = "batch"  # all completions in one call
