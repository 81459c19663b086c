"""`rankreward data`: annotations to training and evaluation sets, and a look at them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rankreward.cli import builds
from rankreward.cli.choices import split_names, splits_of
from rankreward.cli.terminal import closing, finite, folder_there, progress, show, show_json, there
from rankreward.errors import InputError, require

if TYPE_CHECKING:
    import typer


def register(commands: "typer.Typer") -> None:
    """Add the group."""
    import typer

    group = typer.Typer(no_args_is_help=True)
    commands.add_typer(group, name="data")

    @group.callback()
    def _() -> None:
        """Make, check and look at data sets."""

    builds.register(group)
    _register_multi_object(group)
    _register_inspect(group)


def _register_multi_object(group: "typer.Typer") -> None:
    import typer

    @group.command(
        "multi-object",
        epilog=closing(
            "rankreward data multi-object instances.json \\\n--images images --out data/many",
            writes=builds.WRITES.format(split="test"),
            note=builds.AGAIN,
        ),
    )
    def _(
        annotations: Annotated[
            Path, typer.Argument(callback=there, help="Instances or panoptic JSON.")
        ],
        images: Annotated[
            Path, typer.Option(callback=folder_there, help="The folder of the images.")
        ],
        out: Annotated[Path, typer.Option(help="The folder that the Parquet shards go to.")],
        panoptic: Annotated[
            Path | None,
            typer.Option(callback=folder_there, help="The folder of a panoptic file's PNGs."),
        ] = None,
        n: Annotated[int, typer.Option(min=0, help="Rows to draw; 0 takes all.")] = 0,
        seed: Annotated[int, typer.Option(help="Of the drawing.")] = 0,
        min_instances: Annotated[int, typer.Option(help="Instances of a class, at least.")] = 2,
        max_instances: Annotated[int, typer.Option(help="At most; 0 for any number.")] = 0,
        min_share: Annotated[
            float,
            typer.Option(
                callback=finite, help="Share of the image that all masks cover, at least."
            ),
        ] = 0.0,
        min_side: Annotated[int, typer.Option(help="Pixels of the shorter side, at least.")] = 1,
        as_json: Annotated[bool, typer.Option("--json", help="The result as JSON.")] = False,
    ) -> None:
        """Make a benchmark of many objects.

        Each row asks for all instances of a class in an image, as Dr. Seg's benchmark does.
        """
        from rankreward.datasets import coco
        from rankreward.datasets.multi_object import Filters, multi_object

        filters = Filters(
            min_instances=min_instances,
            max_instances=max_instances or None,
            min_share=min_share,
            min_side=min_side,
        )
        pictures = (
            coco.read_instances(annotations, images)
            if panoptic is None
            else coco.read_panoptic(annotations, panoptic, images)
        )
        sources = tuple(path for path in (annotations, images, panoptic) if path is not None)
        how = {"n": n, "seed": seed, "filters": str(filters)}
        builds.build(
            lambda report: multi_object(
                pictures, n=n or None, seed=seed, filters=filters, report=report
            ),
            sources, how, out, "eval", "dr_seg", "test", builds.LOSSLESS, strict=False,
            as_json=as_json,
        )  # fmt: skip


def _register_inspect(group: "typer.Typer") -> None:
    import typer

    @group.command(
        "inspect",
        epilog=closing(
            "rankreward data inspect data/train --out pictures",
            "rankreward data inspect data/train --json",
            writes="<split>-sheet.png and <split>-distributions.png",
        ),
    )
    def _(
        folder: Annotated[Path, typer.Argument(callback=folder_there, help="The shards.")],
        split: Annotated[
            str | None,
            typer.Option(
                help="Begins their names; needed where there are several.",
                autocompletion=split_names,
            ),
        ] = None,
        out: Annotated[Path | None, typer.Option(help="Where the pictures go; the folder.")] = None,
        show_rows: Annotated[int, typer.Option("--show", min=1, help="Rows to draw.")] = 16,
        seed: Annotated[int, typer.Option(help="Of their choice.")] = 0,
        as_json: Annotated[bool, typer.Option("--json", help="The numbers as JSON.")] = False,
    ) -> None:
        """Draw and count what is in a data set.

        A contact sheet, and how counts, sizes and classes are distributed.
        """
        from rankreward.datasets.inspection import inspect
        from rankreward.datasets.written import read_rows

        split = _only_split(folder) if split is None else split
        found = inspect(
            read_rows(folder, split), show=show_rows, seed=seed, progress=progress("rows")
        )
        place = folder if out is None else out
        place.mkdir(parents=True, exist_ok=True)
        found.sheet.save(place / f"{split}-sheet.png")
        _plot(found, place / f"{split}-distributions.png")
        if as_json:
            strata = {name: dict(values) for name, values in found.strata.items()}
            show_json({**found.numbers(), "strata": strata})
            return
        show("", ("", split), found.numbers().items())
        for name, values in found.strata.items():
            show(name, (name, "rows"), sorted(values.items(), key=lambda each: -each[1]))
        print(f"pictures: {place}/{split}-sheet.png, {split}-distributions.png")


def _only_split(folder: Path) -> str:
    found = splits_of(folder)
    if len(found) != 1:
        raise InputError(
            f"{folder}: expected shards of one split, or --split, got {found or 'none'}"
        )
    return found[0]


def _plot(found: Any, path: Path) -> None:
    from rankreward.datasets.inspection import plot_distributions

    matplotlib: Any = require("matplotlib", extra="report")
    matplotlib.use("Agg")
    pyplot: Any = require("matplotlib.pyplot", extra="report")
    stratum = next((name for name in ("category", *found.strata) if name in found.strata), None)
    figure, axes = pyplot.subplots(1, 2 if stratum is None else 3, figsize=(13, 4))
    plot_distributions(axes, found, stratum)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
