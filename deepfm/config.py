"""Typed, frozen settings from YAML; every mistake of a file is reported at once, on the driver."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic import Field as Setting

from deepfm.errors import UserError
from deepfm.fields import Field, FieldName, FieldSet, Kind

Fraction = Annotated[float, Setting(ge=0, le=1)]
Char = Annotated[str, Setting(min_length=1, max_length=1)]


class Settings(BaseModel):
    """Base of all settings: an unknown key, a wrong type or a later change is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class HashSplit(Settings):
    """How a log without days is split: by a stable hash of the row. The rest is for training."""

    valid: float = Setting(default=0.1, gt=0, lt=1)
    test: float = Setting(default=0.1, gt=0, lt=1)


class FieldGroup(Settings):
    """Fields that are treated alike."""

    kind: Kind
    names: tuple[FieldName, ...] = Setting(min_length=1)
    min_count: int = Setting(default=1, ge=1)  # see Field.min_count


class DataSettings(Settings):
    """conf/data/*.yaml: which columns a click log has and how each becomes a feature."""

    format: Literal["delimited", "parquet"]
    delimiter: Char = "\t"
    quote: Char | None = None  # None: a quote is a character like any other
    header: bool = False  # delimited only: the first line of every file names its columns
    columns: tuple[str, ...] = ()  # the columns of a file without header, in order
    label: FieldName = "label"  # its values are 0 and 1
    day_column: str | None = None  # None: days are ds=YYYY-MM-DD folders, or there are none
    fields: tuple[FieldGroup, ...] = Setting(min_length=1)
    max_bad_fraction: Fraction = 0.01  # of the rows read; above it nothing is published
    hash_split: HashSplit = HashSplit()

    @property
    def field_set(self) -> FieldSet:
        """The fields in the order of the file."""
        return FieldSet(
            [Field(name=name, kind=g.kind, min_count=g.min_count) for g in self.fields for name in g.names]
        )

    @model_validator(mode="after")
    def _columns_fit_together(self):
        mistakes = []
        names = self.field_set.names
        # Spark takes I1 and i1 for one column.
        lower = [name.lower() for name in names]
        repeated = sorted({name for name in names if lower.count(name.lower()) > 1})
        if repeated:
            mistakes.append(f"a field may be named once, found again: {', '.join(repeated)}")
        if self.format == "delimited" and not self.header:
            used = {*names, self.label, self.day_column} - {None}
            if not self.columns:
                mistakes.append("columns: a file without header needs its column names, in order")
            elif used - set(self.columns):
                absent = ", ".join(sorted(used - set(self.columns)))
                mistakes.append(f"columns: not among them, but used below: {absent}")
        elif self.columns:
            mistakes.append("columns: only a delimited file with header: false takes them")
        if self.label.lower() in lower:
            mistakes.append(f"the label {self.label} cannot also be a field")
        if self.hash_split.valid + self.hash_split.test >= 1:
            mistakes.append("hash_split: valid + test must leave rows for training (below 1)")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self


class OptimizerSettings(Settings):
    """conf/model/*.yaml, `training`: how the weights are learnt."""

    batch_size: int = Setting(ge=1)  # impressions per worker and step
    max_epochs: int = Setting(ge=1)
    patience: int = Setting(
        default=1, ge=1
    )  # epochs in a row without a better validation logloss before stopping
    learning_rate: float = Setting(gt=0)  # of Adam, for tables and deep part alike
    seed: int = Setting(default=1, ge=0)  # of initial weights, dropout and the order of the rows


class DeepPartSettings(Settings):
    """The MLP over the embeddings."""

    hidden_units: tuple[Annotated[int, Setting(ge=1)], ...] = (400, 400, 400)
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    dropout: Annotated[float, Setting(ge=0, lt=1)] = 0.0
    batch_norm: bool = False


class ModelSettings(Settings):
    """conf/model/*.yaml: one model with its training settings."""

    model: Literal["deepfm"]
    embedding_dim: int = Setting(ge=1)  # K
    deep: DeepPartSettings = DeepPartSettings()
    w_reg: float = Setting(default=0.0, ge=0)  # L2 on the first-order weights an impression looks up
    v_reg: float = Setting(default=0.0, ge=0)  # L2 on the embeddings an impression looks up
    training: OptimizerSettings

    @model_validator(mode="after")
    def _batch_norm_has_batches(self):
        if self.deep.batch_norm and self.training.batch_size < 4:
            raise ValueError("training.batch_size: batch_norm needs at least 4 impressions a step and worker")
        return self


class MlflowSettings(Settings):
    """Where runs and models are kept when no --tracking-uri says otherwise."""

    tracking_uri: str
    artifact_location: str | None = None  # of new experiments in a local store; a server knows its own


class WorkerSettings(Settings):
    """What a training worker may use and how long the job waits for all of them."""

    threads_per_worker: int = Setting(ge=1)
    start_timeout_s: int = Setting(default=120, ge=1)


class PromotionLimits(Settings):
    """How much worse than the champion a candidate may be on the same held-out day."""

    max_logloss_increase: float = Setting(ge=0)
    max_auc_decrease: float = Setting(ge=0)
    min_calibration: float = Setting(gt=0, le=1)  # calibration: mean probability / CTR
    max_calibration: float = Setting(ge=1)


class Profile(Settings):
    """conf/profile/*.yaml: where the jobs run."""

    spark: dict[str, str | int | float | bool]  # Spark properties; those given to spark-submit win
    work_dir: str  # scratch of training runs; the driver and every worker must reach it
    mlflow: MlflowSettings
    workers: WorkerSettings
    promotion: PromotionLimits


S = TypeVar("S", bound=Settings)


def load_settings(path: str | Path, settings_class: type[S]) -> S:
    """Read one YAML file; raise UserError that lists every mistake in it."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a readable YAML file, found {error}; check the path") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not valid YAML: {error}") from error
    return parse_settings(content, settings_class, str(path))


def parse_settings(content: Any, settings_class: type[S], where: str) -> S:
    """Settings from plain values (a YAML or JSON document); `where` names their source in errors."""
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected a mapping of settings, found {type(content).__name__}")
    try:
        return settings_class.model_validate(content)
    except ValidationError as error:
        mistakes = [_mistake(details) for details in error.errors()]
        many = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "1 mistake"
        raise UserError(f"{where}: {many}: {'; '.join(mistakes)}") from error


def _mistake(details: dict) -> str:
    key = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden":
        return f"unknown key {key}: remove it or check its spelling"
    if details["type"] == "missing":
        return f"{key} is missing"
    message = details["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (found {details['input']!r})" if key else message
