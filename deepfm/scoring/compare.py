"""Metrics of candidate and champion on the same raw rows, those held out from the candidate's training."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pyspark.sql import SparkSession

from deepfm.artifact.artifact import ModelCard, load_artifact
from deepfm.click_log.choose_split import split_without_days
from deepfm.click_log.click_log import ClickLog, find_click_log
from deepfm.click_log.raw_rows import raw_rows
from deepfm.click_log.split import days_between
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
    models = _load_models(spark, store, versions)
    card = models[0].card
    split = card.input.split or split_without_days(card.data)
    days = None
    if card.input.days:
        all_days = days_between(*card.input.days["test"])
        days = tuple(day for day in all_days if day not in card.input.missing_days)
    log = _find_log(spark, versions, models, days)
    require_categories(limits.slices, card.data.field_set, f"version {candidate.version}")
    evaluations = evaluate_models(
        raw_rows(spark, log, days),
        log.row_format,
        [model.shipped_name for model in models],
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
        replace(evaluation, load_seconds=model.load_seconds)
        for evaluation, model in zip(evaluations, models, strict=True)
    ]
    return timed[0], timed[1] if champion else None


@dataclass(frozen=True)
class _LoadedModel:
    card: ModelCard
    load_seconds: float
    shipped_name: str  # see predict.ship_model


def _load_models(
    spark: SparkSession, store: MlflowStore, versions: Sequence[ModelVersion]
) -> list[_LoadedModel]:
    """Download, load and ship each version to the executors."""
    models = []
    with tempfile.TemporaryDirectory() as folder:
        for index, version in enumerate(versions):
            path = store.download(version, f"{folder}/{index}")
            started = time.monotonic()
            card = load_artifact(f"file://{path}").card
            models.append(_LoadedModel(card, time.monotonic() - started, ship_model(spark, path)))
    return models


def _find_log(
    spark: SparkSession,
    versions: Sequence[ModelVersion],
    models: Sequence[_LoadedModel],
    days: Sequence[str] | None,
) -> ClickLog:
    """Find the candidate's log, with the columns that only the champion reads."""
    card = models[0].card
    log_days = None if card.data.day_column else days
    log = find_click_log(card.input.url, card.data, days=log_days)
    columns = [set(model.card.data.field_set.columns) for model in models]
    champion_only = sorted(set().union(*columns) - columns[0])
    if not champion_only:
        return log
    try:
        return find_click_log(card.input.url, card.data, days=log_days, keep=champion_only)
    except UserError as error:
        candidate, champion = versions
        raise UserError(
            f"version {champion.version}, the champion, reads columns that version {candidate.version} "
            f"does not read: {error}; if these models belong to two logs, train each with its own --name"
        ) from error
