"""A value is the same in a log, a frame, a request and a Spark UDF, whatever its type and its field."""

import json
import sys
from datetime import date, datetime, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc
from pyspark import cloudpickle

from deepfm.artifact.pyfunc import raw_from_frame
from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.columnar.columns import ColumnarColumns, read_columns, split_into_groups
from deepfm.click_log.columnar.files import read_footers
from deepfm.click_log.log_files import LogFile
from deepfm.click_log.parse import parse_rows
from deepfm.click_log.text.ranges import lines_table
from deepfm.settings.data import DataSettings

NUMBERS = {
    pa.bool_(): [True, False, None],
    **{kind: [0, 7, None, 100] for kind in (pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint32())},
    pa.int64(): [1000009418151094273, -1],  # with a gap, pandas would round them
    pa.uint64(): [2**63 - 1, 0],
    pa.float32(): [0.1, 3.0, None, float("nan"), 1e-7],
    pa.float64(): [0.1, 3.0, None, float("nan"), 1e-300, 123456789.5],
    pa.decimal128(10, 2): [Decimal("1.00"), Decimal("-2.50"), None],
    pa.decimal128(38, 0): [Decimal(10**20), Decimal(7)],
}
TEXTS = {
    pa.string(): ["a", "", None, "007", " b ", "用户"],
    pa.large_string(): ["a", None],
    pa.binary(): [b"a", "é".encode(), None],
    pa.dictionary(pa.int8(), pa.string()): ["a", "b", None, "a"],
    pa.null(): [None, None],
}
TIMES = {
    pa.date32(): [date(2026, 1, 2), None],
    **{pa.timestamp(unit): [datetime(2026, 1, 2, 3, 4, 5), None] for unit in ("s", "ms", "us", "ns")},
    pa.timestamp("us", "UTC"): [datetime(2026, 1, 2, 20, 4, 5, 678000, timezone.utc), None],
    pa.timestamp("ns", "America/New_York"): [datetime(2026, 7, 2, 20, tzinfo=timezone.utc), None],
}
LISTS = {
    pa.list_(pa.string()): [["a", "b"], [], None, ["a", None]],
    pa.list_(pa.int64()): [[1, 2], [3]],
    pa.large_list(pa.float64()): [[1.0, 2.5], None],
}
CASES = [
    *[(kind, "category", values) for kind, values in {**NUMBERS, **TEXTS, **TIMES}.items()],
    *[(kind, "value", values) for kind, values in NUMBERS.items() if kind != pa.bool_()],
    *[(kind, "count", values) for kind, values in NUMBERS.items() if pa.types.is_integer(kind)],
    # A row without a time has no day, and is rejected.
    *[(kind, "time", values[:-1]) for kind, values in TIMES.items()],
    *[(kind, "list", values) for kind, values in LISTS.items()],
]
IDS = [f"{kind}-{field_kind}" for kind, field_kind, _ in CASES]


def settings_of(field_kind, file_format, zone="Asia/Shanghai"):
    field = {"kind": field_kind, "names": ["hour" if field_kind == "time" else "x"]}
    field |= {"max_values": 3} if field_kind == "list" else {}
    times = {"time_column": "x", "time_format": "iso", "time_zone": zone} if field_kind == "time" else {}
    return DataSettings.model_validate({"format": file_format, "label": "y", "fields": [field], **times})


def in_log(table, settings, folder):
    """Typed values of a log, as the scoring job reads them."""
    path = folder / f"log.{settings.format}"
    {"parquet": pq.write_table, "orc": orc.write_table}[settings.format](table, path)
    log = find_click_log(f"file://{path}", settings, labelled=False)
    footers = read_footers([log.url], settings.format)
    parts = split_into_groups([LogFile(log.url, 1)], footers, 1 << 20)
    times = frozenset(log.row_format.time_columns)
    columns = ColumnarColumns(log.row_format.columns, (), times, file_format=settings.format)
    (rows,) = (raw for part in parts for raw in read_columns(part, columns))
    parsed = parse_rows(rows, log.row_format)
    assert not parsed.bad.num_rows, parsed.bad.to_pylist()
    return parsed.raw.column(0).to_pylist()


def in_frame(frame, settings):
    """Typed values of a frame, as mlflow.pyfunc reads them."""
    return raw_from_frame(frame, settings.field_set).column(0).to_pylist()


@pytest.mark.parametrize(("kind", "field_kind", "values"), CASES, ids=IDS)
def test_a_frame_has_the_values_of_the_log(tmp_path, kind, field_kind, values):
    table, settings = pa.table({"x": pa.array(values, kind)}), settings_of(field_kind, "parquet")
    expected = in_log(table, settings, tmp_path)
    assert in_frame(table.to_pandas(), settings) == expected
    objects = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    if kind != pa.float32():  # a Python float has 64 bits
        assert in_frame(objects, settings) == expected


