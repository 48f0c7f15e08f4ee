"""What a profile may say: where jobs run, and what is let pass there."""

from typing import Literal

from pydantic import Field as Setting
from pydantic import model_validator

from deepfm.fields import FieldName
from deepfm.settings.loader import Settings


class MlflowSettings(Settings):
    """Where runs and models are kept when no --tracking-uri says otherwise."""

    tracking_uri: str
    artifact_location: str | None = None  # of new experiments in a local store; a server knows its own
    retry_s: float = Setting(default=60.0, gt=0)  # how long a server that is away, or a locked file, is tried
    system_metrics_every_s: float = Setting(default=10.0, ge=0)  # of a training's driver; 0: not logged


class WorkerSettings(Settings):
    """What a training worker may use and how long the job waits for all of them."""

    threads_per_worker: int = Setting(ge=1)
    start_timeout_s: int = Setting(default=120, ge=1)
    # Of driver and workers, such as eth0, where they have several in common; None: Horovod looks for one.
    network_interface: str | None = None
    # A checkpoint holds weights and optimizer, three times the tables with Adam. One is written after each
    # epoch too; 0: only then.
    checkpoint_every_n_steps: int = Setting(default=1000, ge=0)
    checkpoint_every_min: float = Setting(default=0.0, ge=0)  # and so many minutes after the last; 0: not
    # A worker that shows no sign of life so long is told of by rank, and then given up with the job.
    stall_warning_s: float = Setting(default=60.0, gt=0)
    stall_limit_s: float = Setting(default=600.0, gt=0)

    @model_validator(mode="after")
    def _is_told_of_before_given_up(self):
        if self.stall_limit_s <= self.stall_warning_s:
            raise ValueError("stall_limit_s: must be above stall_warning_s")
        return self


class PromotionLimits(Settings):
    """How much worse than the champion a candidate may be on the same held-out day."""

    max_logloss_increase: float = Setting(ge=0)
    max_auc_decrease: float = Setting(ge=0)
    min_calibration: float = Setting(gt=0, le=1)  # calibration: mean probability / CTR
    max_calibration: float = Setting(ge=1)
    max_ece: float = Setting(default=0.05, gt=0)  # expected calibration error
    # Categories by whose values both are compared too, where a value has so many rows.
    slices: tuple[FieldName, ...] = ()
    min_slice_rows: int = Setting(default=1000, ge=1)
    max_slice_logloss_increase: float = Setting(default=0.005, ge=0)
    max_unknown_increase: float = Setting(default=0.05, ge=0)  # of any field's share of unknown values
    max_load_seconds: float | None = Setting(default=None, gt=0)


class DriftLimits(Settings):
    """How much a night may differ from the rows that its model was measured on before it is flagged."""

    max_psi: float = Setting(default=0.25, gt=0)  # population stability index of the scores
    max_field_psi: float = Setting(default=0.25, gt=0)
    max_unknown_increase: float = Setting(default=0.1, gt=0, le=1)  # of a field's share of unknown values
    max_rows_change: float = Setting(default=0.5, gt=0)  # from the median of the nights before
    stop: bool = False  # publish nothing where a limit is broken; else publish and warn
    stop_psi: float | None = Setting(default=None, gt=0)  # of the scores: above it nothing is published


class ScoringSettings(Settings):
    """How a night is scored."""

    # Of matrix products. bf16, on processors that have it in hardware (elsewhere it is fp32 all the same),
    # moves a probability in its third digit; it pays where the network is what takes the time.
    precision: Literal["fp32", "bf16"] = "fp32"


class Profile(Settings):
    """conf/profile/*.yaml: where the jobs run."""

    spark: dict[str, str | int | float | bool]  # Spark properties; those given to spark-submit win
    work_dir: str  # scratch of training runs; the driver and every worker must reach it
    mlflow: MlflowSettings
    workers: WorkerSettings
    promotion: PromotionLimits
    scoring: ScoringSettings = ScoringSettings()
    drift: DriftLimits = DriftLimits()
