"""Typed, frozen settings from YAML; every mistake of a file is reported at once, on the driver."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic import Field as Setting

from deepfm.errors import UserError
from deepfm.field_groups import FieldGroup
from deepfm.fields import Field, FieldName, FieldSet, TimeFormat

Fraction = Annotated[float, Setting(ge=0, le=1)]
Char = Annotated[str, Setting(min_length=1, max_length=1)]
#: Fields that have ids, of which a crossed one can be made.
_CROSSED_KINDS = ("count", "category", "quantile", "time")


class Settings(BaseModel):
    """Base of all settings: an unknown key, a wrong type or a later change is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Shares(Settings):
    """Which shares of the rows are for validation and test; the rest is for training."""

    valid: float = Setting(default=0.1, gt=0, lt=1)
    test: float = Setting(default=0.1, gt=0, lt=1)


class DataSettings(Settings):
    """conf/data/*.yaml: which columns a click log has and how each becomes a feature."""

    format: Literal["delimited", "parquet"]
    delimiter: Char = "\t"
    quote: Char | None = None  # None: a quote is a character like any other
    header: bool = False  # delimited only: the first line of every file names its columns
    columns: tuple[str, ...] = ()  # the columns of a file without header, in order
    label: FieldName = "label"  # its values are 0 and 1
    day_column: str | None = None  # None: days are ds=YYYY-MM-DD folders, the time column's, or none
    time_column: str | None = (
        None  # of what fields of kind time are made, and the day where nothing else has it
    )
    time_format: TimeFormat | None = None  # iso: YYYY-MM-DD HH:MM:SS or with a T; or since 1970. All in UTC
    fields: tuple[FieldGroup, ...] = Setting(min_length=1)
    cross: tuple[Annotated[tuple[FieldName, ...], Setting(min_length=2)], ...] = ()  # fields, by their names
    cross_buckets: int = Setting(default=100_000, ge=1, lt=2**31)  # ids of each crossed field
    max_bad_fraction: Fraction = 0.01  # of the rows read; above it nothing is published
    hash_split: Shares = Shares()  # of a log without days: by a stable hash of the row
    time_split: Shares | None = None  # the latest rows by the time column, in place of days
    # Share of the training rows without a click that is kept, by a stable hash; scores are corrected for it.
    keep_negatives: float = Setting(default=1.0, gt=0, le=1)

    @property
    def field_set(self) -> FieldSet:
        """The fields in the order of the file, then the crossed ones."""
        crossed = [
            Field(name="_x_".join(parts), kind="cross", parts=parts, buckets=self.cross_buckets)
            for parts in self.cross
        ]
        of_time = {"source": self.time_column or "", "time_format": self.time_format}
        fields = [field for group in self.fields for field in group.field_list]
        return FieldSet([f.model_copy(update=of_time) if f.kind == "time" else f for f in fields] + crossed)

    @model_validator(mode="after")
    def _columns_fit_together(self):
        mistakes = self._mistakes_of_cross()
        mistakes += self._mistakes_of_time()
        mistakes += self._mistakes_of_lists()
        raw_names = self.field_set.raw.names
        # A cross that is there twice has been told of; two crosses may still make the same name.
        names = [*raw_names, *("_x_".join(parts) for parts in dict.fromkeys(self.cross))]
        names += [slot for field in self.field_set.raw if field.kind == "list" for slot in field.slots]
        # Spark takes I1 and i1 for one column.
        lower = [name.lower() for name in names]
        repeated = sorted({name for name in names if lower.count(name.lower()) > 1})
        if repeated:
            mistakes.append(f"a field may be named once, found again: {', '.join(repeated)}")
        if self.format == "delimited" and not self.header:
            used = {*self.field_set.columns, self.label, self.day_column, self.time_column} - {None}
            if not self.columns:
                mistakes.append("columns: a file without header needs its column names, in order")
            elif used - set(self.columns):
                absent = ", ".join(sorted(used - set(self.columns)))
                mistakes.append(f"columns: not among them, but used below: {absent}")
        elif self.columns:
            mistakes.append("columns: only a delimited file with header: false takes them")
        if self.label.lower() in lower:
            mistakes.append(f"the label {self.label} cannot also be a field")
        for key, shares in (("hash_split", self.hash_split), ("time_split", self.time_split)):
            if shares and shares.valid + shares.test >= 1:
                mistakes.append(f"{key}: valid + test must leave rows for training (below 1)")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def _mistakes_of_time(self) -> list[str]:
        if (self.time_column is None) != (self.time_format is None):
            return ["time_column and time_format go together; give both or none"]
        if self.time_column is None and any(group.kind == "time" for group in self.fields):
            return ["time_column: is missing, of which the fields of kind time are made"]
        if self.time_split and (self.time_column is None or self.day_column is not None):
            return ["time_split: is for a log with a time_column and without day_column"]
        if self.label == self.time_column:
            return [f"the label {self.label} cannot also be the time column"]
        return []

    def _mistakes_of_lists(self) -> list[str]:
        separators = {f.name: f.separator for f in self.field_set.raw if f.kind == "list"}
        if self.format == "parquet":
            return []
        mistakes = []
        if "" in separators.values():
            mistakes.append(
                "separator: is missing; say what lies between the values of a list, such as a space"
            )
        if any(self.delimiter in separator for separator in separators.values()):
            mistakes.append(f"separator: cannot hold the delimiter {self.delimiter!r}, which ends a column")
        return mistakes

    def _mistakes_of_cross(self) -> list[str]:
        kinds = {field.name: field.kind for field in self.field_set.raw}
        mistakes = []
        for parts in self.cross:
            where = f"cross [{', '.join(parts)}]"
            if len(set(parts)) < len(parts):
                mistakes.append(f"{where}: a field may be crossed with others once, not with itself")
            for name in dict.fromkeys(parts):
                if kinds.get(name, "none") not in _CROSSED_KINDS:
                    found = f"a {kinds[name]}" if name in kinds else "no field"
                    expected = " or ".join(_CROSSED_KINDS)
                    mistakes.append(f"{where}: {name} must be a field of kind {expected}, is {found}")
        # Whatever their order, the same fields make the same features.
        crossed = [frozenset(parts) for parts in self.cross]
        twice = {parts for parts in crossed if crossed.count(parts) > 1}
        mistakes += sorted(f"cross [{', '.join(sorted(parts))}]: is there twice" for parts in twice)
        return mistakes


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


def yaml_text(settings: Settings) -> str:
    """Settings as a YAML that `load_settings` reads, without those that are None."""
    content = settings.model_dump(mode="json", exclude_none=True)
    return yaml.dump(content, Dumper=_ReadableDumper, sort_keys=False, allow_unicode=True)


class _ReadableDumper(yaml.SafeDumper):
    """Lists in one line, as people write them."""


_ReadableDumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)


def _mistake(details: dict) -> str:
    key = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden":
        return f"unknown key {key}: remove it or check its spelling"
    if details["type"] == "missing":
        return f"{key} is missing"
    message = details["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (found {details['input']!r})" if key else message
