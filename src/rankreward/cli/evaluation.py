"""`rankreward eval`: let a policy answer a data set, and say how well."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rankreward.cli.terminal import show_json
from rankreward.errors import InputError, require
from rankreward.recipe import Recipe

if TYPE_CHECKING:
    import typer

Format = Literal["table", "markdown", "csv", "json"]


def register(commands: "typer.Typer") -> None:
    """Add the group."""
    import typer
    from typer.core import TyperGroup

    class RunUnlessTold(TyperGroup):
        """`rankreward eval DATA ...` is `rankreward eval run DATA ...`."""

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if args and args[0] not in {*self.commands, "--help", "-h"}:
                args = ["run", *args]
            return super().parse_args(ctx, args)

    group = typer.Typer(no_args_is_help=True, cls=RunUnlessTold)
    commands.add_typer(group, name="eval")

    @group.callback()
    def _() -> None:
        """Evaluate a policy: completions, masks, measures with intervals, pictures."""

    _register_run(group)
    _register_summary(group)
    _register_compare(group)


def _register_run(group: "typer.Typer") -> None:
    import typer

    @group.command("run")
    def _(
        data: Annotated[str, typer.Argument(help="A folder of Parquet files, or digits:<scenes>.")],
        policy: Annotated[
            str,
            typer.Option(
                help="A checkpoint's name or folder; the http address of an OpenAI-compatible "
                "server; or a .jsonl of completions."
            ),
        ],
        out: Annotated[Path, typer.Option(help="The folder for records, tables and pictures.")],
        recipe: Annotated[str, typer.Option(help="Writes the prompts, reads the answers.")] = (
            "dr_seg"
        ),
        frame: Annotated[
            int, typer.Option(help="Side of the policy's images in pixels; 0 is the recipe's.")
        ] = 0,
        segmenter: Annotated[
            str, typer.Option(help="grabcut, sam2:<name or folder>, or none for boxes alone.")
        ] = "grabcut",
        protocol: Annotated[
            str, typer.Option(help="seg_zero, seg_zero_no_object, dr_seg, rela or lisa.")
        ] = "dr_seg",
        split: Annotated[
            str | None, typer.Option(help="Which of several splits in the folder.")
        ] = None,
        by: Annotated[str | None, typer.Option(help="A stratum to tell results apart by.")] = None,
        model: Annotated[str, typer.Option(help="The model's name on a server.")] = "",
        key: Annotated[
            str | None, typer.Option(help="Environment variable that holds a server's key.")
        ] = None,
        adapter: Annotated[str | None, typer.Option(help="A PEFT adapter.")] = None,
        temperature: Annotated[float, typer.Option(min=0, help="0 for greedy answers.")] = 0.0,
        top_p: Annotated[float, typer.Option(help="Share of the probability.")] = 1.0,
        seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
        max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 2048,
        batch: Annotated[int, typer.Option(min=1, help="Samples at a time.")] = 16,
        limit: Annotated[int, typer.Option(min=0, help="The first so many; 0 is all.")] = 0,
        shard: Annotated[str, typer.Option(help="i/n: every n-th sample from the i-th on.")] = (
            "0/1"
        ),
        ray: Annotated[int, typer.Option(min=0, help="Shards to run on Ray's cluster.")] = 0,
        gpus: Annotated[float, typer.Option(min=0, help="GPUs a shard on Ray.")] = 1.0,
        keep_masks: Annotated[bool, typer.Option("--keep-masks", help="Store masks.")] = False,
        captions: Annotated[
            bool, typer.Option("--captions", help="Compare captions with images by CLIP (dpad).")
        ] = False,
        retry_errors: Annotated[
            bool, typer.Option("--retry-errors", help="Ask again where there was an error.")
        ] = False,
        pictures: Annotated[
            int, typer.Option(min=0, help="Cards on the page with pictures; 0 for no page.")
        ] = 500,
        format_: Annotated[Format, typer.Option("--format", help="Of the summary.")] = "table",
    ) -> None:
        """Run, or go on with a run: what is in the folder is not asked again."""
        from rankreward.evaluation.on_ray import run_on_ray
        from rankreward.evaluation.running import run_policy
        from rankreward.evaluation.summary import find_protocol
        from rankreward.rewards import ClipSimilarity

        part = _shard(shard)
        _check_segmenter(segmenter)
        find_protocol(protocol)
        loaded = _recipe(recipe, frame)
        samples = _samples(data, loaded, split)
        samples = samples.limit(limit) if limit else samples
        if by is not None:
            _check_stratum(by, samples)
        how = {
            "max_new_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "seed": seed,
        }  # fmt: skip

        def make_policy() -> Any:
            return _policy(policy, model, key, adapter, batch, how)

        def make_segmenter() -> Any:
            return _segmenter(segmenter, protocol)

        options: dict[str, Any] = {
            "recipe": loaded, "batch_size": batch, "keep_masks": keep_masks,
            "retry_errors": retry_errors, "similarity": ClipSimilarity() if captions else None,
        }  # fmt: skip
        if ray:
            if shard != "0/1":
                raise InputError(f"--ray: expected no --shard beside it, got {shard}")
            require("ray", extra="ray").init(ignore_reinit_error=True)
            run_on_ray(
                make_policy, samples, shards=ray, out=out, make_segmenter=make_segmenter,
                resources={"num_gpus": gpus}, **options,
            )  # fmt: skip
        else:
            asked = make_policy(), make_segmenter()
            try:
                with _bar() as progress:
                    run_policy(
                        asked[0], samples, out=out, segmenter=asked[1], shard=part,
                        progress=progress, **options,
                    )  # fmt: skip
            except KeyboardInterrupt:
                typer.echo(
                    f"stopped; what is in {out} is kept, and the same command goes on", err=True
                )
                raise typer.Exit(130) from None
        records = _records([out], samples)
        if len(records) < len(samples):
            typer.echo("done; when all shards are, give the same command without --shard", err=True)
            return
        _summarise(records, protocol, by, None, format_, out)
        if pictures:
            page = _draw(out, records, samples, loaded, protocol, by, pictures)
            typer.echo(f"pictures: {page}, {out}/worst.png, {out}/best.png", err=True)


def _register_summary(group: "typer.Typer") -> None:
    import typer

    @group.command("summary")
    def _(
        runs: Annotated[list[Path], typer.Argument(exists=True, help="Runs, or their files.")],
        protocol: Annotated[str, typer.Option(help="How masks are scored.")] = "dr_seg",
        by: Annotated[str | None, typer.Option(help="A stratum to tell results apart by.")] = None,
        ap: Annotated[
            Literal["area", "constant", "order"] | None,
            typer.Option(help="Also COCO's average precision, with this in place of scores."),
        ] = None,
        format_: Annotated[Format, typer.Option("--format", help="Of the summary.")] = "table",
        out: Annotated[Path | None, typer.Option(help="A folder to write the tables to.")] = None,
    ) -> None:
        """Merge shards, and sum them up by any protocol; nothing is run again."""
        from rankreward.evaluation.records import merge

        _summarise(merge(runs), protocol, by, ap, format_, out)


def _register_compare(group: "typer.Typer") -> None:
    import typer

    @group.command("compare")
    def _(
        before: Annotated[Path, typer.Argument(exists=True, help="A run.")],
        after: Annotated[Path, typer.Argument(exists=True, help="Another of the same samples.")],
        protocol: Annotated[str, typer.Option(help="How masks are scored.")] = "dr_seg",
        by: Annotated[str | None, typer.Option(help="A stratum to tell results apart by.")] = None,
        most: Annotated[int, typer.Option(min=0, help="Samples to show that changed most.")] = 10,
        page: Annotated[
            Path | None, typer.Option(help="A page with both answers side by side; needs --data.")
        ] = None,
        data: Annotated[str, typer.Option(help="What the runs were of, for the page.")] = "",
        format_: Annotated[Format, typer.Option("--format", help="Of the table.")] = "table",
    ) -> None:
        """Paired differences with intervals, and the samples that changed most."""
        from rankreward.evaluation.comparison import compare_files
        from rankreward.evaluation.records import merge
        from rankreward.evaluation.tables import Sheet
        from rankreward.report.page import write_comparison

        if page is not None:
            if not data:
                raise InputError("--page: expected --data, what the runs were of, got none")
            recipes = [_recipe_of(run) for run in (before, after)]
            runs = merge(before), merge(after)
            names = (before.name, after.name)
            written = write_comparison(
                page, *runs, _samples(data, recipes[1]), recipe=recipes[1],
                recipe_before=recipes[0], protocol=protocol, by=by,
                names=names if len(set(names)) == 2 else (str(before), str(after)),
            )  # fmt: skip
            typer.echo(f"page: {written}", err=True)

        found = compare_files(before, after, protocol, most=most)
        if by is not None:
            parts = compare_files(before, after, protocol, by=by)
            values = {**found.values, **parts.values}
            found = replace(found, rows=[*found.rows, *parts.rows], values=values)
        if format_ == "json":
            show_json(found.as_dict())
            return
        _print(found.sheet(), format_)
        rows = tuple((each.id, each.before, each.after, each.delta) for each in found.changes)
        if rows and format_ == "table":
            title = f"changed most, by {found.score}"
            _print(Sheet(title, ("sample", "before", "after", "difference"), rows), format_)


def _recipe_of(run: Path) -> Recipe:
    """The recipe that a run's settings hold."""
    from rankreward.evaluation.settings import read_settings

    settings = read_settings(run if run.is_dir() else run.parent)
    if settings is None:
        raise InputError(f"{run}: expected settings.json beside the records, got none")
    return Recipe.load(settings["recipe"])


