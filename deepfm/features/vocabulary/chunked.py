"""A vocabulary whose values no process holds: in pieces in the scratch folder of the build that learnt it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepfm.click_log.lists import first_values
from deepfm.features.dictionary import dictionary_encoded
from deepfm.features.kinds.scaling import Scaling
from deepfm.features.vocabulary.stored import Header, VocabularyChunk, write_vocabulary
from deepfm.features.vocabulary.vocabulary import Vocabulary, VocabularySubset
from deepfm.fields import Field, FieldSet
from deepfm.spark.scratch import read_table

#: Of a category or list with more known values only so many, the first ones, are held.
NUM_HELD = 4096
#: Tables whose distinct values are held before those they share are brought together.
_HELD_APART = 8


@dataclass(frozen=True)
class StoredChunk:
    """A table (value, num) of consecutive known values of a field."""

    field: int  # index
    start: int  # how many known values of the field come before
    name: str  # in the scratch folder


@dataclass
class ChunkedVocabulary:
    """In the place of a Vocabulary while a dataset is built; `values` are each field's first ones."""

    header: Header
    scratch_url: str
    pieces: tuple[StoredChunk, ...]  # in the order of fields and ids
    values: list[pa.Array] = field(init=False)

    def __post_init__(self):
        held: list[list[pa.Array]] = [[pa.array([], pa.string())] for _ in self.header.fields]
        for piece in self.pieces:
            # All of a count's: they are few, and rows do not hold their texts, which are buckets.
            if self.fields[piece.field].kind == "count":
                held[piece.field].append(self._read(piece).values)
            elif piece.start == 0:
                held[piece.field].append(self._read(piece).values.slice(0, NUM_HELD))
        self.values = [pa.concat_arrays(parts) for parts in held]

    @cached_property
    def fingerprint(self) -> str:
        """As a Vocabulary's; all pieces are read for it, once."""
        return self.header.fingerprint(map(self._read, self.pieces))

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

    def save(self, folder_url: str) -> None:
        """Write the files that Vocabulary.save writes, byte for byte."""
        write_vocabulary(folder_url, self.header, self.fingerprint, map(self._read, self.pieces))

    def part(self, tables: Iterable[pa.Table]) -> VocabularySubset:
        """What the values of some rows (see parse.ParsedRows.raw) need; reads a piece at a time."""
        cut = [
            (index, of_field)
            for index, of_field in enumerate(self.fields)
            if self.header.num_known[index] > len(self.values[index])
        ]
        distinct = _distinct(tables, [of_field for _, of_field in cut]) if cut else {}
        values, ids = list(self.values), {}
        for index, of_field in cut:
            texts = distinct[of_field.name]
            places = np.full(len(texts), -1, np.int64)
            for piece in self.pieces:
                if piece.field == index:
                    known = self._read(piece).values
                    found = pc.index_in(known, value_set=texts)
                    is_found = np.asarray(found.is_valid())
                    places[np.asarray(found.drop_null())] = piece.start + np.flatnonzero(is_found)
            values[index] = texts.filter(pa.array(places >= 0))
            ids[of_field.name] = (of_field.first_known_id + places[places >= 0]).astype(np.int32)
        return VocabularySubset(self.fields, values, ids, self.scalings, self.boundaries)

    def whole(self) -> Vocabulary:
        """All of it in this process."""
        return Vocabulary.from_chunks(self.header, map(self._read, self.pieces))

    def _read(self, piece: StoredChunk) -> VocabularyChunk:
        table = read_table(self.scratch_url, piece.name).combine_chunks()
        values, counts = (table.column(name).combine_chunks() for name in ("value", "num"))
        return VocabularyChunk(piece.field, piece.start, values, counts)


#: What a dataset is built with.
AnyVocabulary = Vocabulary | ChunkedVocabulary


def _distinct(tables: Iterable[pa.Table], fields: list[Field]) -> dict[str, pa.Array]:
    """By field the distinct values in its columns."""
    parts: dict[str, list[pa.Array]] = {field.name: [pa.array([], pa.string())] for field in fields}
    for table in tables:
        for of_field in fields:
            column = table.column(of_field.name)
            if of_field.kind == "list":
                column = first_values(column, of_field.max_values).values
            texts = parts[of_field.name]
            texts.append(dictionary_encoded(column).dictionary.cast(pa.string()))
            if len(texts) > _HELD_APART:
                texts[:] = [pc.unique(pa.chunked_array(texts))]
    return {name: pc.unique(pa.chunked_array(texts)).drop_null() for name, texts in parts.items()}
