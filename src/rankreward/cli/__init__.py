"""The command `rankreward`.

Goes in: what was typed. Comes out: tables on the terminal, and files where they were asked for.
Each group of commands is a module. Needs the extra ``cli``.
"""

# No `from __future__ import annotations` in this package: typer reads the annotations, and can only
# where they have been evaluated, since it is imported inside the functions that they stand in.
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import rankreward
from rankreward.cli import (
    data,
    evaluation,
    recipes,
    replaying,
    reporting,
    scoring,
    timing,
    trainers,
)
from rankreward.cli.terminal import closing
from rankreward.errors import ConfigError, RankRewardError, require

if TYPE_CHECKING:
    import typer

__all__ = ["app", "main"]


def main() -> None:
    """Run the command; what is wrong with its input is one line, not a traceback.

    A fault of our own keeps its traceback. A reader that has enough, as `head` has, is no fault.
    """
    signal.signal(signal.SIGTERM, _end)
    try:
        try:
            app()()
        finally:
            _deliver()
    except BrokenPipeError:
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except (RankRewardError, OSError) as error:
        sys.exit(f"rankreward: {error}")


def app() -> "typer.Typer":
    """The command with its subcommands.

    Raises:
        MissingExtraError: the extra ``cli`` is not installed.
    """
    require("typer", extra="cli")
    require("rich", extra="cli")
    import typer

    # Plain help: it loads fast, and is read by `grep` and `less` as by people.
    commands = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
    )

    @commands.callback(
        epilog=closing(
            "rankreward recipes",
            "rankreward COMMAND --help",
            "rankreward --import my_terms score log.jsonl --recipe mine.yaml",
            writes="nothing; each command's help says what it writes",
        )
    )
    def root(
        _version: Annotated[
            bool,
            typer.Option(
                "--version", is_eager=True, callback=_say_version, help="Print the version."
            ),
        ] = False,
        modules: Annotated[
            list[str] | None,
            typer.Option(
                "--import",
                metavar="MODULE",
                help="Import this first, from here or where Python looks: it registers terms and "
                "metrics of your own. May be given again.",
            ),
        ] = None,
    ) -> None:
        """Fair, fast and visible rewards for group-relative RL of vision-language models."""
        for module in modules or ():
            _import(module)

    recipes.register(commands)
    trainers.register(commands)
    data.register(commands)
    evaluation.register(commands)
    scoring.register(commands)
    replaying.register(commands)
    reporting.register(commands)
    timing.register(commands)
    return commands


def _import(module: str) -> None:
    """Load a module of the user's, whose faults keep their traceback.

    Raises:
        ConfigError: there is none of that name.
    """
    sys.path.insert(0, str(Path.cwd()))
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"--import: expected a module that Python finds from {Path.cwd()}, such as my_terms "
            f"for my_terms.py, got {module!r}"
        ) from None


def _say_version(asked: bool) -> None:
    import typer

    if asked:
        typer.echo(f"rankreward {rankreward.__version__}")
        raise typer.Exit


def _end(number: int, _frame: Any) -> None:
    """A request to end unwinds as Ctrl-C does, so that half-written files are taken away."""
    sys.exit(128 + number)


def _deliver() -> None:
    """Hand over what was printed.

    Raises:
        OSError: it cannot be written. What is left of it is thrown away, or Python would complain
            a second time at the end.
    """
    if sys.stdout is None:  # closed before we began
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
