"""Train the models of the DeepFM paper on the same rows and compare them (its Table 2 and Figure 6).

Example:

    spark-submit jobs/compare.py --dataset work/dataset --num-workers 2 --seeds 3 \\
        --models lr,fm,fnn,ipnn,opnn,pnn,wide_deep,fm_dnn,deepfm

Each model is trained with conf/model/NAME.yaml. Embedding size, hidden units and training budget must be the
same; --like YAML applies the settings of one YAML to all models. The same command resumes an interrupted
comparison at the first model that is not finished.
"""

from contextlib import nullcontext
from typing import Any

import click

from deepfm import storage
from deepfm.cli.job import JobCommand, job, load_profile
from deepfm.cli.options.common import CONF_PATH, profile_option, set_option, tracking_option, workers_option
from deepfm.cli.options.model_overrides import override_models
from deepfm.cli.spark.session import spark_session
from deepfm.dataset.manifest import read_manifest_and_vocabulary
from deepfm.errors import IncompleteError
from deepfm.experiments.compare.comparison import locked_comparison, train_models
from deepfm.experiments.compare.plan import Comparison, load_models
from deepfm.experiments.compare.table import bar_chart, csv_text, markdown, table_rows
from deepfm.experiments.train_run import TrainingSite
from deepfm.settings.loader import load_settings
from deepfm.settings.model import ModelSettings
from deepfm.tracking.store import open_store

ALL = "lr,fm,fnn,ipnn,opnn,pnn,wide_deep,fm_dnn,deepfm"


@click.command(cls=JobCommand, help=__doc__)
@click.option("--dataset", "dataset_path", required=True, help="Dataset written by build_features.py.")
@click.option("--models", default=ALL, show_default=True, help="Names of YAMLs in --model-dir.")
@click.option(
    "--model-dir", type=CONF_PATH, default="conf/model", show_default=True, help="Folder of the YAMLs."
)
@click.option(
    "--like",
    type=CONF_PATH,
    help="YAML of one model whose sizes, penalties and training settings apply to all.",
)
@set_option("training.max_epochs=3", "all models that have the setting")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs per model.")
@workers_option
@click.option("--experiment", default="compare", show_default=True, help="MLflow experiment.")
@tracking_option
@profile_option
@job
def compare(
    dataset_path,
    models,
    model_dir,
    like,
    assignments,
    seeds,
    num_workers,
    experiment,
    tracking_uri,
    profile_path,
) -> dict:
    profile = load_profile(profile_path)
    names = [name.strip() for name in models.split(",")]
    settings = load_models(names, model_dir, like and load_settings(like, ModelSettings))
    settings = override_models(settings, assignments)
    dataset_url = storage.absolute_url(dataset_path)
    manifest, _ = read_manifest_and_vocabulary(dataset_url)
    plan = Comparison(dataset_url, manifest, settings, seeds, num_workers)
    store = open_store(profile.mlflow, tracking_uri)
    store.check_artifacts(experiment)
    session = spark_session(profile, "compare") if num_workers else nullcontext()
    work_url = storage.absolute_url(profile.work_dir)
    summary: dict[str, Any] = {"run_id": None, "seeds": seeds, "num_workers": num_workers, "models": []}
    failure: IncompleteError | None = None
    with locked_comparison(store, experiment, plan, work_url), session as spark:
        site = TrainingSite(spark, num_workers, profile.workers, store, experiment, work_url)
        try:
            for parent, results in train_models(site, plan):
                rows = table_rows(results)
                parent.log_text(markdown(rows), "comparison.md")
                parent.log_text(csv_text(rows), "comparison.csv")
                parent.log_figure(bar_chart(rows), "comparison.png")
                summary |= {"run_id": parent.run_id, "models": rows}
        except IncompleteError as error:
            failure = error
    if summary["models"]:
        click.echo(markdown(summary["models"]))
    if failure:
        raise failure.with_summary(summary)
    return summary
