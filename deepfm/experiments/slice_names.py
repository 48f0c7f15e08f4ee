"""The slices that a profile names: which fields can be, and what their values are called."""

from collections.abc import Sequence

from deepfm.dataset.profiling.value_names import value_name
from deepfm.errors import UserError
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import FieldSet
from deepfm.metrics.field_counts import FIRST_SHOWN, MISSING, OTHER, UNKNOWN
from deepfm.metrics.slices import SliceMetrics

_NAMES = {MISSING: "(missing)", UNKNOWN: "(unknown)", OTHER: "(all others)"}


def require_categories(names: Sequence[str], fields: FieldSet, where: str) -> None:
    """UserError for a slice that is no field of kind category of `where`."""
    kinds = {field.name: field.kind for field in fields}
    for name in names:
        if kinds.get(name) != "category":
            found = f"one of kind {kinds[name]}" if name in kinds else "none"
            raise UserError(
                f"promotion.slices {name}: expected a field of kind category in {where}, found {found}; mend "
                "the profile"
            )


def named_slices(
    slices: dict[str, list[SliceMetrics]], vocabulary: Vocabulary, min_rows: int
) -> list[tuple[str, str, SliceMetrics]]:
    """(field, value, figures) of the slices with enough rows, the largest of a field first."""
    named = []
    for name, of_field in slices.items():
        index = vocabulary.fields.names.index(name)
        enough = [found for found in of_field if found.num_rows >= min_rows]
        for found in sorted(enough, key=lambda one: (-one.num_rows, one.kind)):
            named.append((name, _value(vocabulary, index, found.kind), found))
    return named


def _value(vocabulary: Vocabulary, index: int, kind: int) -> str:
    if kind in _NAMES:
        return _NAMES[kind]
    field, place = vocabulary.fields[index], kind - FIRST_SHOWN
    if field.hash_buckets:
        return f"bucket {place}"
    return value_name(vocabulary, index, field.first_known_id + place)
