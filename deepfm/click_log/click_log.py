"""A click log on disk: its files, days and columns."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from deepfm import storage
from deepfm.click_log import log_files
from deepfm.click_log.columnar.files import ColumnarFile, check_columns, columns_of, read_footers
from deepfm.click_log.columnar.kept_columns import kept_types
from deepfm.click_log.day_paths import find_day_paths
from deepfm.click_log.log_files import DayPaths, partition_values
from deepfm.click_log.row_format import RowFormat
from deepfm.click_log.schema_change import check_lacking
from deepfm.click_log.text.schema import TextSchema, read_text_schema
from deepfm.errors import UserError
from deepfm.settings.data import DataSettings

logger = logging.getLogger(__name__)

#: Columns of raw rows in addition to those of a columnar log (and `ds`, which may be a column of the log).
_ADDED_COLUMNS = {"source_file", "row_hash"}


@dataclass(frozen=True)
class ClickLog:
    """Location and row format of a click log, and its days if they are folders."""

    url: str
    row_format: RowFormat
    day_paths: DayPaths | None = None  # None: the log is a single file or a folder of files
    column_types: Mapping[str, pa.DataType] = field(default_factory=dict)  # of the first file; columnar only
    kept_types: Mapping[str, pa.DataType] = field(default_factory=dict)  # of kept columns that are not text
    file_format: str = "delimited"
    allow_missing_days: bool = False

    @property
    def has_days(self) -> bool:
        return self.day_paths is not None or self.row_format.has_days

    def list_files(self, days: Sequence[str] | None = None) -> list[tuple[str, int, str | None]]:
        """(URL, bytes, day) of each non-empty file of `days` (None: all); day: of its folder or name.

        Raise UserError if a day is missing.
        """
        _require_days(self.url, self.day_paths, days, allow_missing=self.allow_missing_days)
        return log_files.list_files(self.url, self.day_paths, days)


def find_click_log(
    url: str,
    settings: DataSettings,
    *,
    days: Sequence[str] | None = None,
    labelled: bool = True,
    keep: Sequence[str] = (),
    keep_types: bool = False,
    allow_missing_days: bool = False,
) -> ClickLog:
    """Inspect the log's folders and the start of each file. Raise UserError if they do not match `settings`.

    For a log with days in folders or file names only the files of `days` are inspected (None: all). With
    labelled=False (impressions to score) the columns of labels and weights are optional and not read.
    `keep_types` reads the `keep` columns of a columnar log with their types, else as text.
    """
    if not storage.exists(url):
        raise UserError(f"{url}: expected a click log, but the path does not exist; check --input")
    if not labelled:
        # Impressions to score have days, however the training rows were split.
        settings = settings.model_copy(update={"split_files": None})
    day_paths = find_day_paths(url, settings)
    _require_days(url, day_paths, days, allow_missing=allow_missing_days)
    files = [file for file, _, _ in log_files.list_files(url, day_paths, days)]
    if not files:
        raise UserError(f"{url}: expected files with rows, found none{_format_days(days)}; check --input")
    partitions = _partitions(url, files)
    time_column = None if day_paths or settings.day_column or settings.split_files else settings.time_column
    find = _LogSchema(url, settings, labelled, tuple(keep), time_column, partitions)
    if settings.format in ("parquet", "orc"):
        footers = read_footers(files, settings.format)
        in_files = [name for name in keep if name in columns_of(footers)]
        typed = kept_types(footers, in_files) if keep_types else {}
        row_format = find.columnar_format(footers, typed)
        types: Mapping[str, pa.DataType] = footers[0].types
    else:
        row_format = find.text_format(files, read_text_schema(files, settings, labelled=labelled))
        types, typed = {}, {}
    return ClickLog(url, row_format, day_paths, types, typed, settings.format, allow_missing_days)


def _require_days(
    url: str, paths: DayPaths | None, days: Sequence[str] | None, *, allow_missing: bool
) -> None:
    missing = sorted(set(days or ()) - set(paths.by_day)) if paths else []
    if not paths or not missing:
        return
    listed = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
    text = f"{listed}; it has {paths.days[0]} to {paths.days[-1]}"
    if allow_missing and len(missing) < len(set(days or ())):
        logger.warning("%s: found no folder for %s", url, text)
        return
    raise UserError(
        f"{url}: expected a folder for every requested day, found none for {text}; choose other days, or "
        "build without them by --allow-missing-days"
    )


def _format_days(days: Sequence[str] | None) -> str:
    return f" for {', '.join(days[:5])}" if days else ""


def _partitions(url: str, files: Sequence[str]) -> tuple[str, ...]:
    """Keys of the folders KEY=VALUE that all files have below the log."""
    keys = [set(partition_values(file.removeprefix(url))) for file in files]
    return tuple(sorted(set.intersection(*keys)))


@dataclass(frozen=True)
class _LogSchema:
    """Makes the row format of a log from the columns of its files."""

    url: str
    settings: DataSettings
    labelled: bool
    keep: tuple[str, ...]
    time_column: str | None
    partitions: tuple[str, ...]

    def columnar_format(self, footers: Sequence[ColumnarFile], typed: Mapping[str, pa.DataType]) -> RowFormat:
        """Make the format of Parquet or ORC files; raise UserError if a column has an unsuitable type."""
        columns = columns_of(footers)
        row_format = self._row_format(columns)
        if typed:
            parsed = row_format.columns_to_parse - set(row_format.partitions)
            row_format = replace(row_format, columns=tuple(sorted(parsed)))
        check_columns(self.url, footers, self.settings, set(row_format.columns), typed)
        return row_format

    def text_format(self, files: Sequence[str], schema: TextSchema) -> RowFormat:
        """Make the format of text files; raise UserError if a needed column is absent or was removed."""
        settings = self.settings
        row_format = self._row_format(schema.all_columns, schema=schema)
        of_files = [(file, schema.columns_of(file)) for file in files]
        needed = row_format.file_columns if settings.format == "delimited" else set()
        for file, columns in of_files:
            if needed and not needed & set(columns):
                raise UserError(
                    f"{file}: expected a header with {', '.join(sorted(needed)):.300}, found "
                    f"{', '.join(columns):.300}; write the header, or check the delimiter"
                )
        for name in sorted(needed):
            required = {*settings.label_columns, settings.day_column, settings.time_column}
            is_optional = name not in required
            check_lacking(self.url, of_files, name, is_optional=is_optional)
        return row_format

    def _row_format(self, columns: tuple[str, ...], schema: TextSchema | None = None) -> RowFormat:
        settings = self.settings
        labels = settings.label_columns if self.labelled else ()
        special = (*labels, settings.day_column, self.time_column)
        needed = {*settings.field_set.columns, *self.keep, *(name for name in special if name)}
        # A column of the files goes before a folder of the same name.
        partitions = tuple(name for name in self.partitions if name not in columns)
        self._require_columns(columns, needed - set(partitions))
        if schema is not None:
            self._require_unique(schema, needed)
        is_delimited = settings.format == "delimited"
        return RowFormat(
            columns=tuple(sorted(needed - set(partitions))) if schema is None else schema.columns,
            fields=settings.field_set,
            delimiter=settings.delimiter if is_delimited else None,
            quote=settings.quote,
            escape=settings.escape if settings.escape != settings.quote else None,
            multiline=settings.multiline,
            skip_initial_space=settings.skip_initial_space,
            comment=settings.comment,
            encoding=settings.encoding,
            is_json=settings.format == "json",
            header_line=schema.header_line if schema else None,
            other_headers=schema.other_headers if schema else {},
            partitions=partitions,
            label=settings.label if settings.label in labels else None,
            positive=settings.positive,
            negative=settings.negative,
            missing_is_negative=settings.missing_label == "negative",
            day_column=settings.day_column,
            day_format=settings.day_format,
            time_column=self.time_column,
            time_format=settings.time_format,
            time_zone=settings.time_zone,
            null_values=settings.null_values,
            bad_is_missing=settings.on_bad_value == "missing",
            keep=self.keep,
            **(settings.model_dump(include={"weight", "impressions", "clicks"}) if self.labelled else {}),
        )

    def _require_columns(self, columns: Sequence[str], needed: set) -> None:
        absent = sorted(needed - set(columns))
        reserved = sorted(needed & _ADDED_COLUMNS)
        if self.settings.format == "json":
            self._warn_of_rare_keys(absent)
            required = (*self.settings.label_columns, self.settings.day_column)
            absent = [name for name in absent if name in required]
        if absent:
            # With a wrong delimiter or a missing header the "column names" are a line or a row's values.
            actual = ", ".join(columns)
            causes = ", header and delimiter" if self.settings.header else ""
            raise UserError(
                f"{self.url}: expected columns {', '.join(absent)}, found only {actual:.500}; check the "
                f"names{causes} in the data YAML, or --keep{_hint_of_blanks(absent, columns)}"
            )
        if reserved and self.settings.format in ("parquet", "orc"):
            raise UserError(
                f"{self.url}: column names {', '.join(reserved)} are reserved; rename them in the log"
            )

    def _warn_of_rare_keys(self, absent: Sequence[str]) -> None:
        if absent:
            logger.warning(
                "%s: no object at the start of the log has the keys %s; check the names in the data YAML",
                self.url, ", ".join(absent),
            )  # fmt: skip

    def _require_unique(self, schema: TextSchema, needed: set) -> None:
        for columns in (schema.columns, *(header.columns for header in schema.other_headers.values())):
            repeated = sorted(name for name in needed if columns.count(name) > 1)
            if repeated:
                raise UserError(
                    f"{self.url}: expected unique column names, found duplicates of {', '.join(repeated)}; "
                    "rename them"
                )


def _hint_of_blanks(absent: Sequence[str], columns: Sequence[str]) -> str:
    stripped = {name.strip() for name in columns}
    if not set(absent) & stripped:
        return ""
    return "; names in the header begin or end with blanks: set skip_initial_space: true, or quote the names"
