"""What a data YAML may say, and how its parts must fit together."""

from typing import Annotated, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from deepfm.fields import Field, FieldName, FieldSet, TimeFormat
from deepfm.settings.field_groups import FieldGroup
from deepfm.settings.loader import Settings

Fraction = Annotated[float, Setting(ge=0, le=1)]
Char = Annotated[str, Setting(min_length=1, max_length=1)]
#: Fields that have ids, of which a crossed one can be made.
_CROSSED_KINDS = ("count", "category", "quantile", "time")


class Shares(Settings):
    """Which shares of the rows are for validation and test; the rest is for training."""

    valid: float = Setting(default=0.1, gt=0, lt=1)
    test: float = Setting(default=0.1, gt=0, lt=1)


class DataSettings(Settings):
    """conf/data/*.yaml: which columns a click log has and how each becomes a feature."""

    format: Literal["delimited", "parquet"]
    delimiter: Char = "\t"
    quote: Char | None = None  # None: a quote is a character like any other
    header: bool = False  # delimited only: the first line of every file names its columns
    columns: tuple[str, ...] = ()  # the columns of a file without header, in order
    label: FieldName = "label"  # its values are 0 and 1
    day_column: str | None = None  # None: days are ds=YYYY-MM-DD folders, the time column's, or none
    time_column: str | None = (
        None  # of what fields of kind time are made, and the day where nothing else has it
    )
    time_format: TimeFormat | None = None  # iso: YYYY-MM-DD HH:MM:SS or with a T; or since 1970. All in UTC
    fields: tuple[FieldGroup, ...] = Setting(min_length=1)
    cross: tuple[Annotated[tuple[FieldName, ...], Setting(min_length=2)], ...] = ()  # fields, by their names
    cross_buckets: int = Setting(default=100_000, ge=1, lt=2**31)  # ids of each crossed field
    max_bad_fraction: Fraction = 0.01  # of the rows read; above it nothing is published
    hash_split: Shares = Shares()  # of a log without days: by a stable hash of the row
    time_split: Shares | None = None  # the latest rows by the time column, in place of days
    # Share of the training rows without a click that is kept, by a stable hash; scores are corrected for it.
    keep_negatives: float = Setting(default=1.0, gt=0, le=1)

    @property
    def field_set(self) -> FieldSet:
        """The fields in the order of the file, then the crossed ones."""
        crossed = [
            Field(name="_x_".join(parts), kind="cross", parts=parts, buckets=self.cross_buckets)
            for parts in self.cross
        ]
        of_time = {"source": self.time_column or "", "time_format": self.time_format}
        fields = [field for group in self.fields for field in group.field_list]
        return FieldSet([f.model_copy(update=of_time) if f.kind == "time" else f for f in fields] + crossed)

    @model_validator(mode="after")
    def _columns_fit_together(self):
        mistakes = self._mistakes_of_cross()
        mistakes += self._mistakes_of_time()
        mistakes += self._mistakes_of_lists()
        raw_names = self.field_set.raw.names
        # A cross that is there twice has been told of; two crosses may still make the same name.
        names = [*raw_names, *("_x_".join(parts) for parts in dict.fromkeys(self.cross))]
        names += [slot for field in self.field_set.raw if field.kind == "list" for slot in field.slots]
        # Spark takes I1 and i1 for one column.
        lower = [name.lower() for name in names]
        repeated = sorted({name for name in names if lower.count(name.lower()) > 1})
        if repeated:
            mistakes.append(f"a field may be named once, found again: {', '.join(repeated)}")
        if self.format == "delimited" and not self.header:
            used = {*self.field_set.columns, self.label, self.day_column, self.time_column} - {None}
            if not self.columns:
                mistakes.append("columns: a file without header needs its column names, in order")
            elif used - set(self.columns):
                absent = ", ".join(sorted(used - set(self.columns)))
                mistakes.append(f"columns: not among them, but used below: {absent}")
        elif self.columns:
            mistakes.append("columns: only a delimited file with header: false takes them")
        if self.label.lower() in lower:
            mistakes.append(f"the label {self.label} cannot also be a field")
        for key, shares in (("hash_split", self.hash_split), ("time_split", self.time_split)):
            if shares and shares.valid + shares.test >= 1:
                mistakes.append(f"{key}: valid + test must leave rows for training (below 1)")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def _mistakes_of_time(self) -> list[str]:
        if (self.time_column is None) != (self.time_format is None):
            return ["time_column and time_format go together; give both or none"]
        if self.time_column is None and any(group.kind == "time" for group in self.fields):
            return ["time_column: is missing, of which the fields of kind time are made"]
        if self.time_split and (self.time_column is None or self.day_column is not None):
            return ["time_split: is for a log with a time_column and without day_column"]
        if self.label == self.time_column:
            return [f"the label {self.label} cannot also be the time column"]
        return []

    def _mistakes_of_lists(self) -> list[str]:
        separators = {f.name: f.separator for f in self.field_set.raw if f.kind == "list"}
        if self.format == "parquet":
            return []
        mistakes = []
        if "" in separators.values():
            mistakes.append(
                "separator: is missing; say what lies between the values of a list, such as a space"
            )
        held = any(self.delimiter in separator for separator in separators.values())
        if held and self.quote is None:
            mistakes.append(
                f"separator: cannot hold the delimiter {self.delimiter!r}, which ends a column without quote"
            )
        return mistakes

    def _mistakes_of_cross(self) -> list[str]:
        kinds = {field.name: field.kind for field in self.field_set.raw}
        mistakes = []
        for parts in self.cross:
            where = f"cross [{', '.join(parts)}]"
            if len(set(parts)) < len(parts):
                mistakes.append(f"{where}: a field may be crossed with others once, not with itself")
            for name in dict.fromkeys(parts):
                if kinds.get(name, "none") not in _CROSSED_KINDS:
                    found = f"a {kinds[name]}" if name in kinds else "no field"
                    expected = " or ".join(_CROSSED_KINDS)
                    mistakes.append(f"{where}: {name} must be a field of kind {expected}, is {found}")
        # Whatever their order, the same fields make the same features.
        crossed = [frozenset(parts) for parts in self.cross]
        twice = {parts for parts in crossed if crossed.count(parts) > 1}
        mistakes += sorted(f"cross [{', '.join(sorted(parts))}]: is there twice" for parts in twice)
        return mistakes
