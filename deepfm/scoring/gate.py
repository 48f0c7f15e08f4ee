"""Candidate and champion measured on the same raw rows, those the candidate's dataset held out."""

import tempfile

from pyspark.sql import SparkSession

from deepfm.errors import UserError
from deepfm.features.click_log import find_click_log, raw_rows
from deepfm.features.split import HashSplit, days_between
from deepfm.registry.artifact import load_artifact
from deepfm.registry.tracking import ModelVersion, Store
from deepfm.scoring.predict import evaluate_models, ship_model
from deepfm.training.metrics import Metrics


def measure(
    spark: SparkSession, store: Store, candidate: ModelVersion, champion: ModelVersion | None
) -> tuple[Metrics, Metrics | None]:
    """Both models' metrics from raw rows, through the same code that scores a night.

    UserError where the log that the candidate was made from is not where it was, or has lost columns.
    """
    versions = [version for version in (candidate, champion) if version]
    with tempfile.TemporaryDirectory() as folder:
        paths = [store.download(version, f"{folder}/{place}") for place, version in enumerate(versions)]
        cards = [load_artifact(f"file://{path}").card for path in paths]
        names = [ship_model(spark, path) for path in paths]
    card = cards[0]
    # The champion may have fields that the candidate does without.
    columns = [set(card.data.field_set.columns) for card in cards]
    others = sorted(set().union(*columns) - columns[0])
    split = card.input.split or HashSplit(card.data.hash_split.valid, card.data.hash_split.test)
    days = days_between(*card.input.days["test"]) if card.input.days else None
    log = find_click_log(
        spark, card.input.url, card.data, days=None if card.data.day_column else days, keep=others
    )
    metrics = evaluate_models(raw_rows(spark, log, days), log.row_format, names, split)
    if not metrics:
        raise UserError(
            f"{card.input.url}: expected the held-out rows of version {candidate.version}, found none; the "
            "log has changed since: train a candidate on what is there now"
        )
    return metrics[0], metrics[1] if champion else None
