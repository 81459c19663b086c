"""Models and data by name: downloaded once, checked, and found again.

Goes in: a name on the Hugging Face Hub, or the path of a folder. Comes out: a folder on this
machine in which everything that training needs is there and can be read. A check that passed leaves
a stamp, by which the next start knows that it need not look again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

MODEL = "Qwen/Qwen2.5-VL-7B-Instruct"
DATA = "Ricky06662/VisionReasoner_multi_object_7k_840"
REVISIONS = {  # what the examples were written for; another name is taken at its main branch
    MODEL: "cc594898137f460bfe9f0759e9844b3ce807cfb5",
    "Qwen/Qwen2.5-VL-3B-Instruct": "66285546d2b821cf421d4f5eb2576359d3770cd3",
    DATA: "8056f125d15bda2c0cdc75ca84b47bbdd83dbfc7",
}
STAMPS = Path("runs/grounding/stamps")
VERSION = 1  # of the checks; a new one makes them run again


def folder(name: str, kind: str, revision: str | None = None) -> Path:
    """The folder of a model or of data; downloaded, or gone on with downloading, if need be.

    Args:
        name: a path of a folder, or a name on the Hub such as ``Qwen/Qwen2.5-VL-7B-Instruct``.
        kind: ``"model"`` or ``"dataset"``.
        revision: a commit or branch on the Hub; the one that the examples were written for if None.

    Raises:
        FileNotFoundError: there is neither such a folder nor a way to download it.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"{kind}: expected a folder at {name}, got none")
    revision = revision or REVISIONS.get(name, "main")
    try:
        got = huggingface_hub.snapshot_download(name, repo_type=kind, revision=revision)
    except (OSError, HfHubHTTPError, *_connection_errors()) as error:
        raise FileNotFoundError(_how_to_get(name, kind, revision, error)) from error
    return Path(got)


def _connection_errors() -> list[type[Exception]]:
    """What the Hub's library lets through of the one below it, in some of its versions."""
    names = [name for name in ("httpx", "httpx2") if importlib.util.find_spec(name)]
    return [importlib.import_module(name).HTTPError for name in names]


def _how_to_get(name: str, kind: str, revision: str, error: Exception) -> str:
    place = f"models/{name.rpartition('/')[2]}" if kind == "model" else "data/visionreasoner_7k"
    reason = " ".join(str(error).split())
    return (
        f"{kind} {name!r} at revision {revision} is not here and could not be downloaded "
        f"({type(error).__name__}: {reason:.200}). On a machine with network run\n"
        f"    hf download {name} --repo-type {kind} --revision {revision} --local-dir {place}\n"
        f"then copy that folder here and give its path in place of the name: --{_option(kind)} "
        f"{place}. A download that was broken off goes on where it stopped."
    )


def _option(kind: str) -> str:
    return "model" if kind == "model" else "data"


def fingerprint(path: Path, settings: Mapping[str, Any]) -> str:
    """A hash of a folder's files (name, size, time of change) and of some settings."""
    listed = []
    for parent, folders, files in os.walk(path, followlinks=True):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for name in sorted(files):
            stat = (Path(parent) / name).stat()
            relative = os.path.relpath(Path(parent) / name, path)
            listed.append((relative, stat.st_size, stat.st_mtime_ns))
    text = json.dumps([VERSION, str(path), listed, dict(settings)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def once(path: Path, check: Callable[[], None], **settings: Any) -> None:
    """Run a check on a folder, unless it passed before and nothing has changed since.

    Raises:
        Whatever the check raises; there is no stamp then.
    """
    stamp = STAMPS / f"{fingerprint(path, settings)}.json"
    if stamp.exists():
        return
    check()
    stamp.parent.mkdir(parents=True, exist_ok=True)
    half = stamp.with_suffix(f".{os.getpid()}")
    half.write_text(json.dumps({"folder": str(path), **settings}) + "\n")
    half.replace(stamp)


def model_folder(name: str, revision: str | None = None, *, processor: bool = True) -> Path:
    """The checked folder of a Qwen2.5-VL.

    Args:
        name: as for `folder`.
        revision: as for `folder`.
        processor: whether the folder has to hold the image processor's settings too.

    Raises:
        FileNotFoundError: it cannot be had, or lacks files.
        ValueError: it holds another kind of model, or a broken file.
    """
    path = folder(name, "model", revision)
    once(path, lambda: check_model(path, processor=processor), processor=processor)
    return path


def check_model(path: Path, *, processor: bool = True) -> None:
    """Raise if a folder is not a whole Qwen2.5-VL; the message names what is wrong."""
    needed = ["config.json", "tokenizer_config.json", "tokenizer.json"]
    needed += ["preprocessor_config.json"] if processor else []
    missing = [name for name in needed if not (path / name).is_file()]
    if missing:
        raise FileNotFoundError(f"model {path}: expected {', '.join(needed)}, lacks {missing}")
    config = json.loads((path / "config.json").read_text())
    if config.get("model_type") != "qwen2_5_vl":
        raise ValueError(
            f"model {path}: expected config.json with model_type 'qwen2_5_vl', "
            f"got {config.get('model_type')!r}"
        )
    for shard, tensors in _shards(path).items():
        _check_shard(path / shard, tensors)


def _shards(path: Path) -> dict[str, set[str]]:
    """The files of weights and the tensors that the index says are in each."""
    index = path / "model.safetensors.index.json"
    if not index.is_file():
        return {"model.safetensors": set()}
    shards: dict[str, set[str]] = {}
    for tensor, shard in json.loads(index.read_text())["weight_map"].items():
        shards.setdefault(shard, set()).add(tensor)
    missing = sorted(shard for shard in shards if not (path / shard).is_file())
    if missing:
        raise FileNotFoundError(
            f"model {path}: {index.name} names {len(shards)} shards, lacks {', '.join(missing)}"
        )
    return shards


def _check_shard(path: Path, tensors: set[str]) -> None:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - data alone needs no torch

    try:
        with safe_open(path, framework="np") as opened:  # reads the header, and the file's length
            lacking = sorted(tensors - set(opened.keys()))
    except FileNotFoundError:
        raise FileNotFoundError(f"model {path.parent}: expected {path.name}, got none") from None
    except SafetensorError as error:
        raise ValueError(
            f"{path}: broken or cut short ({error}); delete it and start again"
        ) from error
    if lacking:
        raise ValueError(f"{path}: lacks {len(lacking)} tensors of the index, as {lacking[0]}")
