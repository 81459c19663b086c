"""One window for all workers of a Ray job, for trainers such as verl and EasyR1.

Goes in: the rows that each worker scored. Comes out: one window, owned by a named actor; the
workers rank on a copy of their own and send their rows to it.

Needs the extra ``ray``.
"""

from __future__ import annotations

import itertools
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rankreward.errors import InputError, RankRewardError, StateError, require
from rankreward.quantiles.shared import Owner, SharedQuantileService, Version

NAMESPACE = "rankreward"  # actors of a job without a namespace are visible to that job alone
_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds before asking again; the last one repeats


class RayQuantileService(SharedQuantileService):
    """A `QuantileService` whose window belongs to a Ray actor.

    Make it with the same arguments in every process of a job that ranks: the first one starts the
    actor, the others find it by its name. Make it first in the driver, for an actor ends with the
    process that started it. Everything else is as with `QuantileService`, but one process, as a
    rule the driver, flushes for all. `push` is one message, and so is asking before a `rank`
    whether the window has changed.

    Args:
        metrics: names of the columns, in order.
        name: name of the window, unlike that of any other job on the cluster.
        folder: where the actor keeps the window, on a disk that it finds again wherever Ray
            restarts it. With a folder the actor is restarted when it dies, and goes on with every
            row that it had acknowledged; without one, its death is an error.
        resume: go on with the window that the folder holds, as after a crash of the whole job.
        timeout: seconds to wait for the actor, its restarts included.
        max_age: seconds for which `rank` trusts its copy of the window without asking whether
            there is a newer one; see `SharedQuantileService`.
        **window: everything else that `QuantileService` takes.

    Raises:
        InputError: an argument is out of its range.
        StateError: Ray is not initialised, the name belongs to another job or to a window with
            other arguments, or the folder holds a window and `resume` is not given.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        *,
        name: str,
        folder: str | Path | None = None,
        resume: bool = False,
        timeout: float = 60.0,
        max_age: float = 0.0,
        **window: Any,
    ) -> None:
        super().__init__(metrics, max_age=max_age, **window)
        ray: Any = require("ray", extra="ray")
        if not name or not isinstance(name, str):
            raise InputError(f"name: expected a name, got {name!r}")
        if not timeout > 0:
            raise InputError(f"timeout: expected seconds above 0, got {timeout!r}")
        if not ray.is_initialized():
            raise StateError("expected a running Ray, got none: call ray.init() first")
        self._ray = ray
        self._timeout = timeout
        self._keeps = folder is not None
        self.name = name
        options = {
            "name": name,
            "namespace": NAMESPACE,
            "get_if_exists": True,
            "num_cpus": 0,
            "max_restarts": -1 if self._keeps else 0,
        }
        place = None if folder is None else str(Path(folder).resolve())
        identity = {"job": ray.get_runtime_context().get_job_id(), "folder": place}
        self._actor = (
            ray.remote(_Actor).options(**options).remote(self._config(), identity, resume=resume)
        )
        theirs, error = self._ask("identity")
        if error is not None:
            self.close()  # it could not begin; now its name is free again
            raise error
        mine = {**identity, **self._config()}
        other = next((key for key in mine if theirs[key] != mine[key]), None)
        if other is not None:
            raise StateError(
                f"window {name!r}: expected {other}={mine[other]!r}, got a window of that name "
                f"with {theirs[other]!r}; use the same arguments, or another name"
            )

    def close(self) -> None:
        """End the actor. What its folder holds stays; its name becomes free."""
        self._ray.kill(self._actor, no_restart=True)

    def _ask(self, method: str, *arguments: Any) -> Any:
        errors = self._ray.exceptions
        deadline = time.monotonic() + self._timeout
        for attempt in itertools.count():
            left = max(deadline - time.monotonic(), 0.001)
            try:
                answer = self._ray.get(
                    getattr(self._actor, method).remote(*arguments), timeout=left
                )
                if isinstance(answer, _Stored):
                    answer = self._ray.get(answer.reference, timeout=left)
                return answer
            except errors.RayTaskError as error:
                if isinstance(error.cause, RankRewardError | OSError):
                    raise error.cause from None
                raise
            except (
                errors.ActorDiedError,
                errors.ActorUnavailableError,
                errors.ObjectLostError,
                errors.GetTimeoutError,
            ) as error:
                self._give_up_if_lost(error, deadline)
            time.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
        raise AssertionError

    def _give_up_if_lost(self, error: Exception, deadline: float) -> None:
        """Raise if asking again cannot help."""
        if not self._keeps:
            raise StateError(
                f"window {self.name!r}: its actor has ended or does not answer, and its rows were "
                "in memory alone; give the service a folder, and it survives this"
            ) from error
        try:
            self._ray.get_actor(self.name, namespace=NAMESPACE)
        except ValueError:
            raise StateError(
                f"window {self.name!r}: its actor has ended, with close() or with the process that "
                "started it; make the service again with resume=True"
            ) from error
        if time.monotonic() >= deadline:
            raise StateError(
                f"window {self.name!r}: its actor did not answer within {self._timeout:g} s"
            ) from error


class _Stored(NamedTuple):
    """An answer that lies in Ray's object store, once a machine instead of once a worker."""

    reference: Any


class _Actor:
    """The `Owner` as Ray calls it."""

    def __init__(self, config: dict[str, Any], identity: dict[str, Any], *, resume: bool) -> None:
        ray: Any = require("ray", extra="ray")
        self._put = ray.put
        self._identity = {**identity, **config}
        self._stored: tuple[Version, _Stored] | None = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray calls an old function of its own
            again = ray.get_runtime_context().was_current_actor_reconstructed
        self._error: Exception | None = None
        try:
            self._owner = Owner(config, identity["folder"], resume=resume or again)
        except (RankRewardError, OSError) as error:
            self._error = error  # Ray would tell its text alone, and try again

    def identity(self) -> tuple[dict[str, Any], Exception | None]:
        return {**self._identity, "process": os.getpid()}, self._error

    def call(self, *arguments: Any) -> tuple[Version, Any]:
        return self._begun().call(*arguments)

    def look(self, *arguments: Any) -> Any:
        return self._begun().look(*arguments)

    def _begun(self) -> Owner:
        if self._error is not None:
            raise self._error
        return self._owner

    def frozen(self, version: Version | None) -> _Stored | None:
        frozen = self._begun().frozen(version)
        if frozen is None:
            return None
        if self._stored is None or self._stored[0] != frozen.version:
            self._stored = frozen.version, _Stored(self._put(frozen))
        return self._stored[1]
