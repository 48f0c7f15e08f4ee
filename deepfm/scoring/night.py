"""One night: a resolved model version over one day of a log, published."""

import tempfile

from pyspark.sql import SparkSession

from deepfm.features.click_log import find_click_log, raw_rows
from deepfm.registry.artifact import load_artifact
from deepfm.registry.tracking import ModelVersion, Store
from deepfm.scoring.predict import count_rows, scored_rows, ship_model
from deepfm.scoring.publish import PublishedDay, publish_day


def score_day(
    spark: SparkSession,
    store: Store,
    version: ModelVersion,
    day: str,
    input_url: str,
    output_url: str,
    keep: tuple[str, ...],
) -> PublishedDay:
    """Score and publish; UserError where the day, its columns or the model are not what they must be."""
    with tempfile.TemporaryDirectory() as folder:
        path = store.download(version, folder)
        settings = load_artifact(f"file://{path}").card.data
        log = find_click_log(spark, input_url, settings, days=[day], labelled=False, keep=keep)
        model_name = ship_model(spark, path)
    raw = raw_rows(spark, log, [day])
    return publish_day(
        spark,
        scored_rows(raw, log.row_format, model_name, day),
        num_raw=count_rows(raw, log.row_format),
        model=(version.name, str(version.version)),
        day=day,
        keep=tuple((name, log.column_types.get(name, "string")) for name in keep),
        max_bad_fraction=settings.max_bad_fraction,
        output_url=output_url,
    )
