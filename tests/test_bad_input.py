"""Invalid input: the error is one line, and no partial output is left."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DAYS = {"train": "2026-01-01", "valid": "2026-01-02", "test": "2026-01-03"}
SPLIT = [f"--{part}-days={day}" for part, day in DAYS.items()]
DAY = "2026-01-03"
GOOD = [f"{n % 2}\t{n % 3}\t{'ab'[n % 2]}" for n in range(24)]
DATA = {
    "format": "delimited",
    "columns": ["label", "I", "C"],
    "fields": [{"kind": "count", "names": ["I"]}, {"kind": "category", "names": ["C"]}],
}
MODEL = {
    "model": "deepfm",
    "embedding_dim": 2,
    "deep": {"hidden_units": [2]},
    "training": {"batch_size": 8, "max_epochs": 1, "learning_rate": 0.01},
}


def write_yaml(path: Path, content: dict) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def files(folder: Path) -> set[str]:
    """Return all files below a folder, except rejected rows and the marker of an unfinished build."""
    paths = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {path for path in paths if "_rejected/" not in path and not path.endswith("_building")}


@pytest.fixture(scope="module")
def built(run_job, tmp_path_factory):
    """Path of a small complete dataset."""
    folder = tmp_path_factory.mktemp("built")
    for day in DAYS.values():
        (folder / "log" / f"ds={day}").mkdir(parents=True)
        (folder / "log" / f"ds={day}" / "part.tsv").write_text("\n".join(GOOD) + "\n")
    flags = ["--data", write_yaml(folder / "data.yaml", DATA), "--input", folder / "log"]
    assert run_job("build_features", *flags, "--output", folder / "dataset", *SPLIT).summary
    return folder / "dataset"


@pytest.fixture
def dataset(built, tmp_path):
    """A copy of the dataset that a test may damage."""
    return Path(shutil.copytree(built, tmp_path / "dataset"))


@pytest.fixture
def log(write_log):
    """log(day, lines) writes the log of the dataset with other lines on one day."""

    def with_day(day=None, lines=()):
        return write_log({each: lines if each == day else GOOD for each in DAYS.values()})

    return with_day


@pytest.fixture
def build(run_job, tmp_path):
    """Run build_features.py, check that it leaves no files, and return its error."""

    def run(log, *, data=DATA, output="built", split=SPLIT):
        flags = ["--data", write_yaml(tmp_path / "data.yaml", data), "--input", log]
        before = files(tmp_path)
        message = run_job("build_features", *flags, "--output", tmp_path / output, *split).mistake
        assert files(tmp_path) == before
        return message

    return run


@pytest.fixture
def train(run_job, store, tmp_path, profile_path, request):
    """Run train.py, check that it leaves no version and no run folder, and return its error."""

    def run(dataset, *flags, model=MODEL, num_workers=0, error="mistake"):
        name = request.node.name
        paths = ["--dataset", dataset, "--model", write_yaml(tmp_path / "model.yaml", model)]
        job = run_job("train", *paths, "--name", name, "--num-workers", num_workers, *flags)
        message = getattr(job, error)
        assert store.client.search_registered_models(f"name = '{name}'") == []
        assert not list(profile_path.parent.glob("runs/*"))
        return message

    return run


@pytest.fixture
def champion(save_model, register, store):
    """The URI of a registered champion."""
    if not store.client.search_registered_models("name = 'bad-input'"):
        register(save_model(), "bad-input")
        store.client.set_registered_model_alias("bad-input", "champion", "1")
    return "models:/bad-input@champion"


@pytest.fixture
def score(run_job, tmp_path):
    """Run score.py, check that it leaves no files, and return its error."""

    def run(log, model_uri, *flags, date=DAY, output="scores", error="mistake"):
        before = files(tmp_path)
        paths = ["--input", log, "--output", tmp_path / output, "--model-uri", model_uri]
        message = getattr(run_job("score", "--date", date, *paths, *flags), error)
        assert files(tmp_path) == before
        return message

    return run


# --- the log


def test_building_from_a_missing_log_is_reported(build, tmp_path):
    assert "expected a click log, but the path does not exist" in build(tmp_path / "nowhere")
    assert not (tmp_path / "built").exists()


def test_scoring_a_missing_log_is_reported(score, tmp_path, champion):
    assert "expected a click log, but the path does not exist" in score(tmp_path / "nowhere", champion)
    assert not (tmp_path / "scores").exists()


def test_an_empty_training_day_is_reported(build, log):
    assert "found no row that fits in the train split" in build(log("2026-01-01"))


def test_an_empty_day_to_score_is_reported(score, log, champion, tmp_path):
    assert f"expected files with rows, found none for {DAY}" in score(log(DAY), champion)
    assert not (tmp_path / "scores").exists()


def test_a_day_that_is_not_in_the_log_is_reported(build, score, log, champion):
    log_path = log()
    missing = "expected a folder for every requested day, found none for 2026-01-09"
    assert missing in build(log_path, split=[*SPLIT[:2], "--test-days=2026-01-09"])
    assert missing in score(log_path, champion, date="2026-01-09")


def test_a_wrong_number_of_columns_everywhere_is_reported(build, write_log):
    message = build(write_log(dict.fromkeys(DAYS.values(), ["1\t0\ta\tmore"] * 3)))
    assert "9 of 9 rows do not fit (9 wrong_number_of_columns; 3 of them in file:" in message


def test_a_scored_day_with_a_wrong_number_of_columns_is_reported(score, log, champion, tmp_path):
    assert "3 of 3 rows do not fit" in score(log(DAY, ["1\t0\ta\tmore"] * 3), champion)
    assert list((tmp_path / "scores" / "_rejected" / f"ds={DAY}").glob("part-*"))


def test_a_training_day_of_bad_rows_is_reported(build, log):
    message = build(
        log("2026-01-01", ["1\tx\ta"] * 3), data=DATA | {"max_bad_fraction": 0.5, "max_bad_labels": 0.5}
    )
    assert "found no row that fits in the train split" in message


def test_a_day_of_bad_rows_among_good_ones_is_reported(build, log):
    split = ["--train-days=2026-01-01:2026-01-02", "--valid-days=2026-01-03", "--test-days=2026-01-04"]
    log_path = log("2026-01-02", ["1\tx\ta"] * 3)
    shutil.copytree(log_path / "ds=2026-01-01", log_path / "ds=2026-01-04")
    message = build(log_path, data=DATA | {"max_bad_fraction": 0.5, "max_bad_labels": 0.5}, split=split)
    assert "expected impressions of 2026-01-02, found no row that fits" in message


def test_a_scored_day_of_bad_rows_is_reported(score, log, champion):
    assert "3 of 3 rows do not fit" in score(log(DAY, ["1\tx\ta"] * 3), champion)


def test_an_error_does_not_change_the_published_day(run_job, score, log, champion, tmp_path):
    flags = ["--model-uri", champion, "--output", tmp_path / "scores"]
    assert run_job("score", "--date", DAY, "--input", log(), *flags).status == 0
    part = tmp_path / "log" / f"ds={DAY}" / "part-00000.tsv"
    part.write_text("1\tx\ta\n")
    assert "1 of 1 rows do not fit" in score(tmp_path / "log", champion, "--overwrite")
    assert run_job("score", "--date", DAY, "--input", tmp_path / "log", *flags).summary["rows_in"] == 24


# --- the dataset


def test_a_dataset_without_manifest_is_reported(train, dataset):
    (dataset / "manifest.json").unlink()
    assert "no manifest.json found" in train(dataset)


@pytest.mark.parametrize("damage", ["missing", "truncated"])
@pytest.mark.parametrize("name", ["train/part-*.parquet", "test/part-*.parquet", "vocabulary.*"])
def test_a_damaged_dataset_is_reported(train, dataset, store, name, damage, request):
    file = sorted(file for file in dataset.glob(name) if file.stat().st_size > 0)[-1]
    content = file.read_bytes()
    file.unlink()
    if damage == "truncated":
        file.write_bytes(content[:-5])
    message = train(dataset)
    assert "build it again" in message or "build the dataset again" in message
    assert store.client.get_experiment_by_name(request.node.name) is None


def test_the_vocabulary_of_another_dataset_is_reported(train, dataset, small_vocabulary, store, request):
    small_vocabulary.save(f"file://{dataset}")
    assert "were encoded with vocabulary" in train(dataset)
    # The error comes before any run is created.
    assert store.client.get_experiment_by_name(request.node.name) is None


# --- settings

WRONG = [
    (DATA | {"lable": "y", "max_bad_fraction": 2, "format": "csv"}, "data"),
    (MODEL | {"embeding_dim": 8, "embedding_dim": "many", "w_reg": -1}, "model"),
]


@pytest.mark.parametrize(("settings", "kind"), WRONG, ids=["data", "model"])
def test_all_errors_of_a_yaml_are_reported_at_once(build, train, dataset, log, settings, kind):
    message = build(log(), data=settings) if kind == "data" else train(dataset, model=settings)
    assert "3 errors" in message
    keys = (
        ("lable", "max_bad_fraction", "format") if kind == "data" else ("embeding", "embedding_dim", "w_reg")
    )
    assert [key for key in keys if key not in message] == []


def test_all_errors_of_a_profile_are_reported_at_once(run_job, profile_path, tmp_path):
    profile = yaml.safe_load(profile_path.read_text())
    profile["mlflow"]["tracking"] = "x"
    profile["workers"]["threads_per_worker"] = "all"
    wrong = write_yaml(tmp_path / "profile.yaml", profile)
    message = run_job("promote", "--name", "ctr", "--profile", wrong).mistake
    assert "2 errors" in message
    assert "mlflow.tracking" in message and "workers.threads_per_worker" in message


def test_a_missing_yaml_is_reported(run_job, tmp_path):
    message = run_job("promote", "--name", "ctr", "--profile", tmp_path / "none.yaml").mistake
    assert "cannot read the YAML file" in message


# --- workers, models and servers


def test_more_workers_than_slots_are_reported(train, dataset):
    message = train(dataset, num_workers=3)
    assert "--num-workers 3: expected that many task slots, found 2" in message


@pytest.mark.slow
def test_fewer_rows_than_workers_are_reported(train, run_job, log, tmp_path):
    paths = ["--input", log("2026-01-02", ["1\t0\ta"]), "--output", tmp_path / "dataset"]
    data = write_yaml(tmp_path / "data.yaml", DATA)
    assert run_job("build_features", "--data", data, *paths, *SPLIT).summary["rows_valid"] == 1
    message = train(tmp_path / "dataset", num_workers=2)
    assert "expected at least one row for each of 2 workers, found 1" in message


def test_an_invalid_model_name_is_reported_before_training(train, dataset):
    assert "expected a model's name without / : @" in train(dataset, "--name", "ctr/deepfm")


@pytest.mark.parametrize("uri", ["models:/nobody@champion", "models:/nobody/1", "models:/nobody/x"])
def test_a_model_that_does_not_exist_is_reported(score, log, uri):
    assert f"{uri}: no such model" in score(log(), uri)


def test_a_model_without_a_champion_is_reported(score, log, save_model, register):
    register(save_model(), "candidate-only")
    assert "no such model" in score(log(), "models:/candidate-only@champion")


@pytest.mark.parametrize("uri", ["nobody", "runs:/1/model", "models:/nobody"])
def test_an_invalid_model_uri_is_reported(score, log, uri):
    assert "expected models:/NAME@ALIAS or models:/NAME/VERSION" in score(log(), uri)


@pytest.mark.parametrize("flags", [[], ["--version", "7"], ["--rollback"], ["--history"]])
def test_promoting_a_model_that_does_not_exist_is_reported(run_job, flags):
    message = run_job("promote", "--name", "nobody", *flags).mistake
    assert (
        "no version of a model nobody" in message
        or "no such model" in message
        or "no model nobody" in message
    )


@pytest.fixture
def nowhere():
    """Address where no server listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_an_unreachable_mlflow_server_is_reported_with_status_1(train, score, run_job, dataset, log, nowhere):
    for message in (
        train(dataset, "--tracking-uri", nowhere, error="failure"),
        score(log(), "models:/ctr@champion", "--tracking-uri", nowhere, error="failure"),
        run_job("promote", "--name", "ctr", "--tracking-uri", nowhere).failure,
    ):
        assert f"{nowhere}: no MLflow server answers there" in message


