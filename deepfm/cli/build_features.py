"""Build a vocabulary and a Petastorm dataset from days of a click log.

Example:

    spark-submit jobs/build_features.py --data conf/data/criteo.yaml --input work/log --output work/dataset \\
        --train-days 2026-01-01:2026-01-05 --valid-days 2026-01-06 --test-days 2026-01-07
"""

import click

from deepfm import storage
from deepfm.cli.job import JobCommand, job, load_profile
from deepfm.cli.operations.dry_runs import log_build
from deepfm.cli.options.common import CONF_PATH, profile_option, set_option
from deepfm.cli.spark.progress import show_progress
from deepfm.cli.spark.session import spark_session
from deepfm.click_log.choose_split import choose_split
from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.split import day_split
from deepfm.dataset.build import build_dataset
from deepfm.dataset.profiling.dataset_profile import read_dataset_profile
from deepfm.settings.data import DataSettings
from deepfm.settings.overrides import load_with_overrides


@click.command(cls=JobCommand, help=__doc__)
@click.option(
    "--data",
    "data_path",
    type=CONF_PATH,
    required=True,
    help="YAML that describes the log, e.g. conf/data/criteo.yaml.",
)
@set_option("max_bad_fraction=0.05", "--data")
@click.option(
    "--input", "input_path", required=True, help="Click log: a file, a folder, or ds=YYYY-MM-DD folders."
)
@click.option("--output", "output_path", required=True, help="Folder of the new dataset.")
@click.option("--train-days", help="A:B, both included. The model is fitted to these days only.")
@click.option("--valid-days", help="C or C:D. These days select the best epoch.")
@click.option("--test-days", help="E or E:F. These days give the test metrics.")
@click.option("--grow", help="Existing dataset whose ids are kept; new values get the ids after them.")
@click.option("--allow-missing-days", is_flag=True, help="Build from the days there are, with a warning.")
@click.option("--dry-run", is_flag=True, help="Check settings, columns, days and output; write nothing.")
@profile_option
@job
def build_features(
    data_path, assignments, input_path, output_path, train_days, valid_days, test_days, grow,
    allow_missing_days, dry_run, profile_path,
) -> dict:  # fmt: skip
    profile = load_profile(profile_path)
    settings = load_with_overrides(data_path, DataSettings, assignments)
    input_url, output_url = (storage.absolute_url(input_path), storage.absolute_url(output_path))
    ranges = (train_days, valid_days, test_days)
    # Other days of the log are not read: they may have other columns.
    days = day_split(*ranges).days() if all(ranges) else None
    with spark_session(profile, "build_features") as spark, show_progress(spark, "build_features"):
        log = find_click_log(input_url, settings, days=days, allow_missing_days=allow_missing_days)
        split = choose_split(spark, log, settings, ranges)
        grow_url = grow and storage.absolute_url(grow)
        if dry_run:
            return log_build(log, settings.field_set, split, output_url, grow_url)
        manifest = build_dataset(spark, log, settings, split, output_url, grow_url)
    return {
        "rows_read": manifest.input.rows_read,
        "rows_bad": sum(manifest.input.bad_by_reason.values()),
        "bad_by_reason": manifest.input.bad_by_reason,
        "rows_sampled_out": manifest.input.rows_sampled_out,
        **{f"rows_{name}": part.num_rows for name, part in manifest.splits.items()},
        "num_fields": len(manifest.fields),
        "num_ids": sum(manifest.num_ids),
        "vocabulary": manifest.vocabulary,
        "grown_from": manifest.grown_from,
        "digest": manifest.digest,
        "warnings": [
            f"{warning.name}: {warning.text}" for warning in read_dataset_profile(output_url).warnings
        ],
        "dataset": output_url,
    }
