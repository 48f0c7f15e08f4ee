"""Files of conf/ that come with the package, and the folder that relative paths of a profile start from."""

import logging
from pathlib import Path

import deepfm
from deepfm.settings.deployment import Profile
from deepfm.settings.loader import load_settings

logger = logging.getLogger(__name__)

_PACKAGE = Path(deepfm.__file__).resolve().parent
_SQLITE = "sqlite:///"


def conf_folder() -> Path:
    """Folder of the package's YAMLs: next to it in a checkout, else the copy that its build made."""
    checkout = _PACKAGE.parent
    return checkout / "conf" if (checkout / "setup.py").exists() else _PACKAGE / "conf"


def find_conf(path: str) -> str:
    """Return the path; if it starts with conf/ and does not exist, the package's file of this name if any."""
    name = Path(path)
    if name.is_absolute() or name.parts[:1] != ("conf",) or name.exists():
        return path
    packaged = conf_folder().joinpath(*name.parts[1:])
    return str(packaged) if packaged.exists() else path


def load_profile(path: str) -> Profile:
    """Load a profile with absolute paths; raise UserError if it is invalid.

    Relative paths start from the project's folder for a profile in PROJECT/conf/profile/, else from the
    profile's own folder. Those of the package's profiles stay relative to the current folder.
    """
    profile = load_settings(path, Profile)
    file = Path(path).resolve()
    if conf_folder() in file.parents:
        return profile
    is_in_project = file.parent.parts[-2:] == ("conf", "profile")
    folder = file.parents[2] if is_in_project else file.parent
    resolved = _with_absolute_paths(profile, folder)
    if resolved != profile:
        logger.info("relative paths in %s start from %s", path, folder)
    return resolved


def _with_absolute_paths(profile: Profile, folder: Path) -> Profile:
    mlflow = {
        "tracking_uri": _sqlite(profile.mlflow.tracking_uri, folder),
        "registry_uri": _sqlite(profile.mlflow.registry_uri, folder),
        "artifact_location": _path(profile.mlflow.artifact_location, folder),
    }
    alerts = {"prometheus_dir": _path(profile.alerts.prometheus_dir, folder)}
    return profile.model_copy(
        update={
            "work_dir": _path(profile.work_dir, folder),
            "mlflow": profile.mlflow.model_copy(update=mlflow),
            "alerts": profile.alerts.model_copy(update=alerts),
        }
    )


def _path(path: str | None, folder: Path) -> str | None:
    """Make a path absolute that is neither a URL nor in a home folder."""
    if path is None or ":" in path or path.startswith("~"):
        return path
    return str(folder / path)


def _sqlite(uri: str | None, folder: Path) -> str | None:
    """Make the path of a SQLite database absolute."""
    if uri is None or not uri.startswith(_SQLITE):
        return uri
    return f"{_SQLITE}{folder / uri.removeprefix(_SQLITE)}"
