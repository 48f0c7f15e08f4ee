"""JSON lines: an object per line -> string columns and reason codes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from deepfm.click_log.row_format import NO_TEXT, NOT_JSON, RowFormat
from deepfm.value_text import texts_of_series

_ABSENT = object()


def parse_json_lines(texts: pa.Array, row_format: RowFormat) -> tuple[dict[str, pa.Array], np.ndarray]:
    """(n,) strings -> columns of the well-formed rows, and (n,) reason codes.

    Values become texts as those of Parquet do, so that 1, 1.0 and true are "1"; a key that an object lacks is
    missing. A column a.b is the key "a.b", or the key "b" of the object "a".
    """
    names = sorted(row_format.file_columns)
    arrays = {one.column for one in row_format.fields.raw if one.is_array}
    reasons = np.zeros(len(texts), np.int8)
    rows: list[list[Any]] = []
    for place, text in enumerate(texts.to_pylist()):
        document = parse_object(text)
        if document is None:
            reasons[place] = NOT_JSON
            continue
        values = [value_at(document, name) for name in names]
        if all(_has_text(value, name in arrays) for name, value in zip(names, values, strict=True)):
            rows.append(values)
        else:
            reasons[place] = NO_TEXT
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return {name: _texts(column) for name, column in zip(names, columns, strict=True)}, reasons


def parse_object(text: str) -> dict | None:
    """Return the object of a line, or None if the line is something else."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def value_at(document: Mapping[str, Any], name: str) -> Any:
    """Value of a key, or of a path of keys that are joined by dots; None if there is none."""
    value = document.get(name, _ABSENT)
    if value is not _ABSENT or "." not in name:
        return None if value is _ABSENT else value
    key, _, rest = name.partition(".")
    inner = document.get(key)
    return value_at(inner, rest) if isinstance(inner, dict) else None


def keys_of(document: Mapping[str, Any]) -> list[str]:
    """Names of the columns of an object, also of the objects in it."""
    names = []
    for key, value in document.items():
        names += [f"{key}.{inner}" for inner in keys_of(value)] if isinstance(value, dict) else [key]
    return names


def _has_text(value: Any, is_array: bool) -> bool:
    if isinstance(value, list):
        return is_array and not any(isinstance(one, list) or not _has_text(one, False) for one in value)
    if isinstance(value, str):
        # JSON may contain half of a character, which has no UTF-8.
        return not any("\ud800" <= character <= "\udfff" for character in value)
    return not isinstance(value, dict)


def _texts(values: Sequence[Any]) -> pa.Array:
    return texts_of_series(pd.Series(list(values), dtype=object))
