"""`rankreward replay`: what rollouts would have earned under other recipes."""

import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rankreward.cli.choices import check_out, check_segmenter, make_segmenter, recipe_names
from rankreward.cli.terminal import ByteBar, closing, print_table, show_json, stopping
from rankreward.errors import MissingExtraError

if TYPE_CHECKING:
    import typer

    from rankreward.recipe import Recipe

LONGEST = 700  # characters of a completion on the terminal; the files have all of it


def register(commands: "typer.Typer") -> None:
    """Add the command."""
    import typer
    from typer.core import TyperCommand

    class TakesSeveral(TyperCommand):
        """`--recipes a b c` is `--recipes a --recipes b --recipes c`."""

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, spread(args))

    @commands.command(
        "replay",
        cls=TakesSeveral,
        epilog=closing(
            "rankreward replay examples/logs/digits.jsonl.gz --frame 84 \\\n"
            "--recipes dr_seg vision_reasoner dr_seg+window=512",
            "rankreward replay examples/logs/digits.jsonl.gz --frame 84 \\\n"
            "--recipes dr_seg dr_seg+kind=zscore+look.weight=0.5 --out runs/replay",
            writes="nothing without --out; with it tables, figures by step, groups that recipes "
            "disagree about, a plot and a page, when the log has been read",
            note="A change is KEY=VALUE after a plus: a path as in the recipe's file, of which "
            "accuracy.normalizer., accuracy.metrics., accuracy. or terms. may be left out; "
            "term=null takes a term away.",
        ),
    )
    def _(
        log: Annotated[
            list[Path],
            typer.Argument(
                help="Files and folders of rollouts: .jsonl, .jsonl.gz, .parquet, .log."
            ),
        ],
        recipes: Annotated[
            list[str],
            typer.Option(
                metavar="A B ...",
                autocompletion=recipe_names,
                help="Two or more, up to the next option: a name, a YAML file, or either with "
                "changes, such as dr_seg+window=512 or dr_seg+kind=zscore+look.weight=0.5.",
            ),
        ],
        frame: Annotated[
            int, typer.Option(min=0, help="Side of the log's images in pixels; 0 is the recipes'.")
        ] = 0,
        completion: Annotated[str | None, typer.Option(help="The completions' column.")] = None,
        reference: Annotated[str | None, typer.Option(help="The references' column.")] = None,
        group: Annotated[str | None, typer.Option(help="The groups' column.")] = None,
        step: Annotated[str | None, typer.Option(help="The steps' column.")] = None,
        references: Annotated[
            Path | None, typer.Option(help="A file of prompts and references, where LOG has none.")
        ] = None,
        group_size: Annotated[
            int | None, typer.Option(min=2, help="How many neighbours are a group.")
        ] = None,
        rows_per_step: Annotated[
            int | None, typer.Option(min=1, help="How many rows are a step, where LOG has none.")
        ] = None,
        segmenter: Annotated[
            str, typer.Option(help="For recipes that look at masks: grabcut or sam2:<name>.")
        ] = "none",
        out: Annotated[
            Path | None, typer.Option(file_okay=False, help="A folder for tables, figures, a page.")
        ] = None,
        json_: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
        details: Annotated[
            bool, typer.Option("--details", help="Print every measure, with intervals and thirds.")
        ] = False,
        show: Annotated[
            int, typer.Option(min=0, help="Groups to print that the first two disagree about most.")
        ] = 1,
        keep: Annotated[
            int, typer.Option(min=0, help="Such groups to keep for each two recipes.")
        ] = 10,
    ) -> None:
        """What rollouts would have earned under other recipes, and how far these agree."""
        from rankreward.logs.frames import watch_frame
        from rankreward.logs.gaps import Gaps, gap_line
        from rankreward.logs.reading import read_log, size_of
        from rankreward.logs.steps import LIMIT, WITH_IMAGES, chunks
        from rankreward.replay.contestants import read_contestants
        from rankreward.replay.files import as_dict, settings
        from rankreward.replay.replaying import Replay

        check_segmenter(segmenter)
        check_out(out, log)
        contestants = read_contestants(recipes, frame=frame, make=_Maker(segmenter))
        images = any(each.recipe.needs_images for each in contestants)
        gaps = Gaps()
        with stopping("nothing was written"), ByteBar("replaying", size_of(log)) as bar:
            rows = read_log(
                log, completion=completion, reference=reference, group=group, step=step,
                references=references, progress=bar.advance_to, say=bar.say,
                images=images, gaps=gaps,
            )  # fmt: skip
            dealt = chunks(
                watch_frame(rows, contestants[0].recipe, bar.say),
                grouped=True, group_size=group_size, rows_per_step=rows_per_step,
                ranked=any(each.recipe.needs_steps for each in contestants),
                limit=WITH_IMAGES if images else LIMIT, say=bar.say,
            )  # fmt: skip
            run = Replay(contestants, most=max(keep, show))
            for chunk in dealt:
                run.add(chunk)
            if (missing := gaps.as_dict()) is not None:
                bar.say(gap_line(missing))
        found = run.done()
        if out is not None:
            _write(out, found, run.by_step(), settings(contestants, [str(path) for path in log]))
        if json_:
            show_json({**as_dict(found), "disagreements": found.cases})
        else:
            _print(found, show, details=details)


