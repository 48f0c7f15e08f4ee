"""A vocabulary on disk, in pieces: vocabulary.json says what is learnt, vocabulary.parquet has the values.

Written, read and checked a piece at a time, so that no process has to hold all values of all fields.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deepfm import storage
from deepfm.click_log.times import NUM_VALUES
from deepfm.errors import UserError
from deepfm.features.kinds.scaling import Scaling
from deepfm.fields import PRESENT_ID, Field, FieldSet

#: Values of a piece at the most.
CHUNK_SIZE = 1 << 18
#: Values that the fingerprint takes at a time.
_DIGESTED = 1 << 16
_HEADER, _VALUES = "vocabulary.json", "vocabulary.parquet"
_SCHEMA = pa.schema(
    [("field", pa.string()), ("value", pa.string()), ("id", pa.int32()), ("count", pa.int64())]
)


class VocabularyChunk(NamedTuple):
    """Known values of one field, one after the other in the order of their ids."""

    field: int  # index
    start: int  # how many known values of the field come before
    values: pa.Array  # strings
    counts: pa.Array  # int64: impressions of the training days


@dataclass(frozen=True)
class Header:
    """All that is learnt but the values themselves."""

    fields: FieldSet
    num_known: tuple[int, ...]  # by field
    scalings: dict[str, Scaling]  # by name, of the fields that enter by value
    boundaries: dict[str, tuple[float, ...]]  # by name, of quantiles: see quantiles.fit_boundaries

    @classmethod
    def of(
        cls,
        fields: FieldSet,
        num_known: Iterable[int],
        scalings: Mapping[str, Scaling] | None = None,
        boundaries: Mapping[str, tuple[float, ...]] | None = None,
    ) -> "Header":
        """With what is not known of a field filled in: a value is then left as it is, a quantile not cut."""
        scalings, boundaries = scalings or {}, boundaries or {}
        return cls(
            fields,
            tuple(num_known),
            {f.name: scalings.get(f.name, Scaling()) for f in fields if f.kind == "value"},
            {f.name: boundaries.get(f.name, ()) for f in fields if f.kind == "quantile"},
        )

    @property
    def num_ids(self) -> tuple[int, ...]:
        return tuple(map(self._num_ids, self.fields, self.num_known))

    def _num_ids(self, field: Field, num_known: int) -> int:
        if field.kind == "cross":
            return field.buckets
        if field.kind == "value":
            return PRESENT_ID + 1
        if field.kind == "time":
            return field.first_known_id + NUM_VALUES[field.name]
        if field.kind == "quantile":
            return field.first_known_id + len(self.boundaries[field.name]) + 1
        return field.first_known_id + (field.hash_buckets or num_known)

    def fingerprint(self, pieces: Iterable[VocabularyChunk]) -> str:
        """64 bits, as hex, of all that decides an id or x: names, kinds, values in order, and so on.

        `pieces` come in the order of the fields and their ids, as many values of each as `num_known` says.
        """
        digest, pieces = hashlib.sha256(), iter(pieces)
        for index, (field, num_known) in enumerate(zip(self.fields, self.num_known, strict=True)):
            digest.update(f"{field.name}\x00{field.kind}\x00{num_known}\x00".encode())
            for part in _in_order(pieces, index, num_known):
                digest.update(np.asarray(pc.binary_length(part), np.int64).tobytes())
                digest.update("".join(part.to_pylist()).encode())
            digest.update("".join(f"{said}\x00" for said in self._said_of(field)).encode())
        return digest.hexdigest()[:16]

    def _said_of(self, field: Field) -> list:
        """What decides the field's ids or x beside its known values."""
        if field.kind == "value":
            scaling = self.scalings[field.name]
            return [field.scale, repr(scaling.mean), repr(scaling.std)]
        if field.kind == "cross":
            return [*field.parts, field.buckets]
        if field.kind == "quantile":
            return [*map(repr, self.boundaries[field.name]), "end"]
        if field.kind == "list":
            rest = (field.pooling, field.unknown_buckets, field.hash_buckets)
            return [field.separator, field.max_values, *rest]
        if field.kind == "time":
            return [field.source, field.time_format]
        if field.unknown_buckets != 1:
            return ["unknown", field.unknown_buckets]
        return ["hash", field.hash_buckets] if field.hash_buckets else []

    def document(self, fingerprint: str) -> dict:
        """What vocabulary.json says."""
        return {
            "fingerprint": fingerprint,
            "fields": [
                {**field.model_dump(), "num_ids": num_ids, **self._learnt_numbers(field)}
                for field, num_ids in zip(self.fields, self.num_ids, strict=True)
            ],
        }

    def _learnt_numbers(self, field: Field) -> dict:
        if field.kind == "quantile":
            return {"boundaries": self.boundaries[field.name]}
        return {"scaling": asdict(self.scalings[field.name])} if field.kind == "value" else {}


