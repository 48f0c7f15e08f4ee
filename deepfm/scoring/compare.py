"""Metrics of candidate and champion on the same raw rows, which were held out from both trainings."""

import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pyspark.sql import SparkSession

from deepfm.artifact.artifact import ModelCard, load_artifact
from deepfm.click_log.choose_split import split_without_days
from deepfm.click_log.click_log import ClickLog, find_click_log
from deepfm.click_log.raw_rows import raw_rows
from deepfm.errors import UserError
from deepfm.experiments.lineage import read_lineage
from deepfm.experiments.slice_names import require_categories
from deepfm.registry.gate import ModelEvaluation
from deepfm.registry.held_out import HeldOutRows
from deepfm.registry.seen_rows import UnseenRows, find_unseen
from deepfm.scoring.labelled_metrics import evaluate_models
from deepfm.scoring.predict import ship_model
from deepfm.settings.deployment import PromotionLimits
from deepfm.tracking.store import MlflowStore, ModelVersion

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelComparison:
    """Evaluations of candidate and champion, and the rows that they were computed on."""

    unseen: UnseenRows
    candidate: ModelEvaluation | None = None  # None: not evaluated, because a model has seen the rows
    champion: ModelEvaluation | None = None  # None: not evaluated, or there is no champion


def compare_models(
    spark: SparkSession,
    store: MlflowStore,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    limits: PromotionLimits,
) -> ModelComparison:
    """Evaluate both models on raw rows, with the code that also scores a day.

    Rows that a model was trained or validated on are left out. If none is left, limits.on_seen_rows decides
    whether all are compared, with a warning. Raise UserError if the candidate's log is no longer at its URL,
    or has lost columns.
    """
    versions = [version for version in (candidate, champion) if version]
    models = _load_models(spark, store, versions)
    require_categories(limits.slices, models[0].card.data.field_set, f"version {candidate.version}")
    unseen = _find_unseen(store, versions, models)
    evaluations = _evaluate(spark, versions, models, limits, unseen.rows) if unseen.rows else []
    if unseen.are_narrowed and not evaluations:
        unseen = replace(unseen, rows=None)  # the log has no row in what is left
    if unseen.rows is None and limits.on_seen_rows == "warn":
        logger.warning("%s", unseen.warning)
        evaluations = _evaluate(spark, versions, models, limits, unseen.held_out)
    if unseen.rows is None and limits.on_seen_rows == "refuse":
        return ModelComparison(unseen)
    if not evaluations:
        raise UserError(
            f"{models[0].card.input.url}: expected held-out rows of version {candidate.version} that fit it "
            "and the champion, found none; the log, or how its columns are read, has changed since: train a "
            "candidate on the current log"
        )
    return ModelComparison(unseen, *evaluations)


def _find_unseen(
    store: MlflowStore, versions: Sequence[ModelVersion], models: Sequence["_LoadedModel"]
) -> UnseenRows:
    """Find the candidate's held-out rows that none of the models was trained on."""
    lineages = [
        read_lineage(store, version, model.card, role)
        for version, model, role in zip(versions, models, ("the candidate", "the champion"), strict=False)
    ]
    return find_unseen(HeldOutRows.of_model(lineages[0].data[0]), lineages)


def _evaluate(
    spark: SparkSession,
    versions: Sequence[ModelVersion],
    models: Sequence["_LoadedModel"],
    limits: PromotionLimits,
    rows: HeldOutRows,
) -> list[ModelEvaluation]:
    """Evaluate the models on held-out rows; empty if there are none that fit."""
    days = rows.days or None
    log = _find_log(spark, versions, models, days)
    evaluations = evaluate_models(
        raw_rows(spark, log, days),
        log.row_format,
        [model.shipped_name for model in models],
        rows.split or split_without_days(models[0].card.data),
        slice_fields=limits.slices,
        min_slice_rows=limits.min_slice_rows,
    )
    return [
        replace(evaluation, load_seconds=model.load_seconds)
        for evaluation, model in zip(evaluations, models, strict=False)
    ]


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
