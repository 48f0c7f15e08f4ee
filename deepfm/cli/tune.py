"""Search hyperparameters of a model on the validation rows, by a grid or by a sampler that uses past trials.

Example:

    spark-submit jobs/tune.py --dataset work/dataset --model conf/model/deepfm.yaml \\
        --space conf/tune/general.yaml --trials 20 --num-workers 2

Each trial is a training and a child of one MLflow run; bad trials are pruned after an epoch. The same command
resumes an interrupted study. The best settings are written as a YAML for train.py.
"""

from contextlib import nullcontext
from pathlib import Path

import click

from deepfm import storage
from deepfm.cli.job import JobCommand, job, load_profile
from deepfm.cli.operations.dry_runs import log_study
from deepfm.cli.options.common import CONF_PATH, profile_option, set_option, tracking_option, workers_option
from deepfm.cli.spark.session import spark_session
from deepfm.dataset.manifest import read_manifest_and_vocabulary
from deepfm.errors import UserError
from deepfm.experiments.train_run import TrainingSite
from deepfm.experiments.tune.plan import build_plan, study_name
from deepfm.experiments.tune.plots import study_figures
from deepfm.experiments.tune.results import (
    best,
    best_summary,
    best_yaml,
    combinations,
    counts,
    csv_text,
    markdown,
)
from deepfm.experiments.tune.search import search
from deepfm.experiments.tune.space import SearchSpace
from deepfm.experiments.tune.study import num_done, opened_study, study_path
from deepfm.settings.loader import load_settings
from deepfm.settings.model import ModelSettings
from deepfm.settings.overrides import load_with_overrides
from deepfm.tracking.store import open_store

AT_LEAST_ONE = click.IntRange(min=1)


@click.command(cls=JobCommand, help=__doc__)
@click.option("--dataset", "dataset_path", required=True, help="Dataset written by build_features.py.")
@click.option(
    "--model",
    "model_path",
    type=CONF_PATH,
    required=True,
    help="YAML of the model, e.g. conf/model/deepfm.yaml.",
)
@click.option(
    "--space",
    "space_path",
    type=CONF_PATH,
    required=True,
    help="YAML of the search space, e.g. conf/tune/general.yaml.",
)
@set_option("training.max_epochs=3", "--model")
@click.option(
    "--trials",
    "num_trials",
    type=AT_LEAST_ONE,
    help="Trials of the study; default for a grid: all.",
)
@click.option(
    "--seeds", type=AT_LEAST_ONE, default=1, show_default=True, help="Trainings per combination of a grid."
)
@click.option(
    "--max-minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Start no trial after this time; a running one ends with its epoch, and is repeated later.",
)
@click.option("--study", help="Name of the study; default: derived from dataset, model and space.")
@click.option("--dry-run", is_flag=True, help="Check all inputs and show the trials; train nothing.")
@click.option("--study-dir", help="Local folder of studies; default: work_dir/studies of the profile.")
@workers_option
@click.option("--experiment", default="tune", show_default=True, help="MLflow experiment.")
@tracking_option
@profile_option
@job
def tune(
    dataset_path, model_path, space_path, assignments, num_trials, seeds, max_minutes, study, dry_run,
    study_dir, num_workers, experiment, tracking_uri, profile_path,
) -> dict:  # fmt: skip
    profile = load_profile(profile_path)
    space = load_settings(space_path, SearchSpace)
    base = load_with_overrides(model_path, ModelSettings, assignments)
    _require_not_searched(space, assignments)
    dataset_url = storage.absolute_url(dataset_path)
    manifest, _ = read_manifest_and_vocabulary(dataset_url)
    plan = build_plan(dataset_url, manifest, base, space, num_workers=num_workers, num_seeds=seeds)
    num_trials, name = plan.num_trials(num_trials), study_name(study, plan, Path(space_path).stem)
    work_url = storage.absolute_url(profile.work_dir)
    folder = storage.local_path(storage.absolute_url(study_dir or f"{work_url}/studies"))
    if folder is None:
        raise UserError(
            f"--study-dir: expected a local folder, found {study_dir or work_url}/studies; give a local path"
        )
    store = open_store(profile.mlflow, tracking_uri)
    store.check_artifacts(experiment)
    if dry_run:
        return log_study(study_path(folder, name), num_trials, sorted(space.parameters), num_workers)
    best_path = study_path(folder, name).with_suffix(".yaml")
    session = spark_session(profile, "tune") if num_workers else nullcontext()
    with opened_study(folder, name, plan) as opened, session as spark:
        site = TrainingSite(spark, num_workers, profile.workers, store, experiment, work_url)
        for run, trials in search(site, plan, opened, num_trials, max_minutes):
            tried = combinations(trials, plan)
            chosen = best(tried, plan)
            run.log_text(markdown(tried, plan), "trials.md")
            run.log_text(csv_text(trials, plan), "trials.csv")
            if chosen:
                best_path.write_text(best_yaml(chosen, plan), encoding="utf-8")
                run.log_text(best_path.read_text(encoding="utf-8"), "best.yaml")
        for file, figure in study_figures(opened, tried, plan).items():
            run.log_figure(figure, f"plots/{file}")
        num_remaining = max(num_trials - num_done(opened), 0)
    click.echo(markdown(tried, plan))
    study_file = str(study_path(folder, name))
    details = {"run_id": run.run_id, "study": name, "study_path": study_file, "num_workers": num_workers}
    trial_counts = counts(trials) | {"remaining": num_remaining}
    return {**details, "trials": trial_counts, **best_summary(chosen, best_path)}


def _require_not_searched(space: SearchSpace, assignments: tuple[str, ...]) -> None:
    searched = [text for text in assignments if text.partition("=")[0] in space.parameters]
    if searched:
        raise UserError(
            f"--set {searched[0]}: expected a setting that --space does not search; remove the flag, or the "
            "parameter of the space"
        )
