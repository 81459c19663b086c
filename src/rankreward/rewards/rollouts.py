"""A batch on its way through the reward.

Goes in: what a trainer knows of a batch of completions. Comes out: `Rollouts`, which every term and
metric reads, and `Sample`, one completion of it, which a user's own term is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.errors import InputError
from rankreward.parsing import Failure, Objects, Response

Floats = NDArray[np.float64]

_LARGEST = 1e12  # of a column; NaN and infinity are beyond it


@dataclass(frozen=True, eq=False)
class Target:
    """A reference, read; what the recipe does not need is None.

    Attributes:
        objects: the objects to find, each once.
        mask: (H, W) bool, the mask of all of them.
        text: the answer, for recipes whose answers are texts.
    """

    objects: Objects | None = None
    mask: NDArray[np.bool_] | None = None
    text: str | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """One completion and what is known about it.

    Attributes:
        response: the completion, read; `response.answer` is None if it could not be.
        reference: its reference, as it was given.
        target: its reference, read; None with a released recipe.
        image: its image, if images were given.
        columns: its entry of each of the columns that were given.
    """

    response: Response
    reference: Any
    target: Target | None
    image: Any
    columns: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The completion."""
        return self.response.text


@dataclass(frozen=True, eq=False)
class Rollouts:
    """A batch of B completions and what is known about them.

    Attributes:
        responses: B completions, read.
        references: B references, as they were given.
        targets: B references, read; empty with a released recipe.
        images: B images, if any were given.
        groups: B group ids, if given.
        columns: name to B entries.
        failures: B entries, None or what was wrong; terms may add to them.
        released: system to what its released code says of each completion, once computed.
    """

    responses: Sequence[Response]
    references: Sequence[Any]
    targets: Sequence[Target]
    images: Sequence[Any] | None
    groups: Any
    columns: Mapping[str, Sequence[Any]]
    failures: list[Failure | None]
    released: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.responses)

    @cached_property
    def answered(self) -> NDArray[np.bool_]:
        """(B,) whether the answer could be read."""
        return np.array([response.answered for response in self.responses], dtype=bool)

    def sample(self, index: int) -> Sample:
        """One of the completions."""
        return Sample(
            response=self.responses[index],
            reference=self.references[index],
            target=self.targets[index] if self.targets else None,
            image=None if self.images is None else self.images[index],
            columns={name: values[index] for name, values in self.columns.items()},
        )

    @cached_property
    def no_target(self) -> NDArray[np.bool_]:
        """(B,) whether there was nothing to find; False where references are texts or not read."""
        empty = [False] * len(self)
        for index, target in enumerate(self.targets):
            if target.objects is not None:
                empty[index] = len(target.objects) == 0
            elif target.mask is not None:
                empty[index] = not target.mask.any()
        return np.array(empty, dtype=bool)

    @cached_property
    def rightly_empty(self) -> NDArray[np.bool_]:
        """(B,) whether there was nothing to find, and the answer says so."""
        said = [r.answer is not None and len(r.answer) == 0 for r in self.responses]
        return np.asarray(self.no_target & np.array(said, dtype=bool))

    def objects(self, index: int) -> Objects:
        """The objects of one reference; only for recipes that need them."""
        objects = self.targets[index].objects
        assert objects is not None
        return objects

    def numbers(self, name: str, low: float, high: float = math.inf) -> Floats:
        """(B,) a column of finite numbers in [low, high], a list, an array or a tensor.

        Raises:
            InputError: an entry is none; the message names it.
        """
        given = self.columns[name]
        values: Sequence[Any] = given.tolist() if hasattr(given, "tolist") else given
        for index, value in enumerate(values):
            number = isinstance(value, Real) and not isinstance(value, bool)
            if not number or not max(low, -_LARGEST) <= value <= min(high, _LARGEST):
                limits = f"from {low:g}" if math.isfinite(low) else "that is finite"
                limits += f" to {high:g}" if math.isfinite(high) else ""
                raise InputError(f"{name}[{index}]: expected a number {limits}, got {value!r:.40}")
        return np.array([float(value) for value in values], dtype=np.float64)
