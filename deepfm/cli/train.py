"""Train a model on a dataset, log an MLflow run, and register a model version.

Example:

    spark-submit jobs/train.py --dataset work/dataset --model conf/model/deepfm.yaml \\
        --num-workers 2 --name ctr_deepfm
"""

from contextlib import nullcontext

import click

from deepfm import storage
from deepfm.cli.job import JobCommand, job, load_profile
from deepfm.cli.options.common import CONF_PATH, profile_option, set_option, tracking_option, workers_option
from deepfm.cli.spark.session import spark_session
from deepfm.dataset.manifest import read_manifest_and_vocabulary
from deepfm.dataset.profiling.dataset_profile import clicks_warnings
from deepfm.errors import UserError
from deepfm.experiments import run_folder, train_run
from deepfm.experiments.result_summary import result_summary, workers_summary
from deepfm.experiments.warm_start import read_start, start_options
from deepfm.launch.dry_run import log_dry_run
from deepfm.launch.job_spec import TrainJob
from deepfm.launch.launch import launch_dry_run
from deepfm.settings.model import ModelSettings
from deepfm.settings.overrides import load_with_overrides
from deepfm.tracking.store import open_store

COUNT = click.IntRange(min=0)


@click.command(cls=JobCommand, help=__doc__)
@click.option("--dataset", "dataset_path", required=True, help="Dataset written by build_features.py.")
@click.option(
    "--model",
    "model_path",
    type=CONF_PATH,
    required=True,
    help="YAML of the model, e.g. conf/model/deepfm.yaml.",
)
@set_option("training.learning_rate=0.002", "--model")
@workers_option
@click.option("--name", required=True, help="Registered model that the new version belongs to.")
@click.option("--init-from", help="For fnn: an fm, models:/NAME/VERSION or runs:/ID; default: train one.")
@click.option("--warm-start", help="Registered model to start from; needs a dataset grown from its own.")
@click.option("--resume", "resumed_run", help="Interrupted run to resume from its last checkpoint.")
@click.option("--retries", "num_retries", type=COUNT, default=0, help="Resumes after lost workers.")
@click.option("--dry-run", is_flag=True, help="Check all inputs and estimate time and memory; train nothing.")
@click.option(
    "--profile-steps",
    type=COUNT,
    default=0,
    help="Steps of rank 0 to profile into the run.",
)
@click.option("--register-only", "trained_folder", help="Folder of a trained but not registered run.")
@click.option("--experiment", help="MLflow experiment; default: the model's name.")
@tracking_option
@profile_option
@job
def train(
    dataset_path, model_path, assignments, num_workers, name, init_from, warm_start, resumed_run, num_retries,
    dry_run, profile_steps, trained_folder, experiment, tracking_uri, profile_path,
) -> dict:  # fmt: skip
    if trained_folder and dry_run:
        raise UserError("--register-only and --dry-run exclude each other; give one of them")
    profile = load_profile(profile_path)
    settings = load_with_overrides(model_path, ModelSettings, assignments)
    dataset_url = storage.absolute_url(dataset_path)
    manifest, vocabulary = read_manifest_and_vocabulary(dataset_url)
    for warning in clicks_warnings(dataset_url):
        click.echo(f"warning: {dataset_url}: {warning}", err=True)
    store = open_store(profile.mlflow, tracking_uri)
    store.require_name(name)
    work_url, workers = storage.absolute_url(profile.work_dir), profile.workers
    if trained_folder:
        resumed_run = run_folder.run_to_register(trained_folder, work_url)
    spec = run_folder.resume_spec(settings, manifest, num_workers, init_from, warm_start)
    if resumed_run:
        run_folder.require_resumable(store, resumed_run, work_url, spec)
    else:
        store.check_registration(name, experiment or name)
        start = read_start(store, init_from, warm_start, settings, manifest, vocabulary)
    options = train_run.job_options(profile, manifest.fields) | {"profile_steps": profile_steps}
    session = spark_session(profile, "train") if num_workers and not trained_folder else nullcontext()
    if dry_run:
        with session as spark, storage.scratch_folder(work_url) as run_url:
            train_job = TrainJob(dataset_url, run_url, settings, workers.threads_per_worker)
            return log_dry_run(launch_dry_run(spark, train_job, num_workers, workers))
    run_name = train_run.run_name(settings, manifest)
    opened = run_folder.run_with_folder(store, experiment or name, run_name, work_url, resumed_run)
    with session as spark, opened as (run, run_url, ownership):
        if not resumed_run:
            run.log_start(*train_run.run_parameters(settings, manifest, dataset_url, num_workers))
            run_folder.start_run(run, run_url, spec, start)
        options |= {"resume": bool(resumed_run), **start_options(run_url, init_from, warm_start)}
        train_job = TrainJob(dataset_url, run_url, settings, workers.threads_per_worker, **options)
        result = run_folder.load_result(run_url)
        if result is None:
            if resumed_run:
                run_folder.log_num_workers(run, run_url, num_workers)
            site = train_run.TrainingSite(spark, num_workers, workers, store, experiment or name, work_url)
            result = site.train(train_job, run.log_epoch, run.log_steps, num_retries=num_retries)
            ownership.require()
            run_folder.save_result(run_url, result)
        ownership.require()
        version = train_run.register_result(run, result, train_job, manifest, vocabulary, name)
        storage.remove(run_url)  # kept if registration failed, with the trained weights
    run_details = {"run_id": run.run_id, "name": name, "version": version}
    workers_details = workers_summary(result, num_workers)
    return {**run_details, **workers_details, **result_summary(result)}
