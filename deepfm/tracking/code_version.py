"""Commit of the code that a job runs."""

import logging
import subprocess
from functools import cache
from pathlib import Path

import deepfm

_TIMEOUT_S = 10

logger = logging.getLogger(__name__)


def code_version() -> str:
    """Return this package's commit, with "-dirty" if files differ from it.

    "unknown" outside a checkout, with the reason in the log. Without git, the commit is read from .git, and
    whether files differ is not known: "-unchecked".
    """
    return _code_version(Path(deepfm.__file__).resolve().parent)


@cache
def _code_version(package: Path) -> str:
    root = package.parent
    if not (root / ".git").exists():
        # Installed, maybe below the checkout of another project, it has no commit.
        logger.info("git_commit is unknown: %s is not a git checkout", root)
        return "unknown"
    try:
        return _ask_git(root)
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", "") or str(error)
    try:
        commit = _read_commit(root)
    except (OSError, ValueError, StopIteration) as error:
        logger.warning("git_commit is unknown: %s cannot be read: %s", root / ".git", error)
        return "unknown"
    logger.warning("git_commit: whether files differ from it is unknown: %s", " ".join(reason.split()))
    return f"{commit}-unchecked"


def _ask_git(root: Path) -> str:
    # A job often runs as another user than the owner of the checkout. Git then refuses to answer, because the
    # configuration of a checkout can start programs; describe would start only this one.
    trust = ["-c", f"safe.directory={root}", "-c", "core.fsmonitor=false"]
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]  # the commit, not a tag
    command = ["git", "-C", str(root), *trust, *describe]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
    return done.stdout.strip()


def _read_commit(root: Path) -> str:
    """Read the commit from git's files: .git/HEAD, a reference, or the packed references."""
    git = root / ".git"
    if git.is_file():  # of a linked working tree
        git = (root / git.read_text().removeprefix("gitdir:").strip()).resolve()
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head
    common = git / "commondir"
    shared = (git / common.read_text().strip()).resolve() if common.exists() else git
    name = head.removeprefix("ref: ")
    if (shared / name).exists():
        return (shared / name).read_text().strip()
    lines = (shared / "packed-refs").read_text().splitlines()
    return next(line.split()[0] for line in lines if line.endswith(f" {name}"))
