"""Published days of an output folder, their provenance, and checks of dates and columns."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from deepfm import storage
from deepfm.click_log.labels_and_days import is_day
from deepfm.click_log.split import days_between
from deepfm.errors import UserError

#: Files in a day's folder, with names that Spark readers skip. They become visible and are replaced together
#: with the day's rows: the PublishedDay, the drift as JSON, and the drift as a page.
PROVENANCE, DRIFT, REPORT = "_provenance.json", "_drift.json", "_report.html"
#: In an object store, which has no rename: file in ds=DATE that names the folder of the published version.
#: It is written last, in one request, so a reader sees the old or the new version.
POINTER = "_version.json"
#: Columns of a published day in addition to the kept ones; readers see ds as well.
_RESERVED_COLUMNS = ("probability", "model_name", "model_version", "ds")


@dataclass(frozen=True)
class Provenance:
    """Model, input and code that a day is scored with, known before its rows are written."""

    name: str
    version: str
    model_digest: str = ""  # of the version's files
    input_url: str = ""
    code_version: str = ""
    num_compared: int = 0  # rows that the training code also scored, with the same result
    kept: tuple[str, ...] | None = None  # columns of the input; None: published before this was recorded


@dataclass(frozen=True)
class PublishedDay:
    """Provenance and row counts of the published day OUTPUT/ds=DATE."""

    provenance: Provenance
    rows_scored: int
    rows_bad: int
    mean_probability: float
    input_digest: str = ""  # of the rows that were read, independent of their order
    scored_at: str = ""
    warnings: tuple[str, ...] = ()  # limits of drift that the day exceeds

    @property
    def rows_in(self) -> int:
        return self.rows_scored + self.rows_bad

    def to_document(self) -> dict:
        """Return one flat dict, the content of `_provenance.json`."""
        document = asdict(self)
        return {**document.pop("provenance"), **document}

    @classmethod
    def from_document(cls, document: dict) -> "PublishedDay":
        """Read `to_document`'s dict; raise TypeError for an unknown or missing key."""
        names = {field.name for field in fields(Provenance)}
        kept = document.get("kept")
        provenance = {key: value for key, value in document.items() if key in names}
        counts = {key: value for key, value in document.items() if key not in names}
        counts["warnings"] = tuple(document.get("warnings", ()))
        return cls(Provenance(**{**provenance, "kept": None if kept is None else tuple(kept)}), **counts)


def day_url(output_url: str, day: str) -> str:
    """Return the URL of a published day.

    Raise UserError for a malformed day, so that no date can name another folder.
    """
    if not is_day(day):
        raise UserError(f"--date: expected a day YYYY-MM-DD, found {day}")
    return f"{output_url}/ds={day}"


def published_url(output_url: str, day: str) -> str:
    """Return the folder with the files of a published day: ds=DATE, or the one that its pointer names."""
    url = day_url(output_url, day)
    version = published_version(output_url, day)
    return url if version is None else f"{output_url}/{version}"


def published_version(output_url: str, day: str) -> str | None:
    """Return the path below the output of a day's published version in an object store; None: no pointer."""
    pointer = f"{day_url(output_url, day)}/{POINTER}"
    if not storage.is_object_store(output_url) or not storage.exists(pointer):
        return None
    version: str = storage.read_json(pointer)["folder"]
    return version


def write_pointer(output_url: str, day: str, version: str) -> None:
    """Publish a version of a day in an object store, given by its path below the output."""
    storage.write_json(f"{day_url(output_url, day)}/{POINTER}", {"folder": version})


def parse_days(date: str | None, first: str | None, last: str | None) -> list[str]:
    """Return one day, or all days from the first to the last; raise UserError for malformed days."""
    if (date is None) == (first is None and last is None):
        raise UserError("expected --date D, or --from D1 and --to D2; give one of the two")
    if date is not None:
        first = last = date
    for flag, day in (("--from", first), ("--to", last)):
        if day is None or not is_day(day):
            flag = "--date" if date is not None else flag
            raise UserError(f"{flag}: expected a day YYYY-MM-DD, found {day}")
    assert first is not None and last is not None
    if first > last:
        raise UserError(f"--from {first} --to {last}: expected the earlier day first")
    return days_between(first, last)


def require_keepable(keep: Sequence[str], key: Sequence[str] = ()) -> None:
    """Raise UserError if kept columns are repeated or reserved, or if a key is not a kept column.

    Names are compared as Spark does, ignoring case.
    """
    absent = [name for name in key if name not in keep]
    if absent:
        raise UserError(f"--key: {', '.join(absent)} must be among --keep, to be published and checked")
    names = [name.lower() for name in (*_RESERVED_COLUMNS, *keep)]
    repeated = [name for name in keep if names.count(name.lower()) > 1]
    if repeated:
        raise UserError(
            f"--keep: duplicate column {', '.join(repeated)}; a published day always has the columns "
            f"{', '.join(_RESERVED_COLUMNS)}: leave them out and name each other column once"
        )


def published_day(output_url: str, day: str) -> PublishedDay | None:
    """Return the published day, None if there is none; raise UserError if the folder holds something else."""
    url = day_url(output_url, day)
    if not storage.exists(url):
        return None
    try:
        provenance = f"{published_url(output_url, day)}/{PROVENANCE}"
        return PublishedDay.from_document(storage.read_json(provenance))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{url}: expected a day that score.py published, found {error}; score.py --overwrite replaces it"
        ) from error


def read_drift(published_url: str) -> dict[str, Any] | None:
    """Read the drift of a published day as written by score.py, e.g. "psi"; None if it has none."""
    url = f"{published_url}/{DRIFT}"
    return storage.read_json(url) if storage.exists(url) else None


def require_kept(output_url: str, day: str, published: PublishedDay, keep: Sequence[str]) -> None:
    """Raise UserError if a published day that is skipped lacks columns that are requested now."""
    kept = published.provenance.kept
    absent = [name for name in keep if kept is not None and name not in kept]
    if absent:
        raise UserError(
            f"--keep: expected {', '.join(absent)} in {day_url(output_url, day)}, found a day published "
            "without; score.py --overwrite scores it again"
        )


def days_before(output_url: str, day: str, num_days: int) -> list[PublishedDay]:
    """Return the last published days before `day`, oldest first."""
    if not storage.exists(output_url):
        return []
    names = [child["name"].removeprefix("ds=") for child in storage.children(output_url)]
    days = [name for name in names if is_day(name) and name < day]
    published = []
    for name in sorted(days)[-num_days:]:
        try:
            found = published_day(output_url, name)
        except UserError:
            continue  # not a published day: it does not count for the usual number of rows
        assert found is not None
        published.append(found)
    return published
