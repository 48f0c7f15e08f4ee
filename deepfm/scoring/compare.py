"""Candidate and champion measured on the same raw rows, those the candidate's dataset held out."""

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
from deepfm.registry.gate import Measured
from deepfm.scoring.labelled_metrics import measure_models
from deepfm.scoring.predict import ship_model
from deepfm.settings.deployment import PromotionLimits
from deepfm.tracking.store import MlflowStore, ModelVersion


def measure(
    spark: SparkSession,
    store: MlflowStore,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    limits: PromotionLimits,
) -> tuple[Measured, Measured | None]:
    """Both models from raw rows, through the same code that scores a night.

    UserError where the log that the candidate was made from is not where it was, or has lost columns.
    """
    versions = [version for version in (candidate, champion) if version]
    with tempfile.TemporaryDirectory() as folder:
        paths = [store.download(version, f"{folder}/{place}") for place, version in enumerate(versions)]
        cards, seconds = [], []
        for path in paths:
            started = time.monotonic()
            cards.append(load_artifact(f"file://{path}").card)
            seconds.append(time.monotonic() - started)
        names = [ship_model(spark, path) for path in paths]
    card = cards[0]
    # The champion may have fields that the candidate does without.
    columns = [set(card.data.field_set.columns) for card in cards]
    others = sorted(set().union(*columns) - columns[0])
    split = card.input.split or HashSplit(card.data.hash_split.valid, card.data.hash_split.test)
    days = days_between(*card.input.days["test"]) if card.input.days else None
    find = partial(
        find_click_log, spark, card.input.url, card.data, days=None if card.data.day_column else days
    )
    log = find()
    if others:
        try:
            log = find(keep=others)
        except UserError as error:
            raise UserError(
                f"version {champion.version}, the champion, reads columns that version {candidate.version} "
                f"does not: {error}; are these models of two logs? then train each under a --name of its own"
            ) from error
    require_categories(limits.slices, card.data.field_set, f"version {candidate.version}")
    found = measure_models(
        raw_rows(spark, log, days),
        log.row_format,
        names,
        split,
        slice_fields=limits.slices,
        min_slice_rows=limits.min_slice_rows,
    )
    if not found:
        raise UserError(
            f"{card.input.url}: expected held-out rows of version {candidate.version} that fit it and the "
            "champion, found none; the log has changed since, or how its columns are read: train a candidate "
            "on what is there now"
        )
    found = [replace(one, load_seconds=taken) for one, taken in zip(found, seconds, strict=True)]
    return found[0], found[1] if champion else None
