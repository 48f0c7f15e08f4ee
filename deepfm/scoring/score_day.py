"""A night: a resolved model version over a day of a log, checked against its training, published."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import SparkSession

from deepfm.artifact.artifact import ServingModel, load_artifact
from deepfm.artifact.checksums import digest_of
from deepfm.click_log.click_log import find_click_log
from deepfm.click_log.raw_rows import count_lines, raw_rows
from deepfm.errors import UserError
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.scoring import report
from deepfm.scoring.accumulators import ScoringDayTotals
from deepfm.scoring.days import PublishedDay, days_before
from deepfm.scoring.drift import measure_drift, must_stop, warnings_of
from deepfm.scoring.predict import score_rows, ship_model
from deepfm.scoring.publish import DriftDecision, publish_day
from deepfm.scoring.skew import require_no_skew
from deepfm.settings.deployment import DriftLimits
from deepfm.tracking.run import code_version
from deepfm.tracking.store import MlflowStore, ModelVersion

#: So many nights before say what is usual.
_NUM_NIGHTS = 7
#: A night has one, the days that its model was measured on others.
_WEEKDAY = ("weekday",)


@dataclass(frozen=True)
class ScoringModel:
    """One version, in the driver and on its way to every executor."""

    name: str
    version: str
    digest: str  # of its files
    model: ServingModel
    vocabulary: Vocabulary
    shipped: str  # see predict.ship_model


def fetch_model(spark: SparkSession, store: MlflowStore, version: ModelVersion) -> ScoringModel:
    """Fetch, check and ship a version; UserError where its files are not what was registered."""
    with tempfile.TemporaryDirectory() as folder:
        path = store.download(version, folder)
        url = f"file://{path}"
        return ScoringModel(
            version.name,
            str(version.version),
            digest_of(url),
            load_artifact(url),
            Vocabulary.load(url),
            ship_model(spark, path),
        )


@dataclass(frozen=True)
class ScoringDay:
    """What is scored and where it is published."""

    day: str
    input_url: str
    output_url: str
    keep: tuple[str, ...] = ()
    key: tuple[str, ...] = ()  # of the kept ones: what tells two impressions apart


def score_day(
    spark: SparkSession,
    model: ScoringModel,
    night: ScoringDay,
    limits: DriftLimits,
    *,
    precision: str = "fp32",
    publish: bool = True,
) -> PublishedDay:
    """Score a day and publish it; with publish=False only check that it could be.

    UserError where the day, its columns or the model are not what they must be, where a sample of its rows
    scores otherwise than in training, or where the night has drifted and the limits say stop.
    """
    settings = model.model.card.data
    log = find_click_log(spark, night.input_url, settings, days=[night.day], labelled=False, keep=night.keep)
    raw = raw_rows(spark, log, [night.day])
    num_compared = require_no_skew(
        spark, raw, log.row_format, model.model, model.shipped, night.day, precision
    )
    if not publish:
        if not num_compared:
            raise UserError(
                f"{night.day}: expected impressions, found none that fit; check --date and --input"
            )
        return PublishedDay(0, 0, model.name, model.version, float("nan"), num_compared=num_compared)
    rows_before = [day.rows_scored for day in days_before(night.output_url, night.day, _NUM_NIGHTS)]

    def judge(totals: ScoringDayTotals, mean_probability: float) -> DriftDecision:
        return _check_drift(model, night.day, totals, mean_probability, limits, rows_before)

    return publish_day(
        spark,
        score_rows(raw, log.row_format, model.shipped, night.day, bf16=precision == "bf16"),
        num_raw=count_lines(spark, log, [night.day]),
        described=PublishedDay(
            rows_scored=0,
            rows_bad=0,
            name=model.name,
            version=model.version,
            mean_probability=float("nan"),
            model_digest=model.digest,
            input_url=night.input_url,
            code_version=code_version(),
            num_compared=num_compared,
            kept=night.keep,
        ),
        day=night.day,
        keep=tuple((name, log.column_types.get(name, "string")) for name in night.keep),
        key=night.key,
        num_fields=len(model.vocabulary.fields),
        max_bad_fraction=settings.max_bad_fraction,
        judge=judge,
        output_url=night.output_url,
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
        return DriftDecision((f"version {model.version} has no reference: drift is not known",))
    drift = measure_drift(reference, totals.scores, totals.fields, mean_probability, left_out=_WEEKDAY)
    warnings = warnings_of(drift, limits, list(rows_before))
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
