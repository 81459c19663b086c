"""Owner and clients over a bad network: what was acknowledged is in the window once."""

from __future__ import annotations

import collections
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from services import DirectQuantileService

import rankreward as rr
from rankreward.quantiles.checkpoint import save_state
from rankreward.quantiles.owner import Owner
from rankreward.quantiles.shared import SharedQuantileService

CONFIG = {"metrics": ["a", "b"], "window": 4000, "warm_start": 0}


class Network:
    """Carries calls to an owner that may die at any of them; fate says what becomes of each."""

    def __init__(self, folder: Path, fates: list[str]) -> None:
        self.folder, self.fates = folder, list(fates)
        self.owner = Owner(CONFIG, folder, resume=False)
        self.calls = 0

    def restart(self) -> None:
        self.owner.close()
        self.owner = Owner(CONFIG, self.folder, resume=True)

    def carry(self, method: str, *arguments: Any) -> Any:
        while True:
            self.calls += 1
            fate = self.fates.pop() if self.fates else "fine"
            if fate == "lost":  # on the way there
                continue
            if fate == "dies before":
                self.restart()
                continue
            answer = getattr(self.owner, method)(*arguments)
            if fate == "twice":
                assert getattr(self.owner, method)(*arguments) == answer
            if fate == "dies after":
                self.restart()
                continue
            if fate == "unanswered":
                continue
            return answer


class Client(SharedQuantileService):
    """A client at the end of a `Network`."""

    def __init__(self, network: Network) -> None:
        super().__init__(**CONFIG, max_age=0.0)
        self.network = network

    def _ask(self, method: str, *arguments: Any) -> Any:
        return self.network.carry(method, *arguments)


FATES = st.sampled_from(["fine", "lost", "twice", "unanswered", "dies before", "dies after"])


@settings(max_examples=150, deadline=None)
@given(
    fates=st.lists(FATES, max_size=60),
    moves=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["push", "flush"])), max_size=25),
)
def test_every_row_is_in_the_window_once(
    tmp_path_factory: pytest.TempPathFactory, fates: list[str], moves: list[tuple[int, str]]
) -> None:
    """Lost, doubled and unanswered calls, and deaths of the owner between any two of them."""
    network = Network(tmp_path_factory.mktemp("owner"), fates)
    clients = [Client(network) for _ in range(3)]
    sent, waiting = [], 0
    for number, (who, move) in enumerate(moves):
        if move == "push":
            clients[who].push([[number, 0.0], [number, 1.0]])
            sent += [(float(number), 0.0), (float(number), 1.0)]
            waiting += 2
        else:
            assert clients[who].flush(number).added == waiting  # even if it was asked twice
            waiting = 0
    network.fates = []
    clients[0].flush(len(moves))
    rows = [tuple(row) for row in clients[1].rows.tolist()]
    assert collections.Counter(rows) == collections.Counter(sent)
    probe = np.array([[3.0, 0.5]])
    oracle = rr.QuantileService(**CONFIG)
    oracle.load_state_dict(network.owner.service.state_dict())
    for client in clients:
        assert client.rank(probe).tobytes() == oracle.rank(probe).tobytes()


