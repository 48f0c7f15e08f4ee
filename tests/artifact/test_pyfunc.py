"""A registered model accepts raw rows in any pandas type, and refuses what the scoring job would reject."""

import subprocess
import sys
from decimal import Decimal

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from mlflow.types.schema import AnyType

from deepfm.artifact.artifact import load_artifact, save_artifact
from deepfm.artifact.pyfunc import RawRowModel, _load_pyfunc, example_rows, raw_from_frame
from deepfm.artifact.signature import build_signature
from deepfm.dataset.manifest import InputLog, Manifest, SplitPart
from deepfm.features.encode import Encoder
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import Field, FieldSet
from deepfm.kinds.scaling import Moments
from deepfm.model_factory import build_model
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings
from deepfm.settings.model import ModelSettings

BY_VALUE = {"a": 1.0, "b": 2.0, None: 3.0, "?": 4.0}


def typed(fields, **columns) -> dict:
    frame = pd.DataFrame({"I": [1], "C": ["a"]} | columns)
    return raw_from_frame(frame, fields).to_pydict()


@pytest.fixture
def fields(small_data):
    return small_data.field_set


def served(name: str, version: str) -> mlflow.pyfunc.PyFuncModel:
    """Load a registered version as any MLflow client does."""
    return mlflow.pyfunc.load_model(f"models:/{name}/{version}")


@pytest.mark.parametrize(
    "counts",
    [
        pd.Series([7, 8]),
        pd.Series([7.0, 8.0]),
        pd.Series([7, 8], dtype="Int64"),
        pd.Series([7, 8], dtype=object),
        pd.Series(["7", "8"]),
    ],
)
def test_a_count_is_an_integer_of_any_type(fields, counts):
    assert typed(fields, I=counts, C=["a", "a"])["I"] == [7, 8]


@pytest.mark.parametrize(
    "gaps", [[None, np.nan], pd.Series([None, pd.NA], dtype="Int64"), pd.Series(["", None]), [pd.NA, ""]]
)
def test_none_nan_and_empty_text_are_missing(fields, gaps):
    assert typed(fields, I=gaps, C=["", None]) == {"I": [None, None], "C": [None, None]}


def test_a_category_is_text_in_any_pandas_type(fields):
    values = pd.Series([7, 7.0, "07", None], dtype=object)
    assert typed(fields, I=[1] * 4, C=values)["C"] == ["7", "7", "07", None]


@pytest.mark.parametrize("count", [1.5, np.inf, -np.inf, 1e19, -1e19])
def test_a_count_that_is_not_an_integer_is_refused(fields, count):
    with pytest.raises(ValueError, match="I: expected 64-bit integers"):
        typed(fields, I=[count])


def test_columns_may_be_in_any_order_and_have_others_between(save_model):
    model = RawRowModel(load_artifact(f"file://{save_model(c=BY_VALUE)}"))
    plain = pd.DataFrame({"I": [1, 2], "C": ["a", "b"]})
    other = pd.DataFrame({"C": ["a", "b"], "day": ["x", "y"], "I": [1, 2]}, index=[5, 5])
    assert model.predict(other).tolist() == model.predict(plain).tolist()


def test_no_rows_give_no_probabilities(save_model):
    model = RawRowModel(load_artifact(f"file://{save_model()}"))
    assert model.predict(pd.DataFrame({"I": [], "C": []})).shape == (0,)


def test_the_example_shows_known_missing_and_unseen_values(small_vocabulary):
    rows = example_rows(small_vocabulary)
    assert rows["C"].tolist() == ["a", "b", None, "never seen"]
    assert rows["I"].tolist()[:2] == [0.0, 1.0]
    assert np.isnan(rows["I"][2]) and rows["I"][3] == 2.0**62


# --- with a value field and a crossed field


@pytest.fixture
def value_data() -> DataSettings:
    """V is a value field; A and B, which have no known value, are crossed."""
    content = {"format": "delimited", "columns": ["label", "V", "A", "B"], "cross": [["A", "B"]]}
    groups = [{"kind": "value", "names": ["V"]}, {"kind": "category", "names": ["A", "B"]}]
    return parse_settings({**content, "fields": groups, "cross_buckets": 4}, DataSettings, "test")


@pytest.fixture
def value_vocabulary(value_data):
    """The training values of V have mean 3 and standard deviation 2."""
    counts = pa.table({"field": pa.array([], pa.int32()), "value": pa.array([], pa.string()), "num": []})
    return Vocabulary.fit(value_data.field_set, counts, {0: Moments(5, 3.0, 20.0)})


