"""What the options of `rankreward eval` name: recipes, samples, policies and segmenters.

Goes in: what was typed. Comes out: the object that it names, or an error that says what there is.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankreward.errors import InputError, require

if TYPE_CHECKING:
    from rankreward.recipe import Recipe

# Those of `rankreward.evaluation.PROTOCOLS`, whose import takes too long for help and completion.
PROTOCOL_NAMES = ("seg_zero", "seg_zero_no_object", "dr_seg", "rela", "lisa")
SCENES = 10_000  # of digits at most: they are all composed first, and are 320 MB and a minute


def recipe_names(incomplete: str) -> list[str]:
    """The shell's completion of a recipe."""
    from rankreward.recipe import recipes

    return _beginning(incomplete, recipes())


def protocol_names(incomplete: str) -> list[str]:
    """The shell's completion of a protocol."""
    return _beginning(incomplete, PROTOCOL_NAMES)


def trainer_names(incomplete: str) -> list[str]:
    """The shell's completion of a trainer."""
    from rankreward.adapters.paths import TRAINERS

    return _beginning(incomplete, TRAINERS)


def segmenter_names(incomplete: str) -> list[str]:
    """The shell's completion of a segmenter."""
    return _beginning(incomplete, ("grabcut", "sam2:", "none"))


def split_names(ctx: Any, incomplete: str) -> list[str]:
    """The shell's completion of a split: those of the folder that was named before."""
    # While the option's value is not whole, nothing typed has been told apart but options.
    folder = next((Path(each) for each in ctx.args if Path(each).is_dir()), None)
    return [] if folder is None else _beginning(incomplete, splits_of(folder))


def splits_of(folder: Path) -> list[str]:
    """The splits whose shards are in a folder, by their names."""
    return sorted({path.stem.rpartition("-")[0] for path in folder.glob("*-?????.parquet")})


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def recipe_of(run: Path) -> "Recipe":
    """The recipe that a run's settings hold."""
    from rankreward.evaluation.settings import read_settings
    from rankreward.recipe import Recipe

    settings = read_settings(run if run.is_dir() else run.parent)
    if settings is None:
        raise InputError(f"{run}: expected settings.json beside the records, got none")
    return Recipe.load(settings["recipe"])


def sized_recipe(name: str, frame: int) -> "Recipe":
    """The recipe, in a square frame of that side; 0 leaves its own."""
    from rankreward.recipe import Recipe

    recipe = Recipe.load(name)
    return recipe.resized(frame) if frame else recipe


def open_samples(data: str, recipe: "Recipe", split: str | None = None) -> Any:
    """A data set, or digit scenes."""
    from rankreward.evaluation.samples import read_samples, scene_samples

    scenes = re.fullmatch(r"digits:([1-9]\d*)", data)
    if scenes is None:
        if not Path(data).exists():
            raise InputError(f"DATA: expected a folder that is there, or digits:<n>, got {data!r}")
        return read_samples(data, recipe, split)
    if len(scenes[1]) > len(str(SCENES)) or int(scenes[1]) > SCENES:
        raise InputError(f"DATA: expected at most {SCENES:,} scenes of digits, got {data!r}")
    from rankreward.datasets import digits

    return scene_samples(list(digits.scenes(int(scenes[1]), seed=0, split="eval")))


def make_policy(
    name: str, model: str, key: str | None, adapter: str | None, batch: int, how: dict[str, Any]
) -> Any:
    """A file of completions, a server, or a checkpoint."""
    if name.endswith(".jsonl"):
        from rankreward.evaluation.policies import StoredPolicy

        return StoredPolicy(name)
    if name.startswith(("http://", "https://")):
        from rankreward.evaluation.endpoint_policy import EndpointPolicy

        if not model:
            raise InputError("--model: expected the model's name on the server, got none")
        return EndpointPolicy(name, model, key=key, **how)
    from rankreward.evaluation.transformers_policy import TransformersPolicy

    return TransformersPolicy(name, adapter=adapter, batch_size=batch, **how)


def check_segmenter(name: str) -> None:
    """Said before anything is loaded."""
    if name not in {"none", "grabcut"} and not re.fullmatch("sam2:.+", name):
        raise InputError(f"--segmenter: expected grabcut, sam2:<model> or none, got {name!r}")


def check_out(out: Path | None, log: Sequence[Path]) -> None:
    """A folder of results among a log's files would be read as a part of it the next time."""
    if out is not None and out.resolve() in {path.resolve() for path in log}:
        raise InputError(f"--out: expected another folder than the log's, got {out}")


def check_kept(out: Path | None, log: Sequence[Path]) -> None:
    """An earlier result that is the log itself would be deleted before it is read."""
    from rankreward.logs.written import RESULTS

    for path in log if out is not None else ():
        if path.name in RESULTS and path.resolve().parent == out.resolve():  # type: ignore[union-attr]
            raise InputError(f"--out: expected another folder than that of the log {path}")


def check_stratum(by: str, samples: Any) -> None:
    """Said before a long run, not after it."""
    known = next(iter(samples)).load().strata
    if by not in known:
        raise InputError(f"--by: expected one of {', '.join(known) or 'no strata'}, got {by!r}")


def make_segmenter(name: str, protocol: str) -> Any:
    """The segmenter, with the masks that the protocol takes; None for boxes alone."""
    if name == "none":
        return None
    if name == "grabcut":
        from rankreward.evaluation.segmenters import GrabCut

        return GrabCut()
    from rankreward.evaluation.sam2 import Sam2
    from rankreward.evaluation.summary import find_protocol

    return Sam2(name.removeprefix("sam2:"), masks=find_protocol(protocol).sam_masks or "best")


def read_shard(text: str) -> tuple[int, int]:
    """``i/n`` as two numbers."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None:
        raise InputError(f"--shard: expected i/n, such as 0/4, got {text!r}")
    return int(found[1]), int(found[2])


class Bar:
    """A bar of finished samples, on standard error."""

    def __enter__(self) -> Callable[[int, int], None]:
        rich: Any = require("rich.progress", extra="cli")
        console = require("rich.console", extra="cli").Console(stderr=True)
        columns = (*rich.Progress.get_default_columns(), rich.MofNCompleteColumn())
        self._progress: Any = rich.Progress(
            *columns, console=console, disable=not console.is_terminal
        )
        self._progress.start()
        self._task = self._progress.add_task("samples", total=None)
        return lambda done, total: self._progress.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
