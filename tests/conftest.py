"""Common fixtures: a Spark session, an MLflow store, jobs run in this process, small models."""

import importlib
import json
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
import torch
import yaml
from click.testing import CliRunner
from hypothesis import settings

from deepfm.artifact.artifact import save_artifact
from deepfm.dataset.manifest import InputLog, Manifest, SplitPart
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import FieldSet
from deepfm.model_factory import build_model
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import parse_settings
from deepfm.settings.model import ModelSettings
from deepfm.tracking.store import MlflowStore

ROOT = Path(__file__).resolve().parents[1]
#: Folder of real click logs, which are not part of the repository.
DATA = Path(os.environ.get("DEEPFM_TEST_DATA") or ROOT.parent / "shared" / "data")
#: Files and folders whose tests are marked `unit`, unless they use a fixture of NOT_UNIT_FIXTURES.
UNIT = (
    "settings", "models", "metrics", "training", "distributed", "doctor", "experiments", "project",
    "test_fields.py", "test_import_rules.py", "test_model_factory.py", "test_vendor_versions.py",
)  # fmt: skip
#: Files in UNIT that start processes, or that take too long: all unit tests together take less than a minute.
NOT_UNIT = (
    "models/test_adding_a_model.py", "training/test_device.py", "doctor/test_machine.py",
    "doctor/test_profile.py", "settings/test_conf_files.py",
    "training/test_planted_truth.py", "training/test_two_ranks.py", "experiments/test_model_card.py",
    "experiments/tune/test_study.py", "experiments/tune/test_plots.py", "project/test_documentation.py",
)  # fmt: skip
#: Fixtures that start a JVM, Horovod or another program, or create a database. Other fixtures may use them.
NOT_UNIT_FIXTURES = {"spark", "bucket", "store", "profile_path", "run_job", "program", "ranks"}

# No deadlines: tests may be slow on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# Tests import servers.py and the fixtures
sys.path.insert(0, str(ROOT / "tests"))
pytest_plugins = [
    "fixtures.datasets",
    "fixtures.model_cases",
    "fixtures.object_store",
    "fixtures.programs",
    "fixtures.training",
    "fixtures.webhook",
]


def pytest_collection_modifyitems(items):
    """Mark the tests that need no JVM and no other process as `unit`."""
    for item in items:
        path = item.path.relative_to(ROOT / "tests").as_posix()
        needs_more = bool(NOT_UNIT_FIXTURES & set(item.fixturenames)) or any(
            item.get_closest_marker(name) for name in ("slow", "long", "cluster")
        )
        if path.startswith(UNIT) and path not in NOT_UNIT and not needs_more:
            item.add_marker(pytest.mark.unit)


@pytest.fixture(scope="session")
def spark():
    """Real Spark session with two slots, the properties of the local profile and little memory."""
    from deepfm.cli.job import load_profile
    from deepfm.cli.spark.session import spark_session

    os.environ.pop("SPARK_HOME", None)
    profile = load_profile(str(ROOT / "conf/profile/local.yaml"))
    # Queries over a few rows are too short to benefit from the optimizing compiler.
    java = {"spark.driver.extraJavaOptions": "-XX:+UseParallelGC -XX:TieredStopAtLevel=1"}
    settings = profile.spark | java | {"spark.driver.memory": "1g"}
    with spark_session(profile.model_copy(update={"spark": settings}), "tests") as session:
        yield session


@pytest.fixture(scope="session")
def real_data():
    """Function: file name -> path of a real click log; skips the test if the file is absent."""

    def file(name: str) -> Path:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"{path} is missing; set DEEPFM_TEST_DATA to the folder of {name}")
        return path

    return file


# --- MLflow and jobs


@pytest.fixture(scope="session")
def profile_path(tmp_path_factory) -> Path:
    """The local profile with output folders in a temporary folder."""
    folder = tmp_path_factory.mktemp("profile")
    profile = yaml.safe_load((ROOT / "conf/profile/local.yaml").read_text())
    profile["work_dir"] = str(folder / "runs")
    profile["mlflow"] = {
        "tracking_uri": f"sqlite:///{folder}/mlflow.db",
        "artifact_location": str(folder / "artifacts"),
        "retry_s": 1,
    }
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile))
    return folder / "profile.yaml"


@pytest.fixture
def store(profile_path):
    """The MLflow store of that profile, shared by all tests (a new one takes seconds): use unique names."""
    settings = yaml.safe_load(profile_path.read_text())["mlflow"]
    return MlflowStore(settings["tracking_uri"], settings["artifact_location"], settings["retry_s"])


@dataclass(frozen=True)
class Finished:
    """Result of a job."""

    status: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict:
        assert self.status == 0, self.stderr
        return json.loads(self.stdout.splitlines()[-1])

    @property
    def mistake(self) -> str:
        """The error line of a job that must not be retried: exit status 2."""
        return self._error_line(2)

    @property
    def failure(self) -> str:
        """The error line of a job that may succeed if retried: exit status 1."""
        return self._error_line(1)

    @property
    def incomplete(self) -> tuple[dict, str]:
        """Summary and error line of a job of which a part must not be retried: exit status 2."""
        return json.loads(self.stdout.splitlines()[-1]), self._error_line(2, self.stdout)

    def _error_line(self, status: int, stdout: str = "") -> str:
        assert (self.status, self.stdout) == (status, stdout)
        assert "Traceback" not in self.stderr
        (line,) = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        return line.removeprefix("error: ")


