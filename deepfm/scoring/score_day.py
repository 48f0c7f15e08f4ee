"""Score one day of a click log with a registered model version, check it against training, and publish it."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pyspark.sql import SparkSession

from deepfm.artifact.artifact import ServingModel, load_artifact
from deepfm.artifact.checksums import folder_digest
from deepfm.click_log.click_log import ClickLog, find_click_log
from deepfm.click_log.raw_rows import RawRows, count_rows, raw_rows
from deepfm.errors import UserError
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.ownership import Ownership, exclusive_ownership
from deepfm.scoring import report
from deepfm.scoring.accumulators import ScoringDayTotals
from deepfm.scoring.days import Provenance, PublishedDay, day_url, days_before
from deepfm.scoring.drift import drift_warnings, measure_drift, must_stop
from deepfm.scoring.predict import score_rows, ship_model
from deepfm.scoring.publishing.day_output import DayOutput
from deepfm.scoring.publishing.publish import DriftDecision, ScoredRows, publish_day
from deepfm.scoring.skew import require_no_skew
from deepfm.settings.deployment import DriftLimits
from deepfm.tracking.code_version import code_version
from deepfm.tracking.store import MlflowStore, ModelVersion

#: Published days before a day that define its usual number of rows.
_NUM_DAYS_BEFORE = 7
#: A scored day has one weekday; the test days of its model have others.
_WEEKDAY = ("weekday",)


@dataclass(frozen=True)
class ScoringModel:
    """One model version, loaded in the driver and shipped to the executors."""

    name: str
    version: str
    digest: str  # of its files
    model: ServingModel
    vocabulary: Vocabulary
    shipped: str  # see predict.ship_model


def fetch_model(spark: SparkSession, store: MlflowStore, version: ModelVersion) -> ScoringModel:
    """Download, check and ship a version; raise UserError if its files are not those registered."""
    with tempfile.TemporaryDirectory() as folder:
        path = store.download(version, folder)
        url = f"file://{path}"
        return ScoringModel(
            version.name,
            str(version.version),
            folder_digest(url),
            load_artifact(url),
            Vocabulary.load(url),
            ship_model(spark, path),
        )


@dataclass(frozen=True)
class ScoringDay:
    """A day to score, its input and output."""

    day: str
    input_url: str
    output_url: str
    keep: tuple[str, ...] = ()
    key: tuple[str, ...] = ()  # kept columns that identify an impression


def check_day(
    spark: SparkSession, model: ScoringModel, scoring_day: ScoringDay, *, precision: str = "fp32"
) -> Provenance:
    """Check that a day could be scored, publish nothing, and return its provenance.

    Raise UserError if the day, its columns or the model are invalid, or if training and scoring code give a
    sample of the rows different scores.
    """
    log, _ = _find_rows(spark, model, scoring_day)
    provenance = _check_skew(spark, model, scoring_day, log, precision)
    if not provenance.num_compared:
        raise UserError(
            f"{scoring_day.day}: expected impressions, found none that fit; check --date and --input"
        )
    return provenance


def score_day(
    spark: SparkSession,
    model: ScoringModel,
    scoring_day: ScoringDay,
    limits: DriftLimits,
    *,
    precision: str = "fp32",
) -> PublishedDay:
    """Score a day and publish it.

    Raise UserError as `check_day`, and if the day has drifted and the limits say stop; JobFailedError if
    another process scores the day into the same folder.
    """
    url = day_url(scoring_day.output_url, scoring_day.day)
    label = f"ds={scoring_day.day}"
    with exclusive_ownership(scoring_day.output_url, label, url, "choose another --output") as ownership:
        return _score_and_publish(spark, model, scoring_day, limits, ownership, precision=precision)


def _score_and_publish(
    spark: SparkSession,
    model: ScoringModel,
    scoring_day: ScoringDay,
    limits: DriftLimits,
    ownership: Ownership,
    *,
    precision: str,
) -> PublishedDay:
    day, settings = scoring_day.day, model.model.card.data
    log, raw = _find_rows(spark, model, scoring_day)
    provenance = _check_skew(spark, model, scoring_day, log, precision)
    rows_before = [
        published.rows_scored for published in days_before(scoring_day.output_url, day, _NUM_DAYS_BEFORE)
    ]

    def check_drift(totals: ScoringDayTotals, mean_probability: float) -> DriftDecision:
        return _check_drift(model, day, totals, mean_probability, limits, rows_before)

    scored = ScoredRows(
        rows=score_rows(raw, log.row_format, model.shipped, day, bf16=precision == "bf16"),
        num_input_rows=count_rows(spark, log, [day]),
        num_fields=len(model.vocabulary.fields),
    )
    output = DayOutput(
        day=day,
        output_url=scoring_day.output_url,
        keep=scoring_day.keep,
        key=scoring_day.key,
        max_bad_fraction=settings.max_bad_fraction,
    )
    return publish_day(spark, scored, provenance, output, check_drift, ownership)


def _find_rows(spark: SparkSession, model: ScoringModel, scoring_day: ScoringDay) -> tuple[ClickLog, RawRows]:
    day, settings = scoring_day.day, model.model.card.data
    log = find_click_log(
        scoring_day.input_url, settings, days=[day], labelled=False, keep=scoring_day.keep, keep_types=True
    )
    return log, raw_rows(spark, log, [day])


def _check_skew(
    spark: SparkSession,
    model: ScoringModel,
    scoring_day: ScoringDay,
    log: ClickLog,
    precision: str,
) -> Provenance:
    # Without the kept columns: the sample passes through Python objects, which lack some dates and types.
    sampled = replace(log, row_format=replace(log.row_format, keep=()), kept_types={})
    raw = raw_rows(spark, sampled, [scoring_day.day])
    num_compared = require_no_skew(
        spark, raw, sampled.row_format, model.model, model.shipped, scoring_day.day, precision
    )
    return Provenance(
        name=model.name,
        version=model.version,
        model_digest=model.digest,
        input_url=scoring_day.input_url,
        code_version=code_version(),
        num_compared=num_compared,
        kept=scoring_day.keep,
    )


def _check_drift(
    model: ScoringModel,
    day: str,
    totals: ScoringDayTotals,
    mean_probability: float,
    limits: DriftLimits,
    rows_before: Sequence[int],
) -> DriftDecision:
    reference = model.model.reference
    if reference is None:
        return DriftDecision((f"version {model.version} has no reference: drift is unknown",))
    drift = measure_drift(reference, totals.scores, totals.fields, mean_probability, excluded=_WEEKDAY)
    warnings = drift_warnings(drift, limits, list(rows_before))
    title = f"{day}, scored by {model.name} version {model.version}"
    page = report.drift_page(
        title, drift, warnings, list(rows_before), totals.scores, reference, model.vocabulary
    )
    return DriftDecision(
        tuple(warnings),
        report.document(drift, warnings, model.vocabulary),
        page,
        stop=(limits.stop and bool(warnings)) or must_stop(drift, limits),
    )
