"""Columns of text files: from their headers, from the data YAML, or from the keys of JSON objects."""

from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from fsspec.utils import infer_compression

from deepfm import storage
from deepfm.click_log.row_format import Header
from deepfm.click_log.text.json_lines import keys_of, parse_object
from deepfm.click_log.text.split_line import split_line
from deepfm.errors import UserError
from deepfm.settings.data import DataSettings

#: Lines that are read to find columns.
_NUM_LINES = 1000
#: Compressed files that would be read as if they were text.
_NOT_TEXT = (
    ".zip",
    ".snappy",
    ".lzo",
    ".lz",
    ".Z",
    ".7z",
    ".rar",
    ".tar",
    ".br",
    ".avro",
    ".parquet",
    ".orc",
)


@dataclass(frozen=True)
class TextSchema:
    """Columns of the first file, in order, its header line, and the headers that differ, by file."""

    columns: tuple[str, ...]
    header_line: str | None = None
    other_headers: Mapping[str, Header] = field(default_factory=dict)

    def columns_of(self, file: str) -> tuple[str, ...]:
        """Columns of a file."""
        other = self.other_headers.get(file)
        return self.columns if other is None else other.columns

    @property
    def all_columns(self) -> tuple[str, ...]:
        """Columns that any file has."""
        others = [header.columns for header in self.other_headers.values()]
        return tuple(dict.fromkeys(name for columns in (self.columns, *others) for name in columns))


def read_text_schema(files: Sequence[str], settings: DataSettings, *, labelled: bool) -> TextSchema:
    """Find the columns; raise UserError if a file is not text or if headers are missing or unexpected."""
    for file in files:
        _require_text(file)
    if settings.format == "json":
        return TextSchema(_json_columns(files, settings))
    if not settings.header:
        _require_no_header(files[0], settings)
        return TextSchema(settings.columns if labelled else _columns_of_impressions(files[0], settings))
    with ThreadPoolExecutor(8) as pool:
        lines = list(pool.map(lambda file: _first_rows(file, settings, 1), files))
    headers = {
        file: Header(first[0], _columns_of_header(file, first[0], settings))
        for file, first in zip(files, lines, strict=True)
        if first
    }
    if not headers:
        raise UserError(f"{files[0]}: expected a header, found only blank lines; check --input")
    first_file, common = next(iter(headers.items()))
    others = {file: header for file, header in headers.items() if header != common}
    if others and not settings.allow_schema_change:
        file, header = next(iter(others.items()))
        raise UserError(
            f"{file}: expected the header of {first_file}, {common.line!r:.200}, found {header.line!r:.200}; "
            "rewrite the files, or allow it by allow_schema_change: true"
        )
    return TextSchema(common.columns, common.line.decode(settings.encoding), others)


def _require_text(file: str) -> None:
    ending = next((ending for ending in _NOT_TEXT if file.endswith(ending) or f"{ending}." in file), None)
    if ending is not None and (file.endswith(ending) or infer_compression(file)):
        # fsspec would read only one of the files in an archive, and the bytes of the others as text.
        raise UserError(
            f"{file}: {ending} is not supported; expected a text file, or one compressed as .gz, .bz2, .xz, "
            ".zst or .lz4; recompress it, or set `format`"
        )


def _first_rows(file: str, settings: DataSettings, num_rows: int) -> list[bytes]:
    """First lines that are neither blank nor comments."""
    rows = _rows_of(storage.first_lines(file, num_rows), file, settings)
    if len(rows) < num_rows:
        # Blank lines or comments come first.
        rows = _rows_of(storage.first_lines(file, num_rows + _NUM_LINES), file, settings)
    return rows[:num_rows]


def _rows_of(lines: list[bytes], file: str, settings: DataSettings) -> list[bytes]:
    comment = (settings.comment or "").encode(settings.encoding)
    rows = []
    for line in lines:
        if line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) and b"\0" in line:
            raise UserError(f"{file}: is in UTF-16; convert it to UTF-8, for example with iconv")
        if line.rstrip(b"\r") and not (comment and line.startswith(comment)):
            rows.append(line)
    return rows


def _columns_of_header(file: str, line: bytes, settings: DataSettings) -> tuple[str, ...]:
    try:
        text = line.decode(settings.encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}: expected a header in {settings.encoding.upper()}, found {line!r:.200}; set encoding, "
            "for example latin-1 or gbk, or convert the file"
        ) from error
    return tuple(split_line(text.rstrip("\r"), settings))


def _decoded_rows(file: str, settings: DataSettings, num_rows: int) -> list[str]:
    lines = _first_rows(file, settings, num_rows)
    return [line.decode(settings.encoding, errors="replace").rstrip("\r") for line in lines]


def _require_no_header(file: str, settings: DataSettings) -> None:
    rows = _decoded_rows(file, settings, 1)
    if rows and tuple(split_line(rows[0], settings)) == settings.columns:
        raise UserError(
            f"{file}: expected a row on the first line, found the column names; "
            "set header: true and remove columns in the data YAML"
        )


def _columns_of_impressions(file: str, settings: DataSettings) -> tuple[str, ...]:
    """All columns, or all but those of labels and weights: the number of values decides."""
    # Use the most frequent width: one malformed line must not decide how a whole day is read.
    widths = Counter(len(split_line(row, settings)) for row in _decoded_rows(file, settings, 100))
    absent: list[tuple[str, ...]] = [(), settings.label_columns]
    if settings.weight:
        absent.insert(1, (settings.label,))
    choices = [tuple(name for name in settings.columns if name not in names) for names in absent]
    return max(choices, key=lambda names: widths[len(names)])  # the first of equal ones


def _json_columns(files: Sequence[str], settings: DataSettings) -> tuple[str, ...]:
    """Keys of the first objects of the first and of the last file."""
    names: dict[str, None] = {}
    for file in dict.fromkeys([files[0], files[-1]]):
        for row in _decoded_rows(file, settings, _NUM_LINES):
            names |= dict.fromkeys(keys_of(parse_object(row) or {}))
    if not names:
        raise UserError(f"{files[0]}: expected a JSON object on each line, found none; check `format`")
    return tuple(names)
