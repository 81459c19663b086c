"""Group Revision: advantages of answers that revise a first one.

Goes in: how far the first answer and its revisions are from the reference. Comes out: what each
revision gained, and advantages that count it.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from rankreward.errors import InputError
from rankreward.shaping.advantages import Singleton, grpo
from rankreward.shaping.groups import Groups
from rankreward.shaping.tensors import Floats, answers_in_kind, as_array, as_column

Modulate = Literal["any", "positive"]


@answers_in_kind
def revision_gain(potentials: ArrayLike, /, initial: ArrayLike) -> Floats:
    r"""The share of the first answer's error that a revision took away.

    .. math:: \Delta\varphi_i = \max(0, (\Phi_{init} - \Phi_i) / \Phi_{init})

    Args:
        potentials: (B,), at least 0: the error of each revision, less is better; the mean pair
            cost, say, with 1 for each missing object.
        initial: the error of the answer it revises: one number, or (B,), one a revision.

    Returns:
        (B,) float64 in [0, 1], or a tensor like `potentials`. A revision that made it worse gains
        0, and so does one of a perfect first answer (`initial` 0), which the paper leaves open.

    Raises:
        InputError: a potential is NaN, infinite or negative, or the shapes do not fit.

    Cost:
        O(B).

    Example:
        >>> from rankreward.shaping import revision_gain
        >>> revision_gain([0.1014, 0.3067, 0.45], 0.4009).round(3).tolist()
        [0.747, 0.235, 0.0]

    Source:
        Group Revision, arXiv 2605.15951.
    """
    after = _errors("potentials", potentials)
    first = np.asarray(as_array(initial))
    before = _errors("initial", np.full(len(after), first) if first.ndim == 0 else first)
    if len(before) != len(after):
        raise InputError(f"initial: expected one number or {len(after)}, got {len(before)}")
    less = np.maximum(before - after, 0.0)
    return np.divide(less, before, out=np.zeros_like(less), where=before > 0)


@answers_in_kind
def group_revision(
    rewards: ArrayLike,
    /,
    gain: ArrayLike,
    groups: Groups,
    *,
    omega: float = 5.0,
    modulate: Modulate = "any",
    eps: float = 1e-6,
    singleton: Singleton = "zero",
) -> Floats:
    r"""GRPO over rewards that pay for gain, its advantages made larger by the gain.

    .. math::

        A = \mathrm{grpo}(r + \omega \Delta\varphi), \qquad
        \hat A_i = (1 + \Delta\varphi_i) A_i

    Args:
        rewards: (B,), finite: format and accuracy.
        gain: (B,), at least 0, of `revision_gain`; 0 for answers that revise none, and if a whole
            group has 0 this is plain GRPO.
        groups: (B,) ids of any hashable kind, in any order, or the size of consecutive groups.
        omega: what a full gain pays, in units of the reward; the paper's 5.
        modulate: ``"any"`` is the paper: the factor also enlarges negative advantages, so that
            among answers below the mean those that gained are pushed down harder for it (the
            second of the example). ``"positive"`` is ours: advantages below 0 stay as they are.
        eps: of `grpo`.
        singleton: what a group of one gets before the factor: ``"zero"``, or its ``"raw"``
            refined reward; see `grpo`.

    Returns:
        (B,) float64, or a tensor like `rewards`. With a gain the mean of a group is no longer 0.

    Raises:
        InputError: a reward or a gain is NaN or infinite, a gain is negative, the shapes or
            `groups` do not fit, or an option is unknown.

    Cost:
        O(B log B).

    Example:
        >>> from rankreward.shaping import group_revision
        >>> group_revision([7, 4, 3], [0.747, 0.2351, 0], 3).round(2).tolist()
        [1.94, -0.35, -0.83]
        >>> group_revision([7, 4, 3], [0.747, 0.2351, 0], 3, modulate="positive").round(2).tolist()
        [1.94, -0.28, -0.83]

    Source:
        Group Revision, arXiv 2605.15951.
    """
    values, gained = as_column("rewards", rewards), _errors("gain", gain)
    if len(gained) != len(values):
        raise InputError(f"gain: expected {len(values)}, one a reward, got {len(gained)}")
    if not math.isfinite(omega):
        raise InputError(f"omega: expected a finite number, got {omega}")
    if modulate not in get_args(Modulate):
        raise InputError(f"modulate: expected one of {get_args(Modulate)}, got {modulate!r}")
    advantages = grpo(values + omega * gained, groups, eps=eps, singleton=singleton)
    grown = advantages * (1.0 + gained)
    return grown if modulate == "any" else np.maximum(grown, advantages)


def _errors(name: str, values: ArrayLike) -> Floats:
    """(B,) float64, finite and at least 0."""
    column = as_column(name, values)
    if (column < 0).any():
        row = int(np.argmax(column < 0))
        raise InputError(f"{name}[{row}]: expected at least 0, got {column[row]:g}")
    return column
