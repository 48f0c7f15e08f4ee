"""Statistics of a column of a sample, which decide what it is used for."""

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.click_log.labels_and_days import to_day
from deepfm.kinds.numbers import parse_decimals, parse_integers
from deepfm.kinds.time import parse_times

#: Texts that mean missing wherever they are, and those that do so among numbers and times only.
_NULLS = ("\\N", "NULL", "null", "None", "NaN", "nan", "#N/A")
_NULLS_OF_NUMBERS = ("NA", "N/A", "n/a", "-", "?", "none", "unknown")
_SEPARATORS = ("|", ";", ",", "^", " ")
_PART = re.compile(r"[\w.:/-]{1,60}")
#: Seconds since 1970 of 2000-01-01 and 2100-01-01.
_FIRST_S, _LAST_S = 946_684_800, 4_102_444_800
#: An integer of more characters is not taken as a count.
_MAX_DIGITS = 9
_UNITS = {"unix_s": 1, "unix_ms": 1000, "unix_us": 10**6, "unix_ns": 10**9}


@dataclass(frozen=True)
class Column:
    """A column of a sample, as text."""

    name: str
    values: pa.Array
    kind: pa.DataType | None = None  # of a columnar log

    @cached_property
    def distinct(self) -> list[str]:
        """Distinct values, without those that mean missing."""
        return [text for text in pc.unique(self.present).to_pylist() if text not in self.null_values]

    @cached_property
    def present(self) -> pa.Array:
        """Values that are not missing."""
        return self.values.drop_null()

    @cached_property
    def null_values(self) -> tuple[str, ...]:
        """Texts of the column that mean missing."""
        texts = set(pc.unique(self.present).to_pylist())
        found = texts.intersection(_NULLS)
        maybe = texts.intersection(_NULLS_OF_NUMBERS)
        others = pa.array(sorted(texts - found - maybe), pa.string())
        if maybe and len(others) and (parse_decimals(others)[1].all() or _time_format(others)):
            found |= maybe
        return tuple(sorted(found))

    @cached_property
    def strings(self) -> pa.Array:
        """Distinct values as an array."""
        return pa.array(self.distinct, pa.string())

    @property
    def is_integer(self) -> bool:
        return bool(self.distinct) and bool(parse_integers(self.strings)[1].all())

    @property
    def is_code(self) -> bool:
        """Whether integers have leading zeros, or are larger than counts are."""
        zeros = any(len(text) > 1 and text[0] == "0" and text.isdecimal() for text in self.distinct)
        return zeros or max(map(len, self.distinct)) > _MAX_DIGITS

    @property
    def is_decimal(self) -> bool:
        return bool(self.distinct) and bool(parse_decimals(self.strings)[1].all())

    @property
    def is_array(self) -> bool:
        types = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        return self.kind is not None and any(applies(self.kind) for applies in types)

    @property
    def is_unique(self) -> bool:
        """Whether every one of at least 20 rows has another value."""
        return len(self.present) >= 20 and len(self.distinct) == len(self.values)

    @property
    def is_day(self) -> bool:
        """Whether all values are days in a form that `day_column` reads."""
        days = [to_day(text) for text in self.distinct]
        return bool(days) and all(day is not None and "1990" < day < "2100" for day in days)

    @cached_property
    def time_format(self) -> str | None:
        """Format of the column if it has times to the minute or finer, else None."""
        return None if self.is_day else _time_format(self.strings)

    @cached_property
    def separator(self) -> str | None:
        """Text between the values of a list; None if the column is no list."""
        if self.is_decimal or self.time_format:
            return None
        return next((separator for separator in _SEPARATORS if self._is_list(separator)), None)

    def _is_list(self, separator: str) -> bool:
        lists = [text.strip(separator).split(separator) for text in self.distinct]
        several = [parts for parts in lists if len(parts) > 1]
        if len(several) < max(len(lists) / 2, 2):
            return False
        parts = [part.strip() for parts in lists for part in parts if part]
        # Parts of a list are words that occur in other lists too; those of a sentence or an address are not.
        return all(map(_PART.fullmatch, parts)) and len(set(parts)) < len(parts) * 0.9

    def describe(self) -> str:
        """Short description for a comment: how many values, and examples."""
        share = 1 - len(self.present) / max(len(self.values), 1)
        examples = ", ".join(_short(text) for text in self.distinct[:3])
        missing = f", {share:.0%} missing" if share >= 0.005 else ""
        return f"{len(self.distinct)} values{missing}, e.g. {examples}"


def _time_format(strings: pa.Array) -> str | None:
    if not len(strings):
        return None
    is_number = parse_integers(strings)[1].all()
    if not is_number:
        return "iso" if parse_times(strings, "iso")[1].all() else None
    numbers = np.asarray(parse_integers(strings)[0].cast(pa.float64()))
    for unit, per_s in _UNITS.items():
        if (numbers >= _FIRST_S * per_s).all() and (numbers <= _LAST_S * per_s).all():
            return unit
    return None


def _short(text: str) -> str:
    text = " ".join(text.replace("\x1f", " ").split())
    return text if len(text) <= 20 else f"{text[:20]}…"
