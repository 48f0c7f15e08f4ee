"""Arrow batches as Spark hands them to Python, in pieces large enough to work on."""

from collections.abc import Iterable, Iterator

import pyarrow as pa

#: Raw rows a Python worker handles at once: enough that Arrow's fixed costs vanish, 30 MiB of Criteo.
ROWS_AT_ONCE = 100_000


def rebatched(batches: Iterable[pa.RecordBatch], num_rows: int = ROWS_AT_ONCE) -> Iterator[pa.Table]:
    """The same rows in pieces of at least `num_rows`, but for the last; none where there are no rows."""
    held, num_held = [], 0
    for batch in batches:
        held.append(batch)
        num_held += batch.num_rows
        if num_held >= num_rows:
            yield pa.Table.from_batches(held).combine_chunks()
            held, num_held = [], 0
    if num_held:
        yield pa.Table.from_batches(held).combine_chunks()