_NOT_IN_ORC = ("uint", "large", "dictionary", "null")


@pytest.mark.parametrize(("kind", "field_kind", "values"), CASES, ids=IDS)
def test_orc_has_the_values_of_parquet(tmp_path, kind, field_kind, values):
    if any(name in str(kind) for name in _NOT_IN_ORC):
        pytest.skip("ORC has no such type")
    table = pa.table({"x": pa.array(values, kind)})
    in_formats = [in_log(table, settings_of(field_kind, name), tmp_path) for name in ("parquet", "orc")]
    assert in_formats[0] == in_formats[1]


@pytest.mark.parametrize(("kind", "field_kind", "values"), CASES, ids=IDS)
def test_json_lines_and_requests_have_the_values_of_parquet(tmp_path, kind, field_kind, values):
    if pa.types.is_binary(kind) or (field_kind == "category" and kind in TIMES) or kind == pa.float32():
        pytest.skip("JSON has no such type, so that clients choose a text")
    expected = in_log(pa.table({"x": pa.array(values, kind)}), settings_of(field_kind, "parquet"), tmp_path)
    plain = [_to_json(value) for value in values]
    settings = settings_of(field_kind, "json")
    lines = "".join(json.dumps({"x": value}) + "\n" for value in plain)
    (tmp_path / "log.json").write_text(lines)
    row_format = find_click_log(f"file://{tmp_path}/log.json", settings, labelled=False).row_format
    parsed = parse_rows(lines_table(lines.encode(), "log.json", None), row_format)
    assert parsed.raw.column(0).to_pylist() == expected
    request = json.loads(json.dumps({"columns": ["x"], "data": [[value] for value in plain]}))
    frame = pd.DataFrame(request["data"], columns=request["columns"], dtype=object)
    assert in_frame(frame, settings) == expected


def _to_json(value):
    """Value of a JSON document: numbers as numbers, times as ISO 8601."""
    if isinstance(value, float) and np.isnan(value):
        return None
    if isinstance(value, Decimal):
        return int(value) if value == int(value) else float(value)
    return value.isoformat() if isinstance(value, (date, datetime)) else value


def test_ids_that_pandas_rounds_are_refused():
    settings, ids = settings_of("category", "parquet"), [1000009418151094273, None]
    with pytest.raises(ValueError, match="x: expected ids below 2.53 in a column of floats"):
        in_frame(pa.table({"x": pa.array(ids, pa.int64())}).to_pandas(), settings)
    exact = pd.DataFrame({"x": pd.Series(ids, dtype="Int64")})
    assert in_frame(exact, settings) == ["1000009418151094273", None]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_a_spark_udf_has_the_values_of_the_log(spark, tmp_path, zone):
    """Spark has no unsigned integers of 64 bits and reads instants in the zone of its session."""
    cases = {
        f"{field_kind}{index}": (kind, field_kind, values)
        for index, (kind, field_kind, values) in enumerate(CASES)
        if kind not in (pa.null(), pa.int64())
        and not pa.types.is_large_list(kind)
        and kind != pa.timestamp("ns")
    }
    # A timestamp without a zone is an instant for a UDF: only one in the zone of the session is unchanged.
    cases = {
        name: case
        for name, case in cases.items()
        if not (pa.types.is_timestamp(case[0]) and case[0].tz is None)
    }
    num_rows = max(len(values) for _, _, values in cases.values())
    columns = {
        name: pa.array([*values, *[values[-1]] * (num_rows - len(values))], kind)
        for name, (kind, _, values) in cases.items()
    }
    pq.write_table(pa.table(columns), tmp_path / "all.parquet", coerce_timestamps="us", store_schema=False)
    kinds = {name: field_kind for name, (_, field_kind, _) in cases.items()}

    # Workers cannot import the tests.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])

    def parse(frames):
        for frame in frames:
            yield pd.DataFrame(
                {
                    name: [repr(value) for value in in_frame(frame[[name]].set_axis(["x"], axis=1),
                                                             settings_of(kind, "parquet"))]
                    for name, kind in kinds.items()
                }
            )  # fmt: skip

    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", zone)
    try:
        rows = spark.read.parquet(f"file://{tmp_path}/all.parquet").coalesce(1)
        found = rows.mapInPandas(parse, ", ".join(f"{name} string" for name in kinds)).toPandas()
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)
    for name, field_kind in kinds.items():
        table = pa.table({"x": columns[name]})
        expected = [repr(value) for value in in_log(table, settings_of(field_kind, "parquet"), tmp_path)]
        assert found[name].tolist() == expected, (name, cases[name][0])
