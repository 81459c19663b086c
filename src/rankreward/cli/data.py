"""`rankreward data`: annotations to training and evaluation sets, and a look at them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rankreward.cli.terminal import progress, show, show_json
from rankreward.errors import InputError, require

if TYPE_CHECKING:
    import typer

Layout = Literal["training", "trl", "verl", "easyr1", "eval"]
LOSSLESS = 0  # of --quality


def register(commands: "typer.Typer") -> None:
    """Add the group."""
    import typer

    group = typer.Typer(no_args_is_help=True)
    commands.add_typer(group, name="data")

    @group.callback()
    def _() -> None:
        """Make, check and look at data sets."""

    builds = typer.Typer(no_args_is_help=True)
    group.add_typer(builds, name="build")

    @builds.callback()
    def _() -> None:
        """Turn annotations into a trainer's data set, row by row checked."""

    _register_builds(builds)
    _register_multi_object(group)
    _register_inspect(group)


def _register_builds(builds: "typer.Typer") -> None:
    import typer

    Out = Annotated[Path, typer.Option(help="The folder that the Parquet shards go to.")]
    For = Annotated[Layout, typer.Option("--for", help="Whose layout the rows get.")]
    Recipe = Annotated[str, typer.Option(help="The recipe that will score the answers.")]
    Split = Annotated[str, typer.Option(help="Name of the shards, and of the split in the rows.")]
    Points = Annotated[int, typer.Option(min=1, max=2, help="Points an object.")]
    Quality = Annotated[int, typer.Option(min=0, max=100, help="JPEG quality; 0 is PNG.")]
    Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")]
    Images = Annotated[Path, typer.Option(exists=True, file_okay=False, help="Their folder.")]
    Json = Annotated[bool, typer.Option("--json", help="The result as JSON, for scripts.")]
    Source = Annotated[Path, typer.Argument(exists=True, help="The annotations, a JSON file.")]

    @builds.command("coco")
    def _(
        annotations: Source,
        images: Images,
        out: Out,
        layout: For = "training",
        recipe: Recipe = "dr_seg",
        split: Split = "train",
        points: Points = 1,
        quality: Quality = LOSSLESS,
        per: Annotated[
            Literal["category", "annotation"], typer.Option(help="What a row asks for.")
        ] = "category",
        query: Annotated[str, typer.Option(help="The question.")] = "all {category}",
        strict: Strict = False,
        as_json: Json = False,
    ) -> None:
        """From COCO-style instances: polygons, run lengths, crowds."""
        from rankreward.datasets import coco, pictures

        if "{" in query.replace("{category}", ""):
            raise InputError(
                f"--query: expected {{category}} as the only placeholder, got {query!r}"
            )
        found = coco.read_instances(annotations, images)
        how = {"per": per, "query": query, "points": points}
        _build(
            lambda report: pictures.rows_of(
                found, per=per, query=query, points=points, report=report
            ),
            (annotations, images), how, out, layout, recipe, split, quality, strict, as_json,
        )  # fmt: skip

    @builds.command("expressions")
    def _(
        references: Source,
        instances: Annotated[Path, typer.Option(exists=True, help="COCO instances, as JSON.")],
        images: Images,
        out: Out,
        layout: For = "training",
        recipe: Recipe = "dr_seg",
        split: Split = "train",
        points: Points = 1,
        quality: Quality = LOSSLESS,
        strict: Strict = False,
        as_json: Json = False,
    ) -> None:
        """From RefCOCO-style expressions, as JSON; those without a target make empty rows."""
        from rankreward.datasets import coco, refer

        expressions = refer.read_expressions(references)
        found = coco.read_instances(instances, images)
        _build(
            lambda report: refer.refer_rows(
                expressions, found, split=split, points=points, report=report
            ),
            (references, instances, images), {"points": points}, out, layout, recipe, split,
            quality, strict, as_json,
        )  # fmt: skip

    @builds.command("folder")
    def _(
        images: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Images.")],
        out: Out,
        masks: Annotated[
            Path | None, typer.Option(help="Masks, by the images' names; else beside them.")
        ] = None,
        queries: Annotated[
            Path | None, typer.Option(help="JSON: an image's name to a text or several.")
        ] = None,
        query: Annotated[str, typer.Option(help="What to ask where there are no queries.")] = "",
        objects: Annotated[
            Literal["values", "components", "whole"], typer.Option(help="What an object is.")
        ] = "values",
        ignore: Annotated[
            int, typer.Option(help="Value of pixels that do not count; -1 for none.")
        ] = 255,
        layout: For = "training",
        recipe: Recipe = "dr_seg",
        split: Split = "train",
        points: Points = 1,
        quality: Quality = LOSSLESS,
        strict: Strict = False,
        as_json: Json = False,
    ) -> None:
        """From a folder of images and their masks."""
        from rankreward.datasets.folder import folder_rows

        how: dict[str, Any] = {
            "query": query, "objects": objects, "points": points,
            "ignore": None if ignore < 0 else ignore,
        }  # fmt: skip
        sources = tuple(path for path in (images, masks, queries) if path is not None)
        _build(
            lambda report: folder_rows(images, masks, queries=queries, report=report, **how),
            sources, how, out, layout, recipe, split, quality, strict, as_json,
        )  # fmt: skip

    @builds.command("published")
    def _(
        name: Annotated[str, typer.Argument(help="visionreasoner_7k, reasonseg_val, ...")],
        out: Out,
        folder: Annotated[
            Path | None, typer.Option(exists=True, help="Where it was downloaded to.")
        ] = None,
        layout: For = "training",
        recipe: Recipe = "dr_seg",
        split: Split = "train",
        points: Points = 1,
        quality: Quality = LOSSLESS,
        strict: Strict = False,
        as_json: Json = False,
    ) -> None:
        """From a published set, downloaded if need be."""
        from rankreward.datasets.published import PUBLISHED, published_rows

        if name not in PUBLISHED:
            raise typer.BadParameter(f"expected one of {', '.join(PUBLISHED)}, got {name!r}")
        how = {"name": name, "revision": PUBLISHED[name].revision, "points": points}
        _build(
            lambda report: published_rows(name, folder, points=points, report=report),
            () if folder is None else (folder,), how, out, layout, recipe, split, quality,
            strict, as_json,
        )  # fmt: skip


