"""Values too rare to be known, with their counts: a dataset that grows from this one continues counting."""

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from deepfm import storage
from deepfm.features.counting import COUNTS

RARE_VALUES = "rare_values.parquet"
_ROW_GROUP_ROWS = 1 << 20


def write_rare(folder_url: str, tables: Iterable[pa.Table]) -> None:
    """Write tables of COUNTS to one file, whose bytes do not depend on how the rows are split into tables."""
    with (
        storage.atomic_writer(f"{folder_url}/{RARE_VALUES}") as file,
        pq.ParquetWriter(file, COUNTS) as writer,
    ):
        buffer = COUNTS.empty_table()
        for table in tables:
            buffer = pa.concat_tables([buffer, table.select(COUNTS.names).cast(COUNTS)])
            while buffer.num_rows > _ROW_GROUP_ROWS:
                writer.write_table(buffer.slice(0, _ROW_GROUP_ROWS).combine_chunks(), _ROW_GROUP_ROWS)
                buffer = buffer.slice(_ROW_GROUP_ROWS)
        writer.write_table(buffer.combine_chunks(), _ROW_GROUP_ROWS)


def num_rare(folder_url: str) -> int:
    """Number of rows in the file of a folder."""
    with storage.open_file(f"{folder_url}/{RARE_VALUES}") as file:
        return pq.ParquetFile(file).metadata.num_rows


def num_rare_groups(folder_url: str) -> int:
    """Number of row groups in the file of a folder."""
    with storage.open_file(f"{folder_url}/{RARE_VALUES}") as file:
        return pq.ParquetFile(file).num_row_groups


def rare_tables(folder_url: str, row_groups: Iterable[int] | None = None) -> Iterator[pa.Table]:
    """Yield the file's row groups, or some of them, as tables."""
    with storage.open_file(f"{folder_url}/{RARE_VALUES}") as file:
        parquet = pq.ParquetFile(file)
        for group in range(parquet.num_row_groups) if row_groups is None else row_groups:
            yield parquet.read_row_group(group, COUNTS.names).cast(COUNTS)
