"""Values that a dataset saw too rarely to know, with their counts: a dataset that grows from it goes on."""

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from deepfm import storage
from deepfm.features.counting import COUNTS

RARE_VALUES = "rare_values.parquet"
_ROW_GROUP_ROWS = 1 << 20


def write_rare(folder_url: str, tables: Iterable[pa.Table]) -> None:
    """Write tables of COUNTS as one file, whose bytes do not depend on where one table ends."""
    with storage.writing(f"{folder_url}/{RARE_VALUES}") as file, pq.ParquetWriter(file, COUNTS) as writer:
        held = COUNTS.empty_table()
        for table in tables:
            held = pa.concat_tables([held, table.select(COUNTS.names).cast(COUNTS)])
            while held.num_rows > _ROW_GROUP_ROWS:
                writer.write_table(held.slice(0, _ROW_GROUP_ROWS).combine_chunks(), _ROW_GROUP_ROWS)
                held = held.slice(_ROW_GROUP_ROWS)
        writer.write_table(held.combine_chunks(), _ROW_GROUP_ROWS)


def num_rare(folder_url: str) -> int:
    """How many rows the file has that `write_rare` wrote."""
    with storage.opened(f"{folder_url}/{RARE_VALUES}") as file:
        return pq.ParquetFile(file).metadata.num_rows


def num_rare_groups(folder_url: str) -> int:
    """How many row groups it has."""
    with storage.opened(f"{folder_url}/{RARE_VALUES}") as file:
        return pq.ParquetFile(file).num_row_groups


def rare_tables(folder_url: str, row_groups: Iterable[int] | None = None) -> Iterator[pa.Table]:
    """Its tables, or some of its row groups."""
    with storage.opened(f"{folder_url}/{RARE_VALUES}") as file:
        parquet = pq.ParquetFile(file)
        for group in range(parquet.num_row_groups) if row_groups is None else row_groups:
            yield parquet.read_row_group(group, COUNTS.names).cast(COUNTS)
