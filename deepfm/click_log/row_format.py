"""How a row of a log is read, and the reasons for which one is set aside."""

from dataclasses import dataclass

from deepfm.fields import FieldSet, TimeFormat

#: Why a row was set aside; the index is its code, 0 says the row is good.
REASONS = (
    "good",
    "not_utf8",  # the text is not UTF-8
    "wrong_number_of_columns",
    "label_not_0_or_1",
    "count_not_an_integer",
    "day_not_a_date",  # the day column is not YYYY-MM-DD
    "value_not_a_number",  # no finite decimal number
    "time_not_a_time",  # not as time_format says; or missing where the day comes from it
)
NOT_UTF8, WRONG_WIDTH, BAD_LABEL, BAD_COUNT, BAD_DAY, BAD_VALUE, BAD_TIME = range(1, len(REASONS))


@dataclass(frozen=True)
class RowFormat:
    """How a row of one located log is read; plain values that travel to executors."""

    columns: tuple[str, ...]  # of the file, in order
    fields: FieldSet  # of the model; the crossed ones are no columns
    delimiter: str | None  # None: the rows come as columns already (Parquet)
    quote: str | None = None
    header_line: str | None = None  # a line like this one is the header of a file and no row
    label: str | None = None  # None: impressions to be scored come without
    day_column: str | None = None  # None: the day comes with the row's folder or time, or there is none
    time_column: str | None = None  # of which the day is made; None: it is not made of a time
    time_format: TimeFormat | None = None  # of the time column
    keep: tuple[str, ...] = ()  # columns passed through as text

    @property
    def has_days(self) -> bool:
        """Whether rows say their day themselves."""
        return self.day_column is not None or self.time_column is not None

    @property
    def wanted(self) -> set[str]:
        """The columns that are read."""
        named = {self.label, self.day_column, self.time_column} - {None}
        return {*self.fields.columns, *self.keep, *named}
