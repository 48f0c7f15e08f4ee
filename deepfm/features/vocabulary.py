"""Vocabulary: value -> id or number, field by field, learnt from the training days and from nothing else."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deepfm import storage
from deepfm.errors import UserError
from deepfm.features.quantiles import fit_boundaries
from deepfm.features.scaling import Moments, Scaling
from deepfm.features.times import NUM_VALUES
from deepfm.fields import PRESENT_ID, Field, FieldSet

_SCHEMA = pa.schema(
    [("field", pa.string()), ("value", pa.string()), ("id", pa.int32()), ("count", pa.int64())]
)


class Vocabulary:
    """The known values of every field, in the order of their ids.

    Id 0 is a missing value, 1 an unknown or rare one, 2 the most frequent known value, and so on: dense,
    by count descending and then by value (UTF-8 order), so the rows' order and partitions do not matter.
    With unknown_buckets k the ids 1 to k are for unknown and rare values, by their hash; 1 + k comes next.
    A count's values are its buckets, written as integers. A field that enters by value has a Scaling in
    their place and two ids, missing and present. A quantile has boundaries, and its ids 2 and up are the
    buckets between them. A crossed field has `buckets` ids and nothing to know, as has a category with
    hash_buckets, whose ids 2 and up are buckets, and a time, whose values and ids are always the same.
    """

    def __init__(
        self,
        fields: FieldSet,
        values: list[pa.Array],
        counts: list[pa.Array],
        scalings: Mapping[str, Scaling] | None = None,
        boundaries: Mapping[str, tuple[float, ...]] | None = None,
    ):
        self.fields = fields
        self.values = values  # a string array a field
        self.counts = counts  # an int64 array a field: impressions of the training days
        # By name, of the fields that enter by value; one without a training value is left as it is.
        known = scalings or {}
        self.scalings = {f.name: known.get(f.name, Scaling()) for f in fields if f.kind == "value"}
        # By name, of quantiles: see quantiles.fit_boundaries.
        known_boundaries = boundaries or {}
        self.boundaries = {f.name: known_boundaries.get(f.name, ()) for f in fields if f.kind == "quantile"}
        self.num_ids = tuple(map(self._num_ids, fields, values))
        self.fingerprint = self._fingerprint()

    @classmethod
    def fit(
        cls,
        fields: FieldSet,
        counts: pa.Table,
        moments: Mapping[int, Moments] | None = None,
        old: "Vocabulary | None" = None,
    ) -> "Vocabulary":
        """From a table (field: index, value, num), a row a value; keeps those seen `min_count` times, the
        `max_size` most frequent of them.

        `moments`: by index, of the fields that enter by value. With `old`, of the same fields, it grows: all
        its values keep their ids and new ones follow, whose counts are added to its own; what it learnt of
        numbers stays as it is, or a bucket would mean something else.
        """
        counts = counts.sort_by([("field", "ascending"), ("num", "descending"), ("value", "ascending")])
        values, nums, boundaries = [], [], {}
        for index, field in enumerate(fields):
            of_field = counts.filter(pc.equal(counts.column("field"), index))
            if field.kind == "quantile":
                if old is None:
                    boundaries[field.name] = fit_boundaries(
                        of_field.column("value"), of_field.column("num"), field.quantile_buckets
                    )
                of_field = of_field.slice(0, 0)
            known, known_nums = _known(field, of_field, *(_of_old(old, index)))
            values.append(known)
            nums.append(known_nums)
        if old is not None:
            return cls(fields, values, nums, old.scalings, old.boundaries)
        scalings = {fields[index].name: Scaling.fit(found) for index, found in (moments or {}).items()}
        return cls(fields, values, nums, scalings, boundaries)

    def rare(self, counts: pa.Table) -> pa.Table:
        """Of a table as `fit` takes it the values that it does not know: they may become known later."""
        parts = []
        for index, field in enumerate(self.fields):
            of_field = counts.filter(pc.equal(counts.column("field"), index))
            if field.kind != "quantile":
                is_known = pc.is_in(of_field.column("value"), value_set=self.values[index])
                parts.append(of_field.filter(pc.invert(is_known)))
        return pa.concat_tables(parts) if parts else counts.slice(0, 0)

    def save(self, folder_url: str) -> None:
        """Write vocabulary.parquet (field, value, id, count) and .json into a folder that exists."""
        tables = [
            pa.table(
                [
                    pa.array([field.name] * len(values), pa.string()),
                    values,
                    pa.array(field.first_known_id + np.arange(len(values), dtype=np.int32)),
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
                    {**field.model_dump(), "num_ids": num_ids, **self._learnt_numbers(field)}
                    for field, num_ids in zip(self.fields, self.num_ids, strict=True)
                ],
            },
        )

    def _learnt_numbers(self, field: Field) -> dict:
        if field.kind == "quantile":
            return {"boundaries": self.boundaries[field.name]}
        return {"scaling": asdict(self.scalings[field.name])} if field.kind == "value" else {}

    @classmethod
    def load(cls, folder_url: str) -> "Vocabulary":
        """Read what `save` wrote; UserError where a file is missing or is not what was written."""
        try:
            header = storage.read_json(f"{folder_url}/vocabulary.json")
            table = pq.read_table(io.BytesIO(storage.read_bytes(f"{folder_url}/vocabulary.parquet")))
            learnt = {"num_ids", "scaling", "boundaries"}
            described = [{k: v for k, v in f.items() if k not in learnt} for f in header["fields"]]
            scalings = {f["name"]: Scaling(**f["scaling"]) for f in header["fields"] if "scaling" in f}
            boundaries = {f["name"]: tuple(f["boundaries"]) for f in header["fields"] if "boundaries" in f}
            fields = FieldSet([Field.model_validate(field) for field in described])
            by_field = [table.filter(pc.equal(table.column("field"), name)) for name in fields.names]
            values = [known.column("value").combine_chunks() for known in by_field]
            counts = [known.column("count").combine_chunks() for known in by_field]
            expected = header["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{folder_url}: expected a vocabulary, found {error}; build the dataset again"
            ) from error
        vocabulary = cls(fields, values, counts, scalings, boundaries)
        if vocabulary.fingerprint != expected:
            raise UserError(
                f"{folder_url}: expected a vocabulary with fingerprint {expected}, found "
                f"{vocabulary.fingerprint}; the file was changed: build the dataset again"
            )
        return vocabulary

    def _num_ids(self, field: Field, values: pa.Array) -> int:
        if field.kind == "cross":
            return field.buckets
        if field.kind == "value":
            return PRESENT_ID + 1
        if field.kind == "time":
            return field.first_known_id + NUM_VALUES[field.name]
        if field.kind == "quantile":
            return field.first_known_id + len(self.boundaries[field.name]) + 1
        return field.first_known_id + (field.hash_buckets or len(values))

    def _fingerprint(self) -> str:
        """64 bits, as hex, of all that decides an id or x: names, kinds, values in order, and so on."""
        digest = hashlib.sha256()
        for field, known in zip(self.fields, self.values, strict=True):
            digest.update(f"{field.name}\x00{field.kind}\x00{len(known)}\x00".encode())
            for start in range(0, len(known), 1 << 16):
                part = known.slice(start, 1 << 16)
                digest.update(np.asarray(pc.binary_length(part), np.int64).tobytes())
                digest.update("".join(part.to_pylist()).encode())
            if field.kind == "value":
                scaling = self.scalings[field.name]
                digest.update(f"{field.scale}\x00{scaling.mean!r}\x00{scaling.std!r}\x00".encode())
            elif field.kind == "cross":
                digest.update("\x00".join([*field.parts, str(field.buckets), ""]).encode())
            elif field.kind == "quantile":
                digest.update("\x00".join([*map(repr, self.boundaries[field.name]), "end", ""]).encode())
            elif field.kind == "list":
                digest.update(f"{field.separator}\x00{field.max_values}\x00{field.pooling}\x00".encode())
                digest.update(f"{field.unknown_buckets}\x00{field.hash_buckets}\x00".encode())
            elif field.kind == "time":
                digest.update(f"{field.source}\x00{field.time_format}\x00".encode())
            elif field.unknown_buckets != 1:
                digest.update(f"unknown\x00{field.unknown_buckets}\x00".encode())
            elif field.hash_buckets:
                digest.update(f"hash\x00{field.hash_buckets}\x00".encode())
        return digest.hexdigest()[:16]


def _of_old(old: Vocabulary | None, index: int) -> tuple[pa.Array, pa.Array]:
    if old is None:
        return pa.array([], pa.string()), pa.array([], pa.int64())
    return old.values[index], old.counts[index]


def _known(
    field: Field, counts: pa.Table, old_values: pa.Array, old_counts: pa.Array
) -> tuple[pa.Array, pa.Array]:
    """The old values, then those of `counts` (value, num; in order) that are new; how often each was seen."""
    of_old = pc.index_in(counts.column("value"), value_set=old_values).combine_chunks()
    new = counts.filter(pc.and_(of_old.is_null(), pc.greater_equal(counts.column("num"), field.min_count)))
    if field.max_size:
        new = new.slice(0, max(field.max_size - len(old_values), 0))
    nums, seen = np.array(old_counts), np.asarray(counts.column("num"), np.int64)
    nums[np.asarray(of_old.drop_null())] += seen[np.asarray(of_old.is_valid())]
    values = [old_values, new.column("value").combine_chunks().cast(pa.string())]
    return pa.concat_arrays(values), pa.concat_arrays(
        [pa.array(nums), new.column("num").combine_chunks().cast(pa.int64())]
    )
