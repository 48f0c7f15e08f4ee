"""Command line of the package, `python -m deepfm COMMAND`.

A command's module is imported when the command is called: `doctor` must run where the packages of the others
are broken.
"""

import signal
import sys
from importlib import import_module

import click

#: Module and one-line help of each command; the command is the module's function of that name.
_COMMANDS = {
    "clean": ("deepfm.cli.operations.clean", "List and remove folders that are no longer needed."),
    "doctor": ("deepfm.cli.operations.doctor", "Check everything that the jobs need."),
    "status": ("deepfm.cli.operations.status", "Show the champion and the last scored days of a model."),
}


class _LazyGroup(click.Group):
    """A group that imports the module of a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        if cmd_name not in _COMMANDS:
            return None
        try:
            command = getattr(import_module(_COMMANDS[cmd_name][0]), cmd_name)
        except ImportError as error:
            raise click.ClickException(
                f"{sys.executable} cannot import {error.name or error}: run `. .venv/bin/activate` in the "
                "project folder (`make env` creates .venv)"
            ) from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names and helps of the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(
    cls=_LazyGroup,
    help="Click-through-rate models on Spark, Horovod and MLflow; the jobs themselves are in jobs/.",
)
def main() -> None:
    pass


def run() -> None:
    """Run the command line; report an invalid flag in one line with exit status 2, like the jobs."""
    try:
        main(prog_name="python -m deepfm", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        hint = "; see --help" if isinstance(error, click.UsageError) else ""
        click.echo(f"error: {' '.join(error.format_message().split())}{hint}", err=True)
        sys.exit(2)
    except click.Abort as error:  # click converts KeyboardInterrupt to Abort; a job's has the signal's number
        cause = error.__cause__ or error.__context__
        sys.exit(128 + getattr(cause, "number", signal.SIGINT))
