"""A saved state comes back whole, or an error says why not and nothing has changed."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import G1, wrap

import rankreward as rr
from rankreward.quantiles.checkpoint import load_state, save_state

Members = dict[str, bytes]


def used() -> rr.QuantileService:
    service = rr.QuantileService(("iou", "count"), window=8, warm_start=2)
    service.push([[0.5, 1.0], [np.nan, 0.0]])
    service.flush(3)
    service.push([[0.25, 0.75]])
    return service


def fresh() -> rr.QuantileService:
    """What `used` was before it was used."""
    return rr.QuantileService(("iou", "count"), window=8, warm_start=2)


def rewrite(path: Path, change: Callable[[Members], object]) -> None:
    """Change members of a file as somebody would who keeps the zip itself in order."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def flipped(content: bytes, bit: int) -> bytes:
    """The content with one bit changed."""
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def replace(name: str, old: bytes, new: bytes) -> Callable[[Members], None]:
    """A change of some bytes of one member."""

    def change(members: Members) -> None:
        assert members[name].count(old) == 1
        members[name] = members[name].replace(old, new)

    return change


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    arrays = ("rows", "pending", "pending_keys")
    plain = [{k: v for k, v in state.items() if k not in arrays} for state in (a, b)]
    return plain[0] == plain[1] and all(a[k].tobytes() == b[k].tobytes() for k in arrays)


def test_round_trip_keeps_window_pending_and_step(tmp_path: Path) -> None:
    """A service that loads what another saved is that other."""
    service, path = used(), tmp_path / "window.npz"
    service.save(path)
    other = rr.QuantileService(("iou", "count"), window=8, warm_start=2)
    other.load(path)
    assert same(service.state_dict(), other.state_dict())
    assert service.flush(4) == other.flush(4)
    assert service.rows.tobytes() == other.rows.tobytes()


def test_round_trip_keeps_the_windows_and_pending_rows_of_all_keys(tmp_path: Path) -> None:
    """Rows come back to the key they belong to, those in a window and those still pending."""
    services = [
        rr.QuantileService(("iou",), window=4, warm_start=1, keys=("a", "b")) for _ in range(2)
    ]
    first, second = services
    first.push([[0.1], [0.2], [0.3]], keys=["b", "a", "b"])
    first.flush(5)
    first.push([[0.4], [0.5], [0.6]], keys=["a", "b", "a"])
    first.save(tmp_path / "window.npz")
    second.load(tmp_path / "window.npz")
    assert same(first.state_dict(), second.state_dict())
    for service in services:
        service.flush(6)
    assert same(first.state_dict(), second.state_dict())
    for key, rows in {"a": [0.0, 0.2, 0.4, 0.6], "b": [0.0, 0.1, 0.3, 0.5]}.items():
        shares = [(np.array(rows) <= value).mean() for value in rows]
        assert second.rank(np.array(rows)[:, None], keys=key)[:, 0].tolist() == shares


def test_the_file_needs_no_pickle(tmp_path: Path) -> None:
    """Every array of the file loads with pickle forbidden."""
    used().save(tmp_path / "window.npz")
    with np.load(tmp_path / "window.npz", allow_pickle=False) as file:
        assert {name: file[name].dtype.kind for name in file.files} == {
            "header": "u",
            "checksum": "u",
            "rows": "f",
            "pending": "f",
            "pending_keys": "i",
        }


def test_cut_file_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    """A file that ends early, anywhere, is an error with its path; the service keeps its state."""
    service, path = used(), tmp_path / "window.npz"
    service.save(path)
    whole = path.read_bytes()
    other = fresh()
    before = other.state_dict()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(
            rr.CheckpointError, match=r"window\.npz: expected a state saved by rank"
        ):
            other.load(path)
        assert same(before, other.state_dict())


