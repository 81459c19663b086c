"""`rankreward data build`: annotations to a trainer's data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rankreward.cli.choices import recipe_names
from rankreward.cli.terminal import closing, folder_there, progress, show_json, stopping, there
from rankreward.errors import InputError

if TYPE_CHECKING:
    import typer

Layout = Literal["training", "trl", "verl", "easyr1", "eval"]
LOSSLESS = 0  # of --quality
WRITES = (
    "{split}-00000.parquet and so on in the folder of --out, and {split}.json, which lists them"
)
AGAIN = "What stands is not made again: an interrupted build goes on with the same command."


def register(group: "typer.Typer") -> None:
    """Add the group."""
    import typer

    builds = typer.Typer(no_args_is_help=True)
    group.add_typer(builds, name="build")

    @builds.callback()
    def _() -> None:
        """Make a trainer's data set of annotations."""

    _register(builds)


def _register(builds: "typer.Typer") -> None:
    import typer

    Out = Annotated[Path, typer.Option(help="The folder that the Parquet shards go to.")]
    For = Annotated[Layout, typer.Option("--for", help="Whose layout the rows get.")]
    Recipe = Annotated[
        str,
        typer.Option(help="The recipe that will score the answers.", autocompletion=recipe_names),
    ]
    Split = Annotated[str, typer.Option(help="Name of the shards, and of the split in the rows.")]
    Points = Annotated[int, typer.Option(min=1, max=2, help="Points an object.")]
    Quality = Annotated[int, typer.Option(min=0, max=100, help="JPEG quality; 0 is PNG.")]
    Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")]
    Images = Annotated[Path, typer.Option(callback=folder_there, help="The folder of the images.")]
    Json = Annotated[bool, typer.Option("--json", help="The result as JSON, for scripts.")]
    Source = Annotated[Path, typer.Argument(callback=there, help="The annotations, a JSON file.")]

    @builds.command(
        "coco",
        epilog=closing(
            "rankreward data build coco instances.json --images images --out data/train",
            writes=WRITES.format(split="<split>"),
            note=AGAIN,
        ),
    )
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
        """From COCO instances.

        Polygons, run lengths and crowds; each row is checked, and a bad one is left out.
        """
        from rankreward.datasets import coco, pictures

        if "{" in query.replace("{category}", ""):
            raise InputError(
                f"--query: expected {{category}} as the only placeholder, got {query!r}"
            )
        found = coco.read_instances(annotations, images)
        how = {"per": per, "query": query, "points": points}
        build(
            lambda report: pictures.rows_of(
                found, per=per, query=query, points=points, report=report
            ),
            (annotations, images), how, out, layout, recipe, split, quality, strict, as_json,
        )  # fmt: skip

    @builds.command(
        "expressions",
        epilog=closing(
            "rankreward data build expressions refs.json --instances instances.json \\\n"
            "--images images --out data/refs --for trl",
            writes=WRITES.format(split="<split>"),
            note=AGAIN,
        ),
    )
    def _(
        references: Source,
        instances: Annotated[Path, typer.Option(callback=there, help="COCO instances, as JSON.")],
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
        """From RefCOCO-style expressions.

        As JSON; expressions without a target make rows that ask for nothing that is there.
        """
        from rankreward.datasets import coco, refer

        expressions = refer.read_expressions(references)
        found = coco.read_instances(instances, images)
        build(
            lambda report: refer.refer_rows(
                expressions, found, split=split, points=points, report=report
            ),
            (references, instances, images), {"points": points}, out, layout, recipe, split,
            quality, strict, as_json,
        )  # fmt: skip

    @builds.command(
        "folder",
        epilog=closing(
            "rankreward data build folder images --masks masks \\\n--query cups --out data/cups",
            writes=WRITES.format(split="<split>"),
            note=AGAIN,
        ),
    )
    def _(
        images: Annotated[Path, typer.Argument(callback=folder_there, help="Images.")],
        out: Out,
        masks: Annotated[
            Path | None,
            typer.Option(
                callback=folder_there, help="Masks, by the images' names; else beside them."
            ),
        ] = None,
        queries: Annotated[
            Path | None,
            typer.Option(callback=there, help="JSON: an image's name to a text or several."),
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
        """From images and their masks."""
        from rankreward.datasets.folder import folder_rows

        how: dict[str, Any] = {
            "query": query, "objects": objects, "points": points,
            "ignore": None if ignore < 0 else ignore,
        }  # fmt: skip
        sources = tuple(path for path in (images, masks, queries) if path is not None)
        build(
            lambda report: folder_rows(images, masks, queries=queries, report=report, **how),
            sources, how, out, layout, recipe, split, quality, strict, as_json,
        )  # fmt: skip

    @builds.command(
        "published",
        epilog=closing(
            "rankreward data build published visionreasoner_7k \\\n--out data/vr7k --for verl",
            writes=WRITES.format(split="<split>"),
            note=AGAIN,
        ),
    )
    def _(
        name: Annotated[str, typer.Argument(help="visionreasoner_7k, reasonseg_val, ...")],
        out: Out,
        folder: Annotated[
            Path | None, typer.Option(callback=folder_there, help="Where it was downloaded to.")
        ] = None,
        layout: For = "training",
        recipe: Recipe = "dr_seg",
        split: Split = "train",
        points: Points = 1,
        quality: Quality = LOSSLESS,
        strict: Strict = False,
        as_json: Json = False,
    ) -> None:
        """From a published set.

        It is downloaded, unless --folder says where it is.
        """
        from rankreward.datasets.published import PUBLISHED, published_rows

        if name not in PUBLISHED:
            raise InputError(f"NAME: expected one of {', '.join(PUBLISHED)}, got {name!r}")
        how = {"name": name, "revision": PUBLISHED[name].revision, "points": points}
        build(
            lambda report: published_rows(name, folder, points=points, report=report),
            () if folder is None else (folder,), how, out, layout, recipe, split, quality,
            strict, as_json,
        )  # fmt: skip


def build(
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
    from rankreward.datasets.build import build as write
    from rankreward.datasets.checks import Report
    from rankreward.datasets.shards import origin_of

    report = Report(strict=strict)
    with stopping(f"the whole shards in {out} are kept, and the same command goes on"):
        built = write(
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
