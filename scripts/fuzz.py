"""Feed the parsers hostile inputs: completions, batches, references and recipes.

Goes in: how many inputs, a seed and a time budget. Comes out: figures, and `runs/fuzz/`: the pool
of inputs that came out in a way none had before, from which the next run goes on, and the inputs
at which a parser raised, disagreed with its slow twin, or took more than linear time. The exit
status is 1 if there is one.

    python scripts/fuzz.py --inputs 1000000
    python scripts/fuzz.py --inputs 100000 --guided   # by code coverage; `pip install atheris`
"""

# ruff: noqa: INP001, T201, S311 - a script, which prints and draws at random

from __future__ import annotations

import argparse
import collections
import os
import random
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

BATCH = 64  # inputs that are read together
SHARES = {"completion": 84, "score": 8, "reference": 6, "recipe": 2}  # of the inputs, in percent
PUMPED = 25_000  # characters of the shorter of two inputs that are timed against one another
GROWTH = 9.0  # times as long, of four times the text: 4 is linear, 16 is quadratic
SLOW = 0.05  # seconds; what is faster is not told from noise


def main() -> int:
    """Run until the inputs or the seconds are used up."""
    parser = argparse.ArgumentParser(description="Feed the parsers hostile inputs.")
    parser.add_argument("--inputs", type=int, default=100_000, help="how many (default 100000)")
    parser.add_argument("--seconds", type=float, default=3600.0, help="at most (default 3600)")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs (default 0)")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="pool and findings")
    parser.add_argument("--guided", action="store_true", help="choose inputs by code coverage")
    asked = parser.parse_args()
    if asked.guided:
        import atheris  # noqa: PLC0415 - before the parsers, which it instruments

        with atheris.instrument_imports(include=["rankreward"]):
            import rankreward.parsing.batch  # noqa: PLC0415
            import rankreward.recipe  # noqa: F401, PLC0415
    run = Run(asked.out, asked.seed)
    return run.guided(asked.inputs, asked.seconds) if asked.guided else run.go(asked)


