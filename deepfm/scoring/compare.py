"""Metrics of candidate and champion on the same raw rows, those held out from the candidate's training."""

import tempfile
import time
from dataclasses import replace
from functools import partial

from pyspark.sql import SparkSession

from deepfm.artifact.artifact import load_artifact
from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.raw_rows import raw_rows
from deepfm.click_log.split import HashSplit, days_between
from deepfm.errors import UserError
from deepfm.experiments.slice_names import require_categories
from deepfm.registry.gate import ModelEvaluation
from deepfm.scoring.labelled_metrics import evaluate_models
from deepfm.scoring.predict import ship_model
from deepfm.settings.deployment import PromotionLimits
from deepfm.tracking.store import MlflowStore, ModelVersion


def compare_models(
    spark: SparkSession,
    store: MlflowStore,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    limits: PromotionLimits,
) -> tuple[ModelEvaluation, ModelEvaluation | None]:
    """Evaluate both models on raw rows, with the code that also scores a day.

    Raise UserError if the candidate's log is no longer at its URL, or has lost columns.
    """
    versions = [version for version in (candidate, champion) if version]
    with tempfile.TemporaryDirectory() as folder:
        paths = [store.download(version, f"{folder}/{index}") for index, version in enumerate(versions)]
        cards, load_seconds = [], []
        for path in paths:
            started = time.monotonic()
            cards.append(load_artifact(f"file://{path}").card)
            load_seconds.append(time.monotonic() - started)
        names = [ship_model(spark, path) for path in paths]
    card = cards[0]
    # The champion may read columns that the candidate does not read.
    columns = [set(card.data.field_set.columns) for card in cards]
    champion_only = sorted(set().union(*columns) - columns[0])
    split = card.input.split or HashSplit(card.data.hash_split.valid, card.data.hash_split.test)
    days = days_between(*card.input.days["test"]) if card.input.days else None
    find = partial(
        find_click_log, spark, card.input.url, card.data, days=None if card.data.day_column else days
    )
    log = find()
    if champion_only:
        try:
            log = find(keep=champion_only)
        except UserError as error:
            raise UserError(
                f"version {champion.version}, the champion, reads columns that version {candidate.version} "
                f"does not read: {error}; if these models belong to two logs, train each with its own --name"
            ) from error
    require_categories(limits.slices, card.data.field_set, f"version {candidate.version}")
    evaluations = evaluate_models(
        raw_rows(spark, log, days),
        log.row_format,
        names,
        split,
        slice_fields=limits.slices,
        min_slice_rows=limits.min_slice_rows,
    )
    if not evaluations:
        raise UserError(
            f"{card.input.url}: expected held-out rows of version {candidate.version} that fit it and the "
            "champion, found none; the log, or how its columns are read, has changed since: train a "
            "candidate on the current log"
        )
    timed = [
        replace(evaluation, load_seconds=seconds)
        for evaluation, seconds in zip(evaluations, load_seconds, strict=True)
    ]
    return timed[0], timed[1] if champion else None
