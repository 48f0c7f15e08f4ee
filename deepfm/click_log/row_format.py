"""Format of a log's rows, and the reasons for which a row is rejected."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from deepfm.fields import FieldSet, TimeFormat

#: Why a row was rejected; the index is the reason code, 0 means the row is good.
REASONS = (
    "good",
    "not_utf8",  # the text is not in the encoding of the log
    "wrong_number_of_columns",
    "label_not_0_or_1",
    "count_not_an_integer",
    "day_not_a_date",  # the day column is not a day in day_format
    "value_not_a_number",  # not a finite decimal number
    "time_not_a_time",  # not in time_format; or missing although the day derives from it
    "weight_not_a_number",  # missing, negative, not finite
    "clicks_not_within_impressions",  # not integers 0 <= clicks <= impressions, 1 <= impressions
    "not_a_json_object",
    "value_without_text",  # JSON: an object, or a list where a single value is expected
)
NOT_UTF8, WRONG_WIDTH, BAD_LABEL, BAD_COUNT, BAD_DAY, BAD_VALUE, BAD_TIME = range(1, 8)
BAD_WEIGHT, BAD_CLICKS, NOT_JSON, NO_TEXT = range(8, len(REASONS))


@dataclass(frozen=True)
class Header:
    """First line of a file, without its line end, and the columns that it names."""

    line: bytes
    columns: tuple[str, ...]


@dataclass(frozen=True)
class RowFormat:
    """Format of the rows of a log, as plain values that are sent to executors."""

    columns: tuple[str, ...]  # of the file, in order; of columnar files: those that are read
    fields: FieldSet
    # Text between two columns. None: rows come as columns already (Parquet, ORC), or as JSON objects.
    delimiter: str | None
    quote: str | None = None
    escape: str | None = None  # before a quote within quotes
    multiline: bool = False
    skip_initial_space: bool = False
    comment: str | None = None  # lines that begin with it are no rows
    encoding: str = "utf-8"
    is_json: bool = False
    header_line: str | None = None  # a line equal to this is a file header, not a row
    other_headers: Mapping[str, Header] = field(default_factory=dict)  # files whose header differs, by URL
    partitions: tuple[str, ...] = ()  # columns that are folders KEY=VALUE
    label: str | None = None  # None: impressions to score have no label
    positive: tuple[str, ...] = ()  # labels of clicks, and of no clicks; empty: 0, 1, true, false
    negative: tuple[str, ...] = ()
    missing_is_negative: bool = False
    day_column: str | None = None  # None: the day comes from the folder or the time, or there is none
    day_format: str | None = None
    time_column: str | None = None  # column from which the day derives, if any
    time_format: TimeFormat | None = None  # of the time column
    time_zone: str = "UTC"
    null_values: tuple[str, ...] = ()  # texts of a field or a time that mean missing
    bad_is_missing: bool = False  # whether a text that is not a value of its kind is missing
    keep: tuple[str, ...] = ()  # columns passed through, as text or as columns keep:NAME of the raw rows
    weight: str | None = None  # None: every row counts once, or the log is aggregated
    impressions: str | None = None  # of an aggregated log, which has clicks instead of a label
    clicks: str | None = None

    @property
    def has_days(self) -> bool:
        """Whether each row contains its day."""
        return self.day_column is not None or self.time_column is not None

    @property
    def is_text(self) -> bool:
        """Whether the files are lines of text."""
        return self.delimiter is not None or self.is_json

    @property
    def time_columns(self) -> set[str]:
        """Columns that contain times."""
        sources = {one.column for one in self.fields.raw if one.kind == "time"}
        days = self.day_column if self.day_format is None else None
        return sources | {name for name in (self.time_column, days) if name is not None}

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Names of the columns of labels and weights, none for impressions to score."""
        names = (self.label, self.weight, self.impressions, self.clicks)
        return tuple(name for name in names if name is not None)

    @property
    def is_weighted(self) -> bool:
        """Whether the rows have weights."""
        return self.weight is not None or self.impressions is not None

    @property
    def columns_to_read(self) -> set[str]:
        """Names of the columns that are read, with those of folders."""
        return {*self.columns_to_parse, *self.keep}

    @property
    def columns_to_parse(self) -> set[str]:
        """Names of the columns that are read as text and parsed, whether kept or not."""
        special = (*self.label_columns, self.day_column, self.time_column)
        return {*self.fields.columns, *(name for name in special if name is not None)}

    @property
    def file_columns(self) -> set[str]:
        """Names of the columns that are read from the files."""
        return self.columns_to_read - set(self.partitions)