@pytest.fixture
def value_model(tmp_path, value_data, value_vocabulary):
    """The folder of a model whose logit is x_V, or 5 if V is missing."""
    settings = {"model": "lr", "training": {"batch_size": 1, "max_epochs": 1, "learning_rate": 1.0}}
    model = parse_settings(settings, ModelSettings, "test")
    part = SplitPart(num_rows=1, num_clicks=0, days={}, files=(), digest="0" * 16)
    manifest = Manifest(
        created_at="2026-01-08T00:00:00+00:00",
        data=value_data,
        num_ids=value_vocabulary.num_ids,
        vocabulary=value_vocabulary.fingerprint,
        splits=dict.fromkeys(("train", "valid", "test"), part),
        input=InputLog(url="file:///log", days={}, rows_read=1, bad_by_reason={}),
    )
    network = build_model(model, manifest.num_ids, num_crossed=1)
    (table,) = [weight for weight in network.parameters() if weight.dim() == 2]
    torch.nn.init.zeros_(table)
    table.data[:2, 0] = torch.tensor([5.0, 1.0])  # V missing, V present
    save_artifact(f"file://{tmp_path}", model, manifest, value_vocabulary, network.state_dict())
    return tmp_path


@pytest.mark.parametrize(
    "values",
    [pd.Series([7, -1]), pd.Series([7.0, -1.0]), pd.Series(["7", "-1e0"]), pd.Series([7, -1], dtype="Int64")],
)
def test_a_value_is_a_number_of_any_type(value_data, values):
    frame = pd.DataFrame({"V": values, "A": "a", "B": "b"})
    raw = raw_from_frame(frame, value_data.field_set)
    assert raw.column("V").type == pa.float64()
    assert raw.column("V").to_pylist() == [7.0, -1.0]


def test_none_and_nan_are_missing_values_and_infinity_is_refused(value_data):
    frame = pd.DataFrame({"V": [0.5, None, np.nan], "A": "a", "B": "b"})
    assert raw_from_frame(frame, value_data.field_set).column("V").to_pylist() == [0.5, None, None]
    with pytest.raises(ValueError, match="V: expected finite numbers"):
        raw_from_frame(frame.assign(V=[0.5, np.inf, 1.0]), value_data.field_set)


def test_the_example_shows_values_near_the_mean_and_no_crossed_column(value_vocabulary):
    rows = example_rows(value_vocabulary)
    assert list(rows) == ["V", "A", "B"]
    # The mean, and one and three standard deviations above it.
    np.testing.assert_array_equal(rows["V"], [3.0, 5.0, np.nan, 9.0])


def test_a_registered_model_accepts_values_as_numbers_and_crosses_fields_itself(
    value_model, value_vocabulary, store
):
    name = "pyfunc-values"
    with store.run(name) as run:
        model = served(name, run.register(str(value_model), name, value_vocabulary, {}))
    assert model.metadata.signature.inputs.input_names() == ["V", "A", "B"]
    frame = pd.DataFrame({"V": [3.0, 5.0, None], "A": ["a", None, "c"], "B": ["b", "b", None]})
    # x is 0, 1 and missing: logits 0, 1 and 5.
    assert model.predict(frame) == pytest.approx([0.5, 0.7310586, 0.9933071], abs=1e-6)
    integers = frame[:2].astype({"V": "int64"})
    assert model.predict(integers) == pytest.approx([0.5, 0.7310586], abs=1e-6)


def test_null_values_of_the_log_are_missing_in_a_frame_too(value_data):
    frame = pd.DataFrame({"V": ["-", 1], "A": ["NULL", "a"], "B": ["b", "-"]})
    raw = raw_from_frame(frame, value_data.field_set, ("NULL", "-"))
    assert raw.to_pydict() == {"V": [None, 1.0], "A": [None, "a"], "B": ["b", None]}


def test_values_of_any_type_are_those_of_the_log(fields):
    assert typed(fields, I=[True, False], C=[True, False]) == {"I": [1, 0], "C": ["1", "0"]}
    assert typed(fields, I=[Decimal("7.00")], C=[Decimal("1.50")]) == {"I": [7], "C": ["1.5"]}
    assert typed(fields, I=[b"7"], C=[b"a"]) == {"I": [7], "C": ["a"]}
    large = 2**62 + 1
    assert typed(fields, I=[large], C=[large]) == {"I": [large], "C": [str(large)]}


@pytest.mark.parametrize(
    ("value", "message"),
    [([1], "expected single values, found an array"), (object(), "have no text"), (b"\xff", "C: .*utf-8")],
)
def test_a_value_that_a_log_cannot_have_is_refused(fields, value, message):
    with pytest.raises(ValueError, match=message):
        typed(fields, I=[1], C=pd.Series([value], dtype=object))


# --- quantiles and times


def time_vocabulary(time_format):
    fields = [
        Field(name=name, kind="time", source="ts", time_format=time_format) for name in ("hour", "weekday")
    ]
    empty = [pa.array([], pa.string())] * 3, [pa.array([], pa.int64())] * 3
    fields.append(Field(name="Q", kind="quantile", quantile_buckets=3))
    return Vocabulary(FieldSet(fields), *empty, boundaries={"Q": (1.5, 3.0)})