# --- days and outputs


@pytest.mark.parametrize("date", ["2026-13-01", "../x", "2026-1-3", "today"])
def test_an_invalid_date_is_reported(score, tmp_path, champion, date):
    assert f"expected a day YYYY-MM-DD, found {date}" in score(tmp_path, champion, date=date)
    assert not (tmp_path / "scores").exists()


def test_an_output_that_cannot_be_written_is_reported(build, score, log, champion, tmp_path):
    """Below a file not even root can create a folder."""
    (tmp_path / "notes.txt").write_text("content")
    log_path = log()
    assert "cannot be written" in build(log_path, output="notes.txt/dataset")
    assert "cannot be written" in score(log_path, champion, output="notes.txt/scores")
    assert (tmp_path / "notes.txt").read_text() == "content"


def test_an_existing_dataset_is_not_overwritten(build, built, log):
    before = files(built)
    assert "is already a complete dataset" in build(log(), output=built)
    assert files(built) == before


@pytest.mark.parametrize("keep", ["C,C", "probability", "city"])
def test_invalid_columns_to_keep_are_reported(score, log, champion, keep):
    assert keep.split(",")[0] in score(log(), champion, "--keep", keep)


# --- as processes

PROCESSES = {
    "date": (2, "score", "--date=../x", "--model-uri=models:/ctr@champion", "--input=log", "--output=scores"),
    "server": (1, "promote", "--name=ctr", "--tracking-uri=http://127.0.0.1:9"),
}


@pytest.mark.parametrize("case", PROCESSES)
def test_an_error_ends_the_process_with_its_status_and_one_line(case, tmp_path):
    status, job, *flags = PROCESSES[case]
    profile = yaml.safe_load((ROOT / "conf/profile/local.yaml").read_text())
    profile["mlflow"]["retry_s"] = 1
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile))
    command = [sys.executable, f"jobs/{job}.py", *flags, f"--profile={tmp_path}/profile.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (status, "")
    # Also left out: the note that paths of a profile start from its own folder.
    notes = ("retrying for", " INFO ")
    lines = [line for line in done.stderr.splitlines() if not any(note in line for note in notes)]
    assert [line.partition(" ")[0] for line in lines] == ["error:"]