def _recipe(name: str, frame: int) -> Recipe:
    recipe = Recipe.load(name)
    return recipe.resized(frame) if frame else recipe


def _samples(data: str, recipe: Recipe, split: str | None = None) -> Any:
    from rankreward.evaluation.samples import read_samples, scene_samples

    scenes = re.fullmatch(r"digits:([1-9]\d*)", data)
    if scenes is None:
        if not Path(data).exists():
            raise InputError(f"DATA: expected a folder that is there, or digits:<n>, got {data!r}")
        return read_samples(data, recipe, split)
    from rankreward.datasets import digits

    return scene_samples(list(digits.scenes(int(scenes[1]), seed=0, split="eval")))


def _policy(
    name: str, model: str, key: str | None, adapter: str | None, batch: int, how: dict[str, Any]
) -> Any:
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


def _check_segmenter(name: str) -> None:
    if name not in {"none", "grabcut"} and not re.fullmatch("sam2:.+", name):
        raise InputError(f"--segmenter: expected grabcut, sam2:<model> or none, got {name!r}")


def _check_stratum(by: str, samples: Any) -> None:
    """Said before a long run, not after it."""
    known = next(iter(samples)).load().strata
    if by not in known:
        raise InputError(f"--by: expected one of {', '.join(known) or 'no strata'}, got {by!r}")


