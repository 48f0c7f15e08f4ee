"""Jobs on a log without days, split by time, with a quarter of the negatives kept in training."""

import re

import numpy as np
import pytest
import yaml

CTR_BY_VALUE = {"a": 0.4, "b": 0.1}
NUM_ROWS = 8000


@pytest.fixture(scope="module")
def jobs(run_job, tmp_path_factory):
    """Summaries of build_features, train, promote and score."""
    folder, random = tmp_path_factory.mktemp("sampled"), np.random.default_rng(1)
    values = random.choice(list(CTR_BY_VALUE), NUM_ROWS)
    clicks = random.random(NUM_ROWS) < [CTR_BY_VALUE[value] for value in values]
    seconds = 1_767_225_600 + np.arange(NUM_ROWS)
    rows = [f"{int(c)}\t{v}\t{s}\t{s}\n" for c, v, s in zip(clicks, values, seconds, strict=True)]
    (folder / "log.tsv").write_text("".join(rows))
    data = {
        "format": "delimited",
        "columns": ["label", "C", "row", "ts"],
        "fields": [{"kind": "category", "names": ["C"]}],
        "time_column": "ts",
        "time_format": "unix_s",
        "time_split": {"valid": 0.25, "test": 0.25},
        "keep_negatives": 0.25,
    }
    model = {"model": "lr", "training": {"batch_size": 64, "max_epochs": 5, "learning_rate": 0.05}}
    for name, content in (("data", data), ("model", model)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    log, dataset = ("--input", folder / "log.tsv"), folder / "dataset"
    built = run_job("build_features", "--data", folder / "data.yaml", *log, "--output", dataset).summary
    name = ("--name", "sampled_log")
    trained = run_job(
        "train", "--dataset", dataset, "--model", folder / "model.yaml", "--num-workers", 0, *name
    ).summary
    promoted = run_job("promote", *name).summary
    uri = ("--model-uri", "models:/sampled_log@champion")
    scored = run_job("score", "--date", "2026-01-01", *uri, *log, "--output", folder / "scores").summary
    return clicks, built, trained, promoted, scored


def test_rows_are_split_by_time_and_every_one_is_accounted_for(jobs):
    clicks, built, *_ = jobs
    assert (built["rows_valid"], built["rows_test"]) == (NUM_ROWS // 4, NUM_ROWS // 4)
    assert built["rows_train"] + built["rows_sampled_out"] == NUM_ROWS // 2
    num_negatives = NUM_ROWS // 2 - int(clicks[: NUM_ROWS // 2].sum())
    assert built["rows_sampled_out"] / num_negatives == pytest.approx(0.75, abs=0.03)


def test_probabilities_are_calibrated_although_most_negatives_were_dropped(jobs):
    clicks, _, trained, promoted, scored = jobs
    # The training rows have a CTR of 0.57, all others one of 0.25.
    entropy = -sum(0.5 * (p * np.log(p) + (1 - p) * np.log(1 - p)) for p in CTR_BY_VALUE.values())
    assert trained["test_logloss"] == pytest.approx(entropy, abs=0.03)
    assert scored["mean_probability"] == pytest.approx(clicks.mean(), abs=0.02)
    (calibration,) = re.findall(r"calibration ([0-9.]+)", promoted["reasons"][1])
    assert float(calibration) == pytest.approx(1, abs=0.08)


def test_the_gate_selects_the_test_rows_by_time(jobs):
    *_, trained, promoted, _ = jobs
    (logloss,) = re.findall(r"logloss ([0-9.]+)", promoted["reasons"][1])
    assert float(logloss) == pytest.approx(trained["test_logloss"], abs=1e-5)
