"""A vocabulary too large for one process: chunks in the scratch folder of the build that fitted it."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.features.vocabulary.stored import Header, VocabularyChunk, write_vocabulary
from deepfm.features.vocabulary.vocabulary import Vocabulary, VocabularySubset
from deepfm.fields import Field, FieldSet
from deepfm.kinds import FittedField
from deepfm.kinds.dictionary import dictionary_encode
from deepfm.kinds.scaling import Scaling
from deepfm.spark.scratch import read_table

#: Known values that are kept in memory per category or list: the first ones.
NUM_CACHED_VALUES = 4096
#: Number of tables whose distinct values are buffered before they are merged.
_MAX_UNMERGED_TABLES = 8


@dataclass(frozen=True)
class StoredChunk:
    """A table (value, num) of consecutive known values of a field."""

    field: int  # index
    start: int  # number of known values of the field before it
    name: str  # in the scratch folder


@dataclass
class ChunkedVocabulary:
    """Replacement for Vocabulary while a dataset is built; `values` are the first values of each field."""

    header: Header
    scratch_url: str
    chunks: tuple[StoredChunk, ...]  # in the order of fields and ids
    values: list[pa.Array] = dataclasses.field(init=False)

    def __post_init__(self):
        cached: list[list[pa.Array]] = [[pa.array([], pa.string())] for _ in self.header.fields]
        for chunk in self.chunks:
            # Counts need all values: they are few, and rows hold counts, not the texts of the buckets.
            if self.fields[chunk.field].behaviour.is_bucketed:
                cached[chunk.field].append(self._read(chunk).values)
            elif chunk.start == 0:
                cached[chunk.field].append(self._read(chunk).values.slice(0, NUM_CACHED_VALUES))
        self.values = [pa.concat_arrays(parts) for parts in cached]

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the equal Vocabulary; reads all chunks once."""
        return self.header.fingerprint(map(self._read, self.chunks))

    @property
    def fields(self) -> FieldSet:
        return self.header.fields

    @property
    def num_ids(self) -> tuple[int, ...]:
        return self.header.num_ids

    @property
    def scalings(self) -> dict[str, Scaling]:
        return self.header.scalings

    @property
    def boundaries(self) -> dict[str, tuple[float, ...]]:
        return self.header.boundaries

    def fitted(self, index: int) -> FittedField:
        """Everything that is fitted for the field at `index`, with the first of its values."""
        return self.header.fitted(self.fields[index], self.values[index])

    def save(self, folder_url: str) -> None:
        """Write the same files as Vocabulary.save, byte for byte."""
        write_vocabulary(folder_url, self.header, self.fingerprint, map(self._read, self.chunks))

    def subset(self, tables: Iterable[pa.Table]) -> VocabularySubset:
        """Select the values that some rows (see parse.ParsedRows.raw) need, reading one chunk at a time."""
        incomplete = [
            (index, field)
            for index, field in enumerate(self.fields)
            if self.header.num_known[index] > len(self.values[index])
        ]
        distinct = _distinct_values(tables, [field for _, field in incomplete]) if incomplete else {}
        values, ids = list(self.values), {}
        for index, field in incomplete:
            texts = distinct[field.name]
            positions = np.full(len(texts), -1, np.int64)
            for chunk in self.chunks:
                if chunk.field == index:
                    known = self._read(chunk).values
                    matches = pc.index_in(known, value_set=texts)
                    is_match = np.asarray(matches.is_valid())
                    positions[np.asarray(matches.drop_null())] = chunk.start + np.flatnonzero(is_match)
            values[index] = texts.filter(pa.array(positions >= 0))
            ids[field.name] = (field.first_known_id + positions[positions >= 0]).astype(np.int32)
        return VocabularySubset(self.fields, values, ids, self.header)

    def to_vocabulary(self) -> Vocabulary:
        """Load all values into this process."""
        return Vocabulary.from_chunks(self.header, map(self._read, self.chunks))

    def _read(self, chunk: StoredChunk) -> VocabularyChunk:
        table = read_table(self.scratch_url, chunk.name).combine_chunks()
        values, counts = (table.column(name).combine_chunks() for name in ("value", "num"))
        return VocabularyChunk(chunk.field, chunk.start, values, counts)


#: The vocabulary of a build, in memory or chunked.
AnyVocabulary = Vocabulary | ChunkedVocabulary


def _distinct_values(tables: Iterable[pa.Table], fields: list[Field]) -> dict[str, pa.Array]:
    """Distinct values of each field's column."""
    parts: dict[str, list[pa.Array]] = {field.name: [pa.array([], pa.string())] for field in fields}
    for table in tables:
        for field in fields:
            column = table.column(field.name)
            column, _ = field.behaviour.countable_values(column, field)
            texts = parts[field.name]
            texts.append(dictionary_encode(column).dictionary.cast(pa.string()))
            if len(texts) > _MAX_UNMERGED_TABLES:
                texts[:] = [pc.unique(pa.chunked_array(texts))]
    return {name: pc.unique(pa.chunked_array(texts)).drop_null() for name, texts in parts.items()}
