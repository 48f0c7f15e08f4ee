"""Output of a scored day, and the counts of the rows that were written."""

from dataclasses import dataclass

from deepfm.click_log.rejected_rows import REJECTED
from deepfm.scoring.accumulators import ScoringDayTotals


@dataclass(frozen=True)
class DayOutput:
    """Folder, columns and limits of a day to publish."""

    day: str
    output_url: str
    keep: tuple[str, ...]  # columns of the input
    max_bad_fraction: float
    key: tuple[str, ...] = ()  # kept columns that identify an impression

    @property
    def url(self) -> str:
        return f"{self.output_url}/ds={self.day}"

    @property
    def rejected_url(self) -> str:
        return f"{self.output_url}/{REJECTED}/ds={self.day}"


@dataclass(frozen=True)
class WrittenRows:
    """Counts of the rows that an attempt has written."""

    num_scored: int
    num_bad: int  # includes undated rows
    num_undated: int
    bad_by_reason: dict[str, int]
    mean_probability: float
    totals: ScoringDayTotals
