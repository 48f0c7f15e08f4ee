"""Slices of the profile: which fields are allowed, and display names of their values."""

from collections.abc import Sequence

from deepfm.dataset.profiling.value_names import value_name
from deepfm.errors import UserError
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import FieldSet
from deepfm.metrics.field_counts import FIRST_SHOWN, MISSING, OTHER, UNKNOWN
from deepfm.metrics.slices import SliceMetrics

_NAMES = {MISSING: "(missing)", UNKNOWN: "(unknown)", OTHER: "(all others)"}


def require_categories(names: Sequence[str], fields: FieldSet, where: str) -> None:
    """Raise UserError if a slice is not a field of kind category; `where` is named in the error."""
    kinds = {field.name: field.kind for field in fields}
    for name in names:
        if kinds.get(name) != "category":
            found = f"a field of kind {kinds[name]}" if name in kinds else "no such field"
            raise UserError(
                f"promotion.slices {name}: expected a field of kind category in {where}, found {found}; "
                "change the profile"
            )


def named_slices(
    slices: dict[str, list[SliceMetrics]], vocabulary: Vocabulary, min_rows: int
) -> list[tuple[str, str, SliceMetrics]]:
    """(field, value, metrics) of the slices with at least `min_rows`, the largest of each field first."""
    named = []
    for name, field_slices in slices.items():
        index = vocabulary.fields.names.index(name)
        large = [metrics for metrics in field_slices if metrics.num_rows >= min_rows]
        for metrics in sorted(large, key=lambda metrics: (-metrics.num_rows, metrics.kind)):
            named.append((name, _value(vocabulary, index, metrics.kind), metrics))
    return named


def _value(vocabulary: Vocabulary, index: int, kind: int) -> str:
    if kind in _NAMES:
        return _NAMES[kind]
    field, value_index = vocabulary.fields[index], kind - FIRST_SHOWN
    if field.hash_buckets:
        return f"bucket {value_index}"
    return value_name(vocabulary, index, field.first_known_id + value_index)
