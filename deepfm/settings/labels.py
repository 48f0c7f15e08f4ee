"""Settings of a label log that has another format than the log of the model."""

from typing import Literal

from pydantic import Field as Setting
from pydantic import model_validator

from deepfm.field_name import ColumnName
from deepfm.settings.data import DataSettings, Fraction
from deepfm.settings.formats import LabelText, Strptime, TimeFormat, TimeZone
from deepfm.settings.loader import Settings
from deepfm.settings.text_dialect import Char, Delimiter, Encoding


class LabelSettings(Settings):
    """YAML of `evaluate.py --labels-data`: the format of a label log, with the keys of a data YAML."""

    format: Literal["delimited", "json", "parquet", "orc"]
    delimiter: Delimiter = "\t"
    quote: Char | None = None
    escape: Char | None = None
    multiline: bool = False
    skip_initial_space: bool = False
    comment: str | None = Setting(default=None, min_length=1)
    encoding: Encoding = "utf-8"
    header: bool = False
    columns: tuple[ColumnName, ...] = ()  # column names of files without header, in order
    label: ColumnName | None = "label"  # null: there is no such column, each row is a click
    positive: tuple[LabelText, ...] = ()
    negative: tuple[LabelText, ...] = ()
    day_column: ColumnName | None = None
    day_format: Strptime | None = None
    day_folder: Strptime | None = None
    time_column: ColumnName | None = None  # the day of a row, if nothing else has it
    time_format: TimeFormat | None = None
    time_zone: TimeZone = "UTC"
    null_values: tuple[str, ...] = ()
    max_bad_fraction: Fraction | None = None  # None: as in the data YAML of the model

    @model_validator(mode="after")
    def _check_consistency(self):
        errors = []
        has_header = self.format != "delimited" or self.header
        if not has_header and not self.columns:
            errors.append("columns: a file without header needs its column names, in order")
        if has_header and self.columns:
            errors.append("columns: only for delimited files with header: false")
        if (self.time_column is None) != (self.time_format is None):
            errors.append("time_column and time_format must be set together")
        if errors:
            raise ValueError("; ".join(errors))
        return self

    def merge_into(self, data: DataSettings) -> DataSettings:
        """Return the settings of the model's log with this format and without fields."""
        changes = {name: getattr(self, name) for name in LabelSettings.model_fields}
        if self.label is None:
            changes["label"] = data.label
        if self.max_bad_fraction is None:
            changes["max_bad_fraction"] = data.max_bad_fraction
        for name in ("day_from_name", "split_files", "weight", "impressions", "clicks"):
            changes[name] = None
        return data.model_copy(update={**changes, "fields": (), "cross": ()})
