"""Command line of the package: `deepfm COMMAND`, or `python -m deepfm COMMAND`.

A command's module is imported when the command is called: `doctor` must run where the packages of the others
are broken, and `--help` needs none of them.
"""

import signal
import sys
from importlib import import_module, metadata
from typing import NamedTuple

import click

from deepfm import __version__
from deepfm.errors import UserError


class _Command(NamedTuple):
    """A command: the function of a module."""

    module: str
    function: str
    help: str


_COMMANDS = {
    "init": _Command("deepfm.cli.operations.init", "init", "Write a project folder."),
    "describe": _Command("deepfm.cli.operations.describe", "describe", "Write a data YAML for a log."),
    "build-features": _Command("deepfm.cli.build_features", "build_features", "Build a dataset from a log."),
    "train": _Command("deepfm.cli.train", "train", "Train a model and register it."),
    "compare": _Command("deepfm.cli.compare", "compare", "Train several models and compare them."),
    "tune": _Command("deepfm.cli.tune", "tune", "Search hyperparameters of a model."),
    "promote": _Command("deepfm.cli.promote", "promote", "Make a candidate champion if it is good enough."),
    "score": _Command("deepfm.cli.score", "score", "Score days of impressions."),
    "evaluate": _Command("deepfm.cli.evaluate", "evaluate", "Evaluate a scored day against its labels."),
    "synthetic": _Command("deepfm.cli.synthetic", "synthetic", "Write a synthetic click log."),
    "demo": _Command("deepfm.cli.demo", "demo", "Run the whole pipeline on a small log."),
    "clean": _Command("deepfm.cli.operations.clean", "clean", "List and remove unneeded folders."),
    "doctor": _Command("deepfm.cli.operations.doctor", "doctor", "Check everything that the jobs need."),
    "status": _Command("deepfm.cli.operations.status", "status", "Show champion and last scored days."),
}
#: Distributions whose versions decide how a job behaves.
_VERSIONS = ("pyspark", "torch", "horovod", "petastorm", "mlflow", "pyarrow")


class _LazyGroup(click.Group):
    """A group that imports the module of a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the pipeline."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        if cmd_name not in _COMMANDS:
            return None
        module, function, _ = _COMMANDS[cmd_name]
        try:
            command = getattr(import_module(module), function)
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
            formatter.write_dl([(name, command.help) for name, command in _COMMANDS.items()])


def _print_versions(ctx: click.Context, option: click.Parameter, is_given: bool) -> None:
    if not is_given or ctx.resilient_parsing:
        return
    click.echo(f"deepfm {__version__}")
    click.echo(f"python {'.'.join(map(str, sys.version_info[:3]))}")
    for name in _VERSIONS:
        click.echo(f"{name} {_version_of(name)}")
    ctx.exit()


def _version_of(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "is not installed"


@click.group(
    cls=_LazyGroup,
    help="Click-through-rate models on Spark, Horovod and MLflow. The jobs are also files in jobs/, for "
    "spark-submit. COMMAND --help shows the flags of a command.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_versions,
    help="Show the versions of this package and of those that it depends on most.",
)
def main() -> None:
    pass


def run() -> None:
    """Run the command line; report an invalid flag in one line with exit status 2, like the jobs."""
    try:
        main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        hint = "; see --help" if isinstance(error, click.UsageError) else ""
        click.echo(f"error: {' '.join(error.format_message().split())}{hint}", err=True)
        sys.exit(2)
    except UserError as error:  # of a command that is no job
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except click.Abort as error:  # click converts KeyboardInterrupt to Abort; a job's has the signal's number
        cause = error.__cause__ or error.__context__
        sys.exit(128 + getattr(cause, "number", signal.SIGINT))
