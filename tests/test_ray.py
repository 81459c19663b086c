"""A real Ray: workers in processes of their own, and an actor that is killed again and again."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
from services import start_ray

import rankreward as rr
from rankreward.quantiles.ray import RayQuantileService

ARGUMENTS = {"metrics": ("a", "b"), "window": 5000, "warm_start": 0}


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    start_ray()
    yield
    ray.shutdown()


def work(name: str, folder: str | None, worker: int, rows: int) -> bytes:
    """What a worker process does: rank on its copy, push row by row."""
    service = RayQuantileService(**ARGUMENTS, name=name, folder=folder)
    ranks = service.rank(np.array([[0.5, 0.5]]))
    for n in range(rows):
        service.push([[float(worker), float(n)]])
    return ranks.tobytes()


def test_workers_in_other_processes_share_the_window() -> None:
    """Four workers see the same ranks; their rows enter once, and count after the driver's flush."""
    driver = RayQuantileService(**ARGUMENTS, name="shared", max_age=0.0)
    driver.push([[0.1, 0.9]])
    driver.flush(0)
    tasks = [ray.remote(num_cpus=0.5)(work).remote("shared", None, w, 20) for w in range(4)]
    assert set(ray.get(tasks, timeout=60)) == {np.array([[1.0, 0.0]]).tobytes()}
    assert driver.flush(1) == rr.FlushStats(added=80, evicted=0, size=81, step=1)
    expected = {(float(w), float(n)) for w in range(4) for n in range(20)}
    assert {tuple(row) for row in driver.rows[1:].tolist()} == expected
    driver.close()


def test_an_actor_killed_between_pushes_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Threads push while the actor is killed, six times, whatever it is doing; then a flush that
    is interrupted too."""
    service = RayQuantileService(**ARGUMENTS, name="mortal", folder=tmp_path / "w", timeout=60)
    sent: list[tuple[float, float]] = []
    stop = threading.Event()

    def push(worker: int) -> None:
        n = 0
        while not stop.is_set():
            row = (float(worker), float(n))
            service.push([row])
            sent.append(row)  # acknowledged
            n += 1

    threads = [threading.Thread(target=push, args=(w,)) for w in range(4)]
    for thread in threads:
        thread.start()
    processes = set()
    for _ in range(6):
        before = len(sent)
        while len(sent) < before + 20:
            time.sleep(0.002)
        processes.add(ray.get(service._actor.identity.remote(), timeout=60)[0]["process"])
        ray.kill(service._actor, no_restart=False)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert len(processes) == 6  # each life was a process of its own
    ray.kill(service._actor, no_restart=False)
    assert service.pending == len(sent)
    killer = threading.Timer(0.001, ray.kill, [service._actor], {"no_restart": False})
    killer.start()
    stats = service.flush(1)
    killer.join()
    assert stats.added == len(sent)
    rows = [tuple(row) for row in service.rows.tolist()]
    assert collections.Counter(rows) == collections.Counter(
        sent[-5000:] if len(sent) > 5000 else sent
    )
    service.close()


def until_it_is_dead(service: RayQuantileService) -> None:
    """Ray kills in its own time."""
    for _ in range(1000):
        assert service.pending >= 0
        time.sleep(0.01)


def test_a_window_in_memory_ends_with_its_actor() -> None:
    """Its rows are gone, and that is an error, not a zero."""
    service = RayQuantileService(**ARGUMENTS, name="fleeting")
    ray.kill(service._actor)
    with pytest.raises(rr.StateError, match="in memory alone; give the service a folder"):
        until_it_is_dead(service)


def test_a_closed_window_goes_on_from_its_folder(tmp_path: Path) -> None:
    """With `resume`, and not without."""
    arguments = {**ARGUMENTS, "name": "again", "folder": tmp_path}
    service = RayQuantileService(**arguments)
    service.push([[0.5, 0.5]])
    service.flush(7)
    service.push([[0.25, 0.5]])
    service.close()
    with pytest.raises(rr.StateError, match=r"has ended, with close\(\)"):
        until_it_is_dead(service)
    with pytest.raises(rr.StateError, match="pass resume=True"):
        RayQuantileService(**arguments)
    other = RayQuantileService(**arguments, resume=True)
    assert (other.step, other.size, other.pending) == (7, 1, 1)
    other.close()


def test_windows_are_apart_by_name() -> None:
    """Two names, two windows; one name with two configurations is an error."""
    one = RayQuantileService(**ARGUMENTS, name="one", max_age=0.0)
    two = RayQuantileService(**ARGUMENTS, name="two", max_age=0.0)
    one.push([[0.5, 0.5]])
    one.flush(1)
    assert (one.size, two.size, two.step) == (1, 0, None)
    with pytest.raises(rr.StateError, match="window 'one': expected window=7, got a window of"):
        RayQuantileService(**{**ARGUMENTS, "window": 7}, name="one")
    assert one.size == 1
    one.close()
    two.close()


OTHER_JOB = """
import os, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
import rankreward as rr
from rankreward.quantiles.ray import RayQuantileService
arguments = dict(metrics=("a", "b"), window=5000, warm_start=0)
for make in (lambda: RayQuantileService(**arguments, name="job"), lambda: RayQuantileService.attach("job")):
    try:
        make()
    except rr.StateError as error:
        print(error)
