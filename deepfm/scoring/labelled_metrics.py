"""Several models over the same labelled raw rows, each row read once for all of them."""

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
from deepfm.metrics.binary import BinaryMetrics, Metrics
from deepfm.metrics.field_counts import UNKNOWN, FieldValueCounts
from deepfm.registry.gate import Measured, Slice
from deepfm.scoring.predict import shipped_model

#: Random groups of rows, by their hash, for the interval of a difference.
NUM_GROUPS = 1_000
#: What a value of a slice is called that is not there.
MISSING_VALUE = "(missing)"

_SCHEMA = (
    "model int, kind string, place long, field string, value string, num double, clicks double, "
    "logloss double, probability double"
)
_KEYS = ["model", "kind", "place", "field", "value"]
_SUMS = ["num", "clicks", "logloss", "probability"]
#: Kinds of sums: a bin of the tally, all rows, a random group, a slice, a field's unknown values.
_BIN, _ALL, _GROUP, _SLICE, _UNKNOWN = "bin", "all", "group", "slice", "unknown"


def measure_models(
    raw: RawRows,
    row_format: RowFormat,
    model_names: Sequence[str],
    split: Split,
    *,
    slice_fields: Sequence[str] = (),
    min_slice_rows: int = 1,
) -> list[Measured]:
    """Shipped models on the labelled rows of the test part that fit all of them; empty where there are none.

    `slice_fields`: categories by whose values the rows are measured too, where a value has enough rows.
    """
    code = SPLITS.index("test")

    def measure_partition(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
        sums = [_Sums(slice_fields) for _ in model_names]
        for table in tables:
            models = [shipped_model(name) for name in model_names]
            # Each model has fields of its own; the layout of the rows is the log's.
            formats = [replace(row_format, fields=model.encoder.fields) for model in models]
            parts = _fitting_all([parse_rows(table, of_model) for of_model in formats])
            for model, parsed, of_model in zip(models, parts, sums, strict=True):
                parsed = parsed.filter(split.codes(parsed) == code)
                fields = FieldValueCounts(model.encoder.fields)
                of_model.add(parsed, model.logits(parsed.raw, fields))
                of_model.add_fields(model.encoder.fields.names, fields)
        for index, of_model in enumerate(sums):
            yield from pa.Table.from_pandas(of_model.frame(index), preserve_index=False).to_batches()

    partial = raw.map(measure_partition, _SCHEMA)
    summed = partial.groupBy(*_KEYS).agg(*[F.sum(name).alias(name) for name in _SUMS])
    # A field may have very many values: only those with enough rows come to the driver.
    summed = summed.filter((F.col("kind") != _SLICE) | (F.col("num") >= min_slice_rows)).toPandas()
    found = [summed[summed["model"] == index] for index in range(len(model_names))]
    have_rows = all((of_model["kind"] == _ALL).any() for of_model in found)
    return [_measured(of_model) for of_model in found] if have_rows else []


def _fitting_all(parts: list[ParsedRows]) -> list[ParsedRows]:
    """The same raw rows, parsed for several models, without those that do not fit one of them.

    A column that is a count to one model and a value to another one fits both where it is a whole number.
    """
    first, *others = [part.row_hashes for part in parts]
    if all(np.array_equal(first, other) for other in others):
        return parts
    # Rows of one hash are equal, and fare alike.
    common = reduce(np.intersect1d, others, first)
    return [part.filter(np.isin(part.row_hashes, common)) for part in parts]


class _Sums:
    """One model's sums over the rows of a task."""

    def __init__(self, slice_fields: Sequence[str]):
        self._slice_fields = slice_fields
        self._tally = BinaryMetrics()
        self._frames: list[pd.DataFrame] = []

    def add(self, parsed: ParsedRows, logits: np.ndarray) -> None:
        """Rows and their (n,) logits."""
        if not len(logits):
            return
        labels = parsed.labels.astype(np.float64)
        self._tally.update(torch.from_numpy(logits), torch.from_numpy(parsed.labels))
        z = logits.astype(np.float64)
        rows = pd.DataFrame(
            {
                "num": 1.0,
                "clicks": labels,
                "logloss": np.logaddexp(0.0, z) - labels * z,
                "probability": 1 / (1 + np.exp(-z)),
                "place": parsed.row_hashes.view(np.uint64) % NUM_GROUPS,
            }
        )
        groups = rows.groupby("place", as_index=False)[_SUMS].sum()
        self._frames.append(groups.assign(kind=_GROUP, field="", value=""))
        self._frames.append(rows[_SUMS].sum().to_frame().T.assign(kind=_ALL, place=0, field="", value=""))
        for name in self._slice_fields:
            if name in parsed.raw.column_names:
                values = parsed.raw.column(name).cast(pa.string()).fill_null(MISSING_VALUE).to_pandas()
                by_value = rows[_SUMS].groupby(values.to_numpy()).sum().reset_index(names="value")
                self._frames.append(by_value.assign(kind=_SLICE, place=0, field=name))

    def add_fields(self, names: Sequence[str], fields: FieldValueCounts) -> None:
        """What the rows hold, by field."""
        unknown = fields.counts[:, UNKNOWN].double().numpy()
        empty = {"clicks": 0.0, "logloss": 0.0, "probability": 0.0, "place": 0, "value": ""}
        frame = pd.DataFrame({"field": names, "num": unknown, "kind": _UNKNOWN, **empty})
        self._frames.append(frame)

    def frame(self, index: int) -> pd.DataFrame:
        """All sums, with what _SCHEMA names."""
        places = self._tally.counts.view(-1).nonzero()[:, 0]
        empty = {"clicks": 0.0, "logloss": 0.0, "probability": 0.0, "field": "", "value": ""}
        num = self._tally.counts.view(-1)[places].double().numpy()
        bins = pd.DataFrame({"kind": _BIN, "place": places.numpy(), "num": num, **empty})
        together = pd.concat([bins, *self._frames], ignore_index=True)
        summed = together.groupby(_KEYS[1:], as_index=False)[_SUMS].sum().assign(model=np.int32(index))
        return summed.astype({"place": np.int64, "model": np.int32})[_KEYS + _SUMS]


def _measured(sums: pd.DataFrame) -> Measured:
    by_kind = dict(list(sums.groupby("kind")))
    metrics = _metrics(by_kind[_BIN], by_kind[_ALL].iloc[0])
    groups = np.zeros((NUM_GROUPS, 2))
    of_group = by_kind[_GROUP]
    groups[of_group["place"]] = of_group[["logloss", "num"]]
    slices: dict[str, dict[str, Slice]] = {}
    for row in by_kind.get(_SLICE, sums.iloc[:0]).itertuples():
        slices.setdefault(row.field, {})[row.value] = Slice(
            int(row.num), row.clicks / row.num, row.probability / row.num, row.logloss / row.num
        )
    unknown = {row.field: row.num / metrics.num_rows for row in by_kind[_UNKNOWN].itertuples()}
    return Measured(metrics, groups, slices, unknown)


def _metrics(bins: pd.DataFrame, total: pd.Series) -> Metrics:
    tally = BinaryMetrics()
    place, num = torch.from_numpy(bins["place"].to_numpy()), torch.from_numpy(bins["num"].to_numpy())
    tally.counts.view(-1).index_add_(0, place, num.long())
    tally.sums += torch.tensor([total["logloss"], total["probability"]], dtype=torch.float64)
    return tally.compute()
