"""The command `rankreward`.

Goes in: what was typed. Comes out: tables on the terminal, and files where they were asked for.
Each group of commands is a module. Needs the extra ``cli``.
"""

# No `from __future__ import annotations` in this package: typer reads the annotations, and can only
# where they have been evaluated, since it is imported inside the functions that they stand in.
import sys
from typing import TYPE_CHECKING

from rankreward.cli import data, evaluation, timing, trainers
from rankreward.errors import MissingExtraError, RankRewardError, require

if TYPE_CHECKING:
    import typer

__all__ = ["app", "main"]


def main() -> None:
    """Run the command; what is wrong with its input is one line, not a traceback."""
    try:
        app()()
    except MissingExtraError as error:
        sys.exit(f"rankreward: {error}")
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

    commands = typer.Typer(no_args_is_help=True, add_completion=False)

    @commands.callback()
    def root() -> None:
        """Fair, fast and visible rewards for group-relative RL of vision-language models."""

    timing.register(commands)
    trainers.register(commands)
    data.register(commands)
    evaluation.register(commands)
    return commands
