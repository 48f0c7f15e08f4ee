"""Every way to use a registered model in MLflow gives the scored day's probabilities, to 1e-6.

Every column of the log has nulls and values that do not occur in training.
"""

import json
import os
import re
import subprocess
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from servers import BIN, ROOT, model_server

pytestmark = pytest.mark.slow
SCORED_DAY = "2026-01-04"
DAYS = ("2026-01-01", "2026-01-02", "2026-01-03", SCORED_DAY)
DATA = """
format: delimited
columns: [label, I, C, U, H, Q, V, T, ts]
fields:
  - {kind: count, names: [I]}
  - {kind: category, names: [C, U]}
  - {kind: category, names: [H], hash_buckets: 50}
  - {kind: quantile, names: [Q], quantile_buckets: 4}
  - {kind: value, names: [V]}
  - {kind: list, names: [T], separator: " ", max_values: 2}
  - {kind: time, names: [hour]}
time_column: ts
time_format: iso
"""
MODEL = """
model: deepfm
embedding_dim: 4
deep: {hidden_units: [8]}
training: {batch_size: 16, max_epochs: 2, patience: 2, learning_rate: 0.05}
"""
COLUMNS = yaml.safe_load(DATA)["columns"][1:]
NUMBERS = ["I", "Q", "V"]


def log_line(n: int, day: str) -> str:
    """Every 7th value is missing, with another offset in each column; the last day has new values."""
    shift = 100 if day == SCORED_DAY and n % 5 == 0 else 0
    values = [
        str(n % 11 - 2 + shift),
        f"{'abc'[n % 3]}{shift or ''}",
        str(500 + n % 6 + shift),
        f"device{n % 9 + shift}",
        f"{n % 13 / 4 + shift}",
        f"{n % 17 / 3 - shift:.4f}",
        " ".join(f"t{k + shift}" for k in range(n % 4)),
        f"{day} {n % 24:02d}:30:00",
    ]
    values = ["" if (n + index) % 7 == 0 and index < 7 else value for index, value in enumerate(values)]
    return "\t".join([str(int(n % 3 == 0)), *values])


@pytest.fixture(scope="module")
def served(run_job, profile_path, tmp_path_factory):
    """A registered version, the raw columns of a day in pandas, and their scores by the job."""
    folder = tmp_path_factory.mktemp("served")
    for day in DAYS:
        (folder / "log" / f"ds={day}").mkdir(parents=True)
        lines = "".join(f"{log_line(n, day)}\n" for n in range(80))
        (folder / "log" / f"ds={day}" / "part.tsv").write_text(lines)
    (folder / "data.yaml").write_text(DATA)
    (folder / "model.yaml").write_text(MODEL)
    log, dataset = ["--input", folder / "log"], folder / "dataset"
    split = [f"--{part}-days={day}" for part, day in zip(("train", "valid", "test"), DAYS, strict=False)]
    run_job("build_features", "--data", folder / "data.yaml", *log, "--output", dataset, *split).summary
    flags = ["--model", folder / "model.yaml", "--num-workers", 0, "--name", "served"]
    uri = f"models:/served/{run_job('train', '--dataset', dataset, *flags).summary['version']}"
    flags = ["--date", SCORED_DAY, "--model-uri", uri, "--keep", ",".join(COLUMNS)]
    assert run_job("score", *flags, *log, "--output", folder / "scores").summary["rows_scored"] == 80
    scored = pd.read_parquet(folder / "scores" / f"ds={SCORED_DAY}")
    raw = scored[COLUMNS].replace("", None)
    raw[NUMBERS] = raw[NUMBERS].apply(pd.to_numeric)
    assert raw.isna().any()[:-1].all() and raw["I"].dtype == float  # integers with gaps
    tracking_uri = yaml.safe_load(profile_path.read_text())["mlflow"]["tracking_uri"]
    mlflow.set_tracking_uri(tracking_uri)
    return SimpleNamespace(
        folder=folder, uri=uri, raw=raw, expected=scored["probability"].to_numpy(), tracking_uri=tracking_uri
    )


def assert_same(actual, expected):
    """Compare one probability per row, to 1e-6; the rows have different probabilities."""
    assert np.asarray(actual).shape == expected.shape and np.ptp(expected) > 0.05
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def loaded(served):
    return mlflow.pyfunc.load_model(served.uri)


def test_load_model_gives_the_probabilities_of_the_day(served, loaded):
    assert_same(loaded.predict(served.raw), served.expected)


