"""Every error that rankreward raises on purpose.

Goes in: nothing. Comes out: the exception types that all stages share. A completion that a
policy got wrong is never an error; it is data (`rankreward.Failure`). An error means that an
argument, a file, a recipe or a service is broken, and that scoring must stop.

    RankRewardError
    ├── ConfigError          a recipe that cannot be found, read or understood  (ValueError)
    ├── InputError           an argument of the wrong shape, length or content  (ValueError)
    │   └── BadReferenceError  a reference (ground truth) that cannot be read
    ├── StateError           a call that the object's state forbids             (RuntimeError)
    │   └── StepOrderError   a flush for a step older than the last one
    ├── CheckpointError      a saved state that cannot be read or does not fit  (ValueError)
    └── MissingExtraError    a feature whose optional packages are missing      (ImportError)
"""

from __future__ import annotations

import importlib
from types import ModuleType


class RankRewardError(Exception):
    """Base of every error raised on purpose by this library."""


class ConfigError(RankRewardError, ValueError):
    """A recipe cannot be found, read or understood."""


class InputError(RankRewardError, ValueError):
    """An argument has the wrong shape, length or content."""


class BadReferenceError(InputError):
    """A reference (ground truth) cannot be read; scoring against it would be meaningless."""


class StateError(RankRewardError, RuntimeError):
    """The object's state forbids the call."""


class StepOrderError(StateError):
    """A flush named a step older than the last one flushed."""


class CheckpointError(RankRewardError, ValueError):
    """A saved state cannot be read, or belongs to another configuration."""


class MissingExtraError(RankRewardError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional package, or say which extra brings it.

    Args:
        module: dotted name of the package, such as ``"cv2"``.
        extra: the extra of this library that installs it, such as ``"eval"``.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != top:
            raise  # the package is there and lacks something of its own: not our message to give
        raise MissingExtraError(
            f"this needs the package {top!r}, which is not installed: "
            f"pip install 'rankreward[{extra}]'"
        ) from error
