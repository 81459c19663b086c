"""A log under several recipes: what its rollouts would have earned, and how far recipes agree.

Goes in: steps of a log's rollouts, and recipes. Comes out: measures of each recipe and of each two,
with intervals, and the groups that two disagree about most.
"""

from rankreward.replay.contestants import Contestant, read_contestants
from rankreward.replay.replaying import Replay, Replayed, replay
from rankreward.replay.sums import Measured

__all__ = ["Contestant", "Measured", "Replay", "Replayed", "read_contestants", "replay"]
