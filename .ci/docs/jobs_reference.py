"""Page of the jobs and commands with their flags, from their definitions in click."""

from __future__ import annotations

import textwrap
from importlib import import_module

import click

JOBS = ("build_features", "train", "compare", "tune", "promote", "score", "evaluate", "demo")
COMMANDS = ("clean", "doctor", "status")


def jobs_page() -> str:
    """Return the page as Markdown."""
    parts = ["# Jobs and flags", "Generated from the definitions of the flags; `--help` prints the same."]
    parts += ["All jobs can be started by `python` or `spark-submit`. See [exit statuses](exit-statuses.md)."]
    for name in JOBS:
        parts += [f"## jobs/{name}.py", *command_parts(command(f"deepfm.cli.{name}", name))]
    for name in COMMANDS:
        title = f"## python -m deepfm {name}"
        parts += [title, *command_parts(command(f"deepfm.cli.operations.{name}", name))]
    return "\n\n".join(parts) + "\n"


def command(module: str, name: str) -> click.Command:
    return getattr(import_module(module), name)


def command_parts(definition: click.Command) -> list[str]:
    text = textwrap.dedent(definition.help or "").replace("\b\n", "").strip()
    rows = ["| flag | value | default | meaning |", "|---|---|---|---|"]
    return [
        text,
        "\n".join([*rows, *(row(one) for one in definition.params if isinstance(one, click.Option))]),
    ]


def row(option: click.Option) -> str:
    flags = ", ".join(f"`{flag}`" for flag in [*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else option.type.name
    if isinstance(option.type, click.Choice):
        value = ", ".join(f"`{choice}`" for choice in option.type.choices)
    cells = (flags, value, default(option), meaning(option))
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def default(option: click.Option) -> str:
    if option.required:
        return "required"
    value = option.to_info_dict().get("default")
    return "" if option.is_flag or value in (None, "", ()) else f"`{value}`"


def meaning(option: click.Option) -> str:
    text = " ".join((option.help or "").split()).replace("<", "&lt;")
    variable = f" Environment variable: `{option.envvar}`." if option.envvar else ""
    return text + variable
