"""Files of conf/ that come with the package: next to it in a checkout, else the copy that its build made."""

from pathlib import Path

import click

import deepfm

_PACKAGE = Path(deepfm.__file__).resolve().parent


def conf_folder() -> Path:
    """Folder of the package's data, model and profile YAMLs."""
    checkout = _PACKAGE.parent
    return checkout / "conf" if (checkout / "setup.py").exists() else _PACKAGE / "conf"


def find_conf(path: str) -> str:
    """Return the path; if it starts with conf/ and does not exist, the package's file of this name if any."""
    name = Path(path)
    if name.is_absolute() or name.parts[:1] != ("conf",) or name.exists():
        return path
    packaged = conf_folder().joinpath(*name.parts[1:])
    return str(packaged) if packaged.exists() else path


class _ConfPath(click.ParamType):
    """Path of a YAML or of a folder of them; conf/… is also found in the package."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the path of an existing file if there is one."""
        return find_conf(str(value))


CONF_PATH = _ConfPath()
