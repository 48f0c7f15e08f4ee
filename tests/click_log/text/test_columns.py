"""Splitting of lines, alone and in batches; the rest is tested in test_parse.py."""

from dataclasses import replace

import pyarrow as pa

from deepfm.click_log.row_format import RowFormat
from deepfm.click_log.text.columns import split_lines
from deepfm.click_log.text.split_line import split_line
from deepfm.fields import Field, FieldSet


def test_a_line_is_split_alone_as_in_a_batch():
    quoted = RowFormat(columns=(), fields=FieldSet([]), delimiter=",", quote='"')
    assert split_line('a,"b,c"', quoted) == ["a", "b,c"]
    assert split_line('a,"b,c"', replace(quoted, quote=None)) == ["a", '"b', 'c"']
    assert split_line('a,"b', quoted) == []


def test_lines_spanning_several_arrow_blocks_give_the_same_rows():
    fields = FieldSet([Field(name="C", kind="category")])
    row_format = RowFormat(columns=("label", "C"), fields=fields, delimiter="\t", label="label")
    values = [f"{number:0>1000}" for number in range(3000)]
    for texts in (values, [*values[:2], "long" * (1 << 19), values[2]]):
        lines = pa.array([f"{row % 2}\t{text}\n".encode() for row, text in enumerate(texts)], pa.binary())
        columns, reasons = split_lines(lines, row_format)
        assert columns["C"].to_pylist() == texts
        assert columns["label"].to_pylist() == [str(row % 2) for row in range(len(texts))]
        assert not reasons.any()
