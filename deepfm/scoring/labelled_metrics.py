"""Metrics of several models on the same labelled raw rows; each row is read once for all models."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from pyspark.sql import functions as F

from deepfm.click_log.parse import ParsedRows, parse_rows
from deepfm.click_log.raw_rows import RawRows
from deepfm.click_log.row_format import RowFormat
from deepfm.click_log.split import SPLITS, Split
from deepfm.metrics.binary import NUM_BINS, BinaryMetrics, Metrics
from deepfm.metrics.field_counts import UNKNOWN, FieldValueCounts
from deepfm.metrics.formulas import logloss, sigmoid
from deepfm.registry.gate import ModelEvaluation, Slice
from deepfm.scoring.predict import shipped_model

#: Random groups of rows, by row hash, for the confidence interval of a difference.
NUM_GROUPS = 1_000
#: Name of the slice of rows without a value.
MISSING_VALUE = "(missing)"

_SCHEMA = (
    "model int, kind string, index long, field string, value string, num_rows double, clicks double, "
    "logloss double, probability double"
)
_KEYS = ["model", "kind", "index", "field", "value"]
_SUMS = ["num_rows", "clicks", "logloss", "probability"]
#: Sum in addition to _SUMS if the rows have weights; all but num_rows are then sums of weighted rows.
_WEIGHT = "weight"
#: Kinds of sums: a bin of the binary metrics, all rows, a random group, a slice, a field's unknown values.
_BIN, _ALL, _GROUP, _SLICE, _UNKNOWN = "bin", "all", "group", "slice", "unknown"


def evaluate_models(
    raw: RawRows,
    row_format: RowFormat,
    model_names: Sequence[str],
    split: Split,
    *,
    slice_fields: Sequence[str] = (),
    min_slice_rows: int = 1,
) -> list[ModelEvaluation]:
    """Evaluate shipped models on the labelled test rows that fit all of them; empty if there are none.

    `slice_fields`: categories to also evaluate by value, for values with at least `min_slice_rows` rows.
    """
    test_code = SPLITS.index("test")
    columns = [*_SUMS, _WEIGHT] if row_format.is_weighted else _SUMS

    def evaluate_partition(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
        sums = [_Sums(slice_fields, columns) for _ in model_names]
        for table in tables:
            models = [shipped_model(name) for name in model_names]
            # Each model has its fields; the layout of the rows is the same for all.
            formats = [replace(row_format, fields=model.encoder.fields) for model in models]
            parts = _keep_common_rows([parse_rows(table, model_format) for model_format in formats])
            for model, parsed, model_sums in zip(models, parts, sums, strict=True):
                parsed = parsed.filter(split.codes(parsed) == test_code)
                field_counts = FieldValueCounts(model.encoder.fields, weighted=row_format.is_weighted)
                model_sums.add(parsed, model.logits(parsed.raw, field_counts, weights=parsed.weights))
                model_sums.add_fields(model.encoder.fields.names, field_counts)
        for model_index, model_sums in enumerate(sums):
            yield from pa.Table.from_pandas(model_sums.frame(model_index), preserve_index=False).to_batches()

    schema = f"{_SCHEMA}, {_WEIGHT} double" if row_format.is_weighted else _SCHEMA
    partitions = raw.map(evaluate_partition, schema)
    summed = partitions.groupBy(*_KEYS).agg(*[F.sum(name).alias(name) for name in columns])
    # A field may have millions of values: collect only those with enough rows.
    summed = summed.filter((F.col("kind") != _SLICE) | (F.col("num_rows") >= min_slice_rows)).toPandas()
    by_model = [summed[summed["model"] == index] for index in range(len(model_names))]
    weight = _WEIGHT if row_format.is_weighted else "num_rows"
    have_rows = all((model_sums[model_sums["kind"] == _ALL][weight] > 0).any() for model_sums in by_model)
    return [_to_evaluation(model_sums) for model_sums in by_model] if have_rows else []


def _keep_common_rows(parts: list[ParsedRows]) -> list[ParsedRows]:
    """Filter the same raw rows, parsed for several models, to the rows that fit all models.

    A column that one model reads as a count and another as a value fits both if it is an integer.
    """
    first, *rest = [part.row_hashes for part in parts]
    if all(np.array_equal(first, other) for other in rest):
        return parts
    # Rows with the same hash are equal, so they fit or fail together.
    common = reduce(np.intersect1d, rest, first)
    return [part.filter(np.isin(part.row_hashes, common)) for part in parts]


class _Sums:
    """One model's sums over the rows of a task."""

    def __init__(self, slice_fields: Sequence[str], columns: list[str]):
        """`columns`: _SUMS, and _WEIGHT if the rows have weights."""
        self._slice_fields, self._columns = slice_fields, columns
        self._metrics = BinaryMetrics(weighted=_WEIGHT in columns)
        self._frames: list[pd.DataFrame] = []

    def add(self, parsed: ParsedRows, logits: np.ndarray) -> None:
        """Add rows and their (n,) logits."""
        if not len(logits):
            return
        assert parsed.labels is not None
        labels, weights = parsed.labels.astype(np.float64), parsed.weights
        self._metrics.update(
            torch.from_numpy(logits),
            torch.from_numpy(parsed.labels),
            None if weights is None else torch.from_numpy(weights),
        )
        z = logits.astype(np.float64)
        rows = pd.DataFrame(
            {
                "num_rows": 1.0,
                "clicks": labels,
                "logloss": logloss(z, labels),
                "probability": sigmoid(z),
                "index": parsed.row_hashes.view(np.uint64) % NUM_GROUPS,
            }
        )
        if weights is not None:
            rows[_WEIGHT] = weights
            rows[_SUMS[1:]] *= weights[:, None]
        groups = rows.groupby("index", as_index=False)[self._columns].sum()
        self._frames.append(groups.assign(kind=_GROUP, field="", value=""))
        self._frames.append(
            rows[self._columns].sum().to_frame().T.assign(kind=_ALL, index=0, field="", value="")
        )
        for name in self._slice_fields:
            if name in parsed.raw.column_names:
                values = parsed.raw.column(name).cast(pa.string()).fill_null(MISSING_VALUE).to_pandas()
                by_value = rows[self._columns].groupby(values.to_numpy()).sum().reset_index(names="value")
                self._frames.append(by_value.assign(kind=_SLICE, index=0, field=name))

    def add_fields(self, names: Sequence[str], field_counts: FieldValueCounts) -> None:
        """Add the number, or weight, of the unknown values of each field."""
        unknown = field_counts.counts[:, UNKNOWN].double().numpy()
        empty = {**dict.fromkeys(self._columns, 0.0), "index": 0, "value": ""}
        frame = pd.DataFrame({**empty, "field": names, "num_rows": unknown, "kind": _UNKNOWN})
        self._frames.append(frame)

    def frame(self, model_index: int) -> pd.DataFrame:
        """Return all sums with the columns of _SCHEMA."""
        bin_indices = self._metrics.counts.view(-1).nonzero()[:, 0]
        empty = {**dict.fromkeys(self._columns, 0.0), "field": "", "value": ""}
        bin_counts = self._metrics.counts.view(-1)[bin_indices].double().numpy()
        bins = pd.DataFrame({**empty, "kind": _BIN, "index": bin_indices.numpy(), "num_rows": bin_counts})
        combined = pd.concat([bins, *self._frames], ignore_index=True)
        summed = combined.groupby(_KEYS[1:], as_index=False)[self._columns].sum()
        summed = summed.assign(model=np.int32(model_index))
        return summed.astype({"index": np.int64, "model": np.int32})[_KEYS + self._columns]


