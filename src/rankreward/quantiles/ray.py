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
from uuid import uuid4

from rankreward.errors import InputError, RankRewardError, StateError, require
from rankreward.quantiles.owner import Owner, Version
from rankreward.quantiles.shared import SharedQuantileService

NAMESPACE = "rankreward"  # actors of a job without a namespace are visible to that job alone
_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds before asking again; the last one repeats


class RayQuantileService(SharedQuantileService):
    """A `QuantileService` whose window belongs to a Ray actor.

    Make it with the same arguments in every process of a job that ranks: the first one starts the
    actor, the others find it by its name. Make it first in the driver, for an actor ends with the
    process that started it. Everything else is as with `QuantileService`, but one process, as a
    rule the driver, flushes for all, or all of them say `advance`. `push` is one message, and so
    is asking before a `rank` whether the window has changed. `attach` finds a window by its name
    alone.

    Args:
        metrics: names of the columns, in order.
        name: name of the window, unlike that of any other job on the cluster.
        folder: where the actor keeps the window, on a disk that it finds again wherever Ray
            restarts it. With a folder the actor is restarted when it dies, and goes on with every
            row that it had acknowledged; without one, its death is an error.
        resume: go on with the window that the folder holds, as after a crash of the whole job; or
            the path of a file that `save` wrote, of this or any other service or of a `Scorer`:
            the actor then begins with that, whatever the folder holds.
        overwrite: begin anew, whatever the folder holds. Neither matters where the actor runs
            already, and an actor that was restarted always goes on with its folder.
        timeout: seconds to wait for the actor, its restarts included.
        max_age: seconds for which `rank` trusts its copy of the window without asking whether
            there is a newer one; see `SharedQuantileService`.
        **window: everything else that `QuantileService` takes.

    Raises:
        InputError: an argument is out of its range.
        StateError: Ray is not initialised, the name belongs to another job or to a window with
            other arguments, another window is using the folder, or it holds a window and neither
            `resume` nor `overwrite` is given.
        OSError: the folder cannot be written, or the file to begin with not be read.
        CheckpointError: the window to go on with is damaged, or has other arguments.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        *,
        name: str,
        folder: str | Path | None = None,
        resume: bool | str | Path = False,
        overwrite: bool = False,
        timeout: float = 60.0,
        max_age: float = 0.0,
        **window: Any,
    ) -> None:
        super().__init__(metrics, max_age=max_age, **window)
        self._prepare(name, timeout)
        _check_beginning(folder, resume=resume, overwrite=overwrite)
        self._keeps = folder is not None
        options = {
            "name": name,
            "namespace": NAMESPACE,
            "get_if_exists": True,
            "num_cpus": 0,
            "max_restarts": -1 if self._keeps else 0,
        }
        place = None if folder is None else str(Path(folder).resolve())
        identity = {"job": _job(self._ray), "folder": place}
        begin = {
            "resume": resume if isinstance(resume, bool) else str(Path(resume).resolve()),
            "overwrite": overwrite,
            "birth": uuid4().hex,
        }
        maker = self._ray.remote(_Actor).options(**options)
        self._actor = maker.remote(self._config(), identity, begin)
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

    @classmethod
    def attach(
        cls, name: str, *, timeout: float = 60.0, max_age: float = 0.0
    ) -> RayQuantileService:
        """A client of the window of that name, with whatever arguments it was made.

        Args:
            name: name of the window.
            timeout: seconds to wait for the window to be made, and for its answers.
            max_age: as for the class.

        Raises:
            InputError: an argument is out of its range.
            StateError: Ray is not initialised, or there is no such window in this job.
        """
        service = cls.__new__(cls)
        service._attach(name, timeout, max_age)  # noqa: SLF001 - another way to begin
        return service

    def _attach(self, name: str, timeout: float, max_age: float) -> None:
        self._prepare(name, timeout)
        self._actor = _find(self._ray, name, timeout)
        self._keeps = True  # for now; whether it does is part of what it tells
        theirs, error = self._ask("identity")
        if error is not None:
            raise error
        if theirs["job"] != _job(self._ray):
            raise StateError(
                f"window {name!r}: expected one of this job, got one of job {theirs['job']!r}; "
                "give each job a name of its own"
            )
        config = {key: theirs[key] for key in theirs.keys() - {"job", "folder", "process"}}
        super().__init__(max_age=max_age, **config)
        self._keeps = theirs["folder"] is not None

    def _prepare(self, name: str, timeout: float) -> None:
        ray: Any = require("ray", extra="ray")
        if not name or not isinstance(name, str):
            raise InputError(f"name: expected a name, got {name!r}")
        if not timeout > 0:
            raise InputError(f"timeout: expected seconds above 0, got {timeout!r}")
        if not ray.is_initialized():
            raise StateError("expected a running Ray, got none: call ray.init() first")
        self._ray = ray
        self._timeout = timeout
        self.name = name

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


def _check_beginning(
    folder: str | Path | None, *, resume: bool | str | Path, overwrite: bool
) -> None:
    if overwrite and resume is not False:
        raise InputError(f"overwrite: expected no resume beside it, got resume={resume!r}")
    if resume is True and folder is None:
        raise InputError("resume: expected a folder to go on with, got none; pass folder=")


def _job(ray: Any) -> str:
    """The id of this process's job."""
    return str(ray.get_runtime_context().get_job_id())


def _find(ray: Any, name: str, timeout: float) -> Any:
    """The actor of that name, which may be about to be made."""
    deadline = time.monotonic() + timeout
    for attempt in itertools.count():
        try:
            return ray.get_actor(name, namespace=NAMESPACE)
        except ValueError as error:
            if time.monotonic() >= deadline:
                raise StateError(
                    f"window {name!r}: expected one of that name, got none within {timeout:g} s; "
                    "make it first, with RayQuantileService(..., name=...) in the same job"
                ) from error
        time.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
    raise AssertionError


class _Stored(NamedTuple):
    """An answer that lies in Ray's object store, once a machine instead of once a worker."""

    reference: Any


class _Actor:
    """The `Owner` as Ray calls it."""

    def __init__(
        self, config: dict[str, Any], identity: dict[str, Any], begin: dict[str, Any]
    ) -> None:
        ray: Any = require("ray", extra="ray")
        self._put = ray.put
        self._identity = {**identity, **config}
        self._stored: tuple[Version, _Stored] | None = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray calls an old function of its own
            again = ray.get_runtime_context().was_current_actor_reconstructed
        self._error: Exception | None = None
        try:
            self._owner = Owner(config, identity["folder"], again=again, **begin)
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
