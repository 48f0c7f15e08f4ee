"""Format of a log's rows, and the reasons for which a row is rejected."""

from dataclasses import dataclass

from deepfm.fields import FieldSet, TimeFormat

#: Why a row was rejected; the index is the reason code, 0 means the row is good.
REASONS = (
    "good",
    "not_utf8",  # the text is not UTF-8
    "wrong_number_of_columns",
    "label_not_0_or_1",
    "count_not_an_integer",
    "day_not_a_date",  # the day column is not YYYY-MM-DD
    "value_not_a_number",  # not a finite decimal number
    "time_not_a_time",  # not in time_format; or missing although the day derives from it
)
NOT_UTF8, WRONG_WIDTH, BAD_LABEL, BAD_COUNT, BAD_DAY, BAD_VALUE, BAD_TIME = range(1, len(REASONS))


@dataclass(frozen=True)
class RowFormat:
    """Format of the rows of a log, as plain values that are sent to executors."""

    columns: tuple[str, ...]  # of the file, in order
    fields: FieldSet  # of the model; crossed fields have no column
    delimiter: str | None  # None: rows come as columns already (Parquet)
    quote: str | None = None
    header_line: str | None = None  # a line equal to this is a file header, not a row
    label: str | None = None  # None: impressions to score have no label
    day_column: str | None = None  # None: the day comes from the folder or the time, or there is none
    time_column: str | None = None  # column from which the day derives, if any
    time_format: TimeFormat | None = None  # of the time column
    null_values: tuple[str, ...] = ()  # texts of a field or a time that mean missing
    keep: tuple[str, ...] = ()  # columns passed through, as text or as columns keep:NAME of the raw rows

    @property
    def has_days(self) -> bool:
        """Whether each row contains its day."""
        return self.day_column is not None or self.time_column is not None

    @property
    def columns_to_read(self) -> set[str]:
        """Names of the columns that are read."""
        return {*self.columns_to_parse, *self.keep}

    @property
    def columns_to_parse(self) -> set[str]:
        """Names of the columns that are read as text and parsed, whether kept or not."""
        special = (self.label, self.day_column, self.time_column)
        return {*self.fields.columns, *(name for name in special if name is not None)}