def test_missing_folder(tmp_path: Path) -> None:
    """A folder that is not there is named, not a temporary file in it."""
    with pytest.raises(FileNotFoundError, match=r"expected an existing folder .*none'"):
        used().save(tmp_path / "none" / "window.npz")


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is the usual error."""
    with pytest.raises(FileNotFoundError):
        used().load(tmp_path / "none.npz")


def test_foreign_file_is_refused(tmp_path: Path) -> None:
    """An .npz of somebody else is no state."""
    np.savez(tmp_path / "other.npz", rows=np.zeros((1, 2)))
    with pytest.raises(rr.CheckpointError, match="damaged or foreign file"):
        used().load(tmp_path / "other.npz")


@pytest.mark.parametrize("header", [b"null", b"{}", b'{"schema": 2, "state": [1]}', b"[" * 10**5])
def test_damaged_header_is_refused(tmp_path: Path, header: bytes) -> None:
    """A header that is no header is damage, whatever it makes the reader raise."""
    array = np.frombuffer(header, dtype=np.uint8)
    np.savez(tmp_path / "other.npz", header=array, rows=np.zeros((1, 2)))
    with pytest.raises(rr.CheckpointError, match="damaged or foreign file"):
        used().load(tmp_path / "other.npz")


def test_flipped_bits_are_refused_or_harmless(tmp_path: Path) -> None:
    """No flipped bit makes another state of the file, another error of the reading, or a warning."""
    service, path = used(), tmp_path / "window.npz"
    service.save(path)
    whole, saved = path.read_bytes(), service.state_dict()
    other = fresh()
    before = other.state_dict()
    refused = 0
    # Recorded, for a warning that is an error would become a `CheckpointError` and look right.
    with warnings.catch_warnings(record=True, action="always") as warned:
        for bit in range(8 * len(whole)):
            path.write_bytes(flipped(whole, bit))
            try:
                other.load(path)
            except rr.CheckpointError:
                refused += 1
                assert same(before, other.state_dict())
            else:
                assert same(saved, other.state_dict())
                other.reset()
    assert not warned
    assert refused > 4 * len(whole)  # the harmless bits are dates, versions and the like


def test_flipped_bits_of_a_large_file(tmp_path: Path) -> None:
    """So it is with an array that the zip reads in pieces: only at the last it checks them."""
    path = tmp_path / "state.npz"
    rows = np.arange(2000.0).reshape(-1, 2)
    save_state(path, {"rows": rows})
    whole = path.read_bytes()
    start = whole.index(rows.tobytes())
    inside = range(8 * start, 8 * (start + rows.nbytes))
    bits = set(range(8 * len(whole))) - set(inside) | set(inside[::997])
    with warnings.catch_warnings(record=True, action="always") as warned:
        for bit in bits:
            path.write_bytes(flipped(whole, bit))
            try:
                state = load_state(path)
            except rr.CheckpointError:
                continue
            assert bit not in inside
            assert list(state) == ["rows"]
            assert state["rows"].dtype == rows.dtype
            assert np.array_equal(state["rows"], rows)
    assert not warned


def test_damage_that_numpy_would_warn_of(tmp_path: Path) -> None:
    """A shape that damage made look like one of Python 2 is an error and no warning."""
    path = tmp_path / "state.npz"
    save_state(path, {"rows": np.zeros((1000, 2))})
    whole = path.read_bytes()
    assert whole.count(b"(1000, 2)") == 1
    path.write_bytes(whole.replace(b"(1000, 2)", b"(1000L,2)"))
    with (
        warnings.catch_warnings(record=True, action="always") as warned,
        pytest.raises(rr.CheckpointError, match="damaged or foreign file"),
    ):
        load_state(path)
    assert not warned


@pytest.mark.parametrize(
    "change",
    [
        replace("rows.npy", np.float64(0.5).tobytes(), np.float64(0.50001).tobytes()),
        replace("pending.npy", np.float64(0.25).tobytes(), np.float64(0.5).tobytes()),
        replace("rows.npy", b"'<f8'", b"'<i8'"),
        replace("rows.npy", b"(4, 2)", b"(2, 4)"),
        replace("rows.npy", b"(4, 2)", b"(3, 2)"),
        replace("header.npy", b'"step": 3', b'"step": 4'),
        replace("header.npy", b'"window": 8', b'"window": 9'),
        lambda members: members.update({"checksum.npy": members["header.npy"]}),
        lambda members: members.update({"more.npy": members["rows.npy"]}),
        lambda members: members.update({"latest.npy": members["pending_keys.npy"]}),
        lambda members: members.update({"seldom.npy": members.pop("rows.npy")}),
        lambda members: members.update(
            {"rows.npy": members["pending.npy"], "pending.npy": members["rows.npy"]}
        ),
        lambda members: members.pop("pending_keys.npy"),
    ],
)
def test_altered_content_is_refused(tmp_path: Path, change: Callable[[Members], object]) -> None:
    """What the zip cannot notice, the checksum does: other values, types, shapes, names."""
    path = tmp_path / "window.npz"
    used().save(path)
    rewrite(path, change)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    other = fresh()
    before = other.state_dict()
    with pytest.raises(rr.CheckpointError, match=r"window\.npz: .* the checksum does not match"):
        other.load(path)
    assert same(before, other.state_dict())


def test_flipped_bits_of_arrays_are_refused_by_the_checksum_alone(tmp_path: Path) -> None:
    """Every bit of the rows counts, also when the zip around them was made to fit."""
    path = tmp_path / "window.npz"
    used().save(path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        size = len(archive.read("rows.npy"))
    for bit in range(8 * (size - used().rows.nbytes), 8 * size):

        def flip(members: Members, bit: int = bit) -> None:
            members["rows.npy"] = flipped(members["rows.npy"], bit)

        path.write_bytes(whole)
        rewrite(path, flip)
        with pytest.raises(rr.CheckpointError, match="the checksum does not match"):
            load_state(path)


def test_a_copy_in_another_zip_is_the_same_state(tmp_path: Path) -> None:
    """How the zip is packed has no meaning: members may be compressed, in another order."""
    service, path = used(), tmp_path / "window.npz"
    service.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(members, reverse=True):
            archive.writestr(name, members[name])
    other = fresh()
    other.load(path)
    assert same(service.state_dict(), other.state_dict())


@pytest.mark.parametrize("name", ["rows.npy", "rows"])
def test_two_members_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    """Of two arrays with one name neither is believed."""
    path = tmp_path / "window.npz"
    used().save(path)
    with zipfile.ZipFile(path) as archive:
        rows = archive.read("rows.npy")
    # Not `writestr(name)`: the zip writer itself warns of the second one.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x" * len(name), rows)
    path.write_bytes(path.read_bytes().replace(b"x" * len(name), name.encode()))
    with pytest.raises(rr.CheckpointError, match=r"window\.npz: .*two members of one name"):
        load_state(path)


def test_arrays_of_objects_are_not_saved(tmp_path: Path) -> None:
    """What would need pickle is refused before the old file is touched."""
    path = tmp_path / "state.npz"
    save_state(path, {"rows": np.zeros(2)})
    old = path.read_bytes()
    with pytest.raises(TypeError, match="expected arrays of numbers, got one of objects as 'odd'"):
        save_state(path, {"rows": np.ones(2), "odd": np.array([None])})
    assert path.read_bytes() == old


@pytest.mark.parametrize(
    "array",
    [np.zeros((0, 3)), np.array(2.5), np.asfortranarray(np.eye(3) + 1j), np.arange(6)[::-2],
     np.array([1, 2], dtype=">i4"), np.array([True]), np.array(["a", "bc"])],
)  # fmt: skip
def test_any_plain_array_comes_back(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    """The checksum is that of the content, whatever its type, shape and order in memory."""
    save_state(tmp_path / "state.npz", {"a": array, "b": [1, "x", None]})
    state = load_state(tmp_path / "state.npz")
    assert (state["a"].dtype, state["a"].shape) == (array.dtype, array.shape)
    assert state["a"].tobytes() == array.tobytes()
    assert state["b"] == [1, "x", None]


def test_saved_file_can_be_read_by_others(tmp_path: Path) -> None:
    """The file has the permissions of any new file."""
    used().save(tmp_path / "window.npz")
    (tmp_path / "plain").touch()
    modes = [(tmp_path / name).stat().st_mode for name in ("window.npz", "plain")]
    assert modes[0] == modes[1]


def test_other_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state of another schema is named as such."""
    with monkeypatch.context() as patch:
        patch.setattr("rankreward.quantiles.checkpoint.SCHEMA", 99)
        used().save(tmp_path / "window.npz")
    with pytest.raises(rr.CheckpointError, match=r"window\.npz: expected schema 2, got 99"):
        used().load(tmp_path / "window.npz")


