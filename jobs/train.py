"""Dataset -> one MLflow run and a registered version of the model.

Example:

    spark-submit jobs/train.py --dataset work/dataset --model conf/model/deepfm.yaml \\
        --num-workers 2 --name ctr_deepfm
"""

from contextlib import nullcontext

import click
from command import (
    JobCommand,
    job,
    load_profile,
    profile_option,
    spark_session,
    tracking_option,
    workers_option,
)

from deepfm import storage
from deepfm.config import load_settings
from deepfm.dataset.manifest import read_parts
from deepfm.errors import UserError
from deepfm.model_settings import ModelSettings
from deepfm.registry.start import read_start
from deepfm.registry.tracking import Store
from deepfm.registry.training_run import register_outcome, start_of_run
from deepfm.training.launch import launch
from deepfm.training.progress import watched
from deepfm.training.worker import WorkOrder


@click.command(cls=JobCommand, help=__doc__)
@click.option("--dataset", "dataset_path", required=True, help="What build_features.py wrote.")
@click.option("--model", "model_path", required=True, help="YAML of the model, e.g. conf/model/deepfm.yaml.")
@workers_option
@click.option("--name", required=True, help="Registered model that gets a new version.")
@click.option(
    "--init-from", help="fnn: the fm to start from, models:/NAME/VERSION or runs:/ID; else one is trained."
)
@click.option("--warm-start", help="A registered model to go on from, on a dataset grown from its dataset.")
@click.option("--experiment", help="MLflow experiment; the model's name where it is not given.")
@tracking_option
@profile_option
@job
def train(
    dataset_path, model_path, num_workers, name, init_from, warm_start, experiment, tracking_uri, profile_path
) -> dict:
    profile, settings = load_profile(profile_path), load_settings(model_path, ModelSettings)
    dataset_url = storage.absolute_url(dataset_path)
    manifest, vocabulary = read_parts(dataset_url)
    store = Store(tracking_uri or profile.mlflow.tracking_uri, profile.mlflow.artifact_location)
    store.require_name(name)
    start = read_start(store, init_from, warm_start, settings, manifest, vocabulary)
    session = spark_session(profile, "train") if num_workers else nullcontext()
    with session as spark, store.run(experiment or name) as run:
        run_url = f"{storage.absolute_url(profile.work_dir)}/{run.run_id}"
        storage.make_folder(run_url)
        run.log_start(*start_of_run(settings, manifest, dataset_url, num_workers))
        if start:
            run.set_tag("started_from", f"models:/{start.version.name}/{start.version.version}")
        num_threads, given = profile.workers.threads_per_worker, start.hand_over(run_url) if start else {}
        order = WorkOrder(dataset_url, run_url, settings, num_threads, **given)
        try:
            with watched(run_url, run.log_epoch):
                outcome = launch(spark, order, num_workers, profile.workers.start_timeout_s)
        except UserError:
            storage.remove(run_url)
            raise
        version = register_outcome(run, outcome, order, manifest, vocabulary, name)
        storage.remove(run_url)  # not where registering failed: the trained weights are there
    return {
        "run_id": run.run_id,
        "name": name,
        "version": version,
        "epochs": len(outcome.training.epochs),
        "best_epoch": outcome.training.best,
        "train_logloss": outcome.best_epoch.train_logloss,
        "valid_logloss": outcome.valid.logloss,
        "valid_auc": outcome.valid.auc,
        "test_logloss": outcome.test.logloss,
        "test_auc": outcome.test.auc,
        "test_ctr_logloss": outcome.test.ctr_logloss,
        "num_workers": num_workers,
        "samples_per_s": round(outcome.samples_per_s),
    }


if __name__ == "__main__":
    train()
