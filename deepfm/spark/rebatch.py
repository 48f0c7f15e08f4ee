"""Merging of the Arrow batches that Spark passes to Python into larger tables."""

from collections.abc import Iterable, Iterator

import pyarrow as pa

#: Raw rows processed at once, 30 MiB of Criteo: enough to make Arrow's fixed costs negligible.
ROWS_PER_TABLE = 100_000


def rebatch(batches: Iterable[pa.RecordBatch], num_rows: int = ROWS_PER_TABLE) -> Iterator[pa.Table]:
    """Yield tables of at least `num_rows` rows, except the last; none if there are no rows."""
    buffer, num_buffered = [], 0
    for batch in batches:
        buffer.append(batch)
        num_buffered += batch.num_rows
        if num_buffered >= num_rows:
            yield pa.Table.from_batches(buffer).combine_chunks()
            buffer, num_buffered = [], 0
    if num_buffered:
        yield pa.Table.from_batches(buffer).combine_chunks()
