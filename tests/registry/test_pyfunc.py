"""The registered model on raw rows: what pandas may hold, and what the scoring job would set aside."""

import subprocess
import sys

import mlflow
import numpy as np
import pandas as pd
import pytest

from deepfm.registry.artifact import load_artifact
from deepfm.registry.pyfunc import RawRowModel, example_rows, raw_from_frame

BY_VALUE = {"a": 1.0, "b": 2.0, None: 3.0, "?": 4.0}


def typed(fields, **columns) -> dict:
    frame = pd.DataFrame({"I": [1], "C": ["a"]} | columns)
    return raw_from_frame(frame, fields).to_pydict()


@pytest.fixture
def fields(small_data):
    return small_data.field_set


def served(name: str, version: str) -> mlflow.pyfunc.PyFuncModel:
    """A registered version, loaded as any client of MLflow does."""
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
def test_a_count_is_a_whole_number_in_any_type(fields, counts):
    assert typed(fields, I=counts, C=["a", "a"])["I"] == [7, 8]


@pytest.mark.parametrize(
    "gaps", [[None, np.nan], pd.Series([None, pd.NA], dtype="Int64"), pd.Series(["", None]), [pd.NA, ""]]
)
def test_none_nan_and_empty_text_are_missing(fields, gaps):
    assert typed(fields, I=gaps, C=["", None]) == {"I": [None, None], "C": [None, None]}


def test_a_category_is_text_however_pandas_holds_it(fields):
    values = pd.Series([7, 7.0, "07", None], dtype=object)
    assert typed(fields, I=[1] * 4, C=values)["C"] == ["7", "7", "07", None]


@pytest.mark.parametrize("count", [1.5, np.inf, -np.inf, 1e19, -1e19])
def test_a_count_that_is_no_integer_is_refused(fields, count):
    with pytest.raises(ValueError, match="I: expected whole numbers"):
        typed(fields, I=[count])


def test_columns_may_come_in_any_order_with_others(save_model):
    model = RawRowModel(load_artifact(f"file://{save_model(c=BY_VALUE)}"))
    plain = pd.DataFrame({"I": [1, 2], "C": ["a", "b"]})
    other = pd.DataFrame({"C": ["a", "b"], "day": ["x", "y"], "I": [1, 2]}, index=[5, 5])
    assert model.predict(other).tolist() == model.predict(plain).tolist()


def test_no_rows_give_no_probabilities(save_model):
    model = RawRowModel(load_artifact(f"file://{save_model()}"))
    assert model.predict(pd.DataFrame({"I": [], "C": []})).shape == (0,)


def test_example_shows_known_missing_and_unseen_values(small_vocabulary):
    rows = example_rows(small_vocabulary)
    assert rows["C"].tolist() == ["a", "b", None, "never seen"]
    assert rows["I"].tolist()[:2] == [0.0, 1.0]
    assert np.isnan(rows["I"][2]) and rows["I"][3] == 2.0**62


# --- through MLflow


def test_registered_model_takes_raw_rows(save_model, register):
    name = "pyfunc-raw-rows"
    version = register(save_model(c=BY_VALUE), name)
    frame = pd.DataFrame({"I": [1.0, 2.0, None, 4.0], "C": ["a", "b", None, "new"]})
    found = served(name, version).predict(frame)
    assert found == pytest.approx([0.7310586, 0.8807971, 0.9525741, 0.9820138], abs=1e-6)


@pytest.mark.parametrize("counts", [[1, 2], [1.0, None], [None, None]])
def test_signature_lets_counts_through_as_pandas_reads_them(save_model, register, counts):
    name = f"pyfunc-counts-{pd.Series(counts).dtype}"
    model = served(name, register(save_model(), name))
    assert model.predict(pd.DataFrame({"I": counts, "C": ["a", "b"]})).tolist() == [0.5, 0.5]


def test_signature_and_example_speak_of_the_raw_columns(save_model, register):
    name = "pyfunc-signature"
    metadata = served(name, register(save_model(), name)).metadata
    assert [column.name for column in metadata.signature.inputs] == ["I", "C"]
    assert metadata.signature.outputs.input_types()[0].name == "double"
    assert metadata.saved_input_example_info["pandas_orient"] == "split"


def test_a_frame_without_a_column_is_refused(save_model, register):
    name = "pyfunc-column"
    model = served(name, register(save_model(), name))
    with pytest.raises(mlflow.MlflowException, match=r"missing inputs \['C'\]"):
        model.predict(pd.DataFrame({"I": [1]}))


def test_serving_needs_no_spark_petastorm_or_horovod(save_model):
    """A process where those are absent, as the model's requirements say."""
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(['pyspark', 'petastorm', 'horovod', 'mlflow'])\n"
        "from deepfm.registry.pyfunc import _load_pyfunc\n"
        "import pandas as pd\n"
        "print(_load_pyfunc(sys.argv[1]).predict(pd.DataFrame({'I': [1], 'C': ['a']})))"
    )
    command = [sys.executable, "-c", code, str(save_model())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("[0.5]\n", 0), done.stderr
