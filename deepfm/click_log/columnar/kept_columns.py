"""Types of the columns of a columnar log that are published with the probabilities."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepfm import storage
from deepfm.click_log.columnar.columns import column_at
from deepfm.click_log.columnar.files import ColumnarFile, open_columnar
from deepfm.click_log.columnar.published_types import common_type, is_array, published_type
from deepfm.errors import UserError


def kept_types(files: Sequence[ColumnarFile], names: Sequence[str]) -> dict[str, pa.DataType]:
    """Type in which each column is published; raise UserError if Spark cannot write its values unchanged."""
    types = {name: _kept_type(files, name) for name in names}
    with_nanoseconds = [name for name in names if any(_has_nanoseconds(file, name) for file in files)]
    if with_nanoseconds:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda file: _check_times(file, with_nanoseconds), files))
    return types


def _check_times(file: ColumnarFile, names: Sequence[str]) -> None:
    try:
        require_whole_microseconds(file, names)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file.url}: cannot read its rows ({error}); write or copy it again") from error


def _kept_type(files: Sequence[ColumnarFile], name: str) -> pa.DataType:
    types: dict[pa.DataType, ColumnarFile] = {}
    for file in files:
        kind = file.type_of(name) or pa.null()
        published = published_type(kind)
        if published is None:
            raise UserError(
                f"--keep {name}: expected a column of a type that Spark can write unchanged, found {kind} in "
                f"{file.url}; remove it, or write the column as text"
            )
        if not pa.types.is_null(kind):
            types.setdefault(_with_zone(published) if name in file.int96 else published, file)
    common = common_type(types or [pa.string()])
    if common is None:
        (first, first_file), (second, second_file), *_ = types.items()
        raise UserError(
            f"--keep {name}: expected one type in all files, found {first} in {first_file.url} and {second} "
            f"in {second_file.url}; rewrite the files, or remove it"
        )
    return common


def _with_zone(kind: pa.DataType) -> pa.DataType:
    """Type of a 96-bit timestamp, which Spark writes for an instant and Arrow reads without a zone."""
    return pa.list_(_with_zone(kind.value_type)) if is_array(kind) else pa.timestamp("us", "UTC")


def _has_nanoseconds(file: ColumnarFile, name: str) -> bool:
    kind = file.type_of(name) or pa.null()
    while is_array(kind):
        kind = kind.value_type
    return pa.types.is_timestamp(kind) and kind.unit == "ns"


def require_whole_microseconds(file: ColumnarFile, names: Sequence[str]) -> None:
    """Raise UserError if a timestamp of nanoseconds is not one of microseconds: Spark has no others.

    96-bit timestamps of years that 64 bits of nanoseconds do not have are refused as well.
    """
    present = [name for name in names if _has_nanoseconds(file, name)]
    for name in present:
        if name in file.int96 and not is_array(file.types[name]):
            _require_64_bits(file, name)
        with open_columnar(file.url, file.file_format) as opened:
            for batch in opened.batches(range(opened.num_groups), [name]):
                column = column_at(batch, name)
                if column is not None and np.any(_numbers(column) % 1_000):
                    raise UserError(
                        f"--keep {name}: expected times of whole microseconds, found nanoseconds in "
                        f"{file.url}; round them, or write the column as text"
                    )


def _require_64_bits(file: ColumnarFile, name: str) -> None:
    with storage.open_file(file.url) as first, storage.open_file(file.url) as second:
        nanoseconds = pq.ParquetFile(first).iter_batches(columns=[name])
        microseconds = pq.ParquetFile(second, coerce_int96_timestamp_unit="us").iter_batches(columns=[name])
        for exact, rounded in zip(nanoseconds, microseconds, strict=True):
            if np.any(_numbers(exact.column(0)) // 1_000 != _numbers(rounded.column(0))):
                raise UserError(
                    f"--keep {name}: expected times of the years 1678 to 2261, found others in {file.url}; "
                    "write the column as 64-bit timestamps (spark.sql.parquet.outputTimestampType: "
                    "TIMESTAMP_MICROS) or as text"
                )


def _numbers(times: pa.Array) -> np.ndarray:
    while is_array(times.type):
        times = times.flatten()
    return np.asarray(times.view(pa.int64()).fill_null(0))
