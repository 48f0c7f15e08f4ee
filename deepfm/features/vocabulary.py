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
from deepfm.features.scaling import Moments, Scaling
from deepfm.fields import FIRST_KNOWN_ID, PRESENT_ID, Field, FieldSet

_SCHEMA = pa.schema(
    [("field", pa.string()), ("value", pa.string()), ("id", pa.int32()), ("count", pa.int64())]
)


class Vocabulary:
    """The known values of every field, in the order of their ids.

    Id 0 is a missing value, 1 an unknown or rare one, 2 the most frequent known value, and so on: dense,
    by count descending and then by value (UTF-8 order), so the rows' order and partitions do not matter.
    A count's values are its buckets, written as integers. A field that enters by value has a Scaling in
    their place and two ids, missing and present; a crossed field has `buckets` ids and nothing to know, as
    has a category with hash_buckets, whose ids 2 and up are buckets.
    """

    def __init__(
        self,
        fields: FieldSet,
        values: list[pa.Array],
        counts: list[pa.Array],
        scalings: Mapping[str, Scaling] | None = None,
    ):
        self.fields = fields
        self.values = values  # a string array a field
        self.counts = counts  # an int64 array a field: impressions of the training days
        # By name, of the fields that enter by value; one without a training value is left as it is.
        known = scalings or {}
        self.scalings = {f.name: known.get(f.name, Scaling()) for f in fields if f.kind == "value"}
        self.num_ids = tuple(map(_num_ids, fields, values))
        self.fingerprint = _fingerprint(fields, values, self.scalings)

    @classmethod
    def fit(
        cls, fields: FieldSet, counts: pa.Table, moments: Mapping[int, Moments] | None = None
    ) -> "Vocabulary":
        """From a table (field: index, value, num), a row a value; keeps those seen `min_count` times.

        `moments`: by index, of the fields that enter by value.
        """
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
        scalings = {fields[index].name: Scaling.fit(found) for index, found in (moments or {}).items()}
        return cls(fields, values, nums, scalings)

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
                    {**field.model_dump(), "num_ids": num_ids, **self._scaling_to_json(field)}
                    for field, num_ids in zip(self.fields, self.num_ids, strict=True)
                ],
            },
        )

    def _scaling_to_json(self, field: Field) -> dict:
        return {"scaling": asdict(self.scalings[field.name])} if field.kind == "value" else {}

    @classmethod
    def load(cls, folder_url: str) -> "Vocabulary":
        """Read what `save` wrote; UserError where a file is missing or is not what was written."""
        try:
            header = storage.read_json(f"{folder_url}/vocabulary.json")
            table = pq.read_table(io.BytesIO(storage.read_bytes(f"{folder_url}/vocabulary.parquet")))
            learnt = {"num_ids", "scaling"}
            described = [{k: v for k, v in f.items() if k not in learnt} for f in header["fields"]]
            scalings = {f["name"]: Scaling(**f["scaling"]) for f in header["fields"] if "scaling" in f}
            fields = FieldSet([Field.model_validate(field) for field in described])
            by_field = [table.filter(pc.equal(table.column("field"), name)) for name in fields.names]
            values = [known.column("value").combine_chunks() for known in by_field]
            counts = [known.column("count").combine_chunks() for known in by_field]
            expected = header["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{folder_url}: expected a vocabulary, found {error}; build the dataset again"
            ) from error
        vocabulary = cls(fields, values, counts, scalings)
        if vocabulary.fingerprint != expected:
            raise UserError(
                f"{folder_url}: expected a vocabulary with fingerprint {expected}, found "
                f"{vocabulary.fingerprint}; the file was changed: build the dataset again"
            )
        return vocabulary


def _num_ids(field: Field, values: pa.Array) -> int:
    if field.kind == "cross":
        return field.buckets
    if field.kind == "value":
        return PRESENT_ID + 1
    return FIRST_KNOWN_ID + (field.hash_buckets or len(values))


def _fingerprint(fields: FieldSet, values: list[pa.Array], scalings: Mapping[str, Scaling]) -> str:
    """64 bits, as hex, of all that decides an id or x: names, kinds, values in order, scalings, crosses."""
    digest = hashlib.sha256()
    for field, known in zip(fields, values, strict=True):
        digest.update(f"{field.name}\x00{field.kind}\x00{len(known)}\x00".encode())
        for start in range(0, len(known), 1 << 16):
            part = known.slice(start, 1 << 16)
            digest.update(np.asarray(pc.binary_length(part), np.int64).tobytes())
            digest.update("".join(part.to_pylist()).encode())
        if field.kind == "value":
            scaling = scalings[field.name]
            digest.update(f"{field.scale}\x00{scaling.mean!r}\x00{scaling.std!r}\x00".encode())
        elif field.kind == "cross":
            digest.update("\x00".join([*field.parts, str(field.buckets), ""]).encode())
        elif field.hash_buckets:
            digest.update(f"hash\x00{field.hash_buckets}\x00".encode())
    return digest.hexdigest()[:16]
