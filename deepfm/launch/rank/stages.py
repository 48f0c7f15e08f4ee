"""Stages of a training on one rank: simpler models first, from whose weights the next ones start."""

from deepfm.distributed.collectives import Collectives
from deepfm.launch.job_spec import WEIGHTS, TrainJob, stage_prefix, stage_weights
from deepfm.launch.rank.final_result import final_result
from deepfm.launch.rank.worker import StartWeights, Worker
from deepfm.launch.worker_errors import explain_out_of_memory
from deepfm.training.result import TrainingResult
from deepfm.training.state import TrainingHistory
from deepfm.weights import load_weights


def run_worker(job: TrainJob, collectives: Collectives) -> TrainingResult:
    """Train, then evaluate the kept weights on validation and test rows; the same result on every rank."""
    worker = Worker(job, collectives)
    with explain_out_of_memory(collectives.rank, job.model, worker.manifest.num_ids):
        return _train_all_stages(job, worker)


def _train_all_stages(job: TrainJob, worker: Worker) -> TrainingResult:
    settings, earlier = job.model, dict[str, TrainingHistory]()
    start: StartWeights | None = None
    if job.init_url:
        # Read by every rank, although the broadcast before the training uses those of rank 0.
        start = StartWeights(load_weights(job.init_url))
    elif not job.start_url:
        for stage in settings.earlier_stages():
            name = stage.model
            model, history = worker.train(stage, stage_weights(name), stage_prefix(name), start)
            earlier[name] = history
            # An FNN does not start with the predictions of its FM, a staged model does.
            keeps_best = settings.is_staged and settings.training.keep == "best"
            start = StartWeights(model.state_dict(), history.best_valid if keeps_best else None)
    model, history = worker.train(settings.last_stage(), WEIGHTS, start=start)
    return final_result(worker, model, history, earlier)
