"""Statistics of one field of a dataset, and warnings about likely mistakes."""

import math
from typing import Literal

import pandas as pd

from deepfm.click_log.split import SPLITS
from deepfm.dataset.profiling.id_counts import MISSING, NOT_SHOWN, NUM_TOP, UNKNOWN
from deepfm.dataset.profiling.value_names import value_name, value_order
from deepfm.features.vocabulary.chunked import AnyVocabulary
from deepfm.kinds import KINDS
from deepfm.metrics.formulas import auc_from_counts
from deepfm.settings.loader import Settings

#: Warn above this share of validation rows with a rare or new value: on a new day most values are unknown.
MAX_UNKNOWN_SHARE = 0.5
#: Warn above this validation AUC of a single field: it probably contains the label.
MAX_AUC = 0.95
#: Warn above this share of training rows with a truncated list: max_values is probably too low.
MAX_CUT_SHARE = 0.1


class ValueRows(Settings):
    """Training rows of one known value or bucket; of weighted rows, their weight."""

    name: str
    num_rows: int  # or the weight, rounded
    share: float  # of the training rows
    ctr: float | None  # None: no rows


class FieldProfile(Settings):
    """Statistics of a field; shares are relative to the rows of a split.

    A cross has no shares, because its ids do not show missing values. For a list, rows are its values: an
    impression counts once for each of them.
    """

    name: str
    kind: str
    num_values: int | None  # distinct values in the training rows; None: not fitted
    num_known_ids: int | None  # ids of known values, buckets or a cross; None: kind value
    num_ids_seen: int  # ids in the training rows, with missing and unknown; kind value: see id_counts
    missing: dict[str, float]  # by split
    unknown: dict[str, float]  # by split; in training rows: rare
    top: tuple[ValueRows, ...]  # most frequent buckets, or most frequent of the first ids of a vocabulary
    buckets: tuple[ValueRows, ...]  # all buckets in ascending order, of a bucketed kind
    share_cut: float = 0.0  # list: share of training rows with more than max_values values
    mean: float | None  # kind value: of the training rows, on the scale of the field
    std: float | None
    valid_auc: float | None  # on validation rows; score: CTR of the id in the training rows

    @property
    def is_cross(self) -> bool:
        """Whether the field combines other fields instead of having a column."""
        return not KINDS[self.kind].has_column


WarningName = Literal[
    "mostly_unknown", "constant", "leak", "cut", "null_token", "blanks", "number_forms",
    "rejected", "no_clicks", "unusual_ctr", "implausible_time", "days_without_rows", "random_split",
    "unparsed",
]  # fmt: skip
#: Texts by which other systems write a missing value.
_NULL_TOKENS = {"\\n", "null", "nan", "na", "n/a", "none", "nil", "-"}


class ProfileWarning(Settings):
    """Property of a field or of the log that is probably a mistake."""

    name: WarningName
    field: str  # "" for the whole log
    text: str


def profile_field(
    vocabulary: AnyVocabulary, index: int, sums: pd.DataFrame, num_values: int | None, share_cut: float = 0.0
) -> FieldProfile:
    """Compute the profile of the field at `index` from its rows of `id_counts`."""
    field = vocabulary.fields[index]
    shown = _shown_values(vocabulary, index, sums)
    by_rows = [rows for _, rows in sorted(shown, key=lambda v: -v[1].num_rows) if rows.num_rows]
    first_known = 0 if field.is_cross else field.first_known_id
    scaling = vocabulary.scalings.get(field.name)
    return FieldProfile(
        name=field.name,
        kind=field.kind,
        num_values=num_values,
        num_known_ids=None if field.is_value else vocabulary.num_ids[index] - first_known,
        num_ids_seen=int(sums["num_ids"].sum()),
        missing={} if field.is_cross else _shares(sums, MISSING),
        unknown={} if field.is_cross else _shares(sums, UNKNOWN),
        top=tuple(by_rows[:NUM_TOP]),
        buckets=tuple(rows for _, rows in shown) if field.behaviour.is_bucketed else (),
        share_cut=share_cut,
        mean=scaling.mean if scaling else None,
        std=scaling.std if scaling else None,
        valid_auc=None if field.is_cross else _valid_auc(sums),
    )