@pytest.mark.parametrize("cut", range(60))
def test_a_journal_cut_by_death_keeps_what_was_acknowledged(tmp_path: Path, cut: int) -> None:
    """Half an entry at the end was never acknowledged; it is dropped, and pushes go on after it."""
    client = DirectQuantileService(**CONFIG, owner=Owner(CONFIG, tmp_path, resume=False))
    client.push([[1.0, 1.0]])
    whole = (tmp_path / "pending.log").stat().st_size
    client.push([[2.0, 2.0]])
    size = (tmp_path / "pending.log").stat().st_size
    os.truncate(tmp_path / "pending.log", size - 1 - cut * (size - whole - 1) // 59)
    client.owner.close()
    client.owner = Owner(CONFIG, tmp_path, resume=True)
    assert client.pending == 1
    client.push([[3.0, 3.0]])
    client.owner.close()
    client.owner = Owner(CONFIG, tmp_path, resume=True)
    client.flush(1)
    assert sorted(client.rows.tolist()) == [[1.0, 1.0], [3.0, 3.0]]


def test_a_folder_with_a_window_is_not_taken_up_unknowingly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new run in an old folder is an error; so is another configuration."""
    owner = Owner(CONFIG, tmp_path, resume=False)
    client = DirectQuantileService(**CONFIG, owner=owner)
    client.push([[0.1, 0.2]])
    client.flush(1)
    monkeypatch.setattr("rankreward.quantiles.owner._PATIENCE", 0.1)
    with pytest.raises(rr.StateError, match="got one that another window is using"):
        Owner(CONFIG, tmp_path, resume=True)
    owner.close()
    with pytest.raises(rr.StateError, match="pass resume=True to go on with it"):
        Owner(CONFIG, tmp_path, resume=False)
    with pytest.raises(rr.StateError, match="expected a window to go on with, got an empty folder"):
        Owner(CONFIG, tmp_path / "other", resume=True)
    with pytest.raises(rr.CheckpointError, match="expected window=7"):
        Owner({**CONFIG, "window": 7}, tmp_path, resume=True)
    (tmp_path / "window.npz").write_bytes(b"x")
    with pytest.raises(rr.CheckpointError, match="damaged or foreign"):
        Owner(CONFIG, tmp_path, resume=True)
    rr.QuantileService(**CONFIG).save(tmp_path / "window.npz")
    with pytest.raises(rr.CheckpointError, match="expected the state of a shared window"):
        Owner(CONFIG, tmp_path, resume=True)


def test_rows_of_a_push_that_failed_travel_with_the_next_call() -> None:
    """An error of the network loses nothing and doubles nothing."""
    client = DirectQuantileService(**CONFIG)
    ask, fails = client._ask, True

    def flaky(method: str, *arguments: Any) -> Any:
        answer = ask(method, *arguments)
        if method == "call" and fails:
            raise rr.StateError("no answer")  # and yet it was done
        return answer

    client._ask = flaky  # type: ignore[method-assign]
    with pytest.raises(rr.StateError, match="no answer"):
        client.push([[1.0, 1.0]])
    with pytest.raises(rr.StateError, match="no answer"):
        client.push([[2.0, 2.0]])
    fails = False
    assert client.flush(1).added == 2


def test_threads_that_push_at_once_share_a_message() -> None:
    """While one call is under way, the rows of all others wait for the next, and go together."""
    client = DirectQuantileService(**CONFIG)
    ask, calls, gate = client._ask, [], threading.Event()

    def slow(method: str, *arguments: Any) -> Any:
        if method == "call":
            calls.append(len(arguments[3]))
            gate.wait(10)
        return ask(method, *arguments)

    client._ask = slow  # type: ignore[method-assign]
    threads = [threading.Thread(target=client.push, args=([[n, n]],)) for n in range(20)]
    threads[0].start()
    while not calls:
        pass
    for thread in threads[1:]:
        thread.start()
    while len(client._outbox) < 19:
        pass
    gate.set()
    for thread in threads:
        thread.join(10)
    assert calls == [1, 19]
    client._ask = ask  # type: ignore[method-assign]
    assert client.flush(1).added == 20


def test_a_copy_is_trusted_for_max_age() -> None:
    """Without messages in between; `refresh` and an answer that shows a new version end it."""
    owner = Owner(CONFIG, None, resume=False)
    driver = DirectQuantileService(**CONFIG, owner=owner)
    worker = DirectQuantileService(**CONFIG, owner=owner, max_age=10.0)
    clock = [0.0]
    worker._now = lambda: clock[0]  # type: ignore[method-assign]
    assert worker.rank([[0.5, 0.5]]).tolist() == [[1.0, 1.0]]
    driver.push([[0.9, 0.9]])
    driver.flush(1)
    clock[0] = 9.9
    assert worker.rank([[0.5, 0.5]]).tolist() == [[1.0, 1.0]]  # old
    clock[0] = 10.1
    assert worker.rank([[0.5, 0.5]]).tolist() == [[0.0, 0.0]]
    driver.push([[0.1, 0.1]])
    driver.flush(2)
    worker.push([[0.5, 0.5]])  # its answer tells of the new version
    assert worker.rank([[0.5, 0.5]]).tolist() == [[0.5, 0.5]]
    driver.push([[0.2, 0.2]])
    driver.flush(3)
    worker.refresh()
    assert worker.rank([[0.3, 0.3]]).tolist() == [[0.5, 0.5]]
    with pytest.raises(rr.InputError, match="max_age: expected seconds of at least 0"):
        DirectQuantileService(**CONFIG, max_age=-1.0)


def test_a_fork_is_another_client() -> None:
    """A child that inherits a client does not repeat its parent's numbers."""
    client = DirectQuantileService(**CONFIG)
    client.push([[1.0, 1.0]])
    client._outbox.append((np.array([[9.0, 9.0]]), None))  # on its way; the parent will send it
    client._sending.acquire()  # by a thread that will not be in the child
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        signal.alarm(10)
        client.push([[2.0, 2.0]])
        os.write(writing, f"{client._client} {client.pending}".encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    name, pending = os.read(reading, 100).decode().split()
    assert name != client._client
    assert int(pending) == 2  # in the child's copy of the owner: 1 and 2, not 9
    client._sending.release()
    client.push([[3.0, 3.0]])
    assert client.pending == 3


def test_a_late_repetition_does_nothing() -> None:
    """A call that was delayed on its way arrives after newer ones of the same client."""
    client = DirectQuantileService(**CONFIG)
    rows = np.array([[1.0, 1.0]])
    for number in (1, 2, 1, 2, 1):
        client.owner.call("somebody", number, "push", rows, None)
    assert client.pending == 2


def test_death_between_the_two_files_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is there and the journal not yet cut: its rows are known by their numbers."""
    client = DirectQuantileService(**CONFIG, owner=Owner(CONFIG, tmp_path, resume=False))
    client.push([[1.0, 1.0], [2.0, 2.0]])

    def die(handle: int, size: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", die)
        with pytest.raises(KeyboardInterrupt):
            client.flush(1)
    client.owner.close()
    client.owner = Owner(CONFIG, tmp_path, resume=True)
    assert (client.size, client.pending, client.step) == (2, 0, 1)
    assert client._ask("call", client._client, client._number, "flush", 1)[1][0] == 2  # asked again


def test_a_flush_that_cannot_be_saved_keeps_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are in the old files until they are in the new one."""
    client = DirectQuantileService(**CONFIG, owner=Owner(CONFIG, tmp_path, resume=False))
    client.push([[1.0, 1.0]])

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("rankreward.quantiles.owner.save_state", fail)
        with pytest.raises(OSError, match="No space left"):
            client.flush(1)
    client.owner.close()
    client.owner = Owner(CONFIG, tmp_path, resume=True)
    assert (client.size, client.pending) == (0, 1)
    assert client.rank([[0.0, 0.0]]).tolist() == [[1.0, 1.0]]  # not the life before's copy
    assert client.flush(1).added == 1


def test_a_full_disk_is_an_error_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push that was half written is refused; those before and after it are whole."""
    client = DirectQuantileService(**CONFIG, owner=Owner(CONFIG, tmp_path, resume=False))
    client.push([[1.0, 1.0]])
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, data: write(handle, data[: len(data) // 2]))
        with pytest.raises(OSError, match="the disk is full"):
            client.push([[2.0, 2.0]])
    client.push([[3.0, 3.0]])  # and the refused one travels with it
    client.owner.close()
    client.owner = Owner(CONFIG, tmp_path, resume=True)
    client.flush(1)
    assert sorted(client.rows[:, 0].tolist()) == [1.0, 2.0, 3.0]


def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    """Any flipped bit is damage, not death, and nothing is cut off."""
    client = DirectQuantileService(**CONFIG, owner=Owner(CONFIG, tmp_path, resume=False))
    for n in range(3):
        client.push([[float(n), 0.0]])
    client.owner.close()
    log = tmp_path / "pending.log"
    whole = log.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        log.write_bytes(damaged)
        with pytest.raises(
            rr.CheckpointError, match=r"pending\.log: expected the journal of ackno"
        ):
            Owner(CONFIG, tmp_path, resume=True)
        assert log.read_bytes() == bytes(damaged)


def test_a_slow_answer_does_not_bring_back_an_old_window() -> None:
    """Two threads ask for the window, and the older answer comes last."""
    client = DirectQuantileService(**CONFIG)
    ask, slow, go_on = client._ask, threading.Event(), threading.Event()

    def delayed(method: str, *arguments: Any) -> Any:
        answer = ask(method, *arguments)
        if method == "frozen" and not slow.is_set():
            slow.set()
            go_on.wait(0.5)
        return answer

    client._ask = delayed  # type: ignore[method-assign]
    reader = threading.Thread(target=client.refresh)
    reader.start()
    slow.wait(10)
    client.push([[0.9, 0.9]])
    flusher = threading.Thread(target=client.flush, args=(1,))
    flusher.start()
    go_on.set()
    reader.join(10)
    flusher.join(10)
    client.max_age = 1e9
    assert client.rank([[0.5, 0.5]]).tolist() == [[0.0, 0.0]]


def test_after_a_refresh_ranking_needs_no_message() -> None:
    """Also for a client that has pushed since, and whose window another one flushed."""
    owner = Owner(CONFIG, None, resume=False)
    worker = DirectQuantileService(**CONFIG, owner=owner, max_age=1e9)
    driver = DirectQuantileService(**CONFIG, owner=owner)
    worker.push([[0.1, 0.1]])
    driver.flush(1)
    worker.refresh()
    ask, asked = worker._ask, []

    def count(method: str, *arguments: Any) -> Any:
        asked.append(method)
        return ask(method, *arguments)

    worker._ask = count  # type: ignore[method-assign]
    for _ in range(3):
        assert worker.rank([[0.2, 0.0]]).tolist() == [[1.0, 0.0]]
    assert asked == []


# -- steps that end by themselves -------------------------------------------------------------


def test_a_worker_that_is_ahead_does_not_spoil_the_step_before() -> None:
    """The first to name a later step ends the open one, with its rows and its number; its own
    rows of the new step wait, and who names that step afterwards comes too late to do anything."""
    owner = Owner(CONFIG, None, resume=False)
    one, other = (DirectQuantileService(**CONFIG, owner=owner) for _ in range(2))
    twin = rr.QuantileService(**CONFIG)
    rows = np.random.default_rng(0).random((40, 2))
    for client, part in ((one, rows[:10]), (other, rows[10:20])):
        client.advance(3)
        client.push(part)
    assert one.advance(4) == rr.FlushStats(added=20, evicted=0, size=20, step=3)
    one.push(rows[20:30])
    version = owner.version
    assert other.advance(4) is None
    assert other.advance(3) is None
    assert owner.version == version
    other.push(rows[30:])
    twin.push(rows[:20])
    twin.flush(3)
    assert other.rows.tobytes() == twin.rows.tobytes()
    assert other.rank([[0.5, 0.5]]).tobytes() == twin.rank([[0.5, 0.5]]).tobytes()
    assert (one.pending, one.step) == (20, 3)
    with pytest.raises(rr.InputError, match="step: expected an integer of at least 0"):
        one.advance(-1)


def test_a_flush_by_hand_leaves_the_advance_nothing_to_do() -> None:
    """And a flush of a step that is no longer open takes no rows of the next one."""
    client = DirectQuantileService(**CONFIG)
    client.advance(1)
    client.push([[1.0, 1.0]])
    assert client.flush(1).added == 1
    version = client.owner.version
    assert client.advance(2) == rr.FlushStats(added=0, evicted=0, size=1, step=1)
    assert client.owner.version == version  # nobody has to fetch the window anew
    client.push([[2.0, 2.0]])
    assert client.flush(1) == rr.FlushStats(added=0, evicted=0, size=1, step=1)
    assert (client.pending, client.step) == (1, 1)
    assert client.flush(5).added == 1  # whoever flushes says which step it was
    assert client.advance(4) is None
    client.reset()
    client.advance(0)
    assert client.advance(1) == rr.FlushStats(added=0, evicted=0, size=0, step=0)


def test_the_open_step_survives_the_owner(tmp_path: Path) -> None:
    """It was acknowledged: who names it after a restart is too late, as before."""
    client = DirectQuantileService(**CONFIG, owner=Owner(CONFIG, tmp_path, resume=False))
    for step in (1, 2):
        client.advance(step)
        client.push([[step, 0.0]])
    client.owner.close()
    client.owner = Owner(CONFIG, tmp_path, resume=True)
    late = DirectQuantileService(**CONFIG, owner=client.owner)
    assert late.advance(2) is None
    assert (late.rows[:, 0].tolist(), late.pending) == ([1.0], 1)
    state = late.state_dict()
    other = DirectQuantileService(**CONFIG)
    other.load_state_dict(state)
    assert other.advance(3) == rr.FlushStats(added=1, evicted=0, size=2, step=2)
    for wrong in (0, "2", 1.0):
        with pytest.raises(rr.CheckpointError, match="expected an open step of at least 1"):
            other.load_state_dict({**state, "open": wrong})
    rr.QuantileService(**CONFIG).load_state_dict(state)  # where it means nothing


STEPS = st.tuples(
    st.integers(0, 2), st.sampled_from(["push", "advance", "flush"]), st.integers(0, 2)
)


@settings(max_examples=150, deadline=None)
@given(fates=st.lists(FATES, max_size=60), moves=st.lists(STEPS, max_size=25))
def test_steps_end_alike_whatever_the_network_does(
    tmp_path_factory: pytest.TempPathFactory, fates: list[str], moves: list[tuple[int, str, int]]
) -> None:
    """Against a plain model in one process, with clients that are ahead and behind."""
    network = Network(tmp_path_factory.mktemp("owner"), fates)
    clients = [Client(network) for _ in range(3)]
    model, open_step, newest = rr.QuantileService(**CONFIG), None, 0
    for number, (who, move, ahead) in enumerate(moves):
        step = max(newest + ahead - 1, 0)
        reached = max(-1 if s is None else s for s in (open_step, model.step))
        if move == "push":
            clients[who].push([[number, 0.5]])
            model.push([[number, 0.5]])
        elif move == "advance":
            clients[who].advance(step)
            if step > reached:
                if open_step is not None:
                    model.flush(open_step)
                open_step = step
        elif open_step is not None and step < open_step:
            assert clients[who].flush(step).added == 0
        elif step >= reached:
            clients[who].flush(step)
            model.flush(step)
            open_step = None if open_step is None else step
        newest = max(newest, step)
    network.fates = []
    network.restart()
    assert clients[0].rows.tobytes() == model.rows.tobytes()
    assert (clients[0].pending, clients[0].step) == (model.pending, model.step)
    assert network.owner.state_dict()["open"] == open_step


# -- how a window begins ----------------------------------------------------------------------


def used(folder: Path) -> None:
    """A folder that holds a window of step 9, and a row that waits."""
    client = DirectQuantileService(**CONFIG, owner=Owner(CONFIG, folder, resume=False))
    client.push([[9.0, 9.0]])
    client.flush(9)
    client.push([[8.0, 8.0]])
    client.owner.close()


@pytest.mark.parametrize("kind", ["new", "used", "none"])
def test_a_window_begins_with_a_saved_state(tmp_path: Path, kind: str) -> None:
    """Of a scorer or of a service, in memory or whatever its folder holds; and goes on with it."""
    recipe = rr.Recipe.load("dr_seg").override({"accuracy.normalizer.warm_start": 0})
    scorer = rr.Scorer(recipe)
    scorer.quantiles.push([[0.5, 1.0, 0.25]])
    scorer.flush(3)
    scorer.save(tmp_path / "scorer.npz")
    config = scorer.quantiles._config()
    folder = None if kind == "none" else tmp_path / "window"
    if kind == "used":
        old = DirectQuantileService(**config, owner=Owner(config, folder, resume=False))
        old.push([[9.0, 9.0, 9.0]])
        old.flush(9)
        old.push([[8.0, 8.0, 8.0]])
        old.owner.close()
    owner = Owner(config, folder, resume=tmp_path / "scorer.npz", birth="b")
    client = DirectQuantileService(**config, owner=owner)
    assert (client.rows.tolist(), client.step, client.pending) == ([[0.5, 1.0, 0.25]], 3, 0)
    client.push([[0.0, 0.0, 0.0]])
    if folder is not None:  # the actor's next life is given the same arguments
        owner.close()
        client.owner = Owner(config, folder, resume=tmp_path / "scorer.npz", birth="b", again=True)
    assert (client.step, client.pending) == (3, 1)


def test_a_file_that_does_not_fit_leaves_the_folder_alone(tmp_path: Path) -> None:
    """Missing, damaged, or of another window: the error names it, and the old window is whole."""
    used(tmp_path / "window")
    rr.QuantileService(**{**CONFIG, "window": 7}).save(tmp_path / "other.npz")
    (tmp_path / "damaged.npz").write_bytes(b"x")
    for name, error, words in (
        ("other.npz", rr.CheckpointError, "other.npz: state: expected window=4000"),
        ("damaged.npz", rr.CheckpointError, "damaged.npz: expected a state saved by"),
        ("missing.npz", FileNotFoundError, "missing.npz"),
    ):
        with pytest.raises(error, match=words):
            Owner(CONFIG, tmp_path / "window", resume=tmp_path / name)
    owner = Owner(CONFIG, tmp_path / "window", resume=True)
    assert (owner.service.step, owner.service.size, owner.service.pending) == (9, 1, 1)


def test_a_window_begins_anew_where_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what the folder held nothing is left, unless a living window uses it."""
    used(tmp_path)
    living = Owner(CONFIG, tmp_path, resume=True)
    monkeypatch.setattr("rankreward.quantiles.owner._PATIENCE", 0.1)
    with pytest.raises(rr.StateError, match="got one that another window is using"):
        Owner(CONFIG, tmp_path, overwrite=True)
    living.close()
    client = DirectQuantileService(
        **CONFIG, owner=Owner(CONFIG, tmp_path, overwrite=True, birth="one")
    )
    assert (client.size, client.step, client.pending) == (0, None, 0)
    client.advance(1)
    client.push([[1.0, 1.0]])
    client.owner.close()
    client.owner = Owner(CONFIG, tmp_path, overwrite=True, birth="one", again=True)
    assert client.pending == 1  # the next life of the same one
    client.owner.close()
    client.owner = Owner(CONFIG, tmp_path, overwrite=True, birth="two")
    assert client.pending == 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_owner_that_died_while_it_began_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Before or after the old window was replaced; its next life takes nothing of that for its
    own. One whose folder has gone says so, and does not begin anew."""
    used(tmp_path / "window")

    def die(path: Path, state: Any) -> None:
        if when == "after":
            save_state(path, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("rankreward.quantiles.owner.save_state", die)
        with pytest.raises(KeyboardInterrupt):
            Owner(CONFIG, tmp_path / "window", overwrite=True, birth="new")
    owner = Owner(CONFIG, tmp_path / "window", overwrite=True, birth="new", again=True)
    assert (owner.service.step, owner.service.pending) == (None, 0)
    with pytest.raises(rr.StateError, match="expected a window to go on with, got an empty folder"):
        Owner(CONFIG, tmp_path / "gone", overwrite=True, birth="new", again=True)
