"""The command `rankreward`.

Goes in: what was typed. Comes out: tables on the terminal, and files where they were asked for.
Each group of commands is a module. Needs the extra ``cli``.
"""

# No `from __future__ import annotations` in this package: typer reads the annotations, and can only
# where they have been evaluated, since it is imported inside the functions that they stand in.
import os
import signal
import sys
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
from rankreward.errors import RankRewardError, require

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
    ) -> None:
        """Fair, fast and visible rewards for group-relative RL of vision-language models."""

    recipes.register(commands)
    trainers.register(commands)
    data.register(commands)
    evaluation.register(commands)
    scoring.register(commands)
    replaying.register(commands)
    reporting.register(commands)
    timing.register(commands)
    return commands


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