def test_first_schema_is_refused(tmp_path: Path) -> None:
    """A file from before there were checksums is old, not damaged, whatever else it holds."""
    header = json.dumps({"schema": 1, "state": {"step": 3}}).encode()
    array = np.frombuffer(header, dtype=np.uint8)
    np.savez(tmp_path / "window.npz", header=array, rows=np.zeros((4, 2)))
    rewrite(tmp_path / "window.npz", lambda members: members.update({"rows.npy": b"?"}))
    with pytest.raises(rr.CheckpointError, match=r"window\.npz: expected schema 2, got 1$"):
        used().load(tmp_path / "window.npz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": ("iou", "point")}, r"expected metrics=\['iou', 'point'\]"),
        ({"window": 16}, "expected window=16 as this service has, got 8"),
        ({"warm_start": 0}, "expected warm_start=0"),
        ({"ties": "mid"}, "expected ties='mid'"),
        ({"order": "arrival"}, "expected order='arrival'"),
        ({"keys": ("a",)}, r"expected keys=\['a'\] as this service has, got None"),
        ({"precision": "float32"}, "expected precision='float32' as this service has, got 'float6"),
    ],
)
def test_state_of_another_service_is_refused(arguments: dict[str, Any], message: str) -> None:
    """A window means nothing under another configuration."""
    mine = {"metrics": ("iou", "count"), "window": 8, "warm_start": 2, **arguments}
    other = rr.QuantileService(**mine)
    before = other.state_dict()
    with pytest.raises(rr.CheckpointError, match=message):
        other.load_state_dict(used().state_dict())
    assert same(before, other.state_dict())


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"config": None},
        {"config": {"metrics": np.array(["iou", "count"])}},
        {"rows": np.zeros((1, 2), dtype=complex)},
        {"rows": np.zeros((3, 5))},
        {"rows": np.full((1, 2), np.inf)},
        {"rows": np.zeros((9, 2))},
        {"step": -3},
        {"step": "x"},
        {"latest": [[9, 2]]},
        {"latest": [[None, 2]]},
        {"latest": [[3, 50]]},
        {"sizes": [3]},
        {"sizes": [2, 2]},
        {"rows": np.zeros((9, 2)), "sizes": [9]},
        {"step": None},
        {"pending_keys": np.zeros(1)},
        {"pending_keys": np.ones(1, dtype=int)},
        {"pending_keys": np.zeros(2, dtype=int)},
    ],
)
def test_malformed_state_is_refused(broken: dict[str, Any]) -> None:
    """A state that no service could have given changes nothing."""
    service = used()
    before = service.state_dict()
    state = {**before, **broken} if broken else {}
    with pytest.raises(rr.CheckpointError, match="state: expected"):
        service.load_state_dict(state)
    assert same(before, service.state_dict())


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails while the new file is written costs neither the old one nor a leftover."""
    path = tmp_path / "window.npz"
    used().save(path)
    old = path.read_bytes()

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        used().save(path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["window.npz"]


def test_file_and_folder_are_on_disk_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole new file is on disk before it takes the name, and the name before the save ends."""
    path = tmp_path / "window.npz"
    seen: list[tuple[str, int, int]] = []
    rename = Path.replace

    def sync(handle: int) -> None:
        status = os.fstat(handle)
        folder = stat.S_ISDIR(status.st_mode)
        seen.append(
            ("folder", status.st_ino, 0) if folder else ("file", status.st_ino, status.st_size)
        )

    def move(self: Path, target: Path) -> Path:
        seen.append(("replace", self.stat().st_ino, self.stat().st_size))
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", move)
    used().save(path)
    file = (path.stat().st_ino, path.stat().st_size)
    assert seen == [("file", *file), ("replace", *file), ("folder", tmp_path.stat().st_ino, 0)]


