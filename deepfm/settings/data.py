"""Settings of a data YAML: the columns of a click log and their conversion to features."""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from deepfm.field_name import field_name_of
from deepfm.fields import ColumnName, Field, FieldName, FieldSet
from deepfm.kinds import KINDS
from deepfm.settings.field_groups import FieldGroup
from deepfm.settings.formats import LabelText, Pattern, Strptime, TimeFormat, TimeZone
from deepfm.settings.loader import Settings
from deepfm.settings.text_dialect import Char, Delimiter, Encoding

Fraction = Annotated[float, Setting(ge=0, le=1)]
#: Kinds of fields that have ids and can be crossed.
_CROSSED_KINDS = tuple(name for name, kind in KINDS.items() if kind.can_be_crossed)


class SplitFiles(Settings):
    """Names of the files of each part, with * and ?."""

    train: str
    valid: str
    test: str


class Shares(Settings):
    """Shares of the rows for validation and test; the rest is for training."""

    valid: float = Setting(default=0.1, gt=0, lt=1)
    test: float = Setting(default=0.1, gt=0, lt=1)


class DataSettings(Settings):
    """conf/data/*.yaml: the columns of a click log and their conversion to features."""

    format: Literal["delimited", "json", "parquet", "orc"]  # json: an object per line
    delimiter: Delimiter = "\t"
    quote: Char | None = None  # None: quotes are ordinary characters
    escape: Char | None = None  # before a quote within quotes, as Spark writes it; None: it is doubled
    multiline: bool = False  # whether a value in quotes may contain line breaks; a file is then one task
    skip_initial_space: bool = False  # whether blanks after a delimiter are not a part of the value
    comment: str | None = Setting(default=None, min_length=1)  # lines that begin with it are skipped
    encoding: Encoding = "utf-8"
    header: bool = False  # delimited only: the first line of every file names its columns
    columns: tuple[ColumnName, ...] = ()  # column names of files without header, in order
    label: ColumnName = "label"
    weight: ColumnName | None = None  # a column of numbers from 0: how many times each row counts
    # Columns of an aggregated log: a row is `impressions`, of which `clicks` were clicked, and has no label.
    impressions: ColumnName | None = None
    clicks: ColumnName | None = None
    # Labels besides 0/1, 0.0/1.0 and true/false, such as positive: ["1", t] and negative: ["-1", f].
    positive: tuple[LabelText, ...] = ()
    negative: tuple[LabelText, ...] = ()
    missing_label: Literal["reject", "negative"] = "reject"  # negative: no label means no click
    # The day: a column, the names of folders or of files, or time_column if nothing else has it.
    day_column: ColumnName | None = None
    day_format: Strptime | None = None  # of day_column; None: YYYY-MM-DD, YYYYMMDD or YYYY/MM/DD, or a time
    # Path of a day below the log, such as "year=%Y/month=%m/day=%d"; None: the usual forms are recognized.
    day_folder: Strptime | None = None
    # Pattern of a file's name whose group is the day, or its number: day_(\d+). Number 0 is first_day.
    day_from_name: Pattern | None = None
    first_day: date = date(2000, 1, 1)
    # Files of a published split: patterns of names, such as {train: train*.csv, valid: …, test: …}.
    split_files: SplitFiles | None = None
    # Column from which fields of kind time derive, and the day if nothing else has it.
    time_column: ColumnName | None = None
    time_format: TimeFormat | None = None  # iso, unix_s, unix_ms, unix_us, unix_ns, or as "%Y%m%d%H%M"
    time_zone: TimeZone = "UTC"  # of times without an offset, and of days and hours
    fields: tuple[FieldGroup, ...] = Setting(min_length=1)
    cross: tuple[Annotated[tuple[FieldName, ...], Setting(min_length=2)], ...] = ()  # names of the parts
    cross_buckets: int = Setting(default=100_000, ge=1, lt=2**31)  # number of ids of each crossed field
    # Texts of a field or a time that mean missing, besides the empty text, such as ["\\N", "NULL", "-"].
    null_values: tuple[str, ...] = ()
    # A cell that is not a value of its field's kind: reject the row, or take the value as missing.
    on_bad_value: Literal["reject", "missing"] = "reject"
    # Files may have different types of a column, and may lack it; its values are missing there.
    allow_schema_change: bool = True
    max_bad_fraction: Fraction = 0.01  # maximum share of rejected rows; above it nothing is published
    max_bad_labels: Fraction = 0.001  # the same for rows rejected for their label
    hash_split: Shares = Shares()  # for a log without days: split by a stable hash of the row
    time_split: Shares | None = None  # split by time_column instead of days: the latest rows are for test
    # Share of the training rows without a click that is kept, by a stable hash; scores are corrected for it.
    keep_negatives: float = Setting(default=1.0, gt=0, le=1)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Columns that are read for training and evaluation, but not of impressions to score."""
        names = (self.impressions, self.clicks) if self.impressions else (self.label, self.weight)
        return tuple(name for name in names if name is not None)

    @property
    def weight_column(self) -> str | None:
        """Column of the dataset with the weight of each row; None: every row counts once."""
        column = self.weight or self.impressions
        return None if column is None else field_name_of(column)

    @property
    def field_set(self) -> FieldSet:
        """Fields in the order of the file, followed by the crossed fields."""
        crossed = [
            Field(name="_x_".join(parts), kind="cross", parts=parts, buckets=self.cross_buckets)
            for parts in self.cross
        ]
        time_settings = {
            "source": self.time_column or "",
            "time_format": self.time_format,
            "time_zone": self.time_zone,
        }
        fields = [field for group in self.fields for field in group.field_list]
        fields = [f.model_copy(update=time_settings) if f.kind == "time" else f for f in fields]
        return FieldSet(fields + crossed)

    @property
    def label_name(self) -> str:
        """Name of the label in the dataset."""
        return field_name_of(self.label)

    @model_validator(mode="after")
    def _check_consistency(self):
        errors = self._cross_errors()
        errors += self._time_errors()
        errors += self._list_errors() + self._text_errors() + self._label_errors() + self._day_errors()
        errors += self._weight_errors()
        raw_names = self.field_set.raw.names
        # Duplicate crosses are reported above; different crosses may still have the same name.
        names = [*raw_names, *("_x_".join(parts) for parts in dict.fromkeys(self.cross))]
        names += [slot for field in self.field_set.raw if field.is_list for slot in field.slots]
        # Spark column names are case-insensitive.
        lower = [name.lower() for name in names]
        repeated = sorted({name for name in names if lower.count(name.lower()) > 1})
        if repeated:
            errors.append(f"fields: expected unique names, found duplicates: {', '.join(repeated)}")
        if not self.label_name:
            errors.append(f"label: expected a name with a letter or digit, found {self.label!r}")
        if self.format == "delimited" and not self.header:
            special = (*self.label_columns, self.day_column, self.time_column)
            used = {*self.field_set.columns, *(name for name in special if name is not None)}
            if not self.columns:
                errors.append("columns: a file without header needs its column names, in order")
            elif used - set(self.columns):
                absent = ", ".join(sorted(used - set(self.columns)))
                errors.append(f"columns: missing, but used below: {absent}")
        elif self.columns:
            errors.append("columns: only for delimited files with header: false")
        if len(set(self.columns)) < len(self.columns):
            repeated = sorted({name for name in self.columns if self.columns.count(name) > 1})
            errors.append(f"columns: duplicated: {', '.join(repeated)}")
        if self.label in self.field_set.columns or self.label_name.lower() in lower:
            errors.append(f"the label {self.label} cannot also be a field")
        for key, shares in (("hash_split", self.hash_split), ("time_split", self.time_split)):
            if shares and shares.valid + shares.test >= 1:
                errors.append(f"{key}: valid + test must leave rows for training (below 1)")
        if errors:
            raise ValueError("; ".join(errors))
        return self

    def _text_errors(self) -> list[str]:
        if self.quote is None and (self.escape is not None or self.multiline):
            return ["escape and multiline require quote"]
        texts = {"quote": self.quote, "escape": self.escape}
        return [
            f"{key}: cannot be a part of the delimiter"
            for key, text in texts.items()
            if text and text in self.delimiter
        ]

    def _label_errors(self) -> list[str]:
        if bool(self.positive) != bool(self.negative):
            return ["positive and negative must be set together"]
        both = sorted(set(self.positive) & set(self.negative))
        return [f"positive and negative: both contain {', '.join(both)}"] if both else []

    def _day_errors(self) -> list[str]:
        sources = {
            "day_column": self.day_column,
            "day_folder": self.day_folder,
            "day_from_name": self.day_from_name,
            "split_files": self.split_files,
        }
        given = [key for key, source in sources.items() if source]
        if len(given) > 1:
            return [f"expected one of {' and '.join(given)}; remove the others"]
        if self.day_format and not self.day_column:
            return ["day_format: requires day_column"]
        if self.split_files and self.time_split:
            return ["split_files and time_split: remove one of the two"]
        return []

    def _time_errors(self) -> list[str]:
        if (self.time_column is None) != (self.time_format is None):
            return ["time_column and time_format must be set together"]
        if self.time_column is None and any(group.kind == "time" for group in self.fields):
            return ["time_column: is missing, but required by fields of kind time"]
        if self.time_split and (self.time_column is None or self.day_column is not None):
            return ["time_split: requires time_column and no day_column"]
        if self.label == self.time_column:
            return [f"the label {self.label} cannot also be the time column"]
        return []

    def _weight_errors(self) -> list[str]:
        errors = []
        if self.weight and (self.impressions or self.clicks):
            errors.append("weight: cannot be combined with impressions and clicks")
        if (self.impressions is None) != (self.clicks is None):
            errors.append("impressions and clicks must be set together")
        columns = {"weight": self.weight, "impressions": self.impressions, "clicks": self.clicks}
        used = {"label": self.label, "day_column": self.day_column, "time_column": self.time_column}
        used |= {f"field {name}": name for name in (*self.field_set.raw.names, *self.field_set.columns)}
        for key, name in columns.items():
            clash = [
                other for other, column in used.items() if name and column and column.lower() == name.lower()
            ]
            if clash:
                errors.append(f"{key}: the column {name} is already used as {clash[0]}")
            used[key] = name
        return errors

    def _list_errors(self) -> list[str]:
        separators = {f.name: f.separator for f in self.field_set.raw if f.is_list}
        if self.format != "delimited":
            return []
        errors = []
        if "" in separators.values():
            errors.append(
                "separator: is missing; set it to the text between the values of a list, such as a space"
            )
        has_delimiter = any(self.delimiter in separator for separator in separators.values())
        if has_delimiter and self.quote is None:
            errors.append(f"separator: cannot contain the delimiter {self.delimiter!r} unless quote is set")
        return errors

    def _cross_errors(self) -> list[str]:
        kinds = {field.name: field.kind for field in self.field_set.raw}
        errors = []
        for parts in self.cross:
            where = f"cross [{', '.join(parts)}]"
            if len(set(parts)) < len(parts):
                errors.append(f"{where}: a field cannot be crossed with itself")
            for name in dict.fromkeys(parts):
                if kinds.get(name, "none") not in _CROSSED_KINDS:
                    actual = f"a {kinds[name]}" if name in kinds else "not a field"
                    expected = " or ".join(_CROSSED_KINDS)
                    errors.append(f"{where}: {name} must be a field of kind {expected}, but is {actual}")
        # Crosses of the same fields in another order are the same feature.
        crossed = [frozenset(parts) for parts in self.cross]
        repeated = {parts for parts in crossed if crossed.count(parts) > 1}
        errors += sorted(f"cross [{', '.join(sorted(parts))}]: is duplicated" for parts in repeated)
        return errors