@pytest.fixture(scope="session")
def run_job(request, profile_path):
    """Function: run a job in this process, with the shared Spark session and the profile of the tests."""

    @contextmanager
    def shared_session(profile, name):
        yield request.getfixturevalue("spark")

    def run(job: str, *flags) -> Finished:
        module = importlib.import_module(f"deepfm.cli.{job}")
        flags = [str(flag) for flag in flags]
        if "--profile" not in flags:
            flags += ["--profile", str(profile_path)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "spark_session", shared_session)
            result = CliRunner().invoke(getattr(module, job), flags)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Finished(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def small_dataset(run_job, tmp_path_factory):
    """Path of a dataset of 3 x 24 impressions of I (a count) and C (a category)."""
    days = ("2026-01-01", "2026-01-02", "2026-01-03")
    folder = tmp_path_factory.mktemp("dataset")
    for day in days:
        (folder / "log" / f"ds={day}").mkdir(parents=True)
        rows = [f"{n * 5 % 7 % 2}\t{n % 3}\t{'ab'[n % 2]}\n" for n in range(24)]
        (folder / "log" / f"ds={day}" / "part.tsv").write_text("".join(rows))
    (folder / "data.yaml").write_text(
        "format: delimited\ncolumns: [label, I, C]\n"
        "fields: [{kind: count, names: [I]}, {kind: category, names: [C]}]\n"
    )
    flags = [f"--{part}-days={day}" for part, day in zip(("train", "valid", "test"), days, strict=True)]
    files = ["--data", folder / "data.yaml", "--input", folder / "log", "--output", folder / "dataset"]
    assert run_job("build_features", *files, *flags).summary["rows_train"] == 24
    return folder / "dataset"


# --- a log of three columns, and models whose probabilities can be computed by hand

SMALL_DATA = {
    "format": "delimited",
    "columns": ["label", "I", "C"],
    "fields": [{"kind": "count", "names": ["I"]}, {"kind": "category", "names": ["C"]}],
    "max_bad_fraction": 0.25,
    "max_bad_labels": 0.25,
}


@pytest.fixture(scope="session")
def small_data() -> DataSettings:
    """Tab separated label, I (a count), C (a category)."""
    return parse_settings(SMALL_DATA, DataSettings, "small")


@pytest.fixture
def write_log(tmp_path):
    """Write a log in day folders: {day: lines} -> its path."""

    def write(days: dict[str, list[str]], name: str = "log") -> Path:
        for day, lines in days.items():
            folder = tmp_path / name / f"ds={day}"
            folder.mkdir(parents=True)
            (folder / "part-00000.tsv").write_text("".join(f"{line}\n" for line in lines))
        return tmp_path / name

    return write


@pytest.fixture
def small_vocabulary(small_data):
    """I: the buckets of 0 and 1; C: the values a and b; with ids 2 and 3 each."""
    rows = [(0, "0", 9), (0, "1", 8), (1, "a", 9), (1, "b", 8)]
    counts = pa.table(dict(zip(("field", "value", "num"), map(list, zip(*rows, strict=True)), strict=True)))
    return Vocabulary.fit(small_data.field_set, counts)


@pytest.fixture
def save_model(tmp_path, small_data, small_vocabulary):
    """Save a model whose logit is `bias` + `c`[the value of C] (missing: None, unknown: "?") -> its folder.

    `log_url` and `days` describe the log and split of its dataset; with_i=False makes a model with field C
    only, crossed=True one with a cross of I and C; `columns` are those of its log; `started_from`: see
    ModelCard.
    """

    def save(
        name="model",
        *,
        bias=0.0,
        c=None,
        log_url="file:///log",
        days=None,
        vocabulary=None,
        with_i=True,
        crossed=False,
        columns=None,
        started_from=(),
    ) -> Path:
        fitted, data = small_vocabulary, small_data
        if not with_i:
            fields = FieldSet(fitted.fields[1:])
            fitted = Vocabulary(fields, fitted.values[1:], fitted.counts[1:])
            data = small_data.model_copy(update={"fields": small_data.fields[1:]})
        if columns:
            data = data.model_copy(update={"columns": columns})
        if crossed:
            data = data.model_copy(update={"cross": (("I", "C"),), "cross_buckets": 7})
            empty = fitted.values[0].slice(0, 0), fitted.counts[0].slice(0, 0)
            fitted = Vocabulary(data.field_set, [*fitted.values, empty[0]], [*fitted.counts, empty[1]])
        settings = {"embedding_dim": 2, "deep": {"hidden_units": [2]}}
        training = {"batch_size": 1, "max_epochs": 1, "learning_rate": 1.0}
        model = parse_settings(
            {"model": "deepfm", **settings, "training": training}, ModelSettings, "small model"
        )
        state = build_model(model, fitted.num_ids, data.field_set.num_crossed).state_dict()
        weights = {key: torch.zeros_like(weight) for key, weight in state.items()}
        weights["linear.bias"][:] = bias
        for value, weight in (c or {}).items():
            # The last four rows are those of C: missing, unknown, a and b.
            weights["linear.weights.table.weight"][[None, "?", "a", "b"].index(value) - 4] = weight
        part = SplitPart(num_rows=1, num_clicks=0, days={}, files=(), digest="0" * 16)
        manifest = Manifest(
            created_at="2026-01-08T00:00:00+00:00",
            data=data,
            num_ids=fitted.num_ids,
            vocabulary=fitted.fingerprint,
            splits=dict.fromkeys(("train", "valid", "test"), part),
            input=InputLog(url=log_url, days=days or {}, rows_read=3, bad_by_reason={}),
        )
        folder = tmp_path / name
        folder.mkdir()
        url = f"file://{folder}"
        save_artifact(url, model, manifest, vocabulary or fitted, weights, started_from=started_from)
        return folder

    return save


@pytest.fixture
def register(store, small_vocabulary):
    """Function: register a saved model under a name -> version."""

    def register_version(folder: Path, name: str) -> str:
        with store.run(name) as run:
            return run.register(str(folder), name, small_vocabulary, {})

    return register_version