def test_numbers_may_be_integers_nullable_integers_or_text(served, loaded):
    nullable = served.raw.astype({"I": "Int64"})
    as_text = served.raw.astype({"I": "Int64"}).astype(dict.fromkeys(NUMBERS, "string"))
    ids = served.raw.assign(U=pd.to_numeric(served.raw["U"]))
    for frame in (nullable, as_text, ids):
        assert_same(loaded.predict(frame), served.expected)
    complete = served.raw.dropna(subset=["I", "U"])
    probabilities = loaded.predict(complete.astype({"I": "int64", "U": "int64"}))
    assert_same(probabilities, served.expected[complete.index])


def test_spark_udf_gives_the_probabilities_of_the_day(served, spark):
    names = ", ".join(f"{name} {'double' if name in NUMBERS else 'string'}" for name in COLUMNS)
    rows = served.raw.astype(object).where(served.raw.notna(), None)
    frame = spark.createDataFrame(rows.assign(row=range(len(rows))), f"{names}, row long")
    # As in a Parquet log: integer columns with nulls.
    frame = frame.selectExpr(
        *[f"cast({name} as bigint) {name}" if name in ("I", "U") else name for name in [*COLUMNS, "row"]]
    ).repartition(3)
    score = mlflow.pyfunc.spark_udf(spark, served.uri, result_type="double", env_manager="local")
    scored = frame.withColumn("probability", score(*COLUMNS)).toPandas().sort_values("row")
    assert_same(scored["probability"], served.expected)


def test_a_model_server_gives_the_probabilities_of_the_day(served):
    def post(address, **document):
        body, headers = json.dumps(document).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}/invocations", body, headers)
        return json.loads(urllib.request.urlopen(request, timeout=60).read())["predictions"]

    rows = json.loads(served.raw.to_json(orient="records"))
    split = json.loads(served.raw.to_json(orient="split", index=False))
    assert rows[0]["I"] is None or isinstance(rows[0]["I"], (int, float))
    with model_server(served.folder, served.uri, served.tracking_uri) as address:
        assert_same(post(address, dataframe_split=split), served.expected)
        assert_same(post(address, dataframe_records=rows), served.expected)
        index = next(index for index, row in enumerate(rows) if row["I"] is None)
        assert post(address, dataframe_records=[rows[index]]) == pytest.approx(
            [served.expected[index]], abs=1e-6
        )


def predict(served, source, content_type):
    output = served.folder / f"{content_type}.out"
    flags = ["--model-uri", served.uri, "--content-type", content_type, "--env-manager", "local"]
    done = subprocess.run(
        [BIN / "mlflow", "models", "predict", *flags, "--input-path", source, "--output-path", output],
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "MLFLOW_TRACKING_URI": served.tracking_uri},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text())["predictions"]


def test_predict_accepts_json(served):
    source = served.folder / "rows.json"
    source.write_text(json.dumps({"dataframe_split": json.loads(served.raw.to_json(orient="split"))}))
    assert_same(predict(served, source, "json"), served.expected)


def test_predict_accepts_csv_with_empty_text_and_na_as_missing(served):
    """Empty text is missing, as in a delimited log; so are texts that pandas reads as missing, such as NA."""
    source, frame = served.folder / "rows.csv", served.raw.copy()
    missing = frame["C"].isna()
    assert missing.any() and (frame["C"] == "a").any()
    frame.loc[missing[missing].index[::2], "C"] = "NA"
    frame.to_csv(source, index=False)
    assert '"NA"' in source.read_text() or ",NA," in source.read_text()
    assert_same(predict(served, source, "csv"), served.expected)


def test_its_requirements_match_the_lock_and_its_example_can_be_scored(served, loaded):
    pins = dict(
        re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text().lower(), flags=re.MULTILINE)
    )
    path = mlflow.artifacts.download_artifacts(f"{served.uri}/requirements.txt")
    needed = dict(line.lower().split("==") for line in Path(path).read_text().split())
    assert {"mlflow", "torch", "pyarrow"} <= set(needed)
    assert needed == {name: pins.get(name, pins.get(name.replace("_", "-"))) for name in needed}
    assert loaded.metadata.signature.inputs.input_names() == COLUMNS
    example = loaded.metadata.load_input_example(mlflow.artifacts.download_artifacts(served.uri))
    assert list(example) == COLUMNS
    assert np.isfinite(loaded.predict(example)).all()
