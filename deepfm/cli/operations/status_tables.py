"""Tables that `python -m deepfm status` prints to stderr."""

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deepfm.monitoring.day_status import DaysStatus, DayStatus
from deepfm.monitoring.model_status import ModelStatus, VersionStatus

_MAX_LISTED_DAYS = 10
_DAY_COLUMNS = ("day", "version", "rows", "mean p", "PSI", "warnings", "CTR", "calibration", "AUC", "logloss")


def print_status(model: ModelStatus, days: DaysStatus) -> None:
    """Print the versions of a model, its last days, and the days that are missing."""
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 120)
    console.print(_versions_table(model))
    if model.champion is None:
        console.print(f"{model.name} has no champion: run promote.py --name {model.name}", markup=False)
    if not days.days and not days.missing:
        console.print("no day has been scored")
        return
    console.print(_days_table(model.name, days))
    for day in days.days:
        for warning in day.warnings:
            console.print(f"{day.day}: {warning}", style="yellow", markup=False, soft_wrap=True)
    _print_days(console, "not scored", days.missing)
    _print_days(console, "not evaluated on labels", days.without_labels)


def _print_days(console: Console, text: str, days: tuple[str, ...]) -> None:
    if not days:
        return
    num_more = len(days) - _MAX_LISTED_DAYS
    more = f" and {num_more} earlier" if num_more > 0 else ""
    listed = ", ".join(days[-_MAX_LISTED_DAYS:])
    console.print(f"{text}: {listed}{more}", style="yellow", soft_wrap=True)


def _versions_table(model: ModelStatus) -> Table:
    table = Table("", "version", "champion since", "age", "trained on", "test AUC", "test logloss", "gate")
    rows = (("champion", model.champion), ("previous", model.previous), ("candidate", model.candidate))
    for alias, version in rows:
        if version is not None:
            since = model.champion_since if alias == "champion" else None
            table.add_row(alias, *_version_cells(version, since))
    return table


def _version_cells(version: VersionStatus, since: str | None) -> tuple[str | Text, ...]:
    days = " to ".join(dict.fromkeys(version.train_days)) if version.train_days else "-"
    metrics = (_number(version.test_metrics.get(key)) for key in ("auc", "logloss"))
    gate = ": ".join(text for text in (version.gate, version.gate_reasons) if text)
    return (
        version.version,
        since or "-",
        f"{version.age_days:g} days",
        days,
        *metrics,
        Text(gate or "not compared"),
    )


def _days_table(name: str, days: DaysStatus) -> Table:
    table = Table(*_DAY_COLUMNS)
    by_day = {status.day: status for status in days.days}
    for day in days.shown:
        if status := by_day.get(day):
            table.add_row(*_day_cells(name, status))
        else:
            table.add_row(day, "[red]not scored[/]")
    return table


def _day_cells(name: str, status: DayStatus) -> tuple[str | Text, ...]:
    version = status.version or "-"
    return (
        status.day,
        Text(version if status.name == name else f"{status.name}/{version}"),
        "-" if status.rows_scored is None else f"{status.rows_scored:,}",
        _number(status.mean_probability),
        _number(status.psi, 3),
        "-" if status.num_warnings is None else _highlight(status.num_warnings),
        _number(status.ctr),
        _number(status.calibration, 3),
        _number(status.auc),
        _number(status.logloss),
    )


def _highlight(num_warnings: int) -> str:
    return f"[yellow]{num_warnings}[/]" if num_warnings else "0"


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