def _segmenter(name: str, protocol: str) -> Any:
    if name == "none":
        return None
    if name == "grabcut":
        from rankreward.evaluation.segmenters import GrabCut

        return GrabCut()
    from rankreward.evaluation.sam2 import Sam2
    from rankreward.evaluation.summary import find_protocol

    return Sam2(name.removeprefix("sam2:"), masks=find_protocol(protocol).sam_masks or "best")


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None:
        raise InputError(f"--shard: expected i/n, such as 0/4, got {text!r}")
    return int(found[1]), int(found[2])


class _bar:  # noqa: N801 - reads like a function
    """A bar of finished samples, on standard error."""

    def __enter__(self) -> Callable[[int, int], None]:
        rich: Any = require("rich.progress", extra="cli")
        console = require("rich.console", extra="cli").Console(stderr=True)
        columns = (*rich.Progress.get_default_columns(), rich.MofNCompleteColumn())
        self._progress: Any = rich.Progress(*columns, console=console)
        self._progress.start()
        self._task = self._progress.add_task("samples", total=None)
        return lambda done, total: self._progress.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _records(runs: list[Path], samples: Any) -> list[Any]:
    """The records of these samples; the folder may hold more, from a larger --limit."""
    from rankreward.evaluation.records import merge

    wanted = set(samples.ids)
    return [record for record in merge(runs) if record["id"] in wanted]


def _draw(
    out: Path,
    records: list[Any],
    samples: Any,
    recipe: Recipe,
    protocol: str,
    by: str | None,
    most: int,
) -> Path:
    """The page, and one picture each of the worst and the best samples."""
    from rankreward.cli.terminal import progress
    from rankreward.report.cards import make_cards, pick
    from rankreward.report.page import write_page
    from rankreward.report.sheets import card_sheet

    for which in ("worst", "best"):
        chosen = pick(records, which, 8, protocol)
        few = samples.without(set(samples.ids) - {record["id"] for record in chosen})
        cards = list(make_cards(chosen, few, recipe=recipe, protocol=protocol))
        if cards:
            card_sheet(cards).save(out / f"{which}.png")
    return write_page(
        out / "index.html", records, samples, recipe=recipe, protocol=protocol, by=by, most=most,
        title=out.name, progress=progress("pictures"),
    )  # fmt: skip


def _summarise(
    records: list[Any],
    protocol: str,
    by: str | None,
    ap: Any,
    format_: Format,
    out: Path | None,
) -> None:
    """Print the summary, and keep it as JSON, CSV and Markdown."""
    from rankreward.evaluation.summary import summarise

    summary = summarise(records, protocol, ap=ap)
    if by is not None:
        rows = [*summary.rows, *summarise(records, protocol, by=by, ap=ap).rows]
        summary = replace(summary, rows=rows)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        sheet = summary.sheet()
        (out / "summary.csv").write_text(sheet.csv())
        (out / "summary.md").write_text(sheet.markdown())
        (out / "summary.json").write_text(json.dumps(summary.as_dict(), indent=1) + "\n")
    if format_ == "json":
        show_json(summary.as_dict())
        return
    _print(summary.sheet(), format_)
    if summary.errors:
        print(
            f"{summary.errors} samples could not be judged and are in no measure; the records say "
            "why, --retry-errors asks again",
            file=sys.stderr,
        )
    if format_ == "table":
        for code, count in summary.failures.items():
            print(f"{code}: {count} answers")


def _print(sheet: Any, format_: Format) -> None:
    if format_ == "table":
        require("rich.console", extra="cli").Console().print(sheet.rich())
    else:
        print(sheet.csv() if format_ == "csv" else sheet.markdown(), end="")
