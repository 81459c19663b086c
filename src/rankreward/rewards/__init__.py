"""From what an answer says to what it is paid.

Goes in: completions and references. Comes out: a `RewardBatch`: totals, the terms that add up to
them, raw metrics, ranks and failures. `Scorer` is the door.
"""

from rankreward.rewards.rollouts import Sample, Target
from rankreward.rewards.scorer import RewardBatch, Scorer
from rankreward.rewards.similarity import ClipSimilarity

__all__ = ["ClipSimilarity", "RewardBatch", "Sample", "Scorer", "Target"]
