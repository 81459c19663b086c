"""Awaiting: what an async reward returns, whether or not a loop is running already.

Goes in: awaitables. Comes out: their values, all of one loop, so that what a reward keeps from call
to call (a session, a lock) stays usable.
"""

from __future__ import annotations

import asyncio
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Loop:
    """A loop of its own; made at the first use, closed when this goes."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def value_of(self, awaitable: Any) -> Any:
        """Wait for an awaitable: here, or in a thread where this one runs a loop, as in Jupyter.

        Raises:
            BaseException: what the awaitable raises.
        """
        if not _running():
            return self._wait(awaitable)
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self._wait, awaitable).result()

    def _wait(self, awaitable: Any) -> Any:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            weakref.finalize(self, self._loop.close)
        task = self._loop.create_task(_awaited(awaitable))
        try:
            return self._loop.run_until_complete(task)
        finally:
            if task.cancel():  # it was stopped for its time
                self._loop.run_until_complete(asyncio.wait([task]))


def _running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _awaited(value: Any) -> Any:
    return await value
