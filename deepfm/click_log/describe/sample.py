"""Sample of a log of unknown format: the first rows of its first, middle and last file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from deepfm import storage
from deepfm.click_log import log_files
from deepfm.click_log.columnar.files import open_columnar, read_footers
from deepfm.click_log.day_paths import find_day_paths
from deepfm.click_log.describe.text_sample import TextFormat, read_text_sample
from deepfm.errors import UserError
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings
from deepfm.value_text import has_text, to_texts

MAX_ROWS = 2000  # of each file
#: Settings that say nothing about a log.
_NO_SETTINGS = parse_settings(
    {"format": "parquet", "fields": [{"kind": "category", "names": ["column"]}]}, DataSettings, "none"
)


@dataclass(frozen=True)
class LogSample:
    """Rows of a log as text, by column, and what its files say about them."""

    url: str
    file_format: str  # as in a data YAML
    columns: Mapping[str, pa.Array]  # null: missing; a repeated name of a header is in `skipped`
    skipped: Mapping[str, str]  # columns that cannot be used, with the reason
    num_rows: int
    num_files: int  # of the log; three are read at most
    days: tuple[str, ...] = ()  # of folders
    types: Mapping[str, pa.DataType] | None = None  # of a columnar log
    text: TextFormat | None = None  # of a text log


def read_sample(url: str) -> LogSample:
    """Read a sample; raise UserError if the path does not exist or has an unknown format."""
    if not storage.exists(url):
        raise UserError(f"{url}: expected a click log, but the path does not exist; check it")
    day_paths = find_day_paths(url, _NO_SETTINGS)
    files = [file for file, _, _ in log_files.list_files(url, day_paths, None)]
    if not files:
        raise UserError(f"{url}: expected files with rows, found none; check the path")
    chosen = list(dict.fromkeys((files[0], files[len(files) // 2], files[-1])))
    head = storage.read_bytes(files[0], 4)
    days = day_paths.days if day_paths else ()
    for file_format, mark in (("parquet", b"PAR1"), ("orc", b"ORC")):
        if head.startswith(mark):
            return _columnar_sample(url, file_format, chosen, len(files), days)
    text, names, rows = read_text_sample(chosen, MAX_ROWS)
    skipped = {name: "the header has this name twice" for name in names if names.count(name) > 1}
    skipped |= {"": "has no name in the header"} if "" in names else {}
    columns = {
        name: pa.array([row[index] or None for row in rows], pa.string())
        for index, name in enumerate(names)
        if name not in skipped
    }
    return LogSample(url, "delimited", columns, skipped, len(rows), len(files), days, text=text)


def _columnar_sample(
    url: str, file_format: str, files: Sequence[str], num_files: int, days: tuple[str, ...]
) -> LogSample:
    types = read_footers(files, file_format)[0].types
    readable = [name for name, kind in types.items() if has_text(kind)]
    skipped = {
        name: f"has the type {kind}, which has no text" for name, kind in types.items() if not has_text(kind)
    }
    tables = [_first_rows(file, file_format, readable) for file in files]
    columns = {
        name: pa.chunked_array([table[name] for table in tables], pa.string()).combine_chunks()
        for name in readable
    }
    num_rows = sum(table.num_rows for table in tables)
    return LogSample(url, file_format, columns, skipped, num_rows, num_files, days, types=types)


def _first_rows(file: str, file_format: str, names: list[str]) -> pa.Table:
    """First rows of a file as text; a column that it lacks is missing."""
    with open_columnar(file, file_format) as reader:
        present = [name for name in names if name in reader.schema.names]
        batch = next(iter(reader.batches(range(min(reader.num_groups, 1)), present)), None)
    num_rows = min(batch.num_rows, MAX_ROWS) if batch else 0
    texts = {name: to_texts(batch.column(name).slice(0, num_rows)) for name in present} if batch else {}
    return pa.table({name: texts.get(name, pa.nulls(num_rows, pa.string())) for name in names})
