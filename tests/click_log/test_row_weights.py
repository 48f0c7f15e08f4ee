"""Weighted rows, and aggregated rows, which become a weighted row with a click and one without."""

import numpy as np
import pyarrow as pa
import pytest

from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.parse import parse_rows
from deepfm.click_log.row_format import RowFormat
from deepfm.fields import Field, FieldSet
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings

FIELDS = FieldSet([Field(name="C", kind="category")])
WEIGHTED = RowFormat(
    columns=("label", "w", "C"), fields=FIELDS, delimiter="\t", label="label", weight="w", keep=("C",)
)
AGGREGATED = RowFormat(columns=("n", "k", "C"), fields=FIELDS, delimiter="\t", impressions="n", clicks="k")


def parse(row_format, *lines):
    """Parse lines; row hashes are the line indices."""
    text = pa.repeat(pa.scalar("x"), len(lines))
    hashes = pa.array(range(len(lines)), pa.int64())
    lines = pa.array([line.encode() + b"\n" for line in lines], pa.binary())
    return parse_rows(
        pa.table([lines, text, text, hashes], ["line", "source_file", "ds", "row_hash"]), row_format
    )


def rows(parsed):
    columns = parsed.row_hashes, parsed.raw.column("C").to_pylist(), parsed.labels, parsed.weights
    return list(zip(*(np.asarray(column).tolist() for column in columns), strict=True))


def test_weights_are_read_as_numbers():
    parsed = parse(WEIGHTED, "1\t2.5\ta", "0\t0\tb", "0\t+3e2\tc")
    assert rows(parsed) == [(0, "a", 1, 2.5), (1, "b", 0, 0.0), (2, "c", 0, 300.0)]
    assert parsed.weights.dtype == np.float64
    assert parsed.num_read == 3


def test_an_unweighted_log_has_no_weights():
    parsed = parse(RowFormat(columns=("label", "C"), fields=FIELDS, delimiter="\t", label="label"), "1\ta")
    assert parsed.weights is None
    assert parsed.is_second is None


@pytest.mark.parametrize("weight", ["", "-0.1", "nan", "inf", "1e39", "two"])
def test_a_row_with_another_weight_is_rejected(weight):
    parsed = parse(WEIGHTED, "1\t1\ta", f"0\t{weight}\tb", "0\t2\tc")
    assert rows(parsed) == [(0, "a", 1, 1.0), (2, "c", 0, 2.0)]
    assert parsed.bad.column("reason").to_pylist() == ["weight_not_a_number"]
    assert parsed.num_read == 3


def test_an_aggregated_row_becomes_a_row_for_its_clicks_and_one_for_the_other_impressions():
    parsed = parse(AGGREGATED, "5\t2\ta", "3\t0\tb", "4\t4\tc", "1.0\t1\td")
    assert rows(parsed) == [(0, "a", 1, 2), (0, "a", 0, 3), (1, "b", 0, 3), (2, "c", 1, 4), (3, "d", 1, 1)]
    assert parsed.is_second.tolist() == [False, True, False, False, False]
    assert parsed.num_read == 4


@pytest.mark.parametrize("counts", ["0\t0", "2\t3", "2\t-1", "-1\t-1", "2.5\t1", "\t0", "2\t", "many\t1"])
def test_an_aggregated_row_with_impossible_counts_is_rejected(counts):
    parsed = parse(AGGREGATED, "5\t2\ta", f"{counts}\tb", "2\t1\tc")
    assert [row[0] for row in rows(parsed)] == [0, 0, 2, 2]
    assert parsed.bad.column("reason").to_pylist() == ["clicks_not_within_impressions"]
    assert parsed.num_read == 3


def test_a_filter_keeps_weights_with_their_rows():
    parsed = parse(AGGREGATED, "5\t2\ta", "3\t0\tb").filter(np.array([False, True, True]))
    assert rows(parsed) == [(0, "a", 0, 3), (1, "b", 0, 3)]


@pytest.mark.parametrize(
    ("keys", "line", "columns"),
    [
        ({"weight": "w"}, "1\t2\ta", ("label", "w", "C")),
        ({"weight": "w"}, "2\ta", ("w", "C")),
        ({"weight": "w"}, "a", ("C",)),
        ({"impressions": "label", "clicks": "w", "label": "y"}, "a", ("C",)),
    ],
)
def test_impressions_to_score_need_neither_labels_nor_weights(tmp_path, keys, line, columns):
    content = {"format": "delimited", "columns": ["label", "w", "C"], **keys}
    content["fields"] = [{"kind": "category", "names": ["C"]}]
    (tmp_path / "log.tsv").write_text(f"{line}\n")
    settings = parse_settings(content, DataSettings, "test")
    row_format = find_click_log(f"file://{tmp_path}", settings, labelled=False).row_format
    assert row_format.columns == columns
    assert row_format.columns_to_read == {"C"}
    assert parse(row_format, line).raw.column("C").to_pylist() == ["a"]


def test_an_aggregated_log_is_read_without_its_label_column(tmp_path):
    (tmp_path / "log.csv").write_text("label,n,k,C\nmany,5,2,a\n")
    content = {"format": "delimited", "delimiter": ",", "header": True, "impressions": "n", "clicks": "k"}
    content["fields"] = [{"kind": "category", "names": ["C"]}]
    settings = parse_settings(content, DataSettings, "test")
    row_format = find_click_log(f"file://{tmp_path}", settings).row_format
    assert row_format.columns_to_read == {"n", "k", "C"}
    assert rows(parse(row_format, "many,5,2,a")) == [(0, "a", 1, 2), (0, "a", 0, 3)]