mine = RayQuantileService(**arguments, name="other job")
mine.push([[1.0, 1.0], [2.0, 2.0]])
print(mine.flush(1).size)
"""


def test_two_jobs_on_one_cluster_are_kept_apart() -> None:
    """Another job cannot take the name, and its own window has its own rows alone."""
    service = RayQuantileService(**ARGUMENTS, name="job", max_age=0.0)
    service.push([[0.5, 0.5]])
    service.flush(1)
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", OTHER_JOB, address],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )
    error, attached, size = done.stdout.splitlines()[-3:]
    assert error.startswith("window 'job': expected job='"), done.stderr
    assert attached.startswith("window 'job': expected one of this job, got one of job '")
    assert size == "2"
    assert service.rows.tolist() == [[0.5, 0.5]]
    service.close()


def test_arguments_are_checked() -> None:
    """Before an actor is started."""
    for arguments, message in (
        ({"name": ""}, "name: expected a name"),
        ({"name": "x", "timeout": 0}, "timeout: expected seconds above 0"),
        ({"name": "x", "window": 0}, "window: expected an integer of at least 1"),
        ({"name": "x", "resume": True}, "resume: expected a folder to go on with, got none"),
        ({"name": "x", "folder": "f", "overwrite": True, "resume": True}, "expected no resume"),
    ):
        with pytest.raises(rr.InputError, match=message):
            RayQuantileService(**{**ARGUMENTS, **arguments})


def test_one_folder_serves_one_window(tmp_path: Path) -> None:
    """While its actor lives, no other window may have its folder, resumed or not."""
    first = RayQuantileService(**ARGUMENTS, name="first", folder=tmp_path)
    first.push([[0.5, 0.5]])
    with pytest.raises(rr.StateError, match="got one that another window is using"):
        RayQuantileService(**ARGUMENTS, name="second", folder=tmp_path, resume=True)
    assert first.pending == 1
    first.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """At once, not after the timeout."""
    (tmp_path / "file").touch()
    begun = time.monotonic()
    with pytest.raises(OSError, match="file"):
        RayQuantileService(**ARGUMENTS, name="nowhere", folder=tmp_path / "file")
    assert time.monotonic() - begun < 30


def test_a_worker_that_cannot_wait_leaves_the_window_alone() -> None:
    """An actor that is busy is not ended by somebody whose patience was short."""
    service = RayQuantileService(**ARGUMENTS, name="busy")
    service.push([[0.5, 0.5]])
    process = ray.get(service._actor.identity.remote())[0]["process"]
    os.kill(process, signal.SIGSTOP)
    try:
        with pytest.raises(rr.StateError, match="does not answer"):
            RayQuantileService(**ARGUMENTS, name="busy", timeout=1.0)
    finally:
        os.kill(process, signal.SIGCONT)
    assert service.pending == 1
    service.close()


def test_a_window_is_found_by_its_name_alone(tmp_path: Path) -> None:
    """With whatever arguments it was made, also if it is made a moment later; a name that nobody
    has is an error that says what to do."""
    arguments = {"metrics": ("x",), "window": 9, "warm_start": 3, "ties": "mid", "keys": ("k", "l")}
    made: list[RayQuantileService] = []

    def make() -> None:
        made.append(RayQuantileService(**arguments, name="found", folder=tmp_path))

    late = threading.Timer(0.5, make)
    late.start()
    client = RayQuantileService.attach("found", timeout=30, max_age=5.0)
    late.join()
    client.push([[0.5]], keys="l")
    assert client.flush(2) == rr.FlushStats(added=1, evicted=0, size=7, step=2)
    probe, keys = np.array([[0.0], [0.5]]), ["k", "l"]
    assert client.rank(probe, keys).tobytes() == made[0].rank(probe, keys).tobytes()
    assert (client.ties, client.keys, client.max_age) == ("mid", ("k", "l"), 5.0)
    ray.kill(made[0]._actor, no_restart=False)
    assert client.step == 2  # it knows that the window has a folder, and waits
    client.close()
    with pytest.raises(rr.StateError, match="'nobody': expected one of that name, got none within"):
        RayQuantileService.attach("nobody", timeout=0.1)
    with pytest.raises(rr.InputError, match="name: expected a name"):
        RayQuantileService.attach("")


@pytest.mark.parametrize("way", ["overwrite", "file"])
def test_a_restarted_actor_goes_on_however_it_began(tmp_path: Path, way: str) -> None:
    """In a folder with an old window, anew or from a file; when killed it keeps what came since."""
    old = RayQuantileService(**ARGUMENTS, name=f"old {way}", folder=tmp_path / "w")
    old.push([[9.0, 9.0]])
    old.flush(9)
    old.close()
    local = rr.QuantileService(**ARGUMENTS)
    local.push([[0.5, 0.25]])
    local.flush(3)
    local.save(tmp_path / "saved.npz")
    begin = {"overwrite": {"overwrite": True}, "file": {"resume": tmp_path / "saved.npz"}}[way]
    expected = {"overwrite": (0, None), "file": (1, 3)}[way]
    service = RayQuantileService(**ARGUMENTS, name=f"new {way}", folder=tmp_path / "w", **begin)
    assert (service.size, service.step, service.pending) == (*expected, 0)
    service.advance(4)
    service.push([[0.1, 0.1]])
    ray.kill(service._actor, no_restart=False)
    other = RayQuantileService(**ARGUMENTS, name=f"new {way}", folder=tmp_path / "w", **begin)
    assert (other.size, other.step, other.pending) == (*expected, 1)
    stats = other.advance(5)
    assert stats == rr.FlushStats(added=1, evicted=0, size=expected[0] + 1, step=4)
    service.close()


def test_a_file_to_begin_with_that_is_missing_is_named(tmp_path: Path) -> None:
    """In the caller's process, at once, and the name is free again."""
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        RayQuantileService(**ARGUMENTS, name="fileless", resume=tmp_path / "none.npz")
