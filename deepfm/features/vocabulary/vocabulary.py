"""Vocabulary: value -> id or number, field by field, learnt from the training days and from nothing else."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.features.kinds.quantiles import fit_boundaries
from deepfm.features.kinds.scaling import Moments, Scaling
from deepfm.features.vocabulary.stored import (
    CHUNK_SIZE,
    Header,
    ReadErrors,
    VocabularyChunk,
    changed_vocabulary,
    open_stored_vocabulary,
    unreadable_vocabulary,
    write_vocabulary,
)
from deepfm.fields import Field, FieldSet


@dataclass(frozen=True)
class VocabularySubset:
    """Of a vocabulary what the values of some rows need: an Encoder takes it in its place."""

    fields: FieldSet
    values: list[pa.Array]  # by field
    ids: dict[str, np.ndarray]  # by name, of fields that have some of their values here: the ids of these
    scalings: dict[str, Scaling]
    boundaries: dict[str, tuple[float, ...]]


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
        self.values = values  # a string array a field
        self.counts = counts  # an int64 array a field: impressions of the training days
        self.header = Header.of(fields, map(len, values), scalings, boundaries)
        self.fields, self.num_ids = fields, self.header.num_ids
        self.scalings, self.boundaries = self.header.scalings, self.header.boundaries

    @cached_property
    def fingerprint(self) -> str:
        """64 bits, as hex, of all that decides an id or x; see Header.fingerprint."""
        return self.header.fingerprint(self._pieces())

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
        """Of a table as `fit` takes it the values that it does not know, by value; they may become known."""
        parts = []
        for index, field in enumerate(self.fields):
            of_field = counts.filter(pc.equal(counts.column("field"), index))
            if field.kind != "quantile":
                is_known = pc.is_in(of_field.column("value"), value_set=self.values[index])
                parts.append(of_field.filter(pc.invert(is_known)))
        rare = pa.concat_tables(parts) if parts else counts.slice(0, 0)
        return rare.sort_by([("field", "ascending"), ("value", "ascending")])

    def save(self, folder_url: str) -> None:
        """Write vocabulary.parquet (field, value, id, count) and .json into a folder that exists."""
        write_vocabulary(folder_url, self.header, self.fingerprint, self._pieces())

    @classmethod
    def from_chunks(cls, header: Header, pieces: Iterable[VocabularyChunk]) -> "Vocabulary":
        """All known values in this process; the pieces come in order."""
        values: list[list[pa.Array]] = [[pa.array([], pa.string())] for _ in header.fields]
        counts: list[list[pa.Array]] = [[pa.array([], pa.int64())] for _ in header.fields]
        for piece in pieces:
            values[piece.field].append(piece.values)
            counts[piece.field].append(piece.counts)
        known, nums = ([pa.concat_arrays(parts) for parts in columns] for columns in (values, counts))
        return cls(header.fields, known, nums, header.scalings, header.boundaries)

    @classmethod
    def load(cls, folder_url: str) -> "Vocabulary":
        """Read what `save` wrote; UserError where a file is missing or is not what was written."""
        stored = open_stored_vocabulary(folder_url)
        try:
            vocabulary = cls.from_chunks(stored.header, stored.pieces())
        except ReadErrors as error:
            raise unreadable_vocabulary(folder_url, error) from error
        if vocabulary.fingerprint != stored.fingerprint:
            raise changed_vocabulary(folder_url, stored.fingerprint, vocabulary.fingerprint)
        return vocabulary

    def _pieces(self) -> Iterator[VocabularyChunk]:
        for index, (values, counts) in enumerate(zip(self.values, self.counts, strict=True)):
            for start in range(0, len(values), CHUNK_SIZE):
                yield VocabularyChunk(
                    index, start, values.slice(start, CHUNK_SIZE), counts.slice(start, CHUNK_SIZE)
                )


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
