"""Fields of kind value and crossed fields, from a click log to model inputs, on real Spark."""

import math
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from petastorm import make_batch_reader

from deepfm.artifact.artifact import ServingModel, save_artifact
from deepfm.artifact.pyfunc import raw_from_frame
from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.raw_rows import raw_rows
from deepfm.click_log.split import day_split
from deepfm.dataset.build import build_dataset
from deepfm.dataset.manifest import read_manifest
from deepfm.dataset.read import read_batches
from deepfm.dataset.shard import Shard
from deepfm.features.encode import Encoder
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.kinds.cross import cross_ids
from deepfm.kinds.scaling import Scaling
from deepfm.model_factory import build_model
from deepfm.scoring.predict import score_rows, ship_model
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings
from deepfm.settings.model import ModelSettings

SETTINGS = parse_settings(
    {
        "format": "delimited",
        "columns": ["label", "V", "L", "I", "C"],
        "fields": [
            {"kind": "value", "names": ["V"]},
            {"kind": "count", "names": ["I"]},
            {"kind": "value", "names": ["L"], "scale": "log"},
            {"kind": "category", "names": ["C"]},
        ],
        "cross": [["C", "I"]],
        "cross_buckets": 50,
        "max_bad_fraction": 0.5,
        "max_bad_labels": 0.5,
    },
    DataSettings,
    "test",
)
SPLIT = day_split("2026-01-01:2026-01-02", "2026-01-03", "2026-01-04")
#: label, V, L, I, C. In the training rows V is 2, 6, 2 and 6: mean 4, standard deviation 2. L is always 0.
LOG = {
    "2026-01-01": ["1\t2\t0\t7\ta", "0\t6e0\t0\t7\tb", "0\t\t\t\ta", "1\tnan\t0\t7\ta", "1\t2\t0x1\t7\ta"],
    "2026-01-02": ["1\t2.0\t0\t0\ta", "0\t6\t0\t0\tb"],
    "2026-01-03": ["1\t100\t1.718281828459045\t7\tunseen"],  # L is e - 1: 1 on its scale
    "2026-01-04": ["0\t4\t-6.38905609893065\t\t", "1\t\t0\t0\ta"],  # 1 - e^2: -2
}
#: (label, ids of V, I, L and C, x of V and L). I: 0 and 7 occur twice and have ids 2 and 3, as a and b of C.
INPUTS = {
    "train": [
        (1, [1, 3, 1, 2], [-1.0, 0.0]),
        (0, [1, 3, 1, 3], [1.0, 0.0]),
        (0, [0, 0, 0, 2], [1.0, 1.0]),
        (1, [1, 2, 1, 2], [-1.0, 0.0]),
        (0, [1, 2, 1, 3], [1.0, 0.0]),
    ],
    "valid": [(1, [1, 3, 1, 1], [48.0, 1.0])],
    "test": [(0, [1, 0, 1, 0], [0.0, -2.0]), (1, [0, 2, 1, 2], [1.0, 0.0])],
}


def with_cross(ids):
    """Ids of V, I, L and C, then of C crossed with I."""
    (crossed,) = cross_ids([np.array([ids[3]]), np.array([ids[1]])], 50).tolist()
    return [*ids, crossed]


def expected(split):
    """(label, ids, x) of each row, sorted."""
    return sorted((label, with_cross(ids), [x[0], 1.0, x[1], 1.0, 1.0]) for label, ids, x in INPUTS[split])


def build(spark, folder, log):
    for day, files in log.items():
        (folder / "log" / f"ds={day}").mkdir(parents=True)
        for index, lines in enumerate(files):
            (folder / "log" / f"ds={day}" / f"{index}.tsv").write_text("".join(f"{line}\n" for line in lines))
    click_log = find_click_log(f"file://{folder}/log", SETTINGS)
    build_dataset(spark, click_log, SETTINGS, SPLIT, f"file://{folder}/dataset")
    return folder / "dataset"


@pytest.fixture(scope="module")
def dataset(spark, tmp_path_factory):
    return build(spark, tmp_path_factory.mktemp("whole"), {day: [lines] for day, lines in LOG.items()})


@pytest.fixture(scope="module")
def manifest(dataset):
    return read_manifest(f"file://{dataset}")


@pytest.fixture(scope="module")
def vocabulary(dataset):
    return Vocabulary.load(f"file://{dataset}")


def read(dataset, manifest, split, seed=None):
    """(label, ids, x) of each row, in reading order."""
    batches = read_batches(f"file://{dataset}", manifest, split, Shard(0, 1, 2), seed=seed)
    return [
        (int(label), ids, x)
        for batch in batches
        for label, ids, x in zip(batch.labels.tolist(), batch.ids.tolist(), batch.x.tolist(), strict=True)
    ]


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_each_row_is_read_as_ids_and_x(dataset, manifest, split, seed):
    assert sorted(read(dataset, manifest, split, seed)) == expected(split)


