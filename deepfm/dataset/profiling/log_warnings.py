"""Warnings about a whole log: rejected rows, days without clicks, implausible times."""

import math
import statistics
from collections.abc import Iterator, Sequence

from deepfm.click_log.split import SPLITS, DaySplit, HashSplit, Split
from deepfm.dataset.profiling.field_profile import ProfileWarning, WarningName
from deepfm.features.statistics import RowCounts
from deepfm.settings.data import DataSettings

#: Days outside these years come from a wrong time format.
_FIRST_YEAR, _LAST_YEAR = "1990", "2100"
#: Factor by which the CTR of a day may differ from the median of the days, and its standard errors.
_MAX_CTR_FACTOR, _MAX_STANDARD_ERRORS = 2.0, 6.0
#: A rejected row whose reason is in the value of one field could be kept.
_VALUE_REASONS = ("count_not_an_integer", "value_not_a_number", "time_not_a_time")


def log_warnings(
    counts: RowCounts, settings: DataSettings, split: Split, num_unparsed: dict[str, int]
) -> list[ProfileWarning]:
    """Return the warnings about a log and its split; `num_unparsed`: values taken as missing, by field."""
    found = [
        *_rejected(counts),
        *_without_clicks(counts),
        *_unusual_ctr(counts),
        *_implausible_days(counts),
        *_days_without_rows(counts, split),
        *_unasked_split(settings, split),
    ]
    warnings = [ProfileWarning(name=name, field="", text=text) for name, text in found]
    warnings += [
        ProfileWarning(
            name="unparsed",
            field=name,
            text=f"{name}: {num} values are not of its kind and were taken as missing, as on_bad_value says",
        )
        for name, num in num_unparsed.items()
    ]
    return warnings


Found = Iterator[tuple[WarningName, str]]


def _rejected(counts: RowCounts) -> Found:
    for reason, num in counts.bad_by_reason.items():
        clicks = counts.bad_clicks.get(reason, 0)
        text = (
            f"{num} of {counts.num_read} rows ({num / counts.num_read:.2%}) were rejected: {reason}; "
            f"{clicks} of them are clicks ({clicks / num:.1%})"
        )
        if reason in _VALUE_REASONS:
            text += "; on_bad_value: missing keeps such rows"
        yield "rejected", text


def _without_clicks(counts: RowCounts) -> Found:
    for part in SPLITS:
        if counts.num_rows(part) and not sum(clicks for _, clicks in counts.by_day[part].values()):
            yield (
                "no_clicks",
                f"the {part} rows have no click: AUC is unknown; check the label and its join",
            )
    quiet = sorted(day for day, (rows, clicks) in _rows_by_day(counts).items() if day and rows and not clicks)
    if quiet:
        yield "no_clicks", f"{len(quiet)} days have no click: {_listed(quiet)}"


def _unusual_ctr(counts: RowCounts) -> Found:
    days = {day: entry for day, entry in _rows_by_day(counts).items() if day}
    if len(days) < 3:
        return
    median = statistics.median(clicks / rows for rows, clicks in days.values())
    for day, (rows, clicks) in sorted(days.items()):
        ctr, error = clicks / rows, math.sqrt(median * (1 - median) / rows)
        is_far = max(ctr, median) > _MAX_CTR_FACTOR * min(ctr, median)
        if clicks and is_far and abs(ctr - median) > _MAX_STANDARD_ERRORS * error:
            yield ("unusual_ctr", f"the CTR of {day} is {ctr:.4f}, that of the other days about {median:.4f}")


def _implausible_days(counts: RowCounts) -> Found:
    days = [day for day in _rows_by_day(counts) if day and not _FIRST_YEAR <= day[:4] < _LAST_YEAR]
    if days:
        yield (
            "implausible_time",
            f"{len(days)} days are not between {_FIRST_YEAR} and {_LAST_YEAR}, such as {min(days)}; check "
            "time_format and day_format",
        )


def _days_without_rows(counts: RowCounts, split: Split) -> Found:
    if isinstance(split, DaySplit):
        with_rows = _rows_by_day(counts)
        empty = [day for day in split.days() if day not in with_rows]
        if empty:
            yield ("days_without_rows", f"{len(empty)} requested days have no rows: {_listed(empty)}")


def _unasked_split(settings: DataSettings, split: Split) -> Found:
    if isinstance(split, HashSplit) and "hash_split" not in settings.model_fields_set:
        yield (
            "random_split",
            "the log has no days, so its rows were split at random, and the test rows are not later than the "
            "training rows; set day_from_name, split_files or time_split, or hash_split to keep it",
        )


def _rows_by_day(counts: RowCounts) -> dict[str, tuple[int, int]]:
    """{day: (rows, clicks)} of the rows in a split; dropped negatives would raise the CTR."""
    days: dict[str, tuple[int, int]] = {}
    for part in (*SPLITS, "sampled_out"):
        for day, (rows, clicks) in counts.by_day.get(part, {}).items():
            before = days.get(day, (0, 0))
            days[day] = (before[0] + rows, before[1] + clicks)
    return days


def _listed(days: Sequence[str]) -> str:
    return ", ".join(days[:5]) + (" …" if len(days) > 5 else "")