# Forks a child that saves again and again, each state full of its own number, and kills it at a
# random moment; what is left on disk must be the last save that ended, or the one under way.
KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import rankreward as rr
from rankreward.quantiles.checkpoint import save_state

path, kills, rows = Path(sys.argv[1]), int(sys.argv[2]), 20_000
dice = random.Random(0)
service = rr.QuantileService(("a",), window=rows, warm_start=rows)
state = service.state_dict()


def save(number):
    state["rows"][:] = number
    save_state(path, {**state, "step": number})


def child(pipe):
    number = last
    os.write(pipe, b"begin\\n")
    while True:
        number += 1
        save(number)
        os.write(pipe, b"%d\\n" % number)


last, inside, newer = 0, 0, 0
save(last)
for _ in range(kills):
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            child(write)
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.readline() == "begin\\n"
        time.sleep(dice.uniform(0, 0.015))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status), status
        done = [last, *map(int, pipe)]
    left = list(path.parent.glob("*.tmp"))
    assert len(left) <= 1, left
    for each in left:
        each.unlink()
    service.load(path)
    assert service.step in (done[-1], done[-1] + 1), (service.step, done[-1])
    assert service.size == rows and (service.rows == service.step).all()
    inside += len(left)
    newer += service.step > done[-1]
    last = service.step