class Run:
    """A run: its pool, its findings and its figures."""

    def __init__(self, out: Path, seed: int) -> None:
        import fuzzing  # noqa: PLC0415 - after it was said what to instrument

        self.fuzzing = fuzzing
        fuzzing.quiet()
        self.out, self.rng = out, random.Random(seed)
        out.mkdir(parents=True, exist_ok=True)
        self.pool = {target: list[str]() for target in fuzzing.TARGETS}
        self.seen: set[str] = set()
        self.found = 0
        self.done: collections.Counter[str] = collections.Counter()
        self.worst = (0.0, "")
        kept = out / "pool.jsonl"
        corpus = [*sorted((Path(__file__).parents[1] / "tests/corpus").glob("*.jsonl"))]
        for path in corpus + [kept] * kept.exists():
            for case in fuzzing.read_cases(path):
                self.pool[case.target].append(case.text)
                self.take([case], keep=False)

    def go(self, asked: argparse.Namespace) -> int:
        """Inputs by mutation."""
        begin = last = time.perf_counter()
        while sum(self.done.values()) < asked.inputs:
            (target,) = self.rng.choices(list(SHARES), list(SHARES.values()))
            self.take(self.batch(target))
            if self.rng.random() < 0.1:
                self.pump(target)
            now = time.perf_counter()
            if now - last > 10:
                last = now
                self.say(now - begin)
            if now - begin > asked.seconds:
                break
        self.say(time.perf_counter() - begin)
        return int(self.found > 0)

    def batch(self, target: str) -> list:
        """Inputs that are read the same way."""
        fuzzing, pool, how = self.fuzzing, self.pool[target], {}
        how = fuzzing.random_how(self.rng, target)
        words = fuzzing.YAML if target == "recipe" else fuzzing.WORDS
        cases = []
        for _ in range(BATCH):
            old = pool and self.rng.random() < 0.3
            text = self.rng.choice(pool) if old else fuzzing.seed_text(self.rng, how, target)
            cases.append(fuzzing.Case(target, fuzzing.mutate(self.rng, text, pool, words), how))
        return cases

    def take(self, cases: Sequence, *, keep: bool = True) -> None:
        """Check inputs, and keep those that came out in a new way."""
        self.done[cases[0].target] += len(cases)
        why, outcomes = "", []
        try:
            outcomes = self.fuzzing.check(cases)
        except Exception:  # noqa: BLE001 - that is what is looked for
            why = traceback.format_exc()
        if why and len(cases) > 1:
            before = self.found
            for case in cases:  # which of them it was
                self.take([case], keep=False)
            if self.found == before:  # none by itself
                joined = [case.line() for case in cases]
                self.find(cases[0], f"{why}\n in a batch: {joined}")
            return
        if why:
            self.find(cases[0], why)
            return
        for case, outcome in zip(cases, outcomes, strict=True):
            if outcome not in self.seen:
                self.seen.add(outcome)
                if keep:
                    self.pool[case.target].append(case.text)
                    with (self.out / "pool.jsonl").open("a", encoding="ascii") as file:
                        file.write(case.line() + "\n")

    def pump(self, target: str) -> None:
        """Whether a text that is four times as long takes much more than four times as long."""
        case = self.batch(target)[0]
        texts = self.fuzzing.pumped(self.rng, case.text, PUMPED)
        pair = [self.fuzzing.Case(target, text, case.how) for text in texts]
        self.done["pumped"] += 2
        try:
            growth = self.growth(pair)
        except Exception:  # noqa: BLE001 - likewise
            self.find(pair[0], traceback.format_exc())
            return
        if growth > self.worst[0]:
            self.worst = growth, f"{target} {case.how}"
        if growth > GROWTH:
            self.find(pair[0], f"four times the text takes {growth:.1f} times as long")

    def growth(self, pair: Sequence) -> float:
        """How many times as long the second takes; 0 where it is fast anyway."""
        if self.seconds(pair[1]) < SLOW:
            return 0.0
        short, long = (min(self.seconds(case) for _ in range(3)) for case in pair)
        return long / short if long > SLOW else 0.0

    def seconds(self, case) -> float:  # noqa: ANN001
        """What reading takes of the processor, whoever else wants it."""
        begin = time.thread_time()
        self.fuzzing.read(case)
        return time.thread_time() - begin

    def find(self, case, why: str) -> None:  # noqa: ANN001
        """Keep what a parser did wrong."""
        self.found += 1
        print(f"FOUND {case.target} {case.how} {case.text[:200]!r}\n{why[-900:]}", file=sys.stderr)
        with (self.out / "found.jsonl").open("a", encoding="ascii") as file:
            file.write(self.fuzzing.Case(case.target, case.text, case.how, why).line() + "\n")

    def say(self, seconds: float) -> None:
        """The figures so far."""
        whole = sum(self.done.values())
        kept = sum(map(len, self.pool.values()))
        print(
            f"{whole} inputs in {seconds:.0f} s ({whole / seconds:.0f} a second): "
            f"{dict(self.done)}; {len(self.seen)} outcomes, {kept} in the pool, "
            f"growth at most {self.worst[0]:.1f} ({self.worst[1]}), {self.found} found",
            flush=True,
        )

    def guided(self, inputs: int, seconds: float) -> int:
        """Inputs by code coverage."""
        import atheris  # noqa: PLC0415

        hows = [self.fuzzing.random_how(self.rng, "completion") for _ in range(256)]
        folder = self.out / "guided"
        folder.mkdir(exist_ok=True)
        for place, text in enumerate(self.pool["completion"]):
            data = bytes([place % 256]) + text.encode("utf-8", "replace")
            (folder / f"seed-{place}").write_bytes(data)

        def one(data: bytes) -> None:
            how = hows[data[0]] if data else hows[0]
            self.fuzzing.check(
                [self.fuzzing.Case("completion", data[1:].decode("utf-8", "replace"), how)]
            )

        atheris.Setup(
            [sys.argv[0], f"-runs={inputs}", f"-max_total_time={seconds:.0f}", "-max_len=4096",
             "-print_final_stats=1", f"-artifact_prefix={folder}/found-", str(folder)],
            one,
        )  # fmt: skip
        atheris.Fuzz()  # ends the process, with 77 where it found something
        return 0


if __name__ == "__main__":
    sys.exit(main())
