"""Storage of a vocabulary: vocabulary.json with fields and fitted numbers, vocabulary.parquet with values.

Written, read and checked in chunks, so that no process has to hold all values of all fields.
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
from deepfm.errors import UserError
from deepfm.fields import Field, FieldSet
from deepfm.kinds import FittedField
from deepfm.kinds.scaling import Scaling

#: Maximum number of values in a chunk.
CHUNK_SIZE = 1 << 18
#: Number of values that the fingerprint hashes at a time.
_DIGEST_SIZE = 1 << 16
_NO_VALUES = pa.array([], pa.string())
_HEADER, _VALUES = "vocabulary.json", "vocabulary.parquet"
_SCHEMA = pa.schema(
    [("field", pa.string()), ("value", pa.string()), ("id", pa.int32()), ("count", pa.int64())]
)


class VocabularyChunk(NamedTuple):
    """Consecutive known values of one field, in the order of their ids."""

    field: int  # index
    start: int  # number of known values of the field before it
    values: pa.Array  # strings
    counts: pa.Array  # int64: impressions of the training days


@dataclass(frozen=True)
class Header:
    """Everything that is fitted except the values themselves."""

    fields: FieldSet
    num_known: tuple[int, ...]  # by field
    scalings: dict[str, Scaling]  # by name, of value fields
    boundaries: dict[str, tuple[float, ...]]  # by name, of quantiles: see quantiles.fit_boundaries

    @classmethod
    def create(
        cls,
        fields: FieldSet,
        num_known: Iterable[int],
        scalings: Mapping[str, Scaling] | None = None,
        boundaries: Mapping[str, tuple[float, ...]] | None = None,
    ) -> "Header":
        """Make a header with defaults for what is not given: identity scaling, a single quantile bucket."""
        scalings, boundaries = scalings or {}, boundaries or {}
        return cls(
            fields,
            tuple(num_known),
            {f.name: scalings.get(f.name, Scaling()) for f in fields if f.is_value},
            {f.name: boundaries.get(f.name, ()) for f in fields if _has_boundaries(f)},
        )

    @property
    def num_ids(self) -> tuple[int, ...]:
        return tuple(map(self._num_ids, self.fields, self.num_known))

    def _num_ids(self, field: Field, num_known: int) -> int:
        return field.behaviour.num_ids(field, num_known, self.boundaries.get(field.name, ()))

    def fitted(self, field: Field, values: pa.Array, subset_ids: np.ndarray | None = None) -> FittedField:
        """Everything that is fitted for a field, with its known values."""
        scaling, boundaries = self.scalings.get(field.name), self.boundaries.get(field.name, ())
        return FittedField(values, subset_ids, scaling, boundaries)

    def fingerprint(self, chunks: Iterable[VocabularyChunk]) -> str:
        """64 bits in hex of everything that determines an id or x: names, kinds, values in order, and so on.

        `chunks` are in the order of fields and ids, with `num_known` values per field.
        """
        digest, chunks = hashlib.sha256(), iter(chunks)
        for index, (field, num_known) in enumerate(zip(self.fields, self.num_known, strict=True)):
            digest.update(f"{field.name}\x00{field.kind}\x00{num_known}\x00".encode())
            for part in _consecutive_values(chunks, index, num_known):
                digest.update(np.asarray(pc.binary_length(part), np.int64).tobytes())
                digest.update("".join(part.to_pylist()).encode())
            settings = field.behaviour.digest_settings(field, self.fitted(field, _NO_VALUES))
            digest.update("".join(f"{setting}\x00" for setting in settings).encode())
        return digest.hexdigest()[:16]

    def to_document(self, fingerprint: str) -> dict:
        """Content of vocabulary.json."""
        return {
            "fingerprint": fingerprint,
            "fields": [
                {**field.model_dump(), "num_ids": num_ids, **self._fitted_numbers(field)}
                for field, num_ids in zip(self.fields, self.num_ids, strict=True)
            ],
        }

    def _fitted_numbers(self, field: Field) -> dict:
        if field.name in self.boundaries:
            return {"boundaries": self.boundaries[field.name]}
        return {"scaling": asdict(self.scalings[field.name])} if field.name in self.scalings else {}


def _has_boundaries(field: Field) -> bool:
    return field.behaviour.uses_counts and not field.behaviour.has_vocabulary


def write_vocabulary(
    folder_url: str, header: Header, fingerprint: str, chunks: Iterable[VocabularyChunk]
) -> None:
    """Write both files into an existing folder, with one row group per chunk."""
    with storage.atomic_writer(f"{folder_url}/{_VALUES}") as file, pq.ParquetWriter(file, _SCHEMA) as writer:
        for chunk in chunks:
            field, num_values = header.fields[chunk.field], len(chunk.values)
            first_id = field.first_known_id + chunk.start
            columns = [
                pa.array([field.name] * num_values, pa.string()),
                chunk.values,
                pa.array(first_id + np.arange(num_values, dtype=np.int32)),
                chunk.counts,
            ]
            writer.write_table(pa.table(columns, schema=_SCHEMA), row_group_size=CHUNK_SIZE)
    storage.write_json(f"{folder_url}/{_HEADER}", header.to_document(fingerprint))


@dataclass(frozen=True)
class StoredVocabulary:
    """A vocabulary in a folder, with values that are read on demand."""

    url: str
    header: Header
    fingerprint: str  # from vocabulary.json; see `check`

    @property
    def num_known(self) -> int:
        return sum(self.header.num_known)

    @property
    def num_row_groups(self) -> int:
        with _open_parquet(self.url) as parquet:
            return parquet.num_row_groups

    def chunks(self, row_groups: Iterable[int] | None = None) -> Iterator[VocabularyChunk]:
        """Yield all chunks in order, or those of some row groups."""
        with _open_parquet(self.url) as parquet:
            for group in range(parquet.num_row_groups) if row_groups is None else row_groups:
                table = parquet.read_row_group(group, _SCHEMA.names).cast(_SCHEMA).combine_chunks()
                yield from _field_chunks(table, self.header.fields)

    def check(self) -> None:
        """Raise UserError if the values do not match the fingerprint."""
        try:
            actual = self.header.fingerprint(self.chunks())
        except ReadErrors as error:
            raise unreadable_vocabulary(self.url, error) from error
        if actual != self.fingerprint:
            raise changed_vocabulary(self.url, self.fingerprint, actual)


#: Exceptions raised by reading a vocabulary that is missing or malformed.
ReadErrors = (OSError, ValueError, KeyError, TypeError, AttributeError)


def unreadable_vocabulary(url: str, error: Exception) -> UserError:
    """Error for a vocabulary that cannot be read."""
    return UserError(f"{url}: cannot read the vocabulary: {error}; build the dataset again")


def changed_vocabulary(url: str, expected: str, actual: str) -> UserError:
    """Error for a vocabulary that does not match its fingerprint."""
    return UserError(
        f"{url}: expected a vocabulary with fingerprint {expected}, found {actual}; the file was changed: "
        "build the dataset again"
    )


def open_stored_vocabulary(folder_url: str) -> StoredVocabulary:
    """Open the vocabulary in a folder, reading only vocabulary.json. Raise UserError if it is invalid."""
    try:
        document = storage.read_json(f"{folder_url}/{_HEADER}")
        fields, fingerprint = document["fields"], document["fingerprint"]
        fitted_keys = {"num_ids", "scaling", "boundaries"}
        definitions = [{k: v for k, v in field.items() if k not in fitted_keys} for field in fields]
        scalings = {field["name"]: Scaling(**field["scaling"]) for field in fields if "scaling" in field}
        boundaries = {field["name"]: tuple(field["boundaries"]) for field in fields if "boundaries" in field}
        field_set = FieldSet([Field.model_validate(field) for field in definitions])
        num_known = [
            entry["num_ids"] - field.first_known_id if field.has_known_values else 0
            for field, entry in zip(field_set, fields, strict=True)
        ]
    except ReadErrors as error:
        raise unreadable_vocabulary(folder_url, error) from error
    header = Header.create(field_set, num_known, scalings, boundaries)
    return StoredVocabulary(folder_url, header, fingerprint)


@contextmanager
def _open_parquet(folder_url: str) -> Iterator[pq.ParquetFile]:
    with storage.open_file(f"{folder_url}/{_VALUES}") as file:
        yield pq.ParquetFile(file)


def _consecutive_values(chunks: Iterator[VocabularyChunk], index: int, num_known: int) -> Iterator[pa.Array]:
    """Yield the next `num_known` values, which must be all those of a field, _DIGEST_SIZE at a time."""
    buffer, num_seen = pa.array([], pa.string()), 0
    while num_seen < num_known:
        chunk = next(chunks, None)
        if chunk is None or (chunk.field, chunk.start) != (index, num_seen):
            raise ValueError(f"not all {num_known} values of a field are present, or not in order")
        num_seen += len(chunk.values)
        buffer = pa.concat_arrays([buffer, chunk.values])
        while len(buffer) >= _DIGEST_SIZE:
            yield buffer.slice(0, _DIGEST_SIZE)
            buffer = buffer.slice(_DIGEST_SIZE)
    if len(buffer):
        yield buffer


def _field_chunks(table: pa.Table, fields: FieldSet) -> Iterator[VocabularyChunk]:
    """Split a row group, which may have the values of several consecutive fields, or none."""
    if not table.num_rows:
        return
    indices = {name: index for index, name in enumerate(fields.names)}
    names = table.column("field").combine_chunks().dictionary_encode()
    codes = np.asarray(names.indices)
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(codes)], strict=True):
        index = indices[names.dictionary[codes[start]].as_py()]
        rows = table.slice(start, stop - start).combine_chunks()
        values, counts = (rows.column(name).combine_chunks() for name in ("value", "count"))
        first_id = rows.column("id")[0].as_py()
        yield VocabularyChunk(index, first_id - fields[index].first_known_id, values, counts)
