"""Options that several commands have."""

from collections.abc import Callable

import click

from deepfm.settings.conf_files import find_conf


class _ConfPath(click.ParamType):
    """Path of a YAML or of a folder of them; conf/… is also found in the package."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the path of an existing file if there is one."""
        return find_conf(str(value))


CONF_PATH = _ConfPath()
profile_option = click.option(
    "--profile",
    "profile_path",
    type=CONF_PATH,
    default="conf/profile/local.yaml",
    show_default=True,
    help="YAML of Spark properties, MLflow and limits.",
)
workers_option = click.option(
    "--num-workers",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Horovod processes; 0: train in this process.",
)
tracking_option = click.option(
    "--tracking-uri",
    envvar="MLFLOW_TRACKING_URI",
    show_envvar=True,
    help="MLflow server or store, http://… or sqlite:///…; overrides the profile.",
)


def set_option(example: str, yaml_flag: str) -> Callable:
    """Option --set, which replaces values of the YAML of another flag."""
    return click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        help=f"Replace a value of {yaml_flag}, e.g. {example}; can be repeated.",
    )