def field_warnings(field: FieldProfile) -> list[ProfileWarning]:
    """Return the warnings about a field; none for a cross, because its parts are checked."""
    if field.is_cross:
        return []
    warnings: list[tuple[WarningName, str]] = []
    if field.num_ids_seen == 1:
        warnings.append(("constant", f"{_only_content(field)} in every training row; remove the field"))
    unknown = field.unknown["valid"]
    if unknown > MAX_UNKNOWN_SHARE:
        warnings.append(
            (
                "mostly_unknown",
                f"rare or new in {unknown:.1%} of the validation rows (limit {MAX_UNKNOWN_SHARE:.0%}); lower "
                "its min_count, set unknown_buckets or hash_buckets, or remove the field",
            )
        )
    if field.valid_auc is not None and field.valid_auc > MAX_AUC:
        warnings.append(
            (
                "leak",
                f"predicts the label by itself: AUC {field.valid_auc:.4f} on the validation rows (limit "
                f"{MAX_AUC}); if it is known only after the click, remove the field",
            )
        )
    if field.share_cut > MAX_CUT_SHARE:
        warnings.append(
            (
                "cut",
                f"has more than max_values values in {field.share_cut:.1%} of the training rows (limit "
                f"{MAX_CUT_SHARE:.0%}), and only the first are used; raise its max_values",
            )
        )
    tokens = [rows.name for rows in field.top if rows.name.lower() in _NULL_TOKENS]
    if tokens and KINDS[field.kind].is_text:
        listed = ", ".join(map(repr, tokens))
        warnings.append(
            ("null_token", f"has the value {listed}; if it means missing, list it in null_values")
        )
    warnings += _form_warnings(field)
    return [
        ProfileWarning(name=name, field=field.name, text=f"{field.name}: {text}") for name, text in warnings
    ]


def _form_warnings(field: FieldProfile) -> list[tuple[WarningName, str]]:
    """Warn of values that differ only in blanks, or in how a number is written."""
    if not KINDS[field.kind].is_text:
        return []
    names = [rows.name for rows in field.top]
    warnings: list[tuple[WarningName, str]] = []
    blanks = [name for name in names if name != name.strip() and name.strip() in names]
    if blanks:
        listed = ", ".join(map(repr, blanks))
        warnings.append(("blanks", f"has {listed} besides the same without blanks; remove them in the log"))
    floats = [name for name in names if name.endswith(".0") and name.removesuffix(".0") in names]
    if floats:
        warnings.append(
            ("number_forms", f"has {', '.join(floats)} besides the same without .0; write them alike")
        )
    return warnings


def _only_content(field: FieldProfile) -> str:
    if field.missing["train"]:
        return "missing"
    if field.unknown["train"]:
        return "rare"
    return f"the same value, {field.top[0].name}," if field.top else "the same value"


def _shares(sums: pd.DataFrame, state: int) -> dict[str, float]:
    """Return {split: share of its rows in a state}."""
    state_sums = sums[sums["state"] == state]
    return {part: float(state_sums[f"num_{part}"].sum() / sums[f"num_{part}"].sum()) for part in SPLITS}


def _shown_values(vocabulary: AnyVocabulary, index: int, sums: pd.DataFrame) -> list[tuple[int, ValueRows]]:
    """Return (order, rows) of each value that is shown separately, in order, see value_order."""
    num_rows = sums["num_train"].sum()
    shown = sums[sums["shown"] != NOT_SHOWN]
    values = []
    for id_, num, clicks in zip(shown["shown"], shown["num_train"], shown["clicks_train"], strict=True):
        rows = ValueRows(
            name=value_name(vocabulary, index, int(id_)),
            num_rows=round(num),
            share=num / num_rows,
            ctr=clicks / num if num else None,
        )
        values.append((value_order(vocabulary, index, int(id_)), rows))
    return sorted(values, key=lambda value: value[0])


def _valid_auc(sums: pd.DataFrame) -> float | None:
    """AUC on the validation rows of the CTR of their id in the training rows; None if labels are equal."""
    bins = sums.groupby("ctr_bin")[["num_valid", "clicks_valid"]].sum().sort_index()
    auc = auc_from_counts(bins["num_valid"] - bins["clicks_valid"], bins["clicks_valid"])
    return None if math.isnan(auc) else auc
