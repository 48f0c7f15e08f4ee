"""Kinds of fields, one class each, and the table of all kinds.

A new kind needs a module with a FieldKind and an entry in KINDS; see deepfm/models/README.md, also for new
settings.
"""

from deepfm.kinds.category import CategoryKind
from deepfm.kinds.count import CountKind
from deepfm.kinds.cross import CrossKind
from deepfm.kinds.kind import FieldKind, FittedField
from deepfm.kinds.list import ListKind
from deepfm.kinds.quantile import QuantileKind
from deepfm.kinds.time import TimeKind
from deepfm.kinds.value import ValueKind

KINDS: dict[str, FieldKind] = {
    kind.name: kind
    for kind in (
        CountKind(),
        CategoryKind(),
        ListKind(),
        ValueKind(),
        QuantileKind(),
        TimeKind(),
        CrossKind(),
    )
}

__all__ = ["KINDS", "FieldKind", "FittedField"]
