"""Ten thousand broken lines among good ones: each is in the dataset or is rejected with a reason."""

import json
import random

import pytest

from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.row_format import REASONS
from deepfm.click_log.split import HashSplit
from deepfm.dataset.build import build_dataset
from deepfm.dataset.manifest import read_manifest
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings

SETTINGS = parse_settings(
    {
        "format": "delimited",
        "columns": ["label", "I", "V", "C", "T"],
        "fields": [
            {"kind": "count", "names": ["I"]},
            {"kind": "value", "names": ["V"]},
            {"kind": "category", "names": ["C"]},
            {"kind": "list", "names": ["T"], "max_values": 2, "separator": " "},
        ],
        "max_bad_fraction": 1.0,
        "max_bad_labels": 1.0,
    },
    DataSettings,
    "test",
)
NUM_GOOD, NUM_BROKEN = 10_000, 10_000


def good_line(number):
    return f"{number % 2}\t{number}\t{number / 7}\tvalue {number % 50}\ta b{number % 9}".encode()


def truncated(line, draw):
    return line[: draw.randrange(len(line))]


def doubled(line, draw):
    return line + line


def other_encoding(line, draw):
    return line + "é".encode(draw.choice(["latin-1", "utf-16"]))


def with_bytes(line, draw):
    index = draw.randrange(len(line))
    return (
        line[:index]
        + draw.choice([b"\x00", b"\r", b'"', b"\t", b"\xff", b"\xef\xbb\xbf", b"\x1f"])
        + line[index:]
    )


def huge_number(line, draw):
    columns = line.split(b"\t")
    columns[draw.choice([1, 2])] = draw.choice(
        [b"9" * 400, b"-1e999", b"1e-999", b"0x10", b"nan", b"--5", b"\xd9\xa3"]
    )
    return b"\t".join(columns)


def carriage_return(line, draw):
    return line + b"\r"


def long_field(line, draw):
    return line + b"x" * 1_000_000 if draw.random() < 0.003 else line + b"x" * 1000


def random_bytes(line, draw):
    return draw.randbytes(draw.randrange(60)).replace(b"\n", b"")


BREAKERS = (
    truncated,
    doubled,
    other_encoding,
    with_bytes,
    huge_number,
    carriage_return,
    long_field,
    random_bytes,
)


@pytest.fixture(scope="module")
def built(spark, tmp_path_factory):
    """(manifest, rejected rows, lines) of a log with both kinds of lines, mixed."""
    folder, draw = tmp_path_factory.mktemp("garbage"), random.Random(1)
    lines = [good_line(n) for n in range(NUM_GOOD)]
    lines += [draw.choice(BREAKERS)(good_line(n), draw) for n in range(NUM_BROKEN)]
    draw.shuffle(lines)
    (folder / "log").mkdir()
    for index in range(3):
        (folder / "log" / f"{index}.tsv").write_bytes(b"".join(line + b"\n" for line in lines[index::3]))
    log = find_click_log(f"file://{folder}/log", SETTINGS)
    build_dataset(spark, log, SETTINGS, HashSplit(0.1, 0.1), f"file://{folder}/dataset")
    files = (folder / "dataset" / "_rejected").glob("*.json")
    rejected = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return read_manifest(f"file://{folder}/dataset"), rejected, lines


def test_each_line_is_in_the_dataset_or_rejected(built):
    manifest, rejected, lines = built
    num_rows = sum(part.num_rows for part in manifest.splits.values())
    num_lines = sum(line not in (b"", b"\r") for line in lines)  # blank lines are no rows
    assert manifest.input.rows_read == num_lines == num_rows + len(rejected)
    assert num_rows >= NUM_GOOD


def test_each_rejected_line_has_a_reason_that_is_counted(built):
    manifest, rejected, _ = built
    num_by_reason = {}
    for row in rejected:
        num_by_reason[row["reason"]] = num_by_reason.get(row["reason"], 0) + 1
    assert num_by_reason == manifest.input.bad_by_reason
    assert (
        set(num_by_reason)
        == {
            "not_utf8",
            "wrong_number_of_columns",
            "label_not_0_or_1",
            "count_not_an_integer",
            "value_not_a_number",
        }
        <= set(REASONS)
    )


def test_no_good_line_is_rejected(built):
    _, rejected, _ = built
    texts = {row.get("text") for row in rejected}
    assert not texts & {good_line(n).decode() for n in range(NUM_GOOD)}
