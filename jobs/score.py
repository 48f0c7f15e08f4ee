"""Champion + a day of impressions -> one published day of probabilities.

Example:

    spark-submit jobs/score.py --date 2026-01-08 --model-uri models:/ctr_deepfm@champion \\
        --input work/log --output work/scores
"""

import click
from command import JobCommand, job, load_profile, profile_option, spark_session, tracking_option

from deepfm import storage
from deepfm.registry.tracking import Store
from deepfm.scoring.night import score_day
from deepfm.scoring.publish import day_url, published_day, require_keepable


@click.command(cls=JobCommand, help=__doc__)
@click.option("--date", required=True, help="The day to score, YYYY-MM-DD.")
@click.option("--model-uri", required=True, help="models:/NAME@champion or models:/NAME/VERSION.")
@click.option(
    "--input",
    "input_path",
    required=True,
    help="Impressions, laid out as in training; a label is not needed.",
)
@click.option(
    "--output", "output_path", required=True, help="Folder of published days; this one becomes ds=DATE in it."
)
@click.option("--keep", default="", help="Columns of the input to publish with the probability, C1,C2.")
@click.option("--overwrite", is_flag=True, help="Score a day again that is published already.")
@tracking_option
@profile_option
@job
def score(date, model_uri, input_path, output_path, keep, overwrite, tracking_uri, profile_path) -> dict:
    profile = load_profile(profile_path)
    input_url, output_url = storage.absolute_url(input_path), storage.absolute_url(output_path)
    target = day_url(output_url, date)
    store = Store(tracking_uri or profile.mlflow.tracking_uri, profile.mlflow.artifact_location)
    version = store.resolve(model_uri)
    columns = tuple(name.strip() for name in keep.split(",") if name.strip())
    require_keepable(columns)
    day = None if overwrite else published_day(output_url, date)
    is_new = day is None
    if is_new:
        with spark_session(profile, "score") as spark:
            day = score_day(spark, store, version, date, input_url, output_url, columns)
    else:
        click.echo(f"{target} is published already; --overwrite scores it again", err=True)
    return {
        "date": date,
        "rows_in": day.rows_in,
        "rows_scored": day.rows_scored,
        "rows_bad": day.rows_bad,
        "name": day.name,
        "version": day.version,
        "mean_probability": day.mean_probability,
        "output": target,
        "published_now": is_new,
    }


if __name__ == "__main__":
    score()
