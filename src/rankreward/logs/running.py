"""A log scored from its first row to its last, written down and summed up.

Goes in: chunks, a scorer, and perhaps a folder. Comes out: the summary.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rankreward.logs.gaps import Gaps, gap_line
from rankreward.logs.rows import Chunk
from rankreward.logs.scoring import Scored, score_chunks
from rankreward.logs.sums import Step, Totals
from rankreward.logs.written import Folder
from rankreward.rewards import Scorer
from rankreward.rewards.figures import WindowLog

_NAMED = 5  # bad rows that are said one by one


def score_log(
    chunks: Iterable[Chunk],
    scorer: Scorer,
    folder: Folder | None,
    say: Callable[[str], None],
    gaps: Gaps | None = None,
) -> dict[str, Any]:
    """Score a log.

    Args:
        chunks: of `rankreward.logs.steps.chunks`.
        scorer: its window goes on from where it is.
        folder: where to write what was found; None for nowhere.
        say: told of the first bad rows, and of steps that lack.
        gaps: of the steps that `rankreward.logs.reading.read_log` found.

    Returns:
        The summary; ``finished`` is False if it was interrupted (`KeyboardInterrupt`), and all is
        then of complete steps.

    Raises:
        RankRewardError: as `score_chunks`; what is in the folder by then stays, as unfinished.
    """
    run = _Run(scorer, folder, say)
    finished = False
    try:
        for scored in score_chunks(chunks, scorer):
            run.add(scored)
        finished = True
    except KeyboardInterrupt:
        pass
    finally:
        missing = None if gaps is None else gaps.as_dict()
        summary = {**run.totals.as_dict(finished=finished), "missing_steps": missing}
        if missing is not None:
            say(gap_line(missing))
        if folder is not None:
            with _unbroken():
                folder.close(summary, scorer)
    return summary


@contextmanager
def _unbroken() -> Iterator[None]:
    """Signals wait until the end, so that files and figures always are of the same steps."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread alone
        return
    waiting: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: waiting.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for came in waiting[:1]:
            signal.raise_signal(came)


class _Run:
    """What is known of the log so far."""

    def __init__(self, scorer: Scorer, folder: Folder | None, say: Callable[[str], None]) -> None:
        self.totals = Totals(scorer.recipe.name)
        self._scorer, self._folder, self._say = scorer, folder, say
        self._window = WindowLog()
        self._step: Step | None = None
        self._failures: Counter[str] = Counter()

    def add(self, scored: Scored) -> None:
        for row in scored.bad[: max(0, _NAMED - self.totals.bad)]:
            self._say(f"bad row {row.place}: {row.reason}")
        self.totals.bad += len(scored.bad)
        if scored.batch is not None:
            if self._step is None:
                self._step, self._failures = Step(scored.step), Counter()
            self._step.add(scored)
            self._failures.update(code for code in scored.batch.codes if code is not None)
        if self._folder is not None:
            self._folder.add(scored)
        if scored.flush is not None:
            if self._step is not None:
                with _unbroken():
                    self._end(self._step)
            self._window.flushed(scored.flush)
            self._step = None

    def _end(self, step: Step) -> None:
        line = step.line(self._window)
        if self._folder is not None:
            self._folder.end_step(line, self._scorer)
        self.totals.add(line, self._failures)