def spread(args: Sequence[str]) -> list[str]:
    """Give each word after ``--recipes``, up to the next option, the option again."""
    found: list[str] = []
    taking = False
    for place, word in enumerate(args):
        if word == "--":
            return [*found, *args[place:]]
        if word.startswith("-"):
            taking = word == "--recipes" or word.startswith("--recipes=")
            found += [] if word == "--recipes" else [word]
        else:
            found += ["--recipes", word] if taking else [word]
    return found


class _Maker:
    """Makes scorers; those that look at masks share one segmenter."""

    def __init__(self, segmenter: str) -> None:
        self._name = segmenter
        self._made: Any = None

    def __call__(self, recipe: "Recipe") -> Any:
        from rankreward.rewards.references import needs_masks
        from rankreward.rewards.scorer import Scorer

        if self._name == "none" or not needs_masks(recipe):
            return Scorer(recipe)
        self._made = self._made or make_segmenter(self._name, "dr_seg")
        return Scorer(recipe, segmenter=self._made)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _write(out: Path, found: Any, by_step: Iterator[Any], asked: dict[str, Any]) -> None:
    """All that goes into the folder; the plots only where they can be drawn."""
    from rankreward.replay.files import write
    from rankreward.report.replay_page import write_page
    from rankreward.report.replay_plots import write_plots

    out.mkdir(parents=True, exist_ok=True)
    picture: Path | None = out / "replay.png"
    try:
        write_plots(out / "replay.png", found)
    except MissingExtraError as error:
        picture = None
        _say(f"no plots: {error}")
    write_page(out / "index.html", found, picture)
    write(out, found, by_step, asked)
    _say(f"written: {out}")


def _print(found: Any, show: int, *, details: bool) -> None:
    from rankreward.replay.tables import detail_sheets, terminal_sheets, verdict
    from rankreward.report.frame import visible

    shown = [*terminal_sheets(found), *(detail_sheets(found) if details else ())]
    for sheet in shown:
        if sheet.rows:
            print_table(sheet.rich())
    first = [case for case in found.cases if (case["first"], case["second"]) == found.pairs[0]]
    for case in first[:show]:
        for line in _case(case):
            print(line)
    _bad(found)
    for line in verdict(found):
        print(f"\n{_folded(visible(line))}")


def _case(case: dict[str, Any]) -> Iterator[str]:
    """A group that two recipes disagree about, line by line."""
    from rankreward.report.frame import visible

    near = "no signal from one" if case["cosine"] is None else f"cosine {case['cosine']:.2f}"
    where = f"Step {case['step']}, group {visible(str(case['group']))}, {near}"
    both = f"{case['first']} (first) against {case['second']} (second)"
    yield ""
    yield _folded(f"{where}: {both}, rewards with advantages in brackets")
    yield _folded(f"because of: {_because(case['because'])}")
    yield f"reference: {visible(str(case['reference']))[:LONGEST]}"
    for each in sorted(case["rollouts"], key=lambda one: _gap(one["advantages"])):
        one, other = (
            f"{reward:.3f} ({advantage:+.2f})"
            for reward, advantage in zip(each["rewards"], each["advantages"], strict=True)
        )
        failure = f"; {each['failure']}" if each["failure"] else ""
        yield f"  {each['place']}: first {one}, second {other}{failure}"
        yield from (f"    {line}" for line in _cut(visible(each["completion"])).split("\n"))


def _folded(text: str) -> str:
    """Lines of at most 80 characters, which never break inside a name."""
    return textwrap.fill(text, 80, break_long_words=False, break_on_hyphens=False)


def _cut(text: str) -> str:
    half = LONGEST // 2
    if len(text) <= LONGEST:
        return text
    return f"{text[:half]}\n... {len(text) - 2 * half} characters ...\n{text[-half:]}"


def _because(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())


def _gap(advantages: Sequence[float]) -> float:
    return advantages[1] - advantages[0]


def _bad(found: Any) -> None:
    """What was left out, on standard error."""
    from rankreward.report.frame import visible

    for bad in found.bad_shown:
        _say(visible(f"{bad.place}: {bad.reason}"))
    if found.bad > len(found.bad_shown):
        _say(f"... and {found.bad - len(found.bad_shown)} more bad rows")
