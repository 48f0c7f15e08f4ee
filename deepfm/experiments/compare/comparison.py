"""Comparison of models trained on the same rows: one MLflow run with a child per model."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from statistics import fmean, stdev

from deepfm.errors import IncompleteError, UserError, WorkersLostError
from deepfm.experiments.compare.plan import Comparison
from deepfm.experiments.train_run import TrainingSite, dataset_parameters, run_parameters
from deepfm.launch.job_spec import TrainJob
from deepfm.ownership import Ownership, exclusive_ownership
from deepfm.settings.model import ModelSettings
from deepfm.tracking.run import Run
from deepfm.tracking.store import MlflowStore
from deepfm.training.result import TrainingResult

_KEY, _RESULT = "comparison", "result"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeedResult:
    """Test metrics of one training."""

    test_auc: float
    test_logloss: float
    epochs: int
    train_seconds: float  # all epochs with an FNN's first stage, without validation
    samples_per_s: float


@dataclass(frozen=True)
class ModelResult:
    """Results of all seeds of a model."""

    model: str
    num_weights: int
    seeds: tuple[SeedResult, ...]

    def mean(self, metric: str) -> float:
        """Mean over the seeds."""
        return fmean(getattr(seed, metric) for seed in self.seeds)

    def spread(self, metric: str) -> float | None:
        """Standard deviation over the seeds; None for a single seed."""
        return stdev(getattr(seed, metric) for seed in self.seeds) if len(self.seeds) > 1 else None


def locked_comparison(
    store: MlflowStore, experiment: str, comparison: Comparison, work_url: str
) -> AbstractContextManager[Ownership]:
    """Own this comparison during the block; JobFailedError if another process runs it.

    Otherwise one process would take the run of the other for an interrupted one.
    """
    content = json.dumps([store.uri, experiment, comparison.key])
    name = hashlib.sha256(content.encode()).hexdigest()[:16]
    description = f"the comparison of these models in experiment {experiment}"
    return exclusive_ownership(work_url, f"comparison_{name}", description, "choose another --experiment")


def train_models(site: TrainingSite, comparison: Comparison) -> Iterator[tuple[Run, list[ModelResult]]]:
    """Train one model after the other; yields the parent run and the results so far after each.

    Finished models of an interrupted comparison with the same key are not trained again. A model that fails,
    because it diverges, does not fit into memory or loses its workers, is left out; raise IncompleteError
    after the others. The same comparison then trains only the models that failed.
    """
    failures: dict[str, Exception] = {}
    with _parent_run(site, comparison) as (parent, finished):
        results = []
        for settings in comparison.models:
            if settings.model in finished:
                logger.info("model=%s was finished before the interruption", settings.model)
            else:
                try:
                    finished[settings.model] = _train_model(site, comparison, settings)
                except (UserError, WorkersLostError) as error:
                    logger.warning("model=%s failed: %s", settings.model, error)
                    failures[settings.model] = error
                    continue
            results.append(finished[settings.model])
            yield parent, results
        if failures:
            raise IncompleteError("models", len(comparison.models), failures)


def _train_model(site: TrainingSite, comparison: Comparison, settings: ModelSettings) -> ModelResult:
    tags = {"model": settings.model}
    with site.store.run(site.experiment, name=settings.model, tags=tags, nested=True) as run:
        result = _train_seeds(site, run, comparison, settings)
        # Set last: it marks the child as finished.
        run.set_tag(_RESULT, json.dumps(asdict(result)))
        return result


@contextmanager
def _parent_run(site: TrainingSite, comparison: Comparison) -> Iterator[tuple[Run, dict[str, ModelResult]]]:
    """Open the parent run, resumed if it was interrupted; yields it and its finished results by model."""
    store, experiment = site.store, site.experiment
    condition = f"tags.{_KEY} = '{comparison.key}' and attributes.status != 'FINISHED'"
    interrupted = store.find_runs(experiment, condition)
    if not interrupted:
        with store.run(experiment, name="compare", tags={_KEY: comparison.key}) as parent:
            # Between two models, `clean` sees by them that the dataset is in use.
            parent.log_parameters(
                {"dataset": dataset_parameters(comparison.manifest, comparison.dataset_url)}
            )
            yield parent, {}
        return
    run_id = interrupted[0].info.run_id
    finished = {}
    for child in store.find_runs(experiment, f"tags.mlflow.parentRunId = '{run_id}'"):
        if _RESULT in child.data.tags:
            result = _result_from_json(child.data.tags[_RESULT])
            finished[result.model] = result
    site.end_interrupted_children(run_id)
    logger.info("resuming run_id=%s, which was interrupted", run_id)
    with store.resumed(run_id) as parent:
        yield parent, finished


def _result_from_json(text: str) -> ModelResult:
    document = json.loads(text)
    seeds = tuple(SeedResult(**seed) for seed in document.pop("seeds"))
    return ModelResult(**document, seeds=seeds)


def _train_seeds(
    site: TrainingSite, run: Run, comparison: Comparison, settings: ModelSettings
) -> ModelResult:
    """Train a model with each seed and log the trainings into its run."""
    run.log_start(
        *run_parameters(settings, comparison.manifest, comparison.dataset_url, comparison.num_workers)
    )
    results = []
    for number in range(comparison.num_seeds):
        seed = settings.training.seed + number
        logger.info("model=%s seed=%d training=%d/%d", settings.model, seed, number + 1, comparison.num_seeds)
        # No training continues from these, so their optimizer state is not saved.
        training = settings.training.model_copy(update={"seed": seed, "save_optimizer": False})
        model = settings.model_copy(update={"training": training})
        with site.temporary_run_folder(run) as run_url:
            job = TrainJob(comparison.dataset_url, run_url, model, site.workers.threads_per_worker)
            result = site.train(job, _log_epoch_of_seed(run, seed))
        results.append(_seed_result(result, comparison.manifest.splits["train"].num_rows))
    combined = ModelResult(settings.model, result.num_weights, tuple(results))
    run.wait()
    run.complete_curves([], [])
    run.log_metrics({name: combined.mean(name) for name in asdict(results[0])})
    return combined


def _log_epoch_of_seed(run: Run, seed: int) -> Callable[[dict[str, float]], None]:
    def log_epoch(metrics: dict[str, float]) -> None:
        curves = {f"seed_{seed}/{name}": value for name, value in metrics.items() if name != "epoch"}
        run.log_epoch({"epoch": metrics["epoch"], **curves})

    return log_epoch


def _seed_result(result: TrainingResult, num_rows: int) -> SeedResult:
    epochs = [epoch for stage in result.stages.values() for epoch in stage.epochs]
    assert result.test is not None
    return SeedResult(
        test_auc=result.test.auc,
        test_logloss=result.test.logloss,
        epochs=len(epochs),
        train_seconds=sum(num_rows / epoch.samples_per_s for epoch in epochs),
        samples_per_s=result.samples_per_s,
    )