def test_value_statistics_come_from_training_days_only(vocabulary):
    assert vocabulary.scalings == {"V": Scaling(4.0, 2.0), "L": Scaling(0.0, 1.0)}


def test_the_manifest_contains_the_number_of_ids_of_each_field(manifest):
    assert manifest.fields.names == ("V", "I", "L", "C", "C_x_I")
    assert manifest.num_ids == (2, 4, 2, 4, 50)


def test_rows_with_an_invalid_value_are_rejected(manifest):
    assert manifest.input.bad_by_reason == {"value_not_a_number": 2}
    assert manifest.splits["train"].num_rows == 5


def test_values_are_stored_as_float32_and_missing_values_as_nan(dataset):
    tables = [pq.read_table(path) for path in sorted((dataset / "train").glob("*.parquet"))]
    assert [str(dtype) for dtype in tables[0].schema.types] == [
        "int8",
        "float",
        "int32",
        "float",
        "int32",
        "int32",
    ]
    assert sum(table.column("V").null_count for table in tables) == 0
    values = sorted(value for table in tables for value in table.column("V").to_pylist() if value == value)
    assert values == [-1.0, -1.0, 1.0, 1.0]


def test_petastorms_own_reader_can_read_the_dataset(dataset):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with make_batch_reader(f"file://{dataset}/valid", reader_pool_type="dummy", num_epochs=1) as reader:
            rows = [(group.V.tolist(), group.C.tolist()) for group in reader if len(group.V)]
    assert rows == [([48.0], [1])]


def test_statistics_do_not_depend_on_partitions(spark, manifest, tmp_path):
    one_per_file = {day: [[line] for line in reversed(lines)] for day, lines in LOG.items()}
    other = read_manifest(f"file://{build(spark, tmp_path, one_per_file)}")
    assert other.vocabulary == manifest.vocabulary
    assert other.digest == manifest.digest


# --- serving


class Recorder(torch.nn.Module):
    """Network that records its inputs."""

    def __init__(self):
        super().__init__()
        self.inputs = []

    def forward(self, ids, x):
        self.inputs += zip(ids.tolist(), x.tolist(), strict=True)
        return torch.zeros(len(ids))


#: Rows of the test day and the validation day, as a client sends them.
RAW = {
    "V": [4.0, None, 100.0],
    "L": [1 - math.e**2, 0.0, math.e - 1],
    "I": [None, 0, 7],
    "C": [None, "a", "unseen"],
}


def served(vocabulary, raw):
    network = Recorder()
    ServingModel(None, Encoder(vocabulary), network).logits(raw)
    return network.inputs


def test_raw_rows_are_encoded_for_serving_as_in_the_dataset(dataset, manifest, vocabulary):
    inputs = served(vocabulary, pa.table(RAW))
    dataset_rows = read(dataset, manifest, "test") + read(dataset, manifest, "valid")
    assert sorted(inputs) == sorted((ids, x) for _, ids, x in dataset_rows)
    assert inputs == served(vocabulary, raw_from_frame(pd.DataFrame(RAW), vocabulary.fields))


@pytest.fixture(scope="module")
def wide_deep(dataset, manifest, vocabulary, tmp_path_factory):
    """(network, folder of its artifact): Wide & Deep with all weights random."""
    settings = {"model": "wide_deep", "embedding_dim": 2, "deep": {"hidden_units": [3]}}
    settings["training"] = {"batch_size": 1, "max_epochs": 1, "learning_rate": 1.0}
    model = parse_settings(settings, ModelSettings, "test")
    torch.manual_seed(1)
    network = build_model(model, manifest.num_ids, manifest.fields.num_crossed)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    folder = tmp_path_factory.mktemp("model")
    save_artifact(f"file://{folder}", model, manifest, vocabulary, network.state_dict())
    return network.eval(), folder


@pytest.mark.parametrize("split", ["train", "test"])
def test_crossed_ids_are_the_same_in_dataset_and_scoring(spark, dataset, manifest, wide_deep, split):
    network, folder = wide_deep
    rows = read(dataset, manifest, split)
    with torch.no_grad():
        logits = network(torch.tensor([ids for _, ids, _ in rows]), torch.tensor([x for _, _, x in rows]))
    days = ["2026-01-01", "2026-01-02"] if split == "train" else ["2026-01-04"]
    log = find_click_log(f"file://{dataset.parent}/log", SETTINGS, days=days, labelled=False)
    scored = score_rows(raw_rows(spark, log, days), log.row_format, ship_model(spark, str(folder)), days[0])
    probabilities = [row.probability for row in scored.collect() if row.kind == "scored"]
    assert sorted(probabilities) == pytest.approx(sorted(torch.sigmoid(logits).tolist()), abs=1e-6)
    assert len({round(probability, 6) for probability in probabilities}) == len(rows)
