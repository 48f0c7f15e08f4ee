"""Rows that a model was trained and validated on, as recorded for the models that start from it."""

from datetime import datetime
from zoneinfo import ZoneInfo

from pydantic import Field as Setting

from deepfm.click_log.split import days_between
from deepfm.dataset.manifest import InputLog
from deepfm.settings.data import DataSettings, Shares, SplitFiles
from deepfm.settings.loader import Settings


class TrainingData(Settings):
    """Log and split of a model's dataset: by days, by time, by names of files or by row hash."""

    model: str  # models:/NAME/VERSION
    url: str
    days: dict[str, tuple[str, str]] = Setting(default_factory=dict)  # inclusive range of each split
    missing_days: tuple[str, ...] = ()
    times: tuple[int, int] | None = None  # seconds at which validation and test start
    time_zone: str = "UTC"
    files: SplitFiles | None = None
    shares: Shares | None = None  # by row hash
    hashed_columns: tuple[str, ...] = ()  # of a columnar log; empty: the hash is of the whole line

    @classmethod
    def from_input(cls, model: str, log: InputLog, data: DataSettings) -> "TrainingData":
        """Describe the data of a registered model."""
        source = cls(model=model, url=log.url)
        if log.days:
            return source.model_copy(update={"days": log.days, "missing_days": log.missing_days})
        if log.times:
            return source.model_copy(update={"times": log.times, "time_zone": data.time_zone})
        if data.split_files:
            return source.model_copy(update={"files": data.split_files})
        columns = (*data.field_set.columns, *data.label_columns, data.day_column, data.time_column)
        hashed = sorted({column for column in columns if column and data.format in ("parquet", "orc")})
        return source.model_copy(update={"shares": data.hash_split, "hashed_columns": tuple(hashed)})

    def days_of(self, part: str) -> tuple[str, ...]:
        """Days of a split that had rows; empty if the split is not by days."""
        days = days_between(*self.days[part]) if part in self.days else []
        return tuple(day for day in days if day not in self.missing_days)

    @property
    def last_seen_day(self) -> str | None:
        """Last day with training or validation rows, None if it is not known."""
        if self.times:
            return datetime.fromtimestamp(self.times[1] - 1, ZoneInfo(self.time_zone)).date().isoformat()
        return max((*self.days_of("train"), *self.days_of("valid")), default=None)
