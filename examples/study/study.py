"""Run a study: every variant of a design with every seed, whatever is not done yet.

One small JSON file a run, written when the run is complete; a run that was killed begins anew. The
same command goes on where it stopped, and several may work on the same folder at once.

    python examples/study/study.py --workers 2
    python examples/study/study.py --workers 2 --begin-with examples/study/results.jsonl.gz
    python examples/study/study.py --design examples/study/pilot.yaml --out runs/pilot
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Set before the libraries are imported: nothing is downloaded, no process forks threads of its own.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
# A worker keeps the memory of its tensors from step to step: a tenth less time, the same bits.
os.environ.setdefault(
    "GLIBC_TUNABLES",
    "glibc.malloc.mmap_max=0:glibc.malloc.mmap_threshold=4294967296"
    ":glibc.malloc.trim_threshold=8589934592",
)

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "digits")]

from study_design import Design
from study_stats import read


def main() -> None:
    args = parse_args()
    Design.load(args.design)  # what is wrong with it is said once
    args.out.mkdir(parents=True, exist_ok=True)
    if args.begin_with is not None:
        unpack(args.begin_with, args.out)
    if args.workers == 1:
        work(args)
    else:
        spawn = multiprocessing.get_context("spawn")
        workers = [spawn.Process(target=work, args=(args,)) for _ in range(args.workers)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if any(worker.exitcode for worker in workers):
            raise SystemExit("a worker failed; what is done is kept, and the same command goes on")
    done, asked = count(args)
    print(f"{done} of {asked} runs are in {args.out}")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--design", type=Path, default=HERE / "study.yaml")
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="folder of the runs")
    parser.add_argument("--begin-with", type=Path, help="results whose runs count as done")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    parser.add_argument(
        "--only", default="", help="variants whose name this expression is found in"
    )
    parser.add_argument("--seeds", type=int, help="the first so many seeds alone")
    return parser.parse_args(argv)


def work(args: argparse.Namespace) -> None:
    """Do every run that is neither done nor being done."""
    import torch  # noqa: PLC0415 - a worker's process loads it, and not the one that waits

    from study_run import run  # noqa: PLC0415

    torch.set_num_threads(1)
    gc.freeze()  # the libraries' million objects stay: not looked through at every collection
    design = Design.load(args.design)
    for name, seed in asked_for(design, args):
        path = args.out / f"{name}-{seed}.json"
        if done(path, design, name):
            continue
        with claim(path.with_suffix(".lock")) as mine:
            if not mine or done(path, design, name):
                continue
            begin = time.perf_counter()
            write(path, json.dumps(run(design, name, seed)))
            print(f"{name}, seed {seed}: {time.perf_counter() - begin:.0f} s", flush=True)


def asked_for(design: Design, args: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """The runs of the design that the command line asks for."""
    for name, seed in design.runs():
        if re.search(args.only, name) and (args.seeds is None or seed < args.seeds):
            yield name, seed


def count(args: argparse.Namespace) -> tuple[int, int]:
    """How many runs are done, and how many are asked for."""
    design = Design.load(args.design)
    runs = list(asked_for(design, args))
    return sum(done(args.out / f"{name}-{seed}.json", design, name) for name, seed in runs), len(
        runs
    )


def unpack(results: Path, folder: Path) -> None:
    """Put the runs of a results' file into a folder that lacks them."""
    for record in read(results):
        path = folder / f"{record['variant']}-{record['seed']}.json"
        if not path.exists():
            write(path, json.dumps(record))


def done(path: Path, design: Design, name: str) -> bool:
    """Whether a run is there; one of other settings is an error, and never mixed in."""
    if not path.exists():
        return False
    found, expected = json.loads(path.read_text())["fingerprint"], design.fingerprint(name)
    if found != expected:
        raise SystemExit(
            f"{path}: expected a run of {name!r} with the settings {expected}, got {found}: "
            "the design has changed since; take another --out"
        )
    return True


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Whether this process may do the run; the system lets go of it if the process dies."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(text + "\n")
    part.replace(path)


if __name__ == "__main__":
    main()
