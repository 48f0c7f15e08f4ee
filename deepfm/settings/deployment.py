"""Settings of a deployment profile: where jobs run, and the limits for promotion and scoring."""

import re
from typing import Literal

from pydantic import Field as Setting
from pydantic import field_validator, model_validator

from deepfm.field_name import FieldName
from deepfm.settings.loader import Settings


class MlflowSettings(Settings):
    """Location of runs and models unless --tracking-uri is given."""

    tracking_uri: str
    # Of the model registry if it is another store. By default it is the tracking store, or Unity Catalog if
    # that is on Databricks.
    registry_uri: str | None = None
    artifact_location: str | None = None  # of new experiments in a database; a server has a default
    retry_s: float = Setting(default=60.0, gt=0)  # how long to retry an unreachable server or a locked file
    system_metrics_every_s: float = Setting(default=10.0, ge=0)  # of the training driver; 0: do not log


class WorkerSettings(Settings):
    """Resources of training workers, their timeouts and checkpoints."""

    threads_per_worker: int = Setting(ge=1)
    start_timeout_s: int = Setting(default=120, ge=1)  # how long to wait for all workers
    # Interface between driver and workers if they have several in common, such as eth0; None: automatic.
    network_interface: str | None = None
    # A checkpoint has weights and optimizer state: with Adam, three times the size of the tables. One is
    # always written after each epoch; 0: only then.
    checkpoint_every_n_steps: int = Setting(default=1000, ge=0)
    checkpoint_every_min: float = Setting(default=0.0, ge=0)  # minutes since the last one; 0: disabled
    # Seconds without a heartbeat of a worker after which the driver logs a warning with its rank, and after
    # which it ends the job.
    stall_warning_s: float = Setting(default=60.0, gt=0)
    stall_limit_s: float = Setting(default=600.0, gt=0)

    @model_validator(mode="after")
    def _check_stall_limit(self):
        if self.stall_limit_s <= self.stall_warning_s:
            raise ValueError("stall_limit_s: must be above stall_warning_s")
        return self


class PromotionLimits(Settings):
    """Limits of a candidate relative to the champion on the same held-out day."""

    max_logloss_increase: float = Setting(ge=0)
    max_auc_decrease: float = Setting(ge=0)
    min_calibration: float = Setting(gt=0, le=1)  # calibration: mean probability / CTR
    max_calibration: float = Setting(ge=1)
    max_ece: float = Setting(default=0.05, gt=0)  # expected calibration error
    # Categories on whose values both are compared too, for values with at least min_slice_rows rows.
    slices: tuple[FieldName, ...] = ()
    min_slice_rows: int = Setting(default=1000, ge=1)
    max_slice_logloss_increase: float = Setting(default=0.005, ge=0)
    max_unknown_increase: float = Setting(default=0.05, ge=0)  # of any field's share of unknown values
    max_load_seconds: float | None = Setting(default=None, gt=0)
    # If one of the models was trained or validated on all rows to compare: refuse the candidate, or compare
    # with a warning. If it has seen some of the days only, both are compared on the others.
    on_seen_rows: Literal["refuse", "warn"] = "refuse"


class DriftLimits(Settings):
    """Limits of a day's deviation from the rows on which its model was evaluated."""

    max_psi: float = Setting(default=0.25, gt=0)  # population stability index of the scores
    max_field_psi: float = Setting(default=0.25, gt=0)
    max_unknown_increase: float = Setting(default=0.1, gt=0, le=1)  # of a field's share of unknown values
    max_rows_change: float = Setting(default=0.5, gt=0)  # relative to the median of the previous days
    stop: bool = False  # whether to publish nothing if a limit is exceeded, instead of warning
    stop_psi: float | None = Setting(default=None, gt=0)  # PSI of the scores above which nothing is published


class ScoringSettings(Settings):
    """Settings of batch scoring."""

    # Precision of matrix products. bf16 changes a probability by less than 0.02 (a day whose sample differs
    # by more is not published) and is faster if the network dominates the run time; processors without bf16
    # hardware use fp32.
    precision: Literal["fp32", "bf16"] = "fp32"


class AlertSettings(Settings):
    """Where the outcomes of jobs are reported."""

    # URL that gets a POST for each failed job, flagged or unpublished day and refused candidate. It is a
    # secret if it contains a token: the environment variable DEEPFM_ALERT_WEBHOOK overrides it.
    webhook: str | None = Setting(default=None, repr=False)
    prometheus_dir: str | None = None  # folder of the textfile collector of node_exporter
    timeout_s: float = Setting(default=10.0, gt=0)  # of each attempt to reach the webhook; there are three

    @field_validator("webhook")
    @classmethod
    def _check_webhook(cls, webhook: str | None) -> str | None:
        if webhook is not None and not re.match(r"https?://[^/\s]+", webhook):
            raise ValueError("expected http(s)://HOST/…")
        return webhook


class Profile(Settings):
    """conf/profile/*.yaml: where the jobs run."""

    spark: dict[str, str | int | float | bool]  # Spark properties; spark-submit takes precedence
    work_dir: str  # scratch folder of training runs, reachable by the driver and every worker
    mlflow: MlflowSettings
    workers: WorkerSettings
    promotion: PromotionLimits
    scoring: ScoringSettings = ScoringSettings()
    drift: DriftLimits = DriftLimits()
    alerts: AlertSettings = AlertSettings()
