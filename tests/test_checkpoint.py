"""A saved state comes back whole, or an error says why not and nothing has changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import G1, wrap

import rankreward as rr


def used() -> rr.QuantileService:
    service = rr.QuantileService(("iou", "count"), window=8, warm_start=2)
    service.push([[0.5, 1.0], [np.nan, 0.0]])
    service.flush(3)
    service.push([[0.25, 0.75]])
    return service


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


def test_the_file_needs_no_pickle(tmp_path: Path) -> None:
    """Every array of the file loads with pickle forbidden."""
    used().save(tmp_path / "window.npz")
    with np.load(tmp_path / "window.npz", allow_pickle=False) as file:
        assert {name: file[name].dtype.kind for name in file.files} == {
            "header": "u",
            "rows": "f",
            "pending": "f",
            "pending_keys": "i",
        }


@pytest.mark.parametrize("cut", [0, 1, 100, -100, -1])
def test_cut_file_is_refused_and_nothing_changes(tmp_path: Path, cut: int) -> None:
    """A file that ends early is an error with its path; the service keeps its state."""
    service, path = used(), tmp_path / "window.npz"
    service.save(path)
    path.write_bytes(path.read_bytes()[:cut])
    before = service.state_dict()
    with pytest.raises(rr.CheckpointError, match=r"window\.npz: expected a state saved by rankrew"):
        service.load(path)
    assert same(before, service.state_dict())


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


@pytest.mark.parametrize("header", [b"null", b"{}", b'{"schema": 1, "state": [1]}', b"[" * 10**5])
def test_damaged_header_is_refused(tmp_path: Path, header: bytes) -> None:
    """A header that is no header is damage, whatever it makes the reader raise."""
    array = np.frombuffer(header, dtype=np.uint8)
    np.savez(tmp_path / "other.npz", header=array, rows=np.zeros((1, 2)))
    with pytest.raises(rr.CheckpointError, match="damaged or foreign file"):
        used().load(tmp_path / "other.npz")


def test_flipped_bits_are_refused_or_harmless(tmp_path: Path) -> None:
    """No flipped bit makes another state of the file, or another error of the reading."""
    service, path = used(), tmp_path / "window.npz"
    service.save(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        other = rr.QuantileService(("iou", "count"), window=8, warm_start=2)
        try:
            other.load(path)
        except rr.CheckpointError:
            continue
        assert same(other.state_dict(), service.state_dict())


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
    with pytest.raises(rr.CheckpointError, match="expected schema 1, got 99"):
        used().load(tmp_path / "window.npz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": ("iou", "point")}, r"expected metrics=\['iou', 'point'\]"),
        ({"window": 16}, "expected window=16 as this service has, got 8"),
        ({"warm_start": 0}, "expected warm_start=0"),
        ({"ties": "mid"}, "expected ties='mid'"),
        ({"order": "arrival"}, "expected order='arrival'"),
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
    with pytest.raises(rr.CheckpointError, match="expected one of recipe 'mine', got 'dr_seg'"):
        other.load(tmp_path / "scorer.npz")
    data = recipe.model_dump(by_alias=True)
    data["accuracy"]["metrics"]["point"]["far"] = 31.0
    with pytest.raises(rr.CheckpointError, match="expected one of accuracy"):
        rr.Scorer(data).load(tmp_path / "scorer.npz")
    with pytest.raises(rr.CheckpointError, match="expected a mapping, got NoneType"):
        other.load_state_dict(None)  # type: ignore[arg-type]