def _build(
    rows: Any,
    sources: tuple[Path, ...],
    how: dict[str, Any],
    out: Path,
    layout: Layout,
    recipe: str,
    split: str,
    quality: int,
    strict: bool,
    as_json: bool,
) -> None:
    """Build, and say what stands and what was left out."""
    from rankreward.datasets.build import build
    from rankreward.datasets.checks import Report
    from rankreward.datasets.shards import origin_of

    report = Report(strict=strict)
    built = build(
        rows(report),
        out,
        layout=layout,
        origin=origin_of(*sources, **how),
        recipe=recipe,
        split=split,
        quality=quality or None,
        report=report,
        progress=progress("rows"),
    )
    if as_json:
        show_json(
            {
                "rows": built.rows,
                "paths": [str(path) for path in built.paths],
                "reused": built.reused,
                "left_out": dict(report.counts),
                "problems": [str(problem) for problem in report.problems],
            }
        )
        return
    print(
        f"{built.rows} rows in {len(built.paths)} files of {out}"
        + " (as they stood)" * built.reused
    )
    if report:
        print(f"left out: {report}")


def _register_multi_object(group: "typer.Typer") -> None:
    import typer

    @group.command("multi-object")
    def _(
        annotations: Annotated[
            Path, typer.Argument(exists=True, help="Instances or panoptic JSON.")
        ],
        images: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Their folder.")],
        out: Annotated[Path, typer.Option(help="The folder that the Parquet shards go to.")],
        panoptic: Annotated[
            Path | None, typer.Option(help="The folder of a panoptic file's PNGs.")
        ] = None,
        n: Annotated[int, typer.Option(help="Rows to draw; 0 takes all.")] = 0,
        seed: Annotated[int, typer.Option(help="Of the drawing.")] = 0,
        min_instances: Annotated[int, typer.Option(help="Instances of a class, at least.")] = 2,
        max_instances: Annotated[int, typer.Option(help="At most; 0 for any number.")] = 0,
        min_share: Annotated[float, typer.Option(help="Of the image, all masks, at least.")] = 0.0,
        min_side: Annotated[int, typer.Option(help="Pixels of the shorter side, at least.")] = 1,
        as_json: Annotated[bool, typer.Option("--json", help="The result as JSON.")] = False,
    ) -> None:
        """Build a benchmark that asks for all instances of a class, as Dr. Seg's."""
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
        _build(
            lambda report: multi_object(
                pictures, n=n or None, seed=seed, filters=filters, report=report
            ),
            sources, how, out, "eval", "dr_seg", "test", LOSSLESS, strict=False, as_json=as_json,
        )  # fmt: skip


def _register_inspect(group: "typer.Typer") -> None:
    import typer

    @group.command("inspect")
    def _(
        folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The shards.")],
        split: Annotated[
            str | None, typer.Option(help="Begins their names; needed where there are several.")
        ] = None,
        out: Annotated[Path | None, typer.Option(help="Where the pictures go; the folder.")] = None,
        show_rows: Annotated[int, typer.Option("--show", min=1, help="Rows to draw.")] = 16,
        seed: Annotated[int, typer.Option(help="Of their choice.")] = 0,
        as_json: Annotated[bool, typer.Option("--json", help="The numbers as JSON.")] = False,
    ) -> None:
        """Show a contact sheet, and how counts, sizes and classes are distributed."""
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
    found = sorted({path.stem.rpartition("-")[0] for path in folder.glob("*-?????.parquet")})
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
