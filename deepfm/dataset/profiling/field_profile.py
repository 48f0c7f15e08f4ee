"""One field of a dataset in numbers, and what about it is seldom meant."""

from typing import Literal

import numpy as np
import pandas as pd

from deepfm.click_log.split import SPLITS
from deepfm.dataset.profiling.id_counts import BUCKETED, MISSING, NOT_SHOWN, NUM_TOP, UNKNOWN
from deepfm.dataset.profiling.value_names import value_name, value_order
from deepfm.features.vocabulary.chunked import AnyVocabulary
from deepfm.settings.loader import Settings

#: Above this share of validation rows whose value is rare or new, little of a field reaches a new day.
MAX_UNKNOWN_SHARE = 0.5
#: A field that by itself orders unseen rows better than this knows the label.
MAX_AUC = 0.95


#: Above this share of training rows whose values did not all count, max_values was hardly meant so.
MAX_CUT_SHARE = 0.1


class ValueRows(Settings):
    """Training rows of one known value or bucket."""

    name: str
    num_rows: int
    share: float  # of the training rows
    ctr: float | None  # None: of no rows


class FieldProfile(Settings):
    """Shares are of the rows of a split; a cross has none: its ids do not say what is missing.

    Of a list rows are its values: an impression counts once for each.
    """

    name: str
    kind: str
    num_values: int | None  # distinct ones of the training rows; None: nothing is learnt from them
    num_known_ids: int | None  # of known values, buckets or a cross; None: it enters by value
    num_ids_seen: int  # that training rows have, missing and unknown ones too; see id_counts for values
    missing: dict[str, float]  # by split
    unknown: dict[str, float]  # by split; in the training rows: rare
    top: tuple[ValueRows, ...]  # the most frequent buckets; of a vocabulary of the values with the first ids
    buckets: tuple[ValueRows, ...]  # all, from the smallest value up, of kinds that have few
    share_cut: float = 0.0  # of a list: training rows with more than max_values values
    mean: float | None  # of a value: of the training rows, on the field's scale
    std: float | None
    valid_auc: float | None  # on the validation rows, of the CTR of a row's id on the training rows


class Finding(Settings):
    """Something about a field that is seldom meant."""

    name: Literal["mostly_unknown", "constant", "leak", "cut"]
    field: str
    text: str


def profile_field(
    vocabulary: AnyVocabulary,
    index: int,
    sums: pd.DataFrame,
    num_values: int | None,
    share_cut: float = 0.0,
) -> FieldProfile:
    """Of the field at `index`, from its rows of `id_counts`."""
    field = vocabulary.fields[index]
    is_cross, is_value = field.kind == "cross", field.kind == "value"
    shown = _shown_values(vocabulary, index, sums)
    first_known = 0 if is_cross else field.first_known_id
    scaling = vocabulary.scalings.get(field.name)
    return FieldProfile(
        name=field.name,
        kind=field.kind,
        num_values=num_values,
        num_known_ids=None if is_value else vocabulary.num_ids[index] - first_known,
        num_ids_seen=int(sums["num_ids"].sum()),
        missing={} if is_cross else _shares(sums, MISSING),
        unknown={} if is_cross else _shares(sums, UNKNOWN),
        top=[rows for _, rows in sorted(shown, key=lambda v: -v[1].num_rows) if rows.num_rows][:NUM_TOP],
        buckets=[rows for _, rows in shown] if field.kind in BUCKETED else [],
        share_cut=share_cut,
        mean=scaling and scaling.mean,
        std=scaling and scaling.std,
        valid_auc=None if is_cross else _valid_auc(sums),
    )


def findings_of(field: FieldProfile) -> list[Finding]:
    """What is seldom meant; of a cross nothing: it shows what its parts do."""
    if field.kind == "cross":
        return []
    found = []
    if field.num_ids_seen == 1:
        found.append(("constant", f"{_only_content(field)} in every training row; leave it out"))
    unknown = field.unknown["valid"]
    if unknown > MAX_UNKNOWN_SHARE:
        found.append(
            (
                "mostly_unknown",
                f"rare or new in {unknown:.1%} of the validation rows (limit {MAX_UNKNOWN_SHARE:.0%}); lower "
                "its min_count, give it unknown_buckets or hash_buckets, or leave it out",
            )
        )
    if field.valid_auc is not None and field.valid_auc > MAX_AUC:
        found.append(
            (
                "leak",
                f"predicts the label by itself: AUC {field.valid_auc:.4f} on the validation rows (limit "
                f"{MAX_AUC}); if it is known only after the click, leave it out",
            )
        )
    if field.share_cut > MAX_CUT_SHARE:
        found.append(
            (
                "cut",
                f"has more than max_values values in {field.share_cut:.1%} of the training rows (limit "
                f"{MAX_CUT_SHARE:.0%}), of which only the first count; raise its max_values",
            )
        )
    return [Finding(name=name, field=field.name, text=f"{field.name}: {text}") for name, text in found]


def _only_content(field: FieldProfile) -> str:
    if field.missing["train"]:
        return "missing"
    if field.unknown["train"]:
        return "rare"
    return f"the same value, {field.top[0].name}," if field.top else "the same value"


def _shares(sums: pd.DataFrame, state: int) -> dict[str, float]:
    """{split: share of its rows}."""
    of_state = sums[sums["state"] == state]
    return {part: float(of_state[f"num_{part}"].sum() / sums[f"num_{part}"].sum()) for part in SPLITS}


def _shown_values(vocabulary: AnyVocabulary, index: int, sums: pd.DataFrame) -> list[tuple[int, ValueRows]]:
    """(place, rows) of every value that is shown by itself, from the smallest or the first id on."""
    num_rows = int(sums["num_train"].sum())
    shown = sums[sums["shown"] != NOT_SHOWN]
    values = []
    for id_, num, clicks in zip(shown["shown"], shown["num_train"], shown["clicks_train"], strict=True):
        rows = ValueRows(
            name=value_name(vocabulary, index, int(id_)),
            num_rows=num,
            share=num / num_rows,
            ctr=clicks / num if num else None,
        )
        values.append((value_order(vocabulary, index, int(id_)), rows))
    return sorted(values, key=lambda value: value[0])


def _valid_auc(sums: pd.DataFrame) -> float | None:
    """Share of (click, no click) pairs of validation rows in the order of their training CTR, ties half."""
    bins = sums.groupby("ctr_bin")[["num_valid", "clicks_valid"]].sum().sort_index()
    clicks = bins["clicks_valid"].to_numpy(np.float64)
    others = bins["num_valid"].to_numpy(np.float64) - clicks
    num_pairs = clicks.sum() * others.sum()
    if not num_pairs:
        return None
    return float((clicks * (others.cumsum() - 0.5 * others)).sum() / num_pairs)