def write_vocabulary(
    folder_url: str, header: Header, fingerprint: str, pieces: Iterable[VocabularyChunk]
) -> None:
    """Write both files into a folder that exists; the pieces in order, a row group each."""
    with storage.writing(f"{folder_url}/{_VALUES}") as file, pq.ParquetWriter(file, _SCHEMA) as writer:
        for piece in pieces:
            of_field, num_values = header.fields[piece.field], len(piece.values)
            first_id = of_field.first_known_id + piece.start
            columns = [
                pa.array([of_field.name] * num_values, pa.string()),
                piece.values,
                pa.array(first_id + np.arange(num_values, dtype=np.int32)),
                piece.counts,
            ]
            writer.write_table(pa.table(columns, schema=_SCHEMA), row_group_size=CHUNK_SIZE)
    storage.write_json(f"{folder_url}/{_HEADER}", header.document(fingerprint))


@dataclass(frozen=True)
class StoredVocabulary:
    """A vocabulary that lies in a folder."""

    url: str
    header: Header
    fingerprint: str  # as vocabulary.json says; see `check`

    @property
    def num_known(self) -> int:
        return sum(self.header.num_known)

    @property
    def num_row_groups(self) -> int:
        with _opened(self.url) as parquet:
            return parquet.num_row_groups

    def pieces(self, row_groups: Iterable[int] | None = None) -> Iterator[VocabularyChunk]:
        """All pieces in order, or those of some row groups."""
        with _opened(self.url) as parquet:
            for group in range(parquet.num_row_groups) if row_groups is None else row_groups:
                table = parquet.read_row_group(group, _SCHEMA.names).cast(_SCHEMA).combine_chunks()
                yield from _pieces_of(table, self.header.fields)

    def check(self) -> None:
        """UserError where the values are not those that were written."""
        try:
            found = self.header.fingerprint(self.pieces())
        except ReadErrors as error:
            raise unreadable_vocabulary(self.url, error) from error
        if found != self.fingerprint:
            raise changed_vocabulary(self.url, self.fingerprint, found)


#: What reading a vocabulary raises where it is missing or something else.
ReadErrors = (OSError, ValueError, KeyError, TypeError, AttributeError)


def unreadable_vocabulary(url: str, error: Exception) -> UserError:
    return UserError(f"{url}: expected a vocabulary, found {error}; build the dataset again")


def changed_vocabulary(url: str, expected: str, found: str) -> UserError:
    return UserError(
        f"{url}: expected a vocabulary with fingerprint {expected}, found {found}; the file was changed: "
        "build the dataset again"
    )


def open_stored_vocabulary(folder_url: str) -> StoredVocabulary:
    """The vocabulary in a folder, of which only vocabulary.json is read; UserError where that is none."""
    try:
        document = storage.read_json(f"{folder_url}/{_HEADER}")
        fields, fingerprint = document["fields"], document["fingerprint"]
        learnt = {"num_ids", "scaling", "boundaries"}
        described = [{k: v for k, v in field.items() if k not in learnt} for field in fields]
        scalings = {field["name"]: Scaling(**field["scaling"]) for field in fields if "scaling" in field}
        boundaries = {field["name"]: tuple(field["boundaries"]) for field in fields if "boundaries" in field}
        known = FieldSet([Field.model_validate(field) for field in described])
        nums = [
            said["num_ids"] - field.first_known_id if field.has_known_values else 0
            for field, said in zip(known, fields, strict=True)
        ]
    except ReadErrors as error:
        raise unreadable_vocabulary(folder_url, error) from error
    return StoredVocabulary(folder_url, Header.of(known, nums, scalings, boundaries), fingerprint)


@contextmanager
def _opened(folder_url: str) -> Iterator[pq.ParquetFile]:
    with storage.opened(f"{folder_url}/{_VALUES}") as file:
        yield pq.ParquetFile(file)


def _in_order(pieces: Iterator[VocabularyChunk], index: int, num_known: int) -> Iterator[pa.Array]:
    """The next `num_known` values, which must be those of a field from its first on, _DIGESTED at a time."""
    held, num_seen = pa.array([], pa.string()), 0
    while num_seen < num_known:
        piece = next(pieces, None)
        if piece is None or (piece.field, piece.start) != (index, num_seen):
            raise ValueError(f"not all of {num_known} values of a field, or not in order")
        num_seen += len(piece.values)
        held = pa.concat_arrays([held, piece.values])
        while len(held) >= _DIGESTED:
            yield held.slice(0, _DIGESTED)
            held = held.slice(_DIGESTED)
    if len(held):
        yield held


def _pieces_of(table: pa.Table, fields: FieldSet) -> Iterator[VocabularyChunk]:
    """A row group may hold the values of several fields, one field after the other, or none."""
    if not table.num_rows:
        return
    places = {name: index for index, name in enumerate(fields.names)}
    names = table.column("field").combine_chunks().dictionary_encode()
    codes = np.asarray(names.indices)
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(codes)], strict=True):
        index = places[names.dictionary[codes[start]].as_py()]
        of_field = table.slice(start, stop - start).combine_chunks()
        values, counts = (of_field.column(name).combine_chunks() for name in ("value", "count"))
        first_id = of_field.column("id")[0].as_py()
        yield VocabularyChunk(index, first_id - fields[index].first_known_id, values, counts)
