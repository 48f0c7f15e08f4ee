"""Vocabulary: value -> id, field by field, learnt from counts on the training days and from nothing else."""

import hashlib
import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deepfm import storage
from deepfm.errors import UserError
from deepfm.features.numeric import bucketize
from deepfm.fields import FIRST_KNOWN_ID, Field, FieldSet

_SCHEMA = pa.schema(
    [("field", pa.string()), ("value", pa.string()), ("id", pa.int32()), ("count", pa.int64())]
)


class Vocabulary:
    """The known values of every field, in the order of their ids.

    Id 0 is a missing value, 1 an unknown or rare one, 2 the most frequent known value, and so on: dense,
    by count descending and then by value (UTF-8 order), so the rows' order and partitions do not matter.
    A count's values are its buckets, written as integers.
    """

    def __init__(self, fields: FieldSet, values: list[pa.Array], counts: list[pa.Array]):
        self.fields = fields
        self.values = values  # a string array a field
        self.counts = counts  # an int64 array a field: impressions of the training days
        self.num_ids = tuple(FIRST_KNOWN_ID + len(known) for known in values)
        self.fingerprint = _fingerprint(fields, values)

    @classmethod
    def fit(cls, fields: FieldSet, counts: pa.Table) -> "Vocabulary":
        """From a table (field: index, value, num), a row a value; keeps those seen `min_count` times."""
        counts = counts.sort_by([("field", "ascending"), ("num", "descending"), ("value", "ascending")])
        values, nums = [], []
        for index, field in enumerate(fields):
            chosen = pc.and_(
                pc.equal(counts.column("field"), index),
                pc.greater_equal(counts.column("num"), field.min_count),
            )
            known = counts.filter(chosen)
            values.append(known.column("value").combine_chunks().cast(pa.string()))
            nums.append(known.column("num").combine_chunks())
        return cls(fields, values, nums)

    def save(self, folder_url: str) -> None:
        """Write vocabulary.parquet (field, value, id, count) and .json into a folder that exists."""
        tables = [
            pa.table(
                [
                    pa.array([field.name] * len(values), pa.string()),
                    values,
                    pa.array(np.arange(FIRST_KNOWN_ID, FIRST_KNOWN_ID + len(values), dtype=np.int32)),
                    counts,
                ],
                schema=_SCHEMA,
            )
            for field, values, counts in zip(self.fields, self.values, self.counts, strict=True)
        ]
        content = io.BytesIO()
        pq.write_table(pa.concat_tables(tables), content)
        storage.write_bytes(f"{folder_url}/vocabulary.parquet", content.getvalue())
        storage.write_json(
            f"{folder_url}/vocabulary.json",
            {
                "fingerprint": self.fingerprint,
                "fields": [
                    {**field.model_dump(), "num_ids": num_ids}
                    for field, num_ids in zip(self.fields, self.num_ids, strict=True)
                ],
            },
        )

    @classmethod
    def load(cls, folder_url: str) -> "Vocabulary":
        """Read what `save` wrote; UserError where a file is missing or is not what was written."""
        try:
            header = storage.read_json(f"{folder_url}/vocabulary.json")
            table = pq.read_table(io.BytesIO(storage.read_bytes(f"{folder_url}/vocabulary.parquet")))
            described = [{k: v for k, v in f.items() if k != "num_ids"} for f in header["fields"]]
            fields = FieldSet([Field.model_validate(field) for field in described])
            by_field = [table.filter(pc.equal(table.column("field"), name)) for name in fields.names]
            values = [known.column("value").combine_chunks() for known in by_field]
            counts = [known.column("count").combine_chunks() for known in by_field]
            expected = header["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{folder_url}: expected a vocabulary, found {error}; build the dataset again"
            ) from error
        vocabulary = cls(fields, values, counts)
        if vocabulary.fingerprint != expected:
            raise UserError(
                f"{folder_url}: expected a vocabulary with fingerprint {expected}, found "
                f"{vocabulary.fingerprint}; the file was changed: build the dataset again"
            )
        return vocabulary


def _fingerprint(fields: FieldSet, values: list[pa.Array]) -> str:
    """64 bits, as hex, of everything that decides an id: names, kinds, values and their order."""
    digest = hashlib.sha256()
    for field, known in zip(fields, values, strict=True):
        digest.update(f"{field.name}\x00{field.kind}\x00{len(known)}\x00".encode())
        for start in range(0, len(known), 1 << 16):
            part = known.slice(start, 1 << 16)
            digest.update(np.asarray(pc.binary_length(part), np.int64).tobytes())
            digest.update("".join(part.to_pylist()).encode())
    return digest.hexdigest()[:16]


class ValueCounts:
    """Counts values field by field, batch by batch, holding each distinct value once."""

    def __init__(self, fields: FieldSet):
        self._fields = fields
        self._parts: list[list[pa.Table]] = [[] for _ in fields]
        self.num_held = 0  # rows of all parts: distinct values and those not yet brought together

    def add(self, raw: pa.Table) -> None:
        """Count the typed columns of a batch (see parse.ParsedRows.raw); missing values are not counted."""
        for parts, field in zip(self._parts, self._fields, strict=True):
            values = raw.column(field.name).drop_null()
            if field.kind == "count":
                values = pa.array(bucketize(values))
            counted = pc.value_counts(values)
            part = pa.table(
                {"value": counted.field("values").cast(pa.string()), "num": counted.field("counts")}
            )
            parts.append(part)
            self.num_held += part.num_rows

    def compact(self) -> None:
        """Bring equal values of several batches together."""
        self._parts = [[_summed(parts)] if parts else [] for parts in self._parts]
        self.num_held = sum(part.num_rows for parts in self._parts for part in parts)

    def drain(self) -> list[tuple[int, pa.Table]]:
        """(field index, table (value, num)) of all that was counted, which is then forgotten."""
        self.compact()
        drained = [
            (index, part) for index, parts in enumerate(self._parts) for part in parts if part.num_rows
        ]
        self._parts, self.num_held = [[] for _ in self._fields], 0
        return drained


def _summed(parts: list[pa.Table]) -> pa.Table:
    summed = pa.concat_tables(parts).group_by("value").aggregate([("num", "sum")])
    return summed.select(["value", "num_sum"]).rename_columns(["value", "num"])
