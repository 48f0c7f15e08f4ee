"""Published days: which stand where, and what each says of itself."""

from collections.abc import Sequence
from dataclasses import dataclass

from deepfm import storage
from deepfm.click_log.parse import is_day
from deepfm.click_log.split import days_between
from deepfm.errors import UserError

#: Within a day, of a name that Spark readers pass over: its PublishedDay, so that it becomes visible and is
#: replaced together with its rows; how it drifted, for machines and for people.
PROVENANCE, DRIFT, REPORT = "_provenance.json", "_drift.json", "_report.html"
#: Columns of a published day beside the kept ones; its readers see ds as well.
_OWN_COLUMNS = ("probability", "model_name", "model_version", "ds")


@dataclass(frozen=True)
class PublishedDay:
    """What stands in OUTPUT/ds=DATE, and where it came from."""

    rows_scored: int
    rows_bad: int
    name: str
    version: str
    mean_probability: float
    model_digest: str = ""  # of the version's files
    input_url: str = ""
    input_digest: str = ""  # of the rows that were read, in whatever order
    code_version: str = ""
    scored_at: str = ""
    num_compared: int = 0  # rows that were scored by the path of training too, with the same result
    warnings: tuple[str, ...] = ()  # how the night has drifted
    kept: tuple[str, ...] | None = None  # columns of the input; None: published before this was told

    @property
    def rows_in(self) -> int:
        return self.rows_scored + self.rows_bad


def day_url(output_url: str, day: str) -> str:
    """Where a day is published; UserError for what is no day, so no date can name another folder."""
    if not is_day(day):
        raise UserError(f"--date: expected a day YYYY-MM-DD, found {day}")
    return f"{output_url}/ds={day}"


def days_of(date: str | None, first: str | None, last: str | None) -> list[str]:
    """One day, or all from the first to the last; UserError where they are no such days."""
    if (date is None) == (first is None and last is None):
        raise UserError("expected --date D, or --from D1 and --to D2; give one of the two")
    if date is not None:
        first = last = date
    for flag, day in (("--from", first), ("--to", last)):
        if day is None or not is_day(day):
            flag = "--date" if date is not None else flag
            raise UserError(f"{flag}: expected a day YYYY-MM-DD, found {day}")
    if first > last:
        raise UserError(f"--from {first} --to {last}: expected the earlier day first")
    return days_between(first, last)


def require_keepable(keep: Sequence[str], key: Sequence[str] = ()) -> None:
    """UserError where kept columns would meet each other or the day's own, or a key is none of them.

    Spark ignores case.
    """
    absent = [name for name in key if name not in keep]
    if absent:
        raise UserError(f"--key: {', '.join(absent)} must be among --keep, to be published and checked")
    names = [name.lower() for name in (*_OWN_COLUMNS, *keep)]
    repeated = [name for name in keep if names.count(name.lower()) > 1]
    if repeated:
        raise UserError(
            f"--keep: {', '.join(repeated)} would be there twice; a published day has "
            f"{', '.join(_OWN_COLUMNS)} of its own: leave them out and name each other column once"
        )


def published_day(output_url: str, day: str) -> PublishedDay | None:
    """The day as it was published; None where it is not, UserError where something else stands there."""
    where = day_url(output_url, day)
    if not storage.exists(where):
        return None
    try:
        document = storage.read_json(f"{where}/{PROVENANCE}")
        kept = document.get("kept")
        lists = {
            "warnings": tuple(document.get("warnings", ())),
            "kept": None if kept is None else tuple(kept),
        }
        return PublishedDay(**{**document, **lists})
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{where}: expected a day that score.py published, found {error}; --overwrite replaces it"
        ) from error


def require_kept(output_url: str, day: str, found: PublishedDay, keep: Sequence[str]) -> None:
    """UserError where a published day that is left as it is lacks columns that are asked for now."""
    absent = [name for name in keep if found.kept is not None and name not in found.kept]
    if absent:
        raise UserError(
            f"--keep: expected {', '.join(absent)} in {day_url(output_url, day)}, found a day published "
            "without; --overwrite scores it again"
        )


def days_before(output_url: str, day: str, num_days: int) -> list[PublishedDay]:
    """The last published days before one, the oldest first."""
    if not storage.exists(output_url):
        return []
    names = [child["name"].removeprefix("ds=") for child in storage.children(output_url)]
    days = [name for name in names if is_day(name) and name < day]
    found = []
    for name in sorted(days)[-num_days:]:
        try:
            found.append(published_day(output_url, name))
        except UserError:
            continue  # something else stands there: it says nothing of what is usual
    return found