def _to_evaluation(sums: pd.DataFrame) -> ModelEvaluation:
    weight = _WEIGHT if _WEIGHT in sums else "num_rows"
    by_kind = dict(list(sums.groupby("kind")))
    metrics = _to_metrics(by_kind[_BIN], by_kind[_ALL].iloc[0])
    groups = np.zeros((NUM_GROUPS, 2))
    group_sums = by_kind[_GROUP]
    groups[group_sums["index"]] = group_sums[["logloss", weight]]
    slices: dict[str, dict[str, Slice]] = {}
    slice_sums = by_kind.get(_SLICE, sums.iloc[:0])
    for row in slice_sums[slice_sums[weight] > 0].itertuples():
        total = getattr(row, weight)
        slices.setdefault(row.field, {})[row.value] = Slice(
            int(row.num_rows), row.clicks / total, row.probability / total, row.logloss / total
        )
    total = metrics.num_rows if metrics.weight is None else metrics.weight
    unknown = {row.field: row.num_rows / total for row in by_kind[_UNKNOWN].itertuples()}
    return ModelEvaluation(metrics, groups, slices, unknown)


def _to_metrics(bins: pd.DataFrame, total: pd.Series) -> Metrics:
    counts = np.bincount(bins["index"], weights=bins["num_rows"], minlength=2 * NUM_BINS)
    counts = counts.reshape(2, NUM_BINS)
    num_weighted_rows = int(total["num_rows"]) if _WEIGHT in total else None
    return BinaryMetrics.from_sums(
        counts, total["logloss"], total["probability"], num_weighted_rows
    ).compute()