@pytest.mark.parametrize(
    ("time_format", "times"),
    [
        ("iso", ["1970-01-01 00:01:00", "1970-01-01T00:02:00", None]),
        ("iso", pd.to_datetime(["1970-01-01 00:01:00", "1970-01-01 00:02:00", None])),
        ("unix_s", [60, 120.0, np.nan]),
        ("unix_ms", pd.Series([60_000, 120_000, None], dtype="Int64")),
        ("unix_ms", ["60000", "120000", ""]),
    ],
)
def test_a_time_may_be_text_a_number_or_a_timestamp(time_format, times):
    raw = raw_from_frame(
        pd.DataFrame({"ts": times, "Q": [1, 2.5, None]}), time_vocabulary(time_format).fields
    )
    assert raw.to_pydict() == {"hour": [60, 120, None], "weekday": [60, 120, None], "Q": [1.0, 2.5, None]}


def test_a_time_that_the_scoring_job_would_reject_is_refused():
    with pytest.raises(ValueError, match="ts: expected times as iso, found 'noon'"):
        raw_from_frame(pd.DataFrame({"ts": ["noon"], "Q": [1]}), time_vocabulary("iso").fields)


@pytest.mark.parametrize("time_format", ["iso", "unix_s", "unix_ms"])
def test_the_example_has_the_time_column_once_and_can_be_encoded(time_format):
    vocabulary = time_vocabulary(time_format)
    rows = example_rows(vocabulary)
    assert list(rows) == ["ts", "Q"]
    hours, weekdays, quantiles = Encoder(vocabulary).encode(raw_from_frame(rows, vocabulary.fields))
    # 09:00 on a Thursday, 21:30 on a Saturday, missing, the first hour of 1970.
    assert (hours.tolist(), weekdays.tolist()) == ([11, 23, 0, 2], [5, 7, 0, 5])
    assert quantiles.tolist() == [2, 3, 0, 4]


# --- through MLflow


def test_a_registered_model_accepts_raw_rows(save_model, register):
    name = "pyfunc-raw-rows"
    version = register(save_model(c=BY_VALUE), name)
    frame = pd.DataFrame({"I": [1.0, 2.0, None, 4.0], "C": ["a", "b", None, "new"]})
    probabilities = served(name, version).predict(frame)
    assert probabilities == pytest.approx([0.7310586, 0.8807971, 0.9525741, 0.9820138], abs=1e-6)


@pytest.mark.parametrize("counts", [[1, 2], [1.0, None], [None, None]])
def test_the_signature_accepts_counts_as_pandas_reads_them(save_model, register, counts):
    name = f"pyfunc-counts-{pd.Series(counts).dtype}"
    model = served(name, register(save_model(), name))
    assert model.predict(pd.DataFrame({"I": counts, "C": ["a", "b"]})).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("values", "is_any"),
    [
        (["4711", "7", "-1"], True),
        (["4711", "007"], False),
        (["1" * 16], False),
        (["a", "7"], False),
        ([], False),
    ],
)
def test_only_a_category_of_plain_integers_may_be_numeric(fields, values, is_any):
    """A column of numbers would turn 007 into 7, another value."""
    known = [pa.array([], pa.string()), pa.array(values, pa.string())]
    counts = [pa.array([1] * len(values), pa.int64()) for values in known]
    (_, category) = build_signature(Vocabulary(fields, known, counts)).inputs.inputs
    assert isinstance(category.type, AnyType) == is_any


def test_signature_and_example_have_the_raw_columns(save_model, register):
    name = "pyfunc-signature"
    metadata = served(name, register(save_model(), name)).metadata
    assert [column.name for column in metadata.signature.inputs] == ["I", "C"]
    assert metadata.signature.outputs.input_types()[0].name == "double"
    assert metadata.saved_input_example_info["pandas_orient"] == "split"


def test_models_name_a_loader_that_exists_under_its_former_name_too(save_model):
    from deepfm.registry import pyfunc as former

    assert former._load_pyfunc is _load_pyfunc


def test_a_frame_without_a_column_is_refused(save_model, register):
    name = "pyfunc-column"
    model = served(name, register(save_model(), name))
    with pytest.raises(mlflow.MlflowException, match=r"missing inputs \['C'\]"):
        model.predict(pd.DataFrame({"I": [1]}))


def test_serving_needs_no_spark_petastorm_or_horovod(save_model):
    """Runs in a process without these packages, as in the model's requirements."""
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(['pyspark', 'petastorm', 'horovod', 'mlflow'])\n"
        "from deepfm.artifact.pyfunc import _load_pyfunc\n"
        "import pandas as pd\n"
        "print(_load_pyfunc(sys.argv[1]).predict(pd.DataFrame({'I': [1], 'C': ['a']})))"
    )
    command = [sys.executable, "-c", code, str(save_model())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("[0.5]\n", 0), done.stderr
