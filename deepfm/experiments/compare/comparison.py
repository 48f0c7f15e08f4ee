"""Models in turn on the same rows: a parent run in MLflow, a child a model; interrupted, it goes on."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from statistics import fmean, stdev

from pyspark.sql import SparkSession

from deepfm import storage
from deepfm.experiments.compare.plan import Comparison
from deepfm.experiments.train_run import start_of_run
from deepfm.launch.job_spec import TrainJob
from deepfm.launch.launch import launch
from deepfm.launch.progress import monitor_progress
from deepfm.lock import exclusive_lock, lock_file
from deepfm.settings.deployment import WorkerSettings
from deepfm.settings.model import ModelSettings
from deepfm.tracking.run import Run
from deepfm.tracking.store import MlflowStore
from deepfm.training.result import TrainingResult

_KEY, _RESULT = "comparison", "result"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeedResult:
    """One training of a model, measured on the test rows."""

    test_auc: float
    test_logloss: float
    epochs: int
    train_seconds: float  # all epochs, an FNN's first stage included, validation not
    samples_per_s: float


@dataclass(frozen=True)
class ModelResult:
    """All trainings of a model."""

    model: str
    num_weights: int
    seeds: tuple[SeedResult, ...]

    def mean(self, figure: str) -> float:
        return fmean(getattr(seed, figure) for seed in self.seeds)

    def spread(self, figure: str) -> float | None:
        """Standard deviation over the seeds; None of one."""
        return stdev(getattr(seed, figure) for seed in self.seeds) if len(self.seeds) > 1 else None


def locked_comparison(
    store: MlflowStore, experiment: str, comparison: Comparison, work_url: str
) -> AbstractContextManager[None]:
    """For the block no other process does this comparison; UserError where one does.

    It would take the other's run for one that was interrupted. Known is what runs on this machine, or on
    one that has the work_dir among its own files.
    """
    content = json.dumps([store.uri, experiment, comparison.key])
    name = hashlib.sha256(content.encode()).hexdigest()[:16]
    told = f"the comparison of these models in experiment {experiment}"
    return exclusive_lock(lock_file(work_url, f"comparison_{name}"), told, "give another --experiment")


def train_in_turn(
    spark: SparkSession | None,
    store: MlflowStore,
    experiment: str,
    comparison: Comparison,
    workers: WorkerSettings,
    work_url: str,
) -> Iterator[tuple[Run, list[ModelResult]]]:
    """Train model after model -> the parent run and the results so far, after each.

    What an interrupted comparison of the same key has finished is taken from it.
    """
    with _parent_run(store, experiment, comparison, work_url) as (parent, finished):
        results = []
        for settings in comparison.models:
            if settings.model in finished:
                logger.info("%s was finished before the interruption", settings.model)
            else:
                child = {"name": settings.model, "tags": {"model": settings.model}, "nested": True}
                with store.run(experiment, **child) as run:
                    result = _train_seeds(spark, run, comparison, settings, workers, work_url)
                    # Last of all: a child with it is a finished one.
                    run.set_tag(_RESULT, json.dumps(asdict(result)))
                finished[settings.model] = result
            results.append(finished[settings.model])
            yield parent, results


@contextmanager
def _parent_run(
    store: MlflowStore, experiment: str, comparison: Comparison, work_url: str
) -> Iterator[tuple[Run, dict[str, ModelResult]]]:
    """The parent run, taken up again where it was interrupted, and what it has finished by model."""
    condition = f"tags.{_KEY} = '{comparison.key}' and attributes.status != 'FINISHED'"
    interrupted = store.find_runs(experiment, condition)
    if not interrupted:
        with store.run(experiment, name="compare", tags={_KEY: comparison.key}) as parent:
            yield parent, {}
        return
    run_id = interrupted[0].info.run_id
    finished = {}
    for child in store.find_runs(experiment, f"tags.mlflow.parentRunId = '{run_id}'"):
        if _RESULT in child.data.tags:
            result = _result_from_json(child.data.tags[_RESULT])
            finished[result.model] = result
        elif child.info.status == "RUNNING":
            store.client.set_terminated(child.info.run_id, "KILLED")
            storage.remove(f"{work_url}/{child.info.run_id}")
    logger.info("going on with run %s, which was interrupted", run_id)
    with store.resumed(run_id) as parent:
        yield parent, finished


def _result_from_json(text: str) -> ModelResult:
    document = json.loads(text)
    seeds = tuple(SeedResult(**seed) for seed in document.pop("seeds"))
    return ModelResult(**document, seeds=seeds)


def _train_seeds(
    spark: SparkSession | None,
    run: Run,
    comparison: Comparison,
    settings: ModelSettings,
    workers: WorkerSettings,
    work_url: str,
) -> ModelResult:
    """The model trained with each seed in turn, logged into its run."""
    run.log_start(
        *start_of_run(settings, comparison.manifest, comparison.dataset_url, comparison.num_workers)
    )
    results = []
    for number in range(comparison.num_seeds):
        seed = settings.training.seed + number
        logger.info("%s, seed %d, %d of %d", settings.model, seed, number + 1, comparison.num_seeds)
        # Nothing goes on from these trainings.
        training = settings.training.model_copy(update={"seed": seed, "save_optimizer": False})
        run_url = f"{work_url}/{run.run_id}"
        storage.make_folder(run_url)
        job = TrainJob(
            comparison.dataset_url,
            run_url,
            settings.model_copy(update={"training": training}),
            workers.threads_per_worker,
        )
        try:
            with monitor_progress(run_url, _curves_of_seed(run, seed)):
                result = launch(spark, job, comparison.num_workers, workers)
        finally:
            storage.remove(run_url)
        results.append(_measured(result, comparison.manifest.splits["train"].num_rows))
    result = ModelResult(settings.model, result.num_weights, tuple(results))
    run.wait()
    run.complete_curves([], [])
    run.log_metrics({name: result.mean(name) for name in asdict(results[0])})
    return result


def _curves_of_seed(run: Run, seed: int) -> Callable[[dict[str, float]], None]:
    def log_epoch(metrics: dict[str, float]) -> None:
        curves = {f"seed_{seed}/{name}": value for name, value in metrics.items() if name != "epoch"}
        run.log_epoch({"epoch": metrics["epoch"], **curves})

    return log_epoch


def _measured(result: TrainingResult, num_rows: int) -> SeedResult:
    stages = [result.history] + ([result.first_stage] if result.first_stage else [])
    epochs = [epoch for stage in stages for epoch in stage.epochs]
    return SeedResult(
        test_auc=result.test.auc,
        test_logloss=result.test.logloss,
        epochs=len(epochs),
        train_seconds=sum(num_rows / epoch.samples_per_s for epoch in epochs),
        samples_per_s=result.samples_per_s,
    )
