"""Checks of the host: its name, the user, the limit of open files, and temporary folders."""

from pathlib import Path

from deepfm.doctor.finding import Finding, green, red, yellow
from deepfm.environment_faults import nearest_existing
from deepfm.spark.local_machine import MIN_OPEN_FILES, host_name_error, is_noexec, user_name


def check_host_name(master: str) -> Finding:
    """Check that the host name resolves: executors, and Horovod's workers, look it up."""
    what, error = "host name", host_name_error()
    if error is None:
        return green(what, "resolves")
    remedy = 'echo "127.0.0.1 $(hostname)" >> /etc/hosts, or --num-workers 0'
    if master.startswith("local"):
        return yellow(what, f"{error}; workers start only if the job may rename its host (as root)", remedy)
    return red(what, f"{error}, and executors must reach it", "add it to /etc/hosts or the DNS")


def check_user(user_id: int) -> Finding:
    """Check that the user id has a name, which Spark, Hadoop and MLflow look up."""
    what, name = "user", user_name(user_id)
    if name:
        return green(what, f"{name} ({user_id})")
    problem = f"user id {user_id} has no name; the jobs use user{user_id}, and HOME is the temporary folder"
    return yellow(what, problem, "add the user to /etc/passwd, or run as another user")


def check_open_files(hard_limit: int) -> Finding:
    """Check the hard limit of open files; the jobs raise the soft limit themselves. -1: unlimited."""
    what = "open files"
    if hard_limit < 0 or hard_limit >= MIN_OPEN_FILES:
        return green(what, "unlimited" if hard_limit < 0 else f"limit {hard_limit}")
    remedy = f"ulimit -n {MIN_OPEN_FILES} (LimitNOFILE of a systemd service, nofile of a container)"
    return red(what, f"limit {hard_limit}, expected at least {MIN_OPEN_FILES}", remedy)


def check_executable(what: str, folder: Path) -> Finding:
    """Check that a temporary folder is not mounted noexec: Java loads native libraries from it."""
    existing = nearest_existing(folder)
    if is_noexec(existing):
        problem = f"{existing} is mounted noexec; local jobs load native libraries from another folder"
        return yellow(what, problem, f"mount -o remount,exec {existing}, or set java.io.tmpdir and TMPDIR")
    return green(what, f"{folder} can execute files")