assert list(path.parent.iterdir()) == [path]
print(kills, inside, newer, last)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_killed_saves_leave_the_old_or_the_new_state(tmp_path: Path) -> None:
    """Whenever a process is killed, the file is whole, and no save that ended is lost."""
    command = [sys.executable, "-c", KILLS, str(tmp_path / "window.npz"), "200"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kills, inside, *_ = map(int, done.stdout.split())
    assert kills == 200
    assert inside > 20  # kills that left a half-written file, and so did hit a save


def test_scorer_round_trip(tmp_path: Path) -> None:
    """A scorer that loads pays what the one that saved would have paid, to the bit."""
    first = rr.Scorer("dr_seg")
    texts = [wrap(G1), wrap([]), "nothing"]
    first.score(texts, [G1] * 3)
    first.flush(1)
    first.save(tmp_path / "scorer.npz")
    second = rr.Scorer("dr_seg")
    second.load(tmp_path / "scorer.npz")
    a, b = first.score(texts, [G1] * 3), second.score(texts, [G1] * 3)
    assert a.total.tobytes() == b.total.tobytes()


def test_scorer_refuses_another_recipe(tmp_path: Path) -> None:
    """The window of one recipe is not that of another."""
    recipe = rr.Recipe.load("dr_seg")
    rr.Scorer(recipe).save(tmp_path / "scorer.npz")
    other = rr.Scorer(recipe.model_copy(update={"name": "mine"}))
    with pytest.raises(rr.CheckpointError, match="expected recipe 'mine', got 'dr_seg'"):
        other.load(tmp_path / "scorer.npz")
    data = recipe.model_dump(by_alias=True)
    data["accuracy"]["metrics"]["point"]["far"] = 31.0
    with pytest.raises(rr.CheckpointError, match="expected accuracy"):
        rr.Scorer(data).load(tmp_path / "scorer.npz")
    with pytest.raises(rr.CheckpointError, match="expected a mapping, got NoneType"):
        other.load_state_dict(None)  # type: ignore[arg-type]
