"""Settings of a data YAML: the columns of a click log and their conversion to features."""

from typing import Annotated, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from deepfm.fields import Field, FieldName, FieldSet, TimeFormat
from deepfm.kinds import KINDS
from deepfm.settings.field_groups import FieldGroup
from deepfm.settings.loader import Settings

Fraction = Annotated[float, Setting(ge=0, le=1)]
Char = Annotated[str, Setting(min_length=1, max_length=1)]
#: Kinds of fields that have ids and can be crossed.
_CROSSED_KINDS = tuple(name for name, kind in KINDS.items() if kind.can_be_crossed)


class Shares(Settings):
    """Shares of the rows for validation and test; the rest is for training."""

    valid: float = Setting(default=0.1, gt=0, lt=1)
    test: float = Setting(default=0.1, gt=0, lt=1)


class DataSettings(Settings):
    """conf/data/*.yaml: the columns of a click log and their conversion to features."""

    format: Literal["delimited", "parquet"]
    delimiter: Char = "\t"
    quote: Char | None = None  # None: quotes are ordinary characters
    header: bool = False  # delimited only: the first line of every file names its columns
    columns: tuple[str, ...] = ()  # column names of files without header, in order
    label: FieldName = "label"  # a column of 0 and 1
    weight: FieldName | None = None  # a column of numbers from 0: how many times each row counts
    # Columns of an aggregated log: a row is `impressions`, of which `clicks` were clicked, and has no label.
    impressions: FieldName | None = None
    clicks: FieldName | None = None
    day_column: str | None = None  # None: days are ds=YYYY-MM-DD folders, from time_column, or absent
    # Column from which fields of kind time derive, and the day if nothing else has it.
    time_column: str | None = None
    time_format: TimeFormat | None = None  # iso: YYYY-MM-DD HH:MM:SS (or with a T); unix_*: since 1970. UTC
    fields: tuple[FieldGroup, ...] = Setting(min_length=1)
    cross: tuple[Annotated[tuple[FieldName, ...], Setting(min_length=2)], ...] = ()  # names of the parts
    cross_buckets: int = Setting(default=100_000, ge=1, lt=2**31)  # number of ids of each crossed field
    # Texts of a field or a time that mean missing, besides the empty text, such as ["\\N", "NULL", "-"].
    null_values: tuple[str, ...] = ()
    # Parquet only: files may have different types of a column, and may lack it; its values are missing there.
    allow_schema_change: bool = True
    max_bad_fraction: Fraction = 0.01  # maximum share of rejected rows; above it nothing is published
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
        return self.weight or self.impressions

    @property
    def field_set(self) -> FieldSet:
        """Fields in the order of the file, followed by the crossed fields."""
        crossed = [
            Field(name="_x_".join(parts), kind="cross", parts=parts, buckets=self.cross_buckets)
            for parts in self.cross
        ]
        time_settings = {"source": self.time_column or "", "time_format": self.time_format}
        fields = [field for group in self.fields for field in group.field_list]
        fields = [f.model_copy(update=time_settings) if f.kind == "time" else f for f in fields]
        return FieldSet(fields + crossed)

    @model_validator(mode="after")
    def _check_consistency(self):
        errors = self._cross_errors()
        errors += self._time_errors()
        errors += self._list_errors()
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
        if self.label.lower() in lower:
            errors.append(f"the label {self.label} cannot also be a field")
        for key, shares in (("hash_split", self.hash_split), ("time_split", self.time_split)):
            if shares and shares.valid + shares.test >= 1:
                errors.append(f"{key}: valid + test must leave rows for training (below 1)")
        if errors:
            raise ValueError("; ".join(errors))
        return self

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
        if self.format == "parquet":
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
