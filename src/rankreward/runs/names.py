"""What the trainers call their figures, and what a report calls them.

Goes in: a name from a trainer's log. Comes out: the one under which it is drawn. Figures of
`rankreward.rewards.figures` have the same names everywhere; EasyR1 puts ``reward/`` before them.
"""

from __future__ import annotations

from collections.abc import Mapping

REWARD, REWARD_STD = "reward", "reward_std"
GROUP_STD, DEAD = "rankreward/group_std", "rankreward/dead_groups"
CHARACTERS, TOKENS = "completions/mean_length", "completions/mean_tokens"
ENTROPY, KL, GRADIENT = "entropy", "kl", "grad_norm"
SECONDS = "rankreward/seconds"

# Of two names with one meaning the first counts, where a trainer logs both.
OF_TRAINERS: Mapping[str, str] = {
    # TRL: its lengths are in tokens; under scale_rewards="batch" the second is of whole batches
    "completions/mean_length": TOKENS,
    "frac_reward_zero_std": DEAD,
    # verl and EasyR1
    "reward/overall": REWARD,
    "critic/score/mean": REWARD,
    "response_length/mean": TOKENS,
    "actor/entropy": ENTROPY,
    "actor/entropy_loss": ENTROPY,
    "actor/kl_loss": KL,
    "actor/grad_norm": GRADIENT,
}
OWN: Mapping[str, str] = {}  # `rankreward score` writes these names itself


def renamed(figures: Mapping[str, float], table: Mapping[str, str]) -> dict[str, float]:
    """Figures under the names of reports; those that the table does not know keep theirs.

    Args:
        figures: name to number.
        table: `OF_TRAINERS` or `OWN`.

    Example:
        >>> from rankreward.runs.names import OF_TRAINERS, renamed
        >>> renamed({"critic/score/mean": 2.0, "reward/rankreward/failures": 0.0}, OF_TRAINERS)
        {'rankreward/failures': 0.0, 'reward': 2.0}
    """
    new = {
        name.removeprefix("reward/") if name.startswith("reward/rankreward/") else name: value
        for name, value in figures.items()
        if name not in table
    }
    for theirs, ours in table.items():
        if theirs in figures:
            new.setdefault(ours, figures[theirs])
    return new
