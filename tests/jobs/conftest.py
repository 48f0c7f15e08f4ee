"""A dataset of a few rows, and small models that train on it in a second."""

import pytest
import yaml

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
TRAINING = {"batch_size": 8, "max_epochs": 2, "patience": 2, "learning_rate": 0.01}


@pytest.fixture(scope="session")
def dataset(run_job, tmp_path_factory):
    """Path of a dataset of 3 x 24 impressions of I (a count) and C (a category)."""
    folder = tmp_path_factory.mktemp("dataset")
    for day in DAYS:
        (folder / "log" / f"ds={day}").mkdir(parents=True)
        rows = [f"{n * 5 % 7 % 2}\t{n % 3}\t{'ab'[n % 2]}\n" for n in range(24)]
        (folder / "log" / f"ds={day}" / "part.tsv").write_text("".join(rows))
    (folder / "data.yaml").write_text(
        "format: delimited\ncolumns: [label, I, C]\n"
        "fields: [{kind: count, names: [I]}, {kind: category, names: [C]}]\n"
    )
    flags = [f"--{part}-days={day}" for part, day in zip(("train", "valid", "test"), DAYS, strict=True)]
    files = ["--data", folder / "data.yaml", "--input", folder / "log", "--output", folder / "dataset"]
    assert run_job("build_features", *files, *flags).summary["rows_train"] == 24
    return folder / "dataset"


@pytest.fixture
def models(tmp_path):
    """A folder with YAMLs of lr, fm, fnn and deepfm; models(fm={"embedding_dim": 3}) changes one."""

    def write(**changes):
        settings = {
            "lr": {},
            "fm": {"embedding_dim": 2},
            "fnn": {"embedding_dim": 2, "deep": {"hidden_units": [4]}},
            "deepfm": {"embedding_dim": 2, "deep": {"hidden_units": [4]}},
        }
        for name, own in settings.items():
            content = {"model": name, **own, "training": TRAINING, **changes.get(name, {})}
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return tmp_path

    return write
