"""Vocabulary: value -> id or number per field, fitted to the training days only."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
from deepfm.kinds import FittedField
from deepfm.kinds.quantile import fit_boundaries
from deepfm.kinds.scaling import Moments, Scaling


@dataclass(frozen=True)
class VocabularySubset:
    """The part of a vocabulary that some rows need; accepted by Encoder instead of a Vocabulary."""

    fields: FieldSet
    values: list[pa.Array]  # by field
    ids: dict[str, np.ndarray]  # by name, of fields with only some of their values here: ids of these values
    header: Header

    def fitted(self, index: int) -> FittedField:
        """Everything that is fitted for the field at `index`."""
        field = self.fields[index]
        return self.header.fitted(field, self.values[index], self.ids.get(field.name))


class Vocabulary:
    """The known values of every field, in the order of their ids.

    Id 0 is missing, 1 is unknown or rare, 2 is the most frequent known value, and so on: dense, ordered by
    descending count and then by value (UTF-8 order), so row order and partitions have no effect. With
    unknown_buckets k, unknown and rare values are hashed to the ids 1 to k, and known ones start at 1 + k.
    The values of a count field are its buckets, written as integers. A value field has a Scaling instead and
    two ids, missing and present. A quantile field has boundaries; its ids from 2 on are the buckets. Crossed
    fields (`buckets` ids), categories with hash_buckets (ids from 2 on are buckets) and time fields (fixed
    values and ids) have nothing to fit.
    """

    def __init__(
        self,
        fields: FieldSet,
        values: list[pa.Array],
        counts: list[pa.Array],
        scalings: Mapping[str, Scaling] | None = None,
        boundaries: Mapping[str, tuple[float, ...]] | None = None,
    ):
        self.values = values  # one string array per field
        self.counts = counts  # one int64 array per field: impressions of the training days
        self.header = Header.create(fields, map(len, values), scalings, boundaries)
        self.fields, self.num_ids = fields, self.header.num_ids
        self.scalings, self.boundaries = self.header.scalings, self.header.boundaries

    def fitted(self, index: int) -> FittedField:
        """Everything that is fitted for the field at `index`."""
        return self.header.fitted(self.fields[index], self.values[index])

    @cached_property
    def fingerprint(self) -> str:
        """64 bits in hex of everything that determines an id or x; see Header.fingerprint."""
        return self.header.fingerprint(self._chunks())

    @classmethod
    def fit(
        cls,
        fields: FieldSet,
        counts: pa.Table,
        moments: Mapping[int, Moments] | None = None,
        old: "Vocabulary | None" = None,
    ) -> "Vocabulary":
        """Fit to a table (field: index, value, num) with one row per value.

        Keeps values with at least `min_count` impressions, of these the `max_size` most frequent. `moments`:
        by index, of value fields. With `old`, which has the same fields, the vocabulary grows: all old values
        keep their ids, new ones follow, and counts are added. Fitted scalings and boundaries stay, because
        otherwise a bucket would change its meaning.
        """
        counts = counts.sort_by([("field", "ascending"), ("num", "descending"), ("value", "ascending")])
        values, value_counts, boundaries = [], [], {}
        for index, field in enumerate(fields):
            field_counts = counts.filter(pc.equal(counts.column("field"), index))
            if not field.behaviour.has_vocabulary and field.behaviour.uses_counts:
                if old is None:
                    boundaries[field.name] = fit_boundaries(
                        field_counts.column("value"), field_counts.column("num"), field.quantile_buckets
                    )
                field_counts = field_counts.slice(0, 0)
            known, known_counts = _known_values(field, field_counts, *(_old_values(old, index)))
            values.append(known)
            value_counts.append(known_counts)
        if old is not None:
            return cls(fields, values, value_counts, old.scalings, old.boundaries)
        scalings = {fields[index].name: Scaling.fit(moment) for index, moment in (moments or {}).items()}
        return cls(fields, values, value_counts, scalings, boundaries)

    def rare(self, counts: pa.Table) -> pa.Table:
        """Select the counts (as for `fit`) of values that are not known but may become so, by value."""
        parts = []
        for index, field in enumerate(self.fields):
            field_counts = counts.filter(pc.equal(counts.column("field"), index))
            if field.has_known_values:
                is_known = pc.is_in(field_counts.column("value"), value_set=self.values[index])
                parts.append(field_counts.filter(pc.invert(is_known)))
        rare = pa.concat_tables(parts) if parts else counts.slice(0, 0)
        return rare.sort_by([("field", "ascending"), ("value", "ascending")])

    def save(self, folder_url: str) -> None:
        """Write vocabulary.parquet (field, value, id, count) and vocabulary.json into an existing folder."""
        write_vocabulary(folder_url, self.header, self.fingerprint, self._chunks())

    @classmethod
    def from_chunks(cls, header: Header, chunks: Iterable[VocabularyChunk]) -> "Vocabulary":
        """Load all known values into this process; `chunks` must be in order."""
        values: list[list[pa.Array]] = [[pa.array([], pa.string())] for _ in header.fields]
        counts: list[list[pa.Array]] = [[pa.array([], pa.int64())] for _ in header.fields]
        for chunk in chunks:
            values[chunk.field].append(chunk.values)
            counts[chunk.field].append(chunk.counts)
        known, known_counts = ([pa.concat_arrays(parts) for parts in columns] for columns in (values, counts))
        return cls(header.fields, known, known_counts, header.scalings, header.boundaries)

    @classmethod
    def load(cls, folder_url: str) -> "Vocabulary":
        """Read what `save` wrote. Raise UserError if a file is missing or was changed."""
        stored = open_stored_vocabulary(folder_url)
        try:
            vocabulary = cls.from_chunks(stored.header, stored.chunks())
        except ReadErrors as error:
            raise unreadable_vocabulary(folder_url, error) from error
        if vocabulary.fingerprint != stored.fingerprint:
            raise changed_vocabulary(folder_url, stored.fingerprint, vocabulary.fingerprint)
        return vocabulary

    def _chunks(self) -> Iterator[VocabularyChunk]:
        for index, (values, counts) in enumerate(zip(self.values, self.counts, strict=True)):
            for start in range(0, len(values), CHUNK_SIZE):
                yield VocabularyChunk(
                    index, start, values.slice(start, CHUNK_SIZE), counts.slice(start, CHUNK_SIZE)
                )


def _old_values(old: Vocabulary | None, index: int) -> tuple[pa.Array, pa.Array]:
    if old is None:
        return pa.array([], pa.string()), pa.array([], pa.int64())
    return old.values[index], old.counts[index]


def _known_values(
    field: Field, counts: pa.Table, old_values: pa.Array, old_counts: pa.Array
) -> tuple[pa.Array, pa.Array]:
    """Old values followed by the new ones of `counts` (value, num; in order), and the count of each."""
    old_index = pc.index_in(counts.column("value"), value_set=old_values).combine_chunks()
    new = counts.filter(pc.and_(old_index.is_null(), pc.greater_equal(counts.column("num"), field.min_count)))
    if field.max_size:
        new = new.slice(0, max(field.max_size - len(old_values), 0))
    updated_counts, added = np.array(old_counts), np.asarray(counts.column("num"), np.int64)
    updated_counts[np.asarray(old_index.drop_null())] += added[np.asarray(old_index.is_valid())]
    values = [old_values, new.column("value").combine_chunks().cast(pa.string())]
    new_counts = new.column("num").combine_chunks().cast(pa.int64())
    return pa.concat_arrays(values), pa.concat_arrays([pa.array(updated_counts), new_counts])
